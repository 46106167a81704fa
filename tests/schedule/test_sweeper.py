"""The sweeper on a clock that the test sets: each night once, each cell once, whatever dies or jumps in between."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import structlog
import structlog.testing
from sqlmodel import select

from labd.config import LiveConfig, Queue
from labd.model.states import JobState, NightState, SweepState
from labd.model.tables import Event
from labd.schedule.cron import schedule
from labd.schedule.nights import CatchUp, Overlap, Terms
from labd.schedule.sweeper import CHUNK, Sweeper
from tests.deadline import HUNG_S
from tests.schedule.rack import rack
from tests.schedule.sweeping import at, scene


class KilledError(BaseException):
    """What ends a sweeper as a kill does: nothing runs after it."""


async def test_a_night_begins_when_it_is_due_and_ends_with_its_report(tmp_path: Path) -> None:
    async with scene(tmp_path) as lab, lab.running() as sweeper:
        await lab.add(due_at=at(1, 22))
        sweeper.wake()
        lab.clock.set(at(1, 22, 1))
        [night] = await lab.until(NightState.RUNNING)
        assert (night.due_at, night.jobs, night.reason) == (at(1, 22), 3, "")
        assert [(job.requester, job.night_id, job.cell, job.estimate_s) for job in await lab.jobs()] == [
            ("ada", night.id, cell, 60.0) for cell in range(3)
        ]
        assert lab.added == 1
        await lab.end_jobs()
        [night] = await lab.until(NightState.ENDED)
        assert night.report == {"night": night.id}
        assert (await lab.sweep()).due_at == at(2, 22)
        assert lab.reported == [night.id]


async def test_what_was_missed_is_made_up_for_once_and_never_fired_again_when_the_clock_goes_back(
    tmp_path: Path,
) -> None:
    async with scene(tmp_path, now=at(5, 8)) as lab:
        await lab.add(due_at=at(1, 22))
        async with lab.running():
            [night] = await lab.until(NightState.RUNNING)
            assert (night.due_at, night.reason) == (at(4, 22), "caught up 10 h late")
            assert (await lab.sweep()).due_at == at(5, 22)
            await lab.end_jobs()
            await lab.until(NightState.ENDED)
            lab.clock.set(at(5, 22, 1))
            await lab.until(NightState.ENDED, NightState.RUNNING)
            await lab.end_jobs()
            await lab.until(NightState.ENDED, NightState.ENDED)
            lab.clock.set(at(5, 21, 30))  # an hour back
            lab.clock.set(at(5, 22, 30))
            lab.clock.set(at(6, 22))
            nights = await lab.until(NightState.ENDED, NightState.ENDED, NightState.RUNNING)
            assert [night.due_at for night in nights] == [at(4, 22), at(5, 22), at(6, 22)]


async def test_a_clock_that_was_far_ahead_leaves_no_sweep_asleep(tmp_path: Path) -> None:
    async with scene(tmp_path) as lab:
        await lab.add(due_at=at(1, 22))
        async with lab.running():
            lab.clock.set(datetime(2038, 1, 1, tzinfo=UTC))
            await lab.until(NightState.RUNNING)
            await lab.end_jobs()
            await lab.until(NightState.ENDED)
            lab.clock.set(at(1, 20))

            async def due() -> bool:
                return (await lab.sweep()).due_at == at(1, 22)

            await lab.comes_true(due)


async def test_catching_up_all_is_bounded_and_skipping_is_noted(tmp_path: Path) -> None:
    every = Terms(schedule("0 22 * * *", "UTC"), catch_up=CatchUp.ALL, catch_up_max=3)
    async with scene(tmp_path, every, now=at(20, 8)) as lab:
        await lab.add(due_at=at(1, 22))
        async with lab.running():
            nights = await lab.until(*[NightState.RUNNING] * 3)
            assert [night.due_at.day for night in nights] == [17, 18, 19]
            assert len(await lab.jobs()) == 9
    (tmp_path / "skip").mkdir()
    none = Terms(schedule("0 22 * * *", "UTC"), catch_up=CatchUp.SKIP)
    async with scene(tmp_path / "skip", none, now=at(20, 8)) as lab:
        await lab.add(due_at=at(1, 22))
        async with lab.running():
            [night] = await lab.until(NightState.SKIPPED)
            assert (night.due_at, night.reason) == (at(19, 22), "missed: noticed 10 h late")
            assert await lab.jobs() == []


async def test_a_night_that_overlaps_is_skipped_with_its_reason_queued_or_takes_the_place_of_the_other(
    tmp_path: Path,
) -> None:
    for overlap in Overlap:
        folder = tmp_path / overlap
        folder.mkdir()
        async with scene(folder, Terms(schedule("0 22 * * *", "UTC"), overlap=overlap)) as lab:
            await lab.add(due_at=at(1, 22))
            async with lab.running():
                lab.clock.set(at(1, 22))
                await lab.until(NightState.RUNNING)
                lab.clock.set(at(2, 22))
                if overlap is Overlap.SKIP:
                    _, second = await lab.until(NightState.RUNNING, NightState.SKIPPED)
                    assert second.reason == "night 1 still has 3 jobs to do"
                elif overlap is Overlap.QUEUE:
                    await lab.until(NightState.RUNNING, NightState.RUNNING)
                    assert [job.night_id for job in await lab.jobs()] == [1, 1, 1, 2, 2, 2]
                else:
                    await lab.until(NightState.ENDED, NightState.RUNNING)
                    states = [(job.night_id, job.state) for job in await lab.jobs()]
                    assert states == [(1, JobState.CANCELLED)] * 3 + [(2, JobState.QUEUED)] * 3


async def test_a_sweeper_that_dies_between_two_pieces_loses_and_doubles_no_cell(tmp_path: Path) -> None:
    async with scene(tmp_path) as lab:
        await lab.add(due_at=at(1, 22), cells=CHUNK * 4 + 7)
        lab.clock.set(at(1, 22))
        deaths = 0
        for dies_after in (1, 1, 2):
            pieces = 0

            def added(dies_after: int = dies_after) -> None:
                nonlocal pieces
                pieces += 1
                if pieces == dies_after:
                    raise KilledError

            sweeper = Sweeper(
                LiveConfig(rack(tmp_path)), lab.database, lab.work, report=lab.report, jobs_added=added, clock=lab.clock
            )
            try:
                async with asyncio.timeout(HUNG_S):
                    await sweeper.run()
            except KilledError:
                deaths += 1
        assert deaths == 3
        assert 0 < len(await lab.jobs()) < CHUNK * 4 + 7
        async with lab.running():
            [night] = await lab.until(NightState.RUNNING)
        assert night.jobs == CHUNK * 4 + 7
        assert Counter(job.cell for job in await lab.jobs()) == Counter(range(CHUNK * 4 + 7))


async def test_the_expansion_waits_while_the_queue_is_full(tmp_path: Path) -> None:
    async with scene(tmp_path) as lab:
        lab.queue = Queue(max_queued=4)
        await lab.add(due_at=at(1, 22), cells=10)
        lab.clock.set(at(1, 22))
        async with lab.running():
            for have in (4, 8):
                await lab.comes_true(partial(lab.has_jobs, have))
                assert len(await lab.jobs()) == have
                await lab.until(NightState.EXPANDING)
                await lab.end_jobs()
            [night] = await lab.until(NightState.RUNNING)
            assert night.jobs == 10
        assert lab.work.planned == 1


async def test_a_fault_in_one_sweep_costs_its_night_and_no_other(tmp_path: Path) -> None:
    async with scene(tmp_path) as lab:
        await lab.add("gone", due_at=at(1, 22), fault="board")
        await lab.add("bug", due_at=at(1, 22), fault="bug")
        await lab.add("good", due_at=at(1, 22), less=True)
        lab.clock.set(at(1, 22))
        async with lab.running():
            gone, bug, good = await lab.until(NightState.SKIPPED, NightState.SKIPPED, NightState.RUNNING)
        assert "no board can serve any of it" in gone.reason
        assert "labd itself made a mistake" in bug.reason
        assert good.reason == "left out 1 cells: kws01/rep1: board-9 is gone"


async def test_a_sweep_that_cannot_be_read_any_more_is_paused_and_says_why(tmp_path: Path) -> None:
    async with scene(tmp_path) as lab:
        await lab.add(due_at=at(1, 22))
        lab.work.broken = True
        lab.clock.set(at(1, 22))
        async with lab.running():

            async def paused() -> bool:
                return (await lab.sweep()).state is SweepState.PAUSED

            await lab.comes_true(paused)
        events = await lab.database.read(lambda session: list(session.exec(select(Event).where(Event.kind == "sweep"))))
        assert "the zone is gone" in events[-1].reason


async def test_a_time_of_day_becomes_the_deadline_of_the_jobs(tmp_path: Path) -> None:
    terms = Terms(schedule("0 22 * * *", "UTC"), schedule("0 7 * * *", "Europe/Berlin"))
    async with scene(tmp_path, terms) as lab:
        await lab.add(due_at=at(28, 22))
        lab.clock.set(at(28, 22))  # the clocks go forward in this night
        async with lab.running():
            await lab.until(NightState.RUNNING)
        assert {job.deadline for job in await lab.jobs()} == {at(29, 5)}


async def test_a_night_whose_last_hour_to_start_has_passed_is_not_made_up_for(tmp_path: Path) -> None:
    terms = Terms(schedule("0 22 * * *", "UTC"), schedule("0 7 * * *", "UTC"))
    async with scene(tmp_path, terms) as lab:
        await lab.add(due_at=at(1, 22))
        lab.clock.set(at(2, 9))
        async with lab.running():
            [night] = await lab.until(NightState.SKIPPED)
        assert night.reason == "missed: its jobs had to start by 2026-03-02T07:00:00+00:00"
        assert (await lab.sweep()).due_at == at(2, 22)


async def test_what_the_database_refuses_is_tried_again_and_ends_nothing(tmp_path: Path) -> None:
    async with scene(tmp_path) as lab:
        await lab.add(due_at=at(1, 22))
        await lab.refuse("BEFORE INSERT ON job")
        lab.clock.set(at(1, 22))
        async with lab.running():
            with structlog.testing.capture_logs() as told:
                await lab.until(NightState.EXPANDING)
                async with asyncio.timeout(HUNG_S):
                    while "sweep_not_served" not in [each["event"] for each in told]:
                        await asyncio.sleep(0.01)
            await lab.allow()
            await lab.until(NightState.RUNNING)
            await lab.refuse("BEFORE UPDATE OF report ON night")
            await lab.end_jobs()
            with structlog.testing.capture_logs() as told:
                async with asyncio.timeout(HUNG_S):
                    while "sweep_not_served" not in [each["event"] for each in told]:
                        await asyncio.sleep(0.01)
            await lab.allow()
            [night] = await lab.until(NightState.ENDED)
        assert night.report == {"night": 1}
        assert Counter(job.cell for job in await lab.jobs()) == Counter(range(3))
