"""The waiting jobs in memory, kept as the ledger has them: read once, then by following its events.

Nothing here decides. A job whose stored text this version of labd cannot understand never gets in: it is handed back,
with the reason, to be parked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from sqlmodel import Session

from labd.errors import LabError
from labd.model import ledger_queue
from labd.model.database import Database
from labd.model.ledger_queue import Commission, JobColumns
from labd.schedule.fleet import Fleet
from labd.schedule.match import Requirement
from labd.schedule.queue import Queue, Waiting


class UnreadableJobError(LabError):
    """A stored job that this version of labd does not understand."""

    kind = "unreadable"


class Reader(Protocol):
    """Reads what older versions of labd did not store beside a job."""

    def requirement(self, job: Commission) -> Requirement:
        """What the job asks of a board. Raises `UnreadableJobError`."""
        ...

    def estimate_s(self, job: Commission) -> float:
        """How long a run of the job should take, s. Raises `UnreadableJobError`."""
        ...


@dataclass(slots=True)
class _Read:
    """Jobs that were read: those that wait, and those that cannot be understood, each with the reason."""

    waiting: list[Waiting] = field(default_factory=list)
    unreadable: dict[int, str] = field(default_factory=dict)


class Backlog:
    """Keeps a `Queue` as the ledger has it.

    Args:
        database: Where the jobs wait.
        reader: Understands old jobs.
        fleet: The boards that they wait for.
    """

    def __init__(self, database: Database, reader: Reader, fleet: Fleet) -> None:
        self.queue = Queue(fleet)
        """What waits. Whoever starts a job removes it after the commit."""
        self.unreadable: dict[int, str] = {}
        """Queued jobs that cannot be understood, with the reason: they are to be parked."""
        self._database = database
        self._reader = reader
        self._position: int | None = None
        self._lock = asyncio.Lock()

    async def follow(self) -> bool:
        """Take up what was committed since; whether anything happened on which a decision depends."""
        async with self._lock:
            if self._position is None:
                self._position, read = await self._database.read(self._all)
                self._enter(read)
                return True
            matters, more = False, True
            while more:
                since, read = await self._database.read(self._since)
                self._position = since.number
                for job_id in since.jobs - {job.job_id for job in read.waiting}:
                    self.queue.remove(job_id)
                    self.unreadable.pop(job_id, None)
                self._enter(read)
                matters, more = matters or since.matters, since.more
            return matters

    def _enter(self, read: _Read) -> None:
        for job in read.waiting:
            self.queue.add(job)
        self.unreadable |= read.unreadable

    # --- in a reader thread -----------------------------------------------------------------------------------

    def _all(self, session: Session) -> tuple[int, _Read]:
        return ledger_queue.newest_event(session), self._parsed(session, ledger_queue.queued_jobs(session))

    def _since(self, session: Session) -> tuple[ledger_queue.Since, _Read]:
        assert self._position is not None, "all was read before"
        since = ledger_queue.events_since(session, self._position)
        return since, self._parsed(session, ledger_queue.queued_among(session, since.jobs))

    def _parsed(self, session: Session, rows: Iterable[JobColumns]) -> _Read:
        read = _Read()
        old: dict[int, JobColumns] = {}
        for row in rows:
            number, text = row[0], row[5]
            if text is None:
                old[number] = row
                continue
            try:
                read.waiting.append(_waiting(row, Requirement.parse(text), row[6]))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                read.unreadable[number] = f"its requirement cannot be read: {error!r}"
        for job in ledger_queue.commissions(session, list(old)):
            try:
                read.waiting.append(_waiting(old[job.id], self._reader.requirement(job), self._reader.estimate_s(job)))
            except UnreadableJobError as error:
                read.unreadable[job.id] = str(error)
        if old:
            read.waiting.sort(key=lambda job: job.job_id)
        return read


def _waiting(row: JobColumns, requirement: Requirement, estimate_s: float) -> Waiting:
    number, requester, submitted_at, priority, deadline, _, _, avoid = row
    return Waiting(
        number,
        requirement,
        requester,
        submitted_at.timestamp(),
        priority,
        estimate_s,
        None if deadline is None else deadline.timestamp(),
        frozenset(avoid) if avoid else _NONE,
    )


_NONE: frozenset[str] = frozenset()
