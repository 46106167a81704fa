"""A device of the rack goes wrong: the run says which and how, the trace is kept, and the next job runs."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from drivers.api import IntervalKind
from labd.model.causes import Cause, Ending
from labd.model.states import RunState
from labd.trace.reader import Trace
from tests.bench.benches import bench_on_rack
from tests.faults.scene import (
    BOARD,
    SPEED,
    energy,
    in_trial,
    next_job_completes,
    nothing_is_left,
    output_is_off,
    outputs_off,
    reached,
    told,
    trace_of,
    turn,
)


@dataclass(frozen=True)
class Case:
    """A fault, when it begins, and what an operator reads.

    Args:
        device, fault: What goes wrong.
        cause: What the run ends with.
        says: Pattern in the run's detail.
        reachable: Whether the supply still obeys, so that the output goes off at once.
        neighbour: Whether a job on another board completes while the fault is on.
        slow: Whether several deadlines have to pass.
    """

    device: str
    fault: str
    cause: Cause
    says: str
    reachable: bool = True
    neighbour: bool = False
    slow: bool = False

    def __str__(self) -> str:
        return f"{self.device}-{self.fault}"


FROM_THE_START = [
    Case("psu-1", "off", Cause.INSTRUMENT_UNREACHABLE, "psu-1 cannot be opened", reachable=False),
    Case("psu-1", "silent", Cause.INSTRUMENT_UNREACHABLE, r"psu-1 cannot be opened.*\*IDN\?", reachable=False),
    Case("psu-1", "nonsense", Cause.INSTRUMENT_UNREACHABLE, r"psu-1.*not ASCII", reachable=False),
    Case("psu-1", "no_reading", Cause.INSTRUMENT_ERROR, "psu-1, channel 1, has no reading of the voltage"),
    Case("stamps-1", "off", Cause.INSTRUMENT_UNREACHABLE, "stamps-1 cannot be opened.*no answer to 'id'"),
    Case("board-1", "silent", Cause.BOARD_SILENT, "no 'm-ready' in time after 'name'", neighbour=True, slow=True),
    Case("board-1", "reboot_in_window", Cause.BOARD_REBOOTED, "the board reset itself", neighbour=True),
    Case("board-1", "lost_edge", Cause.EDGES_MISSING, "falling edges that came for one window: 1", neighbour=True),
    Case("board-1", "extra_edge", Cause.EDGES_EXTRA, "falling edges that came for one window: 3", neighbour=True),
    Case("board-1.probe", "off", Cause.FLASH_FAILED, "the connection ended", neighbour=True),
    Case("board-1.probe", "verify_fails", Cause.FLASH_FAILED, "verify", neighbour=True),
]

IN_THE_CAPTURE = [
    Case("psu-1", "off", Cause.INSTRUMENT_UNREACHABLE, "closed the connection|refused|broke", reachable=False),
    Case("psu-1", "silent", Cause.INSTRUMENT_SILENT, "no whole answer to .* in time", reachable=False, slow=True),
    Case(
        "psu-1",
        "nonsense",
        Cause.INSTRUMENT_NONSENSE,
        "no definite length block|not ASCII|no error entry",
        reachable=False,
    ),
    Case("psu-1", "stall_mid_block", Cause.INSTRUMENT_SILENT, r"no whole answer to FETC:ELOG\?"),
    Case("stamps-1", "off", Cause.INSTRUMENT_SILENT, "no answer to 'status' within"),
    Case("stamps-1", "lost_line", Cause.EDGES_LOST, "edge.* (lost|never came)|dropped 1 edges"),
    Case("stamps-1", "corrupt_line", Cause.EDGES_LOST, "a line was damaged"),
    Case("board-1", "silent", Cause.BOARD_SILENT, "no 'm-ready' in time", neighbour=True),
    Case("board-1", "reboot_in_window", Cause.BOARD_REBOOTED, "reset itself.*'infer", neighbour=True),
    Case("board-1", "lost_edge", Cause.EDGES_MISSING, "falling edges that came for one window: 1", neighbour=True),
    Case("board-1", "extra_edge", Cause.EDGES_EXTRA, "falling edges that came for one window: 3", neighbour=True),
]


def each(cases: list[Case]) -> pytest.MarkDecorator:
    """A test of each case."""
    return pytest.mark.parametrize(
        "case", [pytest.param(case, id=str(case), marks=[pytest.mark.slow] * case.slow) for case in cases]
    )


@each(FROM_THE_START)
async def test_a_fault_that_was_there_before_is_named_and_costs_its_own_run_only(case: Case, tmp_path: Path) -> None:
    async with bench_on_rack(tmp_path, speed=SPEED) as bench:
        turn(bench, case.device, case.fault, on=True)
        ending, run_id = await energy(bench)
        assert ending.cause is case.cause, ending.detail
        assert re.search(case.says, ending.detail), ending.detail
        assert await told(bench, run_id) == ending
        assert output_is_off(bench)  # it never went on, or went off again
        if case.neighbour:
            await next_job_completes(bench, "board-2")
        turn(bench, case.device, case.fault, on=False)
        await next_job_completes(bench)
        await nothing_is_left(bench)


@each(IN_THE_CAPTURE)
async def test_a_fault_that_comes_in_a_capture_is_named_and_what_was_recorded_is_kept(
    case: Case, tmp_path: Path
) -> None:
    async with bench_on_rack(tmp_path, speed=SPEED) as bench:
        run = asyncio.create_task(energy(bench, trials=4, min_window_s=1.0), name="run")
        await reached(bench, run, in_trial(2))
        turn(bench, case.device, case.fault, on=True)
        ending, run_id = await run
        assert ending.cause is case.cause, ending.detail
        assert re.search(case.says, ending.detail), ending.detail
        if case.reachable:
            assert output_is_off(bench)
        if case.neighbour:
            await next_job_completes(bench, "board-2")
        turn(bench, case.device, case.fault, on=False)
        await outputs_off(bench)
        folder = await trace_of(bench, run_id)
        assert folder is not None
        trial, *_ = Trace.open(folder).trials()
        assert trial.ended is not None
        await next_job_completes(bench)
        await nothing_is_left(bench)


async def test_samples_overwritten_in_a_window_make_the_run_invalid(tmp_path: Path) -> None:
    async with bench_on_rack(tmp_path, speed=SPEED) as bench:
        run = asyncio.create_task(energy(bench, trials=4, min_window_s=1.0), name="run")
        await reached(bench, run, in_trial(2))
        turn(bench, "psu-1", "fifo_overflow", on=True)
        await reached(bench, run, in_trial(3))
        turn(bench, "psu-1", "fifo_overflow", on=False)
        ending, run_id = await run
        assert (ending.cause, ending.state) == (Cause.CAPTURE_DAMAGED, RunState.INVALID)
        folder = await trace_of(bench, run_id)
        assert folder is not None
        assert any(interval.kind is IntervalKind.OVERFLOW for interval in Trace.open(folder).marked())
        assert output_is_off(bench)
        await next_job_completes(bench)
        await nothing_is_left(bench)


async def test_samples_without_a_reading_in_a_window_make_the_run_invalid_and_are_no_numbers(tmp_path: Path) -> None:
    async with bench_on_rack(tmp_path, speed=SPEED) as bench:
        run = asyncio.create_task(energy(bench, trials=4, min_window_s=1.0), name="run")
        await reached(bench, run, in_trial(2))
        turn(bench, "psu-1", "no_reading", on=True)
        await reached(bench, run, in_trial(3))
        turn(bench, "psu-1", "no_reading", on=False)
        ending, run_id = await run
        assert (ending.cause, ending.state) == (Cause.CAPTURE_DAMAGED, RunState.INVALID)
        folder = await trace_of(bench, run_id)
        assert folder is not None
        trace = Trace.open(folder)
        marks = trace.marked()
        assert marks
        assert {mark.kind for mark in marks} == {IntervalKind.NO_READING}
        for quantity in trace.meta.quantities:
            samples = trace.samples(quantity)
            assert np.flatnonzero(np.isnan(samples)).tolist() == [mark.start for mark in marks]
            assert np.nanmax(np.abs(samples)) < 10.0
        await next_job_completes(bench)
        await nothing_is_left(bench)


async def test_noise_on_the_serial_line_is_survived(tmp_path: Path) -> None:
    async with bench_on_rack(tmp_path, speed=SPEED) as bench:
        turn(bench, BOARD, "garbage", on=True)
        await next_job_completes(bench)
        await nothing_is_left(bench)


async def test_a_board_that_fails_beside_another_on_the_same_instruments_costs_its_own_run_only(tmp_path: Path) -> None:
    async with bench_on_rack(tmp_path, speed=SPEED) as bench:
        run = asyncio.create_task(energy(bench, trials=4, min_window_s=1.0), name="run")
        beside = asyncio.create_task(energy(bench, "board-2", trials=4, min_window_s=1.0), name="beside")
        await reached(bench, beside, in_trial(1, "board-2"))
        turn(bench, BOARD, "reboot_in_window", on=True)
        ending, _ = await run
        assert ending.cause is Cause.BOARD_REBOOTED, ending.detail
        assert (await beside)[0] == Ending()
        await nothing_is_left(bench)
