"""How nights end: without a report, without their sweep, or without the boards that they wait for."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from labd.config import Queue
from labd.errors import LabError, RequestError, StoreError
from labd.model import ledger_sweeps
from labd.model.causes import Cause
from labd.model.states import BoardState, JobState, NightState
from tests.schedule.sweeping import at, scene


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (RequestError("no baseline"), "no baseline"),
        (StoreError("failed: malformed JSON"), "failed: malformed JSON"),
    ],
)
async def test_a_report_that_fails_does_not_keep_a_night_from_ending(
    tmp_path: Path, failure: LabError, told: str
) -> None:
    async def report(night_id: int) -> dict[str, Any]:
        raise failure

    async with scene(tmp_path) as lab:
        await lab.add(due_at=at(1, 22))
        lab.clock.set(at(1, 22))
        async with lab.running(lab.sweeper(report)):
            await lab.until(NightState.RUNNING)
            await lab.end_jobs()
            [night] = await lab.until(NightState.ENDED)
        assert night.report == {"error": told}


async def test_a_quarantined_board_costs_its_jobs_and_not_the_next_night(tmp_path: Path) -> None:
    async with scene(tmp_path) as lab:
        lab.work.able = ("b1", "b2")
        for board_id in ("b1", "b2"):
            await lab.set_board(board_id, BoardState.ONLINE)
        await lab.add(due_at=at(1, 22))
        async with lab.running():
            lab.clock.set(at(1, 22))
            await lab.until(NightState.RUNNING)
            await lab.set_board("b1", BoardState.QUARANTINED, "handshake: no answer")
            await lab.set_board("b2", BoardState.MAINTENANCE, "new probe (ada)")
            lab.clock.set(at(2, 19, 59))
            await lab.until(NightState.RUNNING)
            lab.clock.set(at(2, 20))
            [night] = await lab.until(NightState.ENDED)
            away = "no board could do what was left: b1 is quarantined, b2 is in maintenance"
            assert night.reason == away
            told = {(job.state, job.cause, job.detail) for job in await lab.jobs()}
            late = f"it had to start by 2026-03-02T20:00:00+00:00; {away}"
            assert told == {(JobState.FAILED, Cause.EXPIRED, late)}
            lab.clock.set(at(2, 22))
            await lab.until(NightState.ENDED, NightState.RUNNING)


async def test_an_old_night_waits_for_a_board_that_still_works(tmp_path: Path) -> None:
    async with scene(tmp_path) as lab:
        lab.work.able = ("b1", "b2")
        await lab.set_board("b1", BoardState.ONLINE)
        await lab.set_board("b1", BoardState.QUARANTINED, "handshake: no answer")
        await lab.set_board("b2", BoardState.ONLINE)
        await lab.add(due_at=at(1, 22))
        async with lab.running():
            lab.clock.set(at(1, 22))
            await lab.until(NightState.RUNNING)
            lab.clock.set(at(2, 22))
            await lab.until(NightState.RUNNING, NightState.SKIPPED)
            assert {job.state for job in await lab.jobs()} == {JobState.QUEUED}
            await lab.set_board("b2", BoardState.SUSPECT, "its check is due")
            lab.clock.set(at(3, 22))
            await lab.until(NightState.RUNNING, NightState.SKIPPED, NightState.SKIPPED)
            assert {job.state for job in await lab.jobs()} == {JobState.QUEUED}, "a suspect board is looked at soon"


async def test_a_removed_sweep_adds_no_more_jobs_and_frees_its_name(tmp_path: Path) -> None:
    async with scene(tmp_path) as lab:
        lab.queue = Queue(max_queued=2)
        await lab.add(due_at=at(1, 22), cells=5)
        lab.clock.set(at(1, 22))
        async with lab.running():
            await lab.comes_true(partial(lab.has_jobs, 2))
            await lab.database.write(
                lambda session: ledger_sweeps.remove_sweep(
                    session, ledger_sweeps.sweep_named(session, "nightly"), lab.clock.now()
                )
            )
            await lab.end_jobs()
            [night] = await lab.until(NightState.ENDED)
        assert (night.jobs, night.reason) == (2, "the sweep was removed")
        await lab.add()
