"""What is to be told to the world: events in the order of their commits, each with the documents it changed.

A teller reads news, tells it, and then marks how far it came; after a crash it tells the last batch again at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session, col, func, or_, select

from labd.model.tables import Event, Job, Mark, Run
from labd.service.documents import board_documents, event_document, instrument_documents, job_documents
from labd.service.lab import Lab
from labd.service.messages import BoardDocument, EventDocument, InstrumentDocument, JobDocument

BATCH = 100
"""Most events of one batch."""


@dataclass(frozen=True, slots=True)
class News:
    """Events, and the present state of everything that they touch."""

    events: Sequence[EventDocument]
    jobs: Sequence[JobDocument]
    boards: Sequence[BoardDocument]
    instruments: Sequence[InstrumentDocument]


def read_news(session: Session, lab: Lab, after: int) -> News:
    """The next events after number `after`, in order, with what they changed."""
    events = session.exec(select(Event).where(col(Event.id) > after).order_by(col(Event.id)).limit(BATCH)).all()
    if not events:
        return News((), (), (), ())
    kinds = {event.kind for event in events}
    boards = {event.board_id for event in events if event.board_id is not None}
    instruments = {event.subject for event in events if event.kind == "instrument"}
    return News(
        events=[event_document(event) for event in events],
        jobs=job_documents(session, sorted(_touched_jobs(session, events)), lab.traces_url),
        boards=[board for board in board_documents(session, lab.config) if board.id in boards] if boards else (),
        instruments=[row for row in instrument_documents(session, lab.config) if row.id in instruments]
        if "instrument" in kinds
        else (),
    )


def _touched_jobs(session: Session, events: Sequence[Event]) -> set[int]:
    jobs = {event.job_id for event in events if event.job_id is not None}
    runs = {event.run_id for event in events if event.run_id is not None and event.job_id is None}
    if runs:
        jobs |= set(session.exec(select(Run.job_id).where(col(Run.id).in_(runs))))
    return jobs


def newest_event(session: Session) -> int:
    """Number of the newest event; 0 if there is none."""
    return session.exec(select(func.max(Event.id))).one() or 0


def marked(session: Session, reader: str) -> int:
    """How far `reader` came; 0 if it never read."""
    mark = session.get(Mark, reader)
    return mark.number if mark else 0


def set_mark(session: Session, reader: str, number: int) -> None:
    """Note how far `reader` came."""
    session.merge(Mark(reader=reader, number=number))


def kept_jobs(session: Session, ended_after: datetime, beyond: int, limit: int) -> list[int]:
    """Numbers of jobs above `beyond` that have not ended, or not before `ended_after`; lowest first."""
    query = (
        select(Job.id)
        .where(or_(col(Job.ended_at).is_(None), col(Job.ended_at) > ended_after), col(Job.id) > beyond)
        .order_by(col(Job.id))
        .limit(limit)
    )
    return [job_id for job_id in session.exec(query) if job_id is not None]


def expired_jobs(session: Session, after: datetime, until: datetime) -> list[int]:
    """Numbers of jobs that ended after `after`, and not after `until`."""
    query = select(Job.id).where(col(Job.ended_at) > after, col(Job.ended_at) <= until).order_by(col(Job.id))
    return [job_id for job_id in session.exec(query) if job_id is not None]
