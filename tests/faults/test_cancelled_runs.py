"""A cancel at any step: the output goes off, the lease goes back, and a trace that was begun is sealed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from labd.model.causes import Cause, Ending
from labd.model.states import RunStep
from tests.bench.benches import bench_on_rack
from tests.faults.scene import (
    SPEED,
    at_step,
    energy,
    in_trial,
    next_job_completes,
    nothing_is_left,
    output_is_off,
    outputs_off,
    reached,
    told,
    turn,
)

FIRST_RUN = 1
STEPS = [step for step in RunStep if step is not RunStep.RELEASE]  # the release is the dispatcher's


async def cancelled(run: asyncio.Task[tuple[Ending, int]]) -> None:
    """Cancel the run; its clean-up is over when this returns."""
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run


@pytest.mark.parametrize("step", STEPS)
async def test_a_cancel_at_any_step_leaves_the_bench_in_order(step: RunStep, tmp_path: Path) -> None:
    async with bench_on_rack(tmp_path, speed=SPEED) as bench:
        run = asyncio.create_task(energy(bench), name="run")
        await reached(bench, run, at_step(step))
        await cancelled(run)
        assert output_is_off(bench)
        await nothing_is_left(bench)
        assert (await told(bench, FIRST_RUN)).cause is Cause.CANCELLED
        await next_job_completes(bench)
        await nothing_is_left(bench)


async def test_a_cancel_in_a_trial_keeps_what_was_recorded(tmp_path: Path) -> None:
    async with bench_on_rack(tmp_path, speed=SPEED) as bench:
        run = asyncio.create_task(energy(bench, min_window_s=1.0), name="run")
        await reached(bench, run, in_trial(2))
        await cancelled(run)
        assert output_is_off(bench)
        await nothing_is_left(bench)
        await next_job_completes(bench)


async def test_a_second_cancel_does_not_cut_the_clean_up_short(tmp_path: Path) -> None:
    async with bench_on_rack(tmp_path, speed=SPEED) as bench:
        run = asyncio.create_task(energy(bench, min_window_s=1.0), name="run")
        await reached(bench, run, in_trial(2))
        while not run.done():
            run.cancel()
            await asyncio.sleep(0.001)
        assert run.cancelled()
        assert output_is_off(bench)


async def test_a_cancel_while_the_instrument_is_off_is_still_a_cancel(tmp_path: Path) -> None:
    async with bench_on_rack(tmp_path, speed=SPEED) as bench:
        run = asyncio.create_task(energy(bench, min_window_s=1.0), name="run")
        await reached(bench, run, in_trial(2))
        turn(bench, "psu-1", "off", on=True)
        await cancelled(run)
        turn(bench, "psu-1", "off", on=False)
        await outputs_off(bench)  # nobody asked for it again: what is owed is paid by itself
        await nothing_is_left(bench)
        await next_job_completes(bench)
