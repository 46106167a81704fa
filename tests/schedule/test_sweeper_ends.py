"""How a night ends that waits for what does not come."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from labd.config import Queue
from labd.errors import StoreError
from labd.model import ledger_sweeps
from labd.model.states import NightState
from tests.schedule.test_sweeper import at, scene


async def test_a_report_that_the_database_never_gives_does_not_keep_a_night_from_ending(tmp_path: Path) -> None:
    async def report(night_id: int) -> dict[str, Any]:
        raise StoreError("failed: malformed JSON")

    async with scene(tmp_path) as lab:
        await lab.add(due_at=at(1, 22))
        lab.clock.set(at(1, 22))
        async with lab.running(lab.sweeper(report)):
            await lab.until(NightState.RUNNING)
            await lab.end_jobs()
            [night] = await lab.until(NightState.ENDED)
        assert night.report == {"error": "failed: malformed JSON"}


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
