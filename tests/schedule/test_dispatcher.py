"""The dispatcher with work that the test holds in its hand: starts, ends, cancels, and what a stop leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from sqlmodel import select

from labd.benchmarks import Mode
from labd.config import LiveConfig
from labd.model import ledger
from labd.model.causes import Cause, Ending
from labd.model.database import Database
from labd.model.migrations import upgrade
from labd.model.states import BoardState, JobState, RunState
from labd.model.tables import Board, Job, Lease, Run
from labd.schedule.dispatcher import Dispatcher
from labd.schedule.match import Requirement
from tests.schedule.rack import BOARDS, rack

NOW = datetime(2026, 1, 1, tzinfo=UTC)


async def always() -> bool:
    """A lab that has room for every capture."""
    return True


class HeldWork:
    """Work whose end the test decides; it knows which runs are under way."""

    def __init__(self) -> None:
        self.ends: dict[int, asyncio.Future[Ending]] = {}
        self.changed = asyncio.Condition()
        self.cleaned: list[int] = []

    def requirement(self, job: Job) -> Requirement:
        return Requirement(job.benchmark, job.mode, board_id=job.spec.get("board"))

    def lease_s(self, job: Job) -> float:
        return 60.0

    async def perform(self, job: Job, run: Run) -> Ending:
        assert job.id is not None
        self.ends[job.id] = asyncio.get_running_loop().create_future()
        async with self.changed:
            self.changed.notify_all()
        try:
            return await self.ends[job.id]
        finally:
            self.cleaned.append(job.id)

    async def started(self, count: int) -> None:
        async with asyncio.timeout(5), self.changed:
            await self.changed.wait_for(lambda: len(self.ends) >= count)


@asynccontextmanager
async def lab(
    folder: Path, captures_start: Callable[[], Awaitable[bool]] = always
) -> AsyncIterator[tuple[Database, HeldWork, Dispatcher, asyncio.Task[None]]]:
    url = f"sqlite:///{folder / 'labd.db'}"
    upgrade(url)
    async with Database.open(url) as database:
        for board_id in BOARDS:
            await database.write(
                lambda session, b=board_id: ledger.set_board_state(session, b, BoardState.ONLINE, "", NOW)
            )
        work = HeldWork()
        dispatcher = Dispatcher(LiveConfig(rack()), database, work, captures_start)
        task = asyncio.create_task(dispatcher.run(), name="dispatcher")
        try:
            yield database, work, dispatcher, task
        finally:
            task.cancel()
            await asyncio.wait({task})


async def submit(database: Database, board: str | None = None, mode: Mode = Mode.ACCURACY) -> int:
    job = await database.write(
        lambda session: ledger.submit_job(
            session, benchmark="digits01", mode=mode, client="test", spec={"board": board}, now=NOW
        )
    )
    assert job.id is not None
    return job.id


async def until(database: Database, job_id: int, state: JobState) -> Job:
    async with asyncio.timeout(5):
        while (job := await database.read(lambda session: session.get_one(Job, job_id))).state is not state:
            await asyncio.sleep(0.005)
    return job


async def test_jobs_fill_the_boards_and_the_next_one_starts_when_a_board_is_free(tmp_path: Path) -> None:
    async with lab(tmp_path) as (database, work, dispatcher, _):
        jobs = [await submit(database) for _ in range(4)]
        dispatcher.wake()
        await work.started(3)
        assert set(work.ends) == set(jobs[:3])
        work.ends[jobs[1]].set_result(Ending())
        await work.started(4)
        await until(database, jobs[1], JobState.COMPLETED)
        runs = await database.read(lambda session: list(session.exec(select(Run))))
        board_of = {run.job_id: run.board_id for run in runs}
        assert board_of[jobs[3]] == board_of[jobs[1]]


async def test_a_failed_run_keeps_its_cause_and_its_board_is_looked_at_first(tmp_path: Path) -> None:
    async with lab(tmp_path) as (database, work, dispatcher, _):
        job_id = await submit(database, "b1")
        dispatcher.wake()
        await work.started(1)
        work.ends[job_id].set_result(Ending(Cause.BOARD_SILENT, "nothing came"))
        job = await until(database, job_id, JobState.FAILED)
        assert (job.cause, job.detail) == (Cause.BOARD_SILENT, "nothing came")
        board = await database.read(lambda session: session.get_one(Board, "b1"))
        assert (board.state, board.reason) == (BoardState.SUSPECT, "run 1 ended as board_silent")


async def test_a_cancelled_run_is_cleaned_up_and_ends_its_job(tmp_path: Path) -> None:
    async with lab(tmp_path) as (database, work, dispatcher, task):
        job_id = await submit(database)
        dispatcher.wake()
        await work.started(1)
        await database.write(lambda session: ledger.cancel_job(session, job_id, NOW))
        run = await database.read(lambda session: session.exec(select(Run)).one())
        assert run.id is not None
        dispatcher.cancel(run.id)
        job = await until(database, job_id, JobState.CANCELLED)
        assert job.cause is Cause.CANCELLED
        assert work.cleaned == [job_id]
        assert not task.done(), "cancelling one run leaves the dispatcher alive"


async def test_a_stop_ends_runs_as_interrupted_and_queues_their_jobs_again_but_not_cancelled_ones(
    tmp_path: Path,
) -> None:
    async with lab(tmp_path) as (database, work, dispatcher, task):
        kept, dropped = await submit(database), await submit(database)
        dispatcher.wake()
        await work.started(2)
        await database.write(lambda session: ledger.cancel_job(session, dropped, NOW))
        task.cancel()
        await asyncio.wait({task})
        assert (await until(database, kept, JobState.QUEUED)).cause is None
        await until(database, dropped, JobState.CANCELLED)
        leases = await database.read(
            lambda session: [lease for lease in session.exec(select(Lease)) if lease.released_at is None]
        )
        assert leases == []


async def test_what_a_dead_daemon_left_running_is_interrupted_and_queued_again(tmp_path: Path) -> None:
    async with lab(tmp_path) as (database, _, _, task):
        task.cancel()
        await asyncio.wait({task})
        job_id = await submit(database)
        await database.write(lambda session: ledger.start_run(session, job_id, "b2", NOW, 60.0))
        ended = await database.write(lambda session: ledger.interrupt_runs(session, NOW))
        assert [(run.job_id, run.state, run.cause) for run in ended] == [
            (job_id, RunState.INTERRUPTED, Cause.DAEMON_DIED)
        ]
        job = await database.read(lambda session: session.get_one(Job, job_id))
        assert job.state is JobState.QUEUED
        second = await database.write(lambda session: ledger.start_run(session, job_id, "b2", NOW, 60.0))
        assert second.attempt == 2


async def test_without_room_for_a_trace_only_jobs_that_need_none_start(tmp_path: Path) -> None:
    room = False

    async def captures_start() -> bool:
        return room

    async with lab(tmp_path, captures_start) as (database, work, dispatcher, _):
        energy = await submit(database, mode=Mode.ENERGY)
        accuracy = await submit(database)
        dispatcher.wake()
        await work.started(1)
        assert set(work.ends) == {accuracy}
        room = True
        dispatcher.wake()
        await work.started(2)
        assert set(work.ends) == {energy, accuracy}
