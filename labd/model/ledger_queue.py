"""What the dispatcher reads: the waiting jobs as plain columns, what has happened since, and who holds what now.

A hundred thousand jobs wait in some labs, so none of this makes objects of rows that it does not need.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

import sqlalchemy
from sqlmodel import Session, col, func, select

from labd.benchmarks import Mode
from labd.model.rows import Rows
from labd.model.states import BoardState, InstrumentState, JobState, LeasePurpose
from labd.model.tables import LIVE_JOBS, Board, Event, Hold, Instrument, Job, Lease, Run

FETCH = 2000
"""Rows fetched at once, and job numbers in one query."""

JobColumns = tuple[int, str, datetime, int, datetime | None, str | None, float, list[str]]
"""Number, requester, time of submission, priority, deadline, requirement, estimate in s, boards to avoid."""

_COLUMNS = sqlalchemy.select(
    col(Job.id),
    col(Job.requester),
    col(Job.submitted_at),
    col(Job.priority),
    col(Job.deadline),
    col(Job.requirement),
    col(Job.estimate_s),
    col(Job.avoid),
)
_TELLING = ("job", "board", "instrument", "check", "reservation", "lab")
"""Kinds of events after which a decision may fall out otherwise."""


@dataclass(frozen=True, slots=True)
class Commission:
    """What a job asks for, and for whom, as those who do it have to know it.

    Args:
        id: Its number.
        requester: Who is charged for it.
        benchmark, mode, spec: What is measured, as it was asked for.
    """

    id: int
    requester: str
    benchmark: str
    mode: Mode
    spec: dict[str, Any]


_COMMISSIONS = Rows(Job, Commission)


@dataclass(frozen=True, slots=True)
class Since:
    """What has happened since a look at the events.

    Args:
        number: Number of the last event seen.
        jobs: Jobs that changed.
        matters: Whether anything happened that a decision depends on.
        more: Whether there are further events.
    """

    number: int
    jobs: frozenset[int]
    matters: bool
    more: bool


@dataclass(frozen=True, slots=True)
class HeldBoard:
    """A lease in force.

    Args:
        board_id: The board.
        purpose, owner: What for, and for whom: of a run, its job's requester.
        granted_at, expires_at: From when, and until when at most.
        run_id, job_id: The run, and its job; None for another purpose.
        estimate_s: How long the run should take, s; 0 if nobody knows.
    """

    board_id: str
    purpose: LeasePurpose
    owner: str
    granted_at: datetime
    expires_at: datetime
    run_id: int | None
    job_id: int | None
    estimate_s: float


@dataclass(frozen=True, slots=True)
class RackNow:
    """What is free and what is held.

    Args:
        boards: State and reason of each board.
        leases: All leases in force.
        holds: Who holds each resource: the id of a board.
        out: Instruments that cannot be used, with the reason.
    """

    boards: Mapping[str, tuple[BoardState, str]]
    leases: Sequence[HeldBoard]
    holds: Mapping[str, str]
    out: Mapping[str, str]


def queued_jobs(session: Session) -> Iterator[JobColumns]:
    """All queued jobs by their numbers; read as a stream."""
    query = _COLUMNS.where(LIVE_JOBS, col(Job.state) == JobState.QUEUED).order_by(col(Job.id))
    for row in session.connection().execute(query.execution_options(yield_per=FETCH)):
        yield cast(JobColumns, row)


def queued_among(session: Session, job_ids: Collection[int]) -> list[JobColumns]:
    """Those of some jobs that are queued now, by their numbers."""
    found: list[JobColumns] = []
    numbers = sorted(job_ids)
    for first in range(0, len(numbers), FETCH):
        query = _COLUMNS.where(
            col(Job.id).in_(numbers[first : first + FETCH]), col(Job.state) == JobState.QUEUED
        ).order_by(col(Job.id))
        found += [cast(JobColumns, row) for row in session.connection().execute(query)]
    return found


def commission(session: Session, job_id: int) -> Commission:
    """What a job asks for. Raises SQLAlchemy's `NoResultFound` if there is none."""
    return _COMMISSIONS.get_one(session, job_id)


def commissions(session: Session, job_ids: Sequence[int]) -> Iterator[Commission]:
    """What some jobs ask for."""
    for first in range(0, len(job_ids), FETCH):
        yield from _COMMISSIONS.among(session, job_ids[first : first + FETCH])


def newest_event(session: Session) -> int:
    """Number of the newest event; 0 if there is none."""
    return session.exec(select(func.max(Event.id))).one() or 0


def events_since(session: Session, number: int) -> Since:
    """What happened after event `number`, at most `FETCH` events of it."""
    query = (
        sqlalchemy.select(col(Event.id), col(Event.kind), col(Event.job_id))
        .where(col(Event.id) > number)
        .order_by(col(Event.id))
        .limit(FETCH)
    )
    rows = [cast(tuple[int, str, int | None], row) for row in session.connection().execute(query)]
    return Since(
        number=rows[-1][0] if rows else number,
        jobs=frozenset(job_id for _, kind, job_id in rows if kind == "job" and job_id is not None),
        matters=any(kind in _TELLING for _, kind, _ in rows),
        more=len(rows) == FETCH,
    )


def rack_now(session: Session) -> RackNow:
    """What is free and what is held now."""
    connection = session.connection()
    boards = connection.execute(sqlalchemy.select(col(Board.id), col(Board.state), col(Board.reason)))
    leases = connection.execute(
        sqlalchemy.select(
            col(Lease.board_id),
            col(Lease.purpose),
            func.coalesce(col(Job.requester), col(Lease.owner)),
            col(Lease.granted_at),
            col(Lease.expires_at),
            col(Lease.run_id),
            col(Run.job_id),
            func.coalesce(col(Job.estimate_s), 0.0),
        )
        .outerjoin(Run, col(Lease.run_id) == col(Run.id))
        .outerjoin(Job, col(Run.job_id) == col(Job.id))
        .where(col(Lease.released_at).is_(None))
    )
    holds = connection.execute(
        sqlalchemy.select(col(Hold.resource), col(Lease.board_id)).join(Lease, col(Hold.lease_id) == col(Lease.id))
    )
    out = connection.execute(
        sqlalchemy.select(col(Instrument.id), col(Instrument.state), col(Instrument.reason)).where(
            col(Instrument.state).in_((InstrumentState.OFFLINE, InstrumentState.MAINTENANCE))
        )
    )
    return RackNow(
        boards={board_id: (state, reason) for board_id, state, reason in boards},
        leases=[HeldBoard(*row) for row in leases],
        holds={resource: board_id for resource, board_id in holds},  # noqa: C416 - dict() cannot take rows
        out={name: f"is {state}: {reason}" if reason else f"is {state}" for name, state, reason in out},
    )
