"""A sweeper with all that it needs, on a clock that the test sets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlmodel import Session, col, select

from labd.benchmarks import Mode
from labd.config import LiveConfig, Queue
from labd.errors import RequestError
from labd.model import ledger, ledger_sweeps
from labd.model.database import Database
from labd.model.ledger_sweeps import CellJob
from labd.model.migrations import upgrade
from labd.model.states import BoardState, JobState, NightState
from labd.model.tables import Job, Night, Sweep
from labd.schedule.cron import schedule
from labd.schedule.nights import Terms
from labd.schedule.sweeper import NightPlan, Sweeper
from tests.deadline import HUNG_S
from tests.schedule.rack import rack

EVENING = datetime(2026, 3, 1, 18, 0, tzinfo=UTC)


class SetClock:
    """A clock that stands still until the test sets it; whoever sleeps on it looks again each time it is set."""

    def __init__(self, now: datetime) -> None:
        self._now = now
        self._set = asyncio.Event()

    def now(self) -> datetime:
        return self._now

    async def sleep(self, seconds: float) -> None:
        if seconds > 0:
            await self._set.wait()
        else:
            await asyncio.sleep(0)

    def passed_s(self) -> float:
        return self._now.timestamp()

    def set(self, now: datetime) -> None:
        self._now = now
        self._set.set()
        self._set = asyncio.Event()


@dataclass
class PaperWork:
    """Specifications of three keys: `cells`, and what goes wrong."""

    terms_of: Terms
    broken: bool = False
    planned: int = 0
    able: tuple[str, ...] = ("b1", "b2", "b3")
    """Boards that can do the jobs."""

    def terms(self, spec: dict[str, Any]) -> Terms:
        if self.broken:
            raise RequestError("the zone is gone", where="zone")
        return self.terms_of

    def plan(self, spec: dict[str, Any], sweep: str, night_id: int) -> NightPlan:
        self.planned += 1
        if "fault" in spec:
            if spec["fault"] == "bug":
                raise KeyError("bug")
            raise RequestError("no board can serve any of it", where="axes.board")
        jobs = tuple(
            CellJob(cell, "digits01", Mode.ENERGY, {"labels": {}}, 0, '{"x":1}', 60.0) for cell in range(spec["cells"])
        )
        return NightPlan({**spec, "whole": True}, jobs, (("kws01/rep1", "board-9 is gone"),) if "less" in spec else ())

    def boards_for(self, requirement: str) -> tuple[str, ...]:
        return self.able


@dataclass
class Scene:
    database: Database
    clock: SetClock
    work: PaperWork
    folder: Path
    queue: Queue = field(default_factory=Queue)
    reported: list[int] = field(default_factory=list)
    added: int = 0

    def _added(self) -> None:
        self.added += 1

    async def report(self, night_id: int) -> dict[str, Any]:
        self.reported.append(night_id)
        return {"night": night_id}

    def sweeper(self, report: Callable[[int], Any] | None = None) -> Sweeper:
        live = LiveConfig(rack(self.folder).model_copy(update={"queue": self.queue}))
        return Sweeper(
            live, self.database, self.work, report=report or self.report, jobs_added=self._added, clock=self.clock
        )

    @asynccontextmanager
    async def running(self, sweeper: Sweeper | None = None) -> AsyncIterator[Sweeper]:
        sweeper = sweeper or self.sweeper()
        task = asyncio.create_task(sweeper.run(), name="sweeper")
        try:
            yield sweeper
            assert not task.done(), task
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def add(self, name: str = "nightly", due_at: datetime | None = None, **spec: Any) -> int:
        def work(session: Session) -> int:
            sweep = ledger_sweeps.create_sweep(
                session, name, owner="ada", spec={"cells": 3, **spec}, due_at=due_at, now=self.clock.now()
            )
            assert sweep.id is not None
            return sweep.id

        return await self.database.write(work)

    async def refuse(self, what: str) -> None:
        """Have the database refuse this from now on, as a broken disk would."""
        await self._execute(f"CREATE TRIGGER refusal {what} BEGIN SELECT RAISE(ABORT, 'no'); END")

    async def allow(self) -> None:
        await self._execute("DROP TRIGGER refusal")

    async def _execute(self, statement: str) -> None:
        def work(session: Session) -> None:
            session.connection().exec_driver_sql(statement)

        await self.database.write(work)

    async def until(self, *wanted: NightState) -> list[Night]:
        """Wait until the nights are in these states, oldest first."""
        async with asyncio.timeout(HUNG_S):
            while True:
                commits = self.database.commits
                nights = await self.database.read(
                    lambda session: list(session.exec(select(Night).order_by(col(Night.id))))
                )
                if [night.state for night in nights] == list(wanted):
                    return nights
                self.clock.set(self.clock.now())
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await self.database.committed_since(commits)

    async def comes_true(self, condition: Callable[[], Awaitable[bool]]) -> None:
        """Wait for something, on a clock whose sleepers wake from time to time as on any other."""
        async with asyncio.timeout(HUNG_S):
            while not await condition():
                self.clock.set(self.clock.now())
                await asyncio.sleep(0.02)

    async def jobs(self) -> list[Job]:
        return await self.database.read(lambda session: list(session.exec(select(Job).order_by(col(Job.id)))))

    async def has_jobs(self, count: int) -> bool:
        return len(await self.jobs()) >= count

    async def end_jobs(self) -> None:
        def work(session: Session) -> None:
            for job in session.exec(select(Job).where(Job.state == JobState.QUEUED)).all():
                assert job.id is not None
                ledger.cancel_job(session, job.id, self.clock.now())

        await self.database.write(work)

    async def set_board(self, board_id: str, state: BoardState, reason: str = "") -> None:
        await self.database.write(
            lambda session: ledger.set_board_state(session, board_id, state, reason, self.clock.now())
        )

    async def sweep(self, name: str = "nightly") -> Sweep:
        return await self.database.read(lambda session: ledger_sweeps.sweep_named(session, name))


@asynccontextmanager
async def scene(folder: Path, terms: Terms | None = None, now: datetime = EVENING) -> AsyncIterator[Scene]:
    url = f"sqlite:///{folder / 'labd.db'}"
    upgrade(url)
    terms = terms or Terms(schedule("0 22 * * *", "UTC"))
    async with Database.open(url) as database:
        yield Scene(database, SetClock(now), PaperWork(terms), folder)


def at(day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 3, day, hour, minute, tzinfo=UTC)
