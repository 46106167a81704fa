"""Bursts beyond the range, shorter than a sample: the next range is taken, or the run refused; the trace says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from drivers.api import PowerAnalyzer, Quantity
from labd.config import Board
from labd.model.causes import Cause, Ending
from labd.trace.meta import TraceMeta, read_meta
from labd.virtual.config import RackConfig
from tests.bench.benches import TestBench, bench_on_rack
from tests.faults.scene import BOARD, SPEED, energy, next_job_completes, nothing_is_left, trace_of, with_board

BURST_A = 0.12
"""Drawn for 24 µs in each inference of 1.5 ms; the means of samples stay far below."""


def bursting(limit_a: float, burst_a: float = BURST_A) -> Callable[[RackConfig], RackConfig]:
    """The demo's rack with a board that bursts, within a supply limit of its own."""

    def change(rack: RackConfig) -> RackConfig:
        boards = tuple(
            board.model_copy(
                update={
                    "profile": board.profile.model_copy(update={"dense_a": burst_a}),
                    "limits": board.limits.model_copy(update={"current_max_a": limit_a}),
                }
            )
            if board.id == BOARD
            else board
            for board in rack.board
        )
        return rack.model_copy(update={"board": boards})

    return change


def by_hand(range_a: float) -> Callable[[Board], Board]:
    def change(board: Board) -> Board:
        assert board.measure is not None
        return board.model_copy(update={"measure": board.measure.model_copy(update={"current_range_a": range_a})})

    return change


async def meta_of(bench: TestBench, run_id: int) -> TraceMeta:
    folder = await trace_of(bench, run_id)
    assert folder is not None
    return read_meta(folder)


async def test_peaks_within_the_range_leave_it_and_are_kept_with_the_trace(tmp_path: Path) -> None:
    async with bench_on_rack(tmp_path, speed=SPEED) as bench:
        ending, run_id = await energy(bench)
        assert ending == Ending()
        meta = await meta_of(bench, run_id)
        headroom = meta.headroom
        assert headroom is not None
        assert headroom.current_range_a == meta.column(Quantity.CURRENT).accuracy.range_max == 0.1
        profile = bench.rack.seats[BOARD].board._profile
        assert headroom.current_peak_a == pytest.approx(profile.conv_a + profile.uart_a, rel=0.1)
        assert headroom.voltage_peak_v is None  # four channels: the current alone
        assert headroom.records * headroom.record_s > 0.02


async def test_a_peak_at_the_end_of_the_range_picks_the_next_one(tmp_path: Path) -> None:
    async with bench_on_rack(tmp_path, speed=SPEED, change=bursting(0.1)) as bench:
        ending, run_id = await energy(bench)
        assert ending.cause is not Cause.CAPTURE_DAMAGED  # how windows of such a board are placed is judged elsewhere
        meta = await meta_of(bench, run_id)
        assert meta.headroom is not None
        assert meta.headroom.current_range_a == meta.column(Quantity.CURRENT).accuracy.range_max == 3.0
        await nothing_is_left(bench)


async def test_a_peak_beyond_a_range_that_was_set_by_hand_refuses_the_run(tmp_path: Path) -> None:
    async with bench_on_rack(tmp_path, speed=SPEED, change=bursting(0.2)) as bench:
        ending, run_id = await energy(with_board(bench, by_hand(0.1)))
        assert ending.cause is Cause.CAPTURE_DAMAGED
        for words in (
            "the current peaked at 0.102 A or more",
            "range of 0.1 A",
            "measure.current_range_a = 0.1",
            "raise it",
        ):
            assert words in ending.detail
        assert await trace_of(bench, run_id) is None
        await nothing_is_left(bench)
        await next_job_completes(bench, "board-2")


async def test_a_peak_beyond_the_largest_range_refuses_the_run(tmp_path: Path) -> None:
    async with bench_on_rack(tmp_path, speed=SPEED, change=bursting(3.0, burst_a=3.5)) as bench:
        ending, run_id = await energy(bench)
        assert ending.cause is Cause.CAPTURE_DAMAGED
        assert "range of 3 A, the largest that psu-1 has" in ending.detail
        assert await trace_of(bench, run_id) is None
        await nothing_is_left(bench)


async def test_an_analyzer_that_sees_no_peaks_records_without_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench_on_rack(tmp_path, speed=SPEED) as bench:
        open_one = bench.bench.devices.analyzer

        async def without_peaks(instrument_id: str) -> PowerAnalyzer:
            whole = await open_one(instrument_id)
            return cast(
                "PowerAnalyzer",
                SimpleNamespace(configure=whole.configure, arm=whole.arm, stream=whole.stream, stop=whole.stop),
            )

        monkeypatch.setattr(bench.bench.devices, "analyzer", without_peaks)
        ending, run_id = await energy(bench)
        assert ending == Ending()
        assert (await meta_of(bench, run_id)).headroom is None


async def test_boards_of_one_mainframe_watch_their_peaks_in_turn(tmp_path: Path) -> None:
    async with bench_on_rack(tmp_path, speed=SPEED) as bench:
        async with asyncio.TaskGroup() as group:
            runs = [group.create_task(energy(bench, f"board-{number}")) for number in (1, 2, 3)]
        for run in runs:
            ending, run_id = run.result()
            assert ending == Ending()
            assert (await meta_of(bench, run_id)).headroom is not None
        await nothing_is_left(bench)
