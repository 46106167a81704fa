"""What lab.toml or the host gets wrong: the run says what, before anything is harmed, and the next job runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from sqlmodel import select

from labd.benchmarks import Mode
from labd.config import Board, LabConfig
from labd.model.causes import Cause, Ending
from labd.model.states import TraceState
from labd.model.tables import Trace
from labd.virtual.openocd import OpenOcdFault
from tests.bench.benches import TestBench, bench_on_rack
from tests.faults.scene import (
    BOARD,
    SPEED,
    energy,
    next_job_completes,
    nothing_is_left,
    output_is_off,
    with_board,
    with_lab,
)


async def in_order(bench: TestBench) -> None:
    """The output is off, the next job completes, and nothing is left."""
    assert output_is_off(bench)
    await next_job_completes(bench)
    await nothing_is_left(bench)


def swapped(lab: LabConfig) -> LabConfig:
    """Each mode's image under the other mode's name."""
    (build,) = lab.firmware
    images = {Mode.ENERGY: build.images[Mode.PERFORMANCE], Mode.PERFORMANCE: build.images[Mode.ENERGY]}
    return lab.model_copy(update={"firmware": (build.model_copy(update={"images": images}),)})


async def test_an_image_of_the_other_mode_is_found_in_the_handshake(tmp_path: Path) -> None:
    async with bench_on_rack(tmp_path, speed=SPEED) as bench:
        same_rate = with_board(bench, at_one_rate)
        ending, _ = await energy(with_lab(same_rate, swapped))
        assert ending.cause is Cause.WRONG_MODE, ending.detail
        assert ending.detail == "the firmware is built for performance, the job needs energy"
        await in_order(bench)


def at_one_rate(board: Board) -> Board:
    """A board whose images all speak at the performance image's rate."""
    rates = dict.fromkeys(board.serial.baud, board.serial.baud[Mode.PERFORMANCE])
    return board.model_copy(update={"serial": board.serial.model_copy(update={"baud": rates})})


@pytest.mark.slow
async def test_an_image_of_another_baud_rate_does_not_look_like_a_good_board(tmp_path: Path) -> None:
    async with bench_on_rack(tmp_path, speed=SPEED) as bench:
        ending, _ = await energy(with_lab(bench, swapped))
        assert ending.cause in (Cause.BOARD_SILENT, Cause.BOARD_NONSENSE, Cause.WRONG_MODE), ending.detail
        await in_order(bench)


async def test_a_missing_image_is_named_before_the_board_gets_power(tmp_path: Path) -> None:
    async with bench_on_rack(tmp_path, speed=SPEED) as bench:
        missing = tmp_path / "digits01.elf"

        def without(lab: LabConfig) -> LabConfig:
            (build,) = lab.firmware
            return lab.model_copy(update={"firmware": (build.model_copy(update={"images": {Mode.ENERGY: missing}}),)})

        ending, _ = await energy(with_lab(bench, without))
        assert ending == Ending(Cause.FIRMWARE_MISSING, f"{missing}: No such file or directory")
        await in_order(bench)


async def test_an_image_of_another_digest_than_the_job_asks_is_not_flashed(tmp_path: Path) -> None:
    async with bench_on_rack(tmp_path, speed=SPEED) as bench:
        ending, _ = await energy(bench, firmware={"sha256": "0" * 64})
        assert ending.cause is Cause.FIRMWARE_MISSING
        assert f"not {'0' * 64} as the job asks" in ending.detail
        assert bench.rack.seats[BOARD].board.image_digest() is None
        await in_order(bench)


async def test_a_limit_below_what_the_board_draws_ends_as_overload(tmp_path: Path) -> None:
    async with bench_on_rack(tmp_path, speed=SPEED) as bench:
        ending, _ = await energy(
            with_board(
                bench,
                lambda board: board.model_copy(
                    update={"limits": board.limits.model_copy(update={"current_max_a": 8.5e-3})}
                ),
            )
        )
        assert ending == Ending(Cause.BOARD_OVERLOAD, "protection tripped: over_current")
        await in_order(bench)


async def test_a_rail_that_does_not_fall_in_time_is_not_taken_for_off(tmp_path: Path) -> None:
    async with bench_on_rack(tmp_path, speed=SPEED) as bench:
        hasty = with_board(
            bench,
            lambda board: board.model_copy(
                update={"supply": board.supply.model_copy(update={"off_below_v": -1.0, "discharge_s": 0.3})}
            ),
        )
        ending, _ = await energy(hasty)
        assert ending.cause is Cause.BOARD_NOT_OFF
        assert re.search(r"did not fall below .* V .*within 0\.3 s: .* V", ending.detail)
        await in_order(bench)


async def test_a_trace_that_cannot_be_begun_fails_the_run_and_is_noted_as_lost(tmp_path: Path) -> None:
    async with bench_on_rack(tmp_path, speed=SPEED) as bench:
        traces = bench.config.traces_dir
        traces.rmdir()
        traces.write_text("a file in the way")
        ending, run_id = await energy(bench)
        assert ending.cause is Cause.TRACE_FAILED, ending.detail
        assert str(traces) in ending.detail
        row = await bench.database.read(lambda session: session.exec(select(Trace).where(Trace.run_id == run_id)).one())
        assert row.state is TraceState.LOST
        traces.unlink()
        traces.mkdir()
        await in_order(bench)


async def test_a_probe_that_fails_in_one_run_flashes_in_the_next(tmp_path: Path) -> None:
    async with bench_on_rack(tmp_path, speed=SPEED) as bench:
        probe = bench.rack.seats[BOARD].probe
        probe.faults.add(OpenOcdFault.VERIFY_FAILS)
        ending, _ = await bench.run(Mode.PERFORMANCE, trials=2, min_window_s=0.2)
        assert ending.cause is Cause.FLASH_FAILED, ending.detail
        probe.faults.clear()
        await in_order(bench)
