"""The one place that writes events: each in the transaction that makes the change, with who brought it about.

Who that is stands in `session.info["actor"]`, set by whoever opened the session for a person; labd by itself otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session

from labd.errors import NotFoundError
from labd.model.prepared import Insertion
from labd.model.rows import Rows
from labd.model.tables import Run

LABD = "labd"
"""The actor of what nobody asked for."""
ACTOR = "actor"
"""Key of `Session.info` under which the actor stands."""


@dataclass(frozen=True, slots=True)
class _Whose:
    """Of which job a run is an attempt, and where."""

    job_id: int
    board_id: str


_ADD = Insertion("event")
_RUNS = Rows(Run, _Whose)


def note(
    session: Session,
    now: datetime,
    *,
    kind: str,
    subject: str,
    state: str,
    reason: str = "",
    job_id: int | None = None,
    run_id: int | None = None,
    board_id: str | None = None,
) -> None:
    """Write one event; its kinds are listed at `labd.model.tables.Event`."""
    event = {
        "at": now,
        "kind": kind,
        "subject": subject,
        "state": state,
        "reason": reason,
        "actor": session.info.get(ACTOR, LABD),
        "job_id": job_id,
        "run_id": run_id,
        "board_id": board_id,
    }
    _ADD.add(session.connection(), event)


def note_of_run(
    session: Session, run_id: int, now: datetime, *, kind: str, subject: str, state: str, reason: str = ""
) -> None:
    """Write an event of something that belongs to a run: it names the run, its job and its board.

    Raises:
        NotFoundError: there is no such run.
    """
    run = _RUNS.get(session, run_id)
    if run is None:
        raise NotFoundError(f"there is no run {run_id}", where="run")
    note(
        session,
        now,
        kind=kind,
        subject=subject,
        state=state,
        reason=reason,
        job_id=run.job_id,
        run_id=run_id,
        board_id=run.board_id,
    )
