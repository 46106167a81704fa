"""The dispatcher with work that the test holds in its hand: starts, ends, cancels, and what a stop leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlmodel import Session, select

from labd.benchmarks import Mode
from labd.clock import WALL, Clock
from labd.config import LabConfig, LiveConfig
from labd.config.derived import BoardFacts, lab_facts
from labd.model import ledger
from labd.model.causes import Cause, Ending
from labd.model.database import Database
from labd.model.ledger import Begun
from labd.model.ledger_queue import Commission
from labd.model.migrations import upgrade
from labd.model.states import BoardState, JobState, RunState
from labd.model.tables import Board, Event, Hold, Job, Lease, Run, Share
from labd.schedule.backlog import UnreadableJobError
from labd.schedule.dispatcher import Dispatcher
from labd.schedule.match import Requirement
from tests.deadline import HUNG_S
from tests.fast_clock import Anchor, FastClock
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
        self.safe: list[str] = []

    def facts(self, config: LabConfig) -> dict[str, BoardFacts]:
        return lab_facts(config, {})

    def requirement(self, job: Commission) -> Requirement:
        if "riddle" in job.spec:
            raise UnreadableJobError("it speaks in riddles")
        return Requirement(job.benchmark, job.mode, board_id=job.spec.get("board"))

    def estimate_s(self, job: Commission) -> float:
        return 15.0

    def lease_s(self, job: Commission) -> float:
        return 60.0

    async def make_safe(self, board_id: str) -> None:
        self.safe.append(board_id)

    async def perform(self, job: Commission, run: Begun) -> Ending:
        self.ends[job.id] = asyncio.get_running_loop().create_future()
        async with self.changed:
            self.changed.notify_all()
        try:
            return await self.ends[job.id]
        finally:
            self.cleaned.append(job.id)

    async def started(self, count: int) -> None:
        async with asyncio.timeout(HUNG_S), self.changed:
            await self.changed.wait_for(lambda: len(self.ends) >= count)


@asynccontextmanager
async def lab(
    folder: Path,
    captures_start: Callable[[], Awaitable[bool]] = always,
    config: LabConfig | None = None,
    clock: Clock = WALL,
) -> AsyncIterator[tuple[Database, HeldWork, Dispatcher, asyncio.Task[None]]]:
    url = f"sqlite:///{folder / 'labd.db'}"
    upgrade(url)
    async with Database.open(url) as database:
        for board_id in BOARDS:
            await database.write(
                lambda session, b=board_id: ledger.set_board_state(session, b, BoardState.ONLINE, "", NOW)
            )
        work = HeldWork()
        dispatcher = Dispatcher(LiveConfig(config or rack()), database, work, captures_start, clock)
        await dispatcher.begin()
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
    async with asyncio.timeout(HUNG_S):
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
        await work.started(1)
        work.ends[job_id].set_result(Ending(Cause.SCORE_FAILED, "nothing to score"))
        job = await until(database, job_id, JobState.FAILED)
        assert (job.cause, job.detail) == (Cause.SCORE_FAILED, "nothing to score")
        job_id = await submit(database, "b1")
        await work.started(2)
        work.ends[job_id].set_result(Ending(Cause.BOARD_SILENT, "nothing came"))
        job = await until(database, job_id, JobState.QUEUED)
        assert (job.cause, job.avoid) == (None, ["b1"])
        board = await database.read(lambda session: session.get_one(Board, "b1"))
        assert (board.state, board.reason) == (BoardState.SUSPECT, "run 2 ended as board_silent")
        explanation = await dispatcher.explain(job_id)
        assert dispatcher.queue_length == 1
        assert (explanation.state, explanation.place) == (JobState.QUEUED, 1)


async def test_a_job_that_fails_is_tried_on_another_board_and_parked_when_it_fails_there(tmp_path: Path) -> None:
    async with lab(tmp_path) as (database, work, _, _):
        job_id = await submit(database)
        await work.started(1)
        work.ends.pop(job_id).set_result(Ending(Cause.BOARD_SILENT))
        await work.started(1)
        work.ends.pop(job_id).set_result(Ending(Cause.EDGES_MISSING))
        job = await until(database, job_id, JobState.PARKED)
        assert (job.cause, job.avoid) == (Cause.POISON, ["b1", "b2"])
        assert job.detail == "it failed on several boards: b1 (board_silent), b2 (edges_missing)"
        reasons = await database.read(
            lambda session: [row.reason for row in session.exec(select(Event)) if row.kind == "job" and row.reason]
        )
        assert reasons[0] == "board_silent: attempt 2 of 3, on another board if one fits"
        await database.write(lambda session: ledger.release_job(session, job_id, NOW))
        await work.started(1)
        work.ends[job_id].set_result(Ending())
        assert (await until(database, job_id, JobState.COMPLETED)).forgiven == 2


async def test_a_job_that_nobody_understands_is_parked_and_the_others_go_on(tmp_path: Path) -> None:
    async with lab(tmp_path) as (database, work, _, _):

        def add(session: Session) -> None:
            for text in ("not JSON", "{}", '{"benchmark":"digits01","mode":"dreams"}', "[]"):
                ledger.submit_job(
                    session, benchmark="digits01", mode=Mode.ACCURACY, client="old", spec={}, now=NOW, requirement=text
                )
            ledger.submit_job(
                session, benchmark="digits01", mode=Mode.ACCURACY, client="old", spec={"riddle": 1}, now=NOW
            )

        await database.write(add)
        job_id = await submit(database)
        await work.started(1)
        assert set(work.ends) == {job_id}
        parked = [await until(database, number, JobState.PARKED) for number in range(1, 6)]
        assert {job.cause for job in parked} == {Cause.UNREADABLE}
        assert "riddles" in parked[-1].detail


async def test_a_job_whose_deadline_passed_ends_as_expired(tmp_path: Path) -> None:
    async with lab(tmp_path) as (database, work, _, _):
        holders = [await submit(database, board) for board in BOARDS]
        await work.started(3)
        soon = datetime.now(UTC) + timedelta(seconds=0.3)
        late = await database.write(
            lambda session: ledger.submit_job(
                session, benchmark="digits01", mode=Mode.ACCURACY, client="c", spec={}, now=NOW, deadline=soon
            )
        )
        assert late.id is not None
        job = await until(database, late.id, JobState.FAILED)
        assert job.cause is Cause.EXPIRED
        assert set(work.ends) == set(holders)


async def test_boards_that_share_a_thing_take_turns(tmp_path: Path) -> None:
    config = rack()
    boards = tuple(board.model_copy(update={"resources": ("mux",)}) for board in config.board)
    async with lab(tmp_path, config=config.model_copy(update={"board": boards})) as (database, work, _, _):
        jobs = [await submit(database) for _ in range(3)]
        for count, job_id in enumerate(jobs, 1):
            await work.started(count)
            assert set(work.ends) == set(jobs[:count])
            work.ends[job_id].set_result(Ending())
        for job_id in jobs:
            await until(database, job_id, JobState.COMPLETED)
        assert await database.read(lambda session: list(session.exec(select(Hold)))) == []


async def test_the_end_of_a_run_charges_its_requester(tmp_path: Path) -> None:
    async with lab(tmp_path) as (database, work, _, _):
        job_id = await submit(database)
        await work.started(1)
        work.ends[job_id].set_result(Ending())
        await until(database, job_id, JobState.COMPLETED)
        (share,) = await database.read(lambda session: list(session.exec(select(Share))))
        assert share.requester == "test"
        assert 0.0 < share.used_s < 5.0


async def test_a_look_for_runs_that_nobody_serves_leaves_those_alone_that_just_start(tmp_path: Path) -> None:
    """The look is made many times in each start."""
    clock = FastClock(Anchor.here(NOW, 1e6))
    async with lab(tmp_path, clock=clock) as (database, work, dispatcher, _):
        for _ in range(30):
            job_id = await submit(database)
            dispatcher.wake()
            async with asyncio.timeout(HUNG_S), work.changed:
                await work.changed.wait_for(lambda wanted=job_id: wanted in work.ends)
            work.ends[job_id].set_result(Ending())
            await until(database, job_id, JobState.COMPLETED)
        runs = await database.read(lambda session: list(session.exec(select(Run.state))))
        assert runs == [RunState.COMPLETED] * 30
        assert not work.safe


async def test_a_run_that_somebody_else_has_ended_costs_nobody_else_anything(tmp_path: Path) -> None:
    async with lab(tmp_path) as (database, work, dispatcher, task):
        ended, other = await submit(database, "b1"), await submit(database, "b2")
        dispatcher.wake()
        await work.started(2)
        run = await database.read(lambda session: session.exec(select(Run).where(Run.job_id == ended)).one())
        assert run.id is not None
        await database.write(lambda session: ledger.end_run(session, run.id or 0, Ending(), NOW))
        work.ends[ended].set_result(Ending(Cause.BOARD_SILENT))
        work.ends[other].set_result(Ending())
        await until(database, other, JobState.COMPLETED)
        await until(database, ended, JobState.COMPLETED)
        assert not task.done()


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


async def test_a_cancel_of_a_run_that_is_not_there_stops_no_later_one_of_its_number(tmp_path: Path) -> None:
    async with lab(tmp_path) as (database, work, dispatcher, _):
        dispatcher.cancel(1)
        job_id = await submit(database)
        await work.started(1)
        work.ends[job_id].set_result(Ending())
        await until(database, job_id, JobState.COMPLETED)


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
