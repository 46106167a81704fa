"""What the archivist asks and notes beside the states of traces, which `labd.model.ledger_traces` changes."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import false, true
from sqlmodel import Session, col, select

from labd.model.ledger_traces import CLOSED
from labd.model.tables import Event, Run, Trace


def archived_before(session: Session, before: datetime, limit: int) -> list[str]:
    """Ids of at most `limit` traces, oldest first, that are in the archive since `before` and here as well.

    Traces of a run that is under way are not among them, since it has yet to score them; nor are pinned ones.
    """
    query = (
        select(Trace.id)
        .join(Run)
        .where(
            col(Trace.state).in_(CLOSED),
            col(Trace.local) == true(),
            col(Trace.archived_at) <= before,
            col(Trace.pinned) == false(),
            col(Run.ended_at).is_not(None),
        )
        .order_by(col(Trace.archived_at))
        .limit(limit)
    )
    return list(session.exec(query))


def note_archive(session: Session, lab: str, state: str, notice: str, now: datetime) -> None:
    """Note that the lab's archive cannot be used, or can be used again."""
    session.add(Event(at=now, kind="lab", subject=lab, state=state, reason=notice))
