"""Light boards pass the real daemon's runs, through drivers that a lab has added by itself."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.deadline import HUNG_S
from tests.fast_clock import Anchor
from tests.light.caller import Caller, calling
from tests.light.faults import Faults
from tests.light.lab import LAB, LightLab, light_lab

JOB = {"benchmark": "digits01", "mode": "performance", "trials": 1, "min_window_s": 11.5}
ENDED_S = HUNG_S


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path leaves room for the names of sockets."""
    path = Path(tempfile.mkdtemp(prefix="light-"))
    yield path
    shutil.rmtree(path)


@asynccontextmanager
async def at_work(folder: Path, *, boards: int, anchor: Anchor | None = None) -> AsyncIterator[tuple[LightLab, Caller]]:
    """A lab with its daemon, and somebody who asks."""
    async with light_lab(folder, boards=boards, speed=60.0) as lab:
        await lab.start_daemon(anchor)
        async with calling(lab.broker.endpoint, LAB) as caller:
            yield lab, caller


async def ended(caller: Caller, job_id: int) -> dict[str, Any]:
    """The job once it has ended."""
    async with asyncio.timeout(ENDED_S):
        while (job := await caller.ask("job.get", {"id": job_id}))["state"] in ("queued", "running"):
            await asyncio.sleep(0.05)
    return job


async def first_run(caller: Caller, job_id: int) -> dict[str, Any]:
    """The first attempt at a job once it has ended; the job may wait for another."""
    async with asyncio.timeout(ENDED_S):
        while True:
            job = await caller.ask("job.get", {"id": job_id})
            if job["runs"] and (run := job["runs"][0])["ended_at"]:
                return dict(run)
            await asyncio.sleep(0.05)


async def submit(caller: Caller, board: str) -> int:
    """Queue a job for one board."""
    accepted = await caller.ask("job.submit", {**JOB, "board": {"id": board}})
    return int(accepted["job_id"])


async def test_an_unmodified_daemon_runs_jobs_on_boards_whose_drivers_a_lab_has_added(folder: Path) -> None:
    async with at_work(folder, boards=9) as (lab, caller):
        jobs = [await submit(caller, board) for board in (lab.boards[0], lab.boards[8])]
        documents = [await ended(caller, job_id) for job_id in jobs]
        told = await lab.rack()
    assert [job["state"] for job in documents] == ["completed", "completed"]
    (window,) = [trial["window"] for trial in documents[0]["runs"][0]["trials"]]
    assert 11.5 <= window["duration_s"] < 12.0
    assert told.boards["light-001"].worked_s == pytest.approx(15.0, abs=0.6)
    assert not any(board.powered for board in told.boards.values())


async def test_a_boards_faults_end_its_runs_by_their_causes_and_cost_no_other_board(folder: Path) -> None:
    faults = [Faults(reboots=True), Faults(unplugged=True), Faults()]
    async with at_work(folder, boards=3) as (lab, caller):
        for board, fault in zip(lab.boards, faults, strict=True):
            await lab.rack(board, fault)
        runs = [await first_run(caller, await submit(caller, board)) for board in lab.boards]
    causes = [run["cause"] and run["cause"]["kind"] for run in runs]
    assert causes == ["board_rebooted", "serial_lost", None]


async def test_a_daemon_with_a_fast_clock_goes_on_at_the_right_time_after_a_kill(folder: Path) -> None:
    start = datetime(2026, 3, 20, 12, tzinfo=UTC)
    anchor = Anchor.here(start, 600.0)
    async with at_work(folder, boards=1, anchor=anchor) as (lab, caller):
        first = await ended(caller, await submit(caller, lab.boards[0]))
        await lab.kill_daemon()
        await lab.start_daemon(anchor)
        second = await ended(caller, await submit(caller, lab.boards[0]))
        held = lab.vitals
    times = [datetime.fromisoformat(job[key]) for job in (first, second) for key in ("submitted_at", "ended_at")]
    assert start < times[0]
    assert times == sorted(times)
    assert held[0].files > 5
    assert held[0].rss_anon_mb > 10
