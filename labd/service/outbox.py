"""What is to be told to the world: events in the order of their commits, each with the documents it changed.

A teller reads news, tells it, and then marks how far it came; after a crash it tells the last batch again at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session, col, func, select

from labd.model.tables import LIVE_JOBS, Event, Job, Mark, Run
from labd.service.documents import event_document, job_documents
from labd.service.lab import Lab
from labd.service.messages import EventDocument, Told
from labd.service.reports.requests import REPORTS
from labd.service.reservations.requests import RESERVATIONS
from labd.service.shelf import BOARDS, INSTRUMENTS, Shelf, Shown
from labd.service.sweeps.documents import SWEEPS

BATCH = 100
"""Most events of one batch."""
SHELVES: tuple[Shelf, ...] = (BOARDS, INSTRUMENTS, SWEEPS, REPORTS, RESERVATIONS)
"""All that is kept at the broker beside the jobs and the lab's status."""


@dataclass(frozen=True, slots=True)
class News:
    """Events, and the present state of everything that they touch."""

    events: Sequence[EventDocument]
    shown: Sequence[Shown]


def read_news(session: Session, lab: Lab, after: int) -> News:
    """The next events after number `after`, in order, with what they changed."""
    events = session.exec(select(Event).where(col(Event.id) > after).order_by(col(Event.id)).limit(BATCH)).all()
    if not events:
        return News((), ())
    shown = shown_jobs(session, lab, sorted(_touched_jobs(session, events)))
    for shelf in SHELVES:
        shown.extend(shelf.touched(session, lab, events))
    return News([event_document(event) for event in events], shown)


def shown_jobs(session: Session, lab: Lab, job_ids: Sequence[int]) -> list[Shown]:
    """The documents of these jobs."""
    return [Shown(f"job/{job.id}", job) for job in job_documents(session, job_ids, lab.traces_url)]


def _touched_jobs(session: Session, events: Sequence[Event]) -> set[int]:
    jobs = {event.job_id for event in events if event.job_id is not None}
    runs = {event.run_id for event in events if event.run_id is not None and event.job_id is None}
    if runs:
        jobs |= set(session.exec(select(Run.job_id).where(col(Run.id).in_(runs))))
    return jobs


def everything(session: Session, lab: Lab) -> list[Shown]:
    """All that is kept at the broker but the jobs, which may be many, and the lab's status."""
    return [shown for shelf in SHELVES for shown in shelf.every(session, lab)]


def kept_jobs(session: Session, ended_after: datetime, ended_max: int) -> list[int]:
    """Numbers of the jobs that belong at the broker: those that have not ended, newest first, then at most `ended_max`
    that ended after `ended_after`, the last ended first.
    """
    live = session.exec(select(Job.id).where(LIVE_JOBS).order_by(col(Job.id).desc()))
    ended = session.exec(
        select(Job.id).where(col(Job.ended_at) > ended_after).order_by(col(Job.ended_at).desc()).limit(ended_max)
    )
    return [job_id for jobs in (live, ended) for job_id in jobs if job_id is not None]


def expired_jobs(session: Session, after: datetime, until: datetime) -> list[int]:
    """Numbers of jobs that ended after `after`, and not after `until`."""
    query = select(Job.id).where(col(Job.ended_at) > after, col(Job.ended_at) <= until).order_by(col(Job.id))
    return [job_id for job_id in session.exec(query) if job_id is not None]


# --- how far the telling has come -----------------------------------------------------------------------------


def newest_event(session: Session) -> int:
    """Number of the newest event; 0 if there is none."""
    return session.exec(select(func.max(Event.id))).one() or 0


def holds(session: Session, told: Told) -> bool:
    """Whether this database is the one of which `told` was said: it is not if it comes from an older backup."""
    return told_until(session, told.until) == told


def told_until(session: Session, number: int) -> Told | None:
    """What to say of having told everything up to event `number`; None if there is no such event."""
    event = session.get(Event, number)
    return None if event is None else Told(until=number, at=event.at)


def marked(session: Session, reader: str) -> int:
    """How far `reader` came; 0 if it never read."""
    mark = session.get(Mark, reader)
    return mark.number if mark else 0


def set_mark(session: Session, reader: str, number: int) -> None:
    """Note how far `reader` came."""
    session.merge(Mark(reader=reader, number=number))
