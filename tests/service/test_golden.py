"""The golden job: queued when it is due, never twice, and judged by the board's own earlier results."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from sqlmodel import Session, col, select

from labd.benchmarks import Mode
from labd.config import Health, LiveConfig
from labd.model import ledger, ledger_measures
from labd.model.causes import Cause, Ending
from labd.model.states import BoardState, CheckTrigger, JobState
from labd.model.tables import Board, Event, Job, Score
from labd.schedule.match import Requirement
from labd.service.health.golden import GoldenJobs
from labd.service.lab import Lab
from tests.service.labs import NOW, bring_up, config, open_lab

DAY_S = 86_400.0


class HandClock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> datetime:
        return self.at

    def passed_s(self) -> float:
        return (self.at - NOW).total_seconds()

    async def sleep(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@asynccontextmanager
async def measured_lab(folder: Path) -> AsyncIterator[tuple[Lab, GoldenJobs, HandClock]]:
    """A lab with a golden job a day on its board `b1`, and the clock that makes it due."""
    async with open_lab(folder) as (lab, _):
        await bring_up(lab)
        live = LiveConfig(config(folder).model_copy(update={"health": Health(golden="digits01")}))
        clock = HandClock()
        yield lab, GoldenJobs(live, lab.database, clock), clock


def complete(session: Session, at: datetime, energy_j: float) -> None:
    """Run the golden job that waits, to this result."""
    job = session.exec(select(Job).where(Job.state == "queued").order_by(col(Job.id))).one()
    assert job.id is not None
    run = ledger.start_run(session, job.id, job.spec["board"]["id"], at, 60.0)
    assert run.id is not None
    result = {"energy_j_per_inference": {"value": energy_j, "standard_uncertainty": 0.001 * energy_j}}
    ledger_measures.add_score(session, Score(run_id=run.id, scorer="energy", result=result, created_at=at))
    ledger.end_run(session, run.id, Ending(), at)


async def test_a_golden_job_is_queued_once_a_day_and_a_result_that_is_off_makes_its_board_suspect(
    tmp_path: Path,
) -> None:
    async with measured_lab(tmp_path) as (lab, golden, clock):
        for energy_j in (1.00e-6, 1.01e-6, 0.99e-6, 1.02e-6):
            assert await golden.tend()
            assert not await golden.tend(), "one waits already"
            await lab.database.write(partial(complete, at=clock.at, energy_j=energy_j))
            assert not await golden.tend(), "it had its run today"
            clock.at += timedelta(seconds=DAY_S)
            board = await lab.database.read(lambda session: session.get_one(Board, "b1"))
            assert board.state is BoardState.ONLINE
        await golden.tend()
        await lab.database.write(lambda session: complete(session, clock.at, 1.08e-6))
        await golden.tend()
        board = await lab.database.read(lambda session: session.get_one(Board, "b1"))
        assert board.state is BoardState.SUSPECT
        assert board.reason.startswith("golden job 5 is +7.46 ± 0.21 % (k = 2) from the median of 4 earlier ones")
        jobs = await lab.database.read(lambda session: list(session.exec(select(Job))))
        assert {(job.requester, job.mode, job.spec["board"]["id"]) for job in jobs} == {("labd", Mode.ENERGY, "b1")}


async def test_a_result_that_is_off_is_not_forgotten_because_the_board_has_its_next_run(tmp_path: Path) -> None:
    async with measured_lab(tmp_path) as (lab, golden, clock):
        for energy_j in (1.00e-6, 1.01e-6, 0.99e-6, 1.08e-6):
            await golden.tend()
            await lab.database.write(partial(complete, at=clock.at, energy_j=energy_j))
            clock.at += timedelta(seconds=DAY_S)

        def keep_busy(session: Session) -> int:
            job = ledger.submit_job(
                session, benchmark="digits01", mode=Mode.ENERGY, client="ada", spec={}, now=clock.at
            )
            assert job.id is not None
            run = ledger.start_run(session, job.id, "b1", clock.at, 60.0)
            assert run.id is not None
            return run.id

        run_id = await lab.database.write(keep_busy)
        await golden.tend()
        await lab.database.write(lambda session: ledger.end_run(session, run_id, Ending(), clock.at))
        board = await lab.database.read(lambda session: session.get_one(Board, "b1"))
        assert (board.state, board.check_trigger) == (BoardState.SUSPECT, CheckTrigger.FAILURE)
        told = await lab.database.read(
            lambda session: [event.reason for event in session.exec(select(Event).where(Event.state == "busy"))]
        )
        assert any(reason.startswith("golden job 4 is +8.0") for reason in told)


async def test_a_golden_job_is_queued_as_the_dispatcher_reads_others(tmp_path: Path) -> None:
    async with open_lab(tmp_path) as (lab, _):
        await bring_up(lab)
        live = LiveConfig(config(tmp_path).model_copy(update={"health": Health(golden="digits01")}))
        await GoldenJobs(live, lab.database, HandClock()).tend()
        (job,) = await lab.database.read(lambda session: list(session.exec(select(Job))))
        assert job.requirement is not None
        assert Requirement.parse(job.requirement).board_id == "b1"
        assert job.estimate_s > 0


async def test_a_golden_job_that_waits_long_for_its_board_is_not_doubled(tmp_path: Path) -> None:
    async with open_lab(tmp_path) as (lab, _):
        await bring_up(lab)
        live = LiveConfig(config(tmp_path).model_copy(update={"health": Health(golden="digits01")}))
        golden = GoldenJobs(live, lab.database, HandClock())
        assert await golden.tend()

        def others(session: Session) -> None:
            spec = {"board": {"id": "b2"}, "labels": {"labd.purpose": "golden"}}
            for _ in range(200):
                job = ledger.submit_job(
                    session, benchmark="digits01", mode=Mode.ENERGY, client="labd", spec=spec, now=NOW
                )
                assert job.id is not None
                ledger.cancel_job(session, job.id, NOW)

        await lab.database.write(others)
        assert not await golden.tend()


async def test_a_parked_golden_job_gives_its_place_to_the_next_one(tmp_path: Path) -> None:
    async with measured_lab(tmp_path) as (lab, golden, clock):
        assert await golden.tend()
        failed = Ending(Cause.POISON, "it failed where others did well")
        await lab.database.write(lambda session: ledger.park_job(session, 1, failed, clock.at))
        assert not await golden.tend(), "the next one is not due yet"
        clock.at += timedelta(seconds=DAY_S)
        assert await golden.tend()
        assert not await golden.tend(), "one waits"
        parked, waiting = await lab.database.read(lambda session: list(session.exec(select(Job).order_by(col(Job.id)))))
        assert (parked.state, parked.detail) == (JobState.CANCELLED, "golden job 2 took its place")
        assert waiting.state is JobState.QUEUED


async def test_a_parked_golden_job_that_is_released_is_waited_for(tmp_path: Path) -> None:
    async with measured_lab(tmp_path) as (lab, golden, clock):
        assert await golden.tend()

        def looked_at(session: Session) -> None:
            ledger.park_job(session, 1, Ending(Cause.POISON), clock.at)
            ledger.release_job(session, 1, clock.at)

        await lab.database.write(looked_at)
        clock.at += timedelta(seconds=DAY_S)
        assert not await golden.tend()


async def test_a_lab_without_a_golden_benchmark_queues_none(tmp_path: Path) -> None:
    async with open_lab(tmp_path) as (lab, _):
        await bring_up(lab)
        assert not await GoldenJobs(LiveConfig(config(tmp_path)), lab.database, HandClock()).tend()
