"""The health check on a virtual rack: a well board passes with its figures, and each fault is named by its step."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from labd.bench.checkup import CheckImage, CheckPlan, examine
from labd.bench.idle import Idle, idle_of, learned_band
from labd.benchmarks import Mode
from labd.config import Board
from labd.model.checks import CheckStep, Examination, Outcome
from tests.bench.benches import TestBench, bench_on_rack
from tests.deadline import HUNG_S
from tests.faults.scene import BOARD, board_of, output_is_off, turn


def plan_of(bench: TestBench, board: Board | None = None, mode: Mode = Mode.ENERGY) -> CheckPlan:
    """A check of the board with the image of this mode."""
    board = board or board_of(bench, BOARD)
    path = bench.config.firmware_for(board, "digits01", mode)
    assert path is not None
    return CheckPlan(board, CheckImage(path, mode))


async def check(bench: TestBench, plan: CheckPlan) -> Examination:
    """The check; whatever it finds, the board is dark after it."""
    found = await examine(plan, bench.bench)
    assert output_is_off(bench)
    return found


def last(found: Examination) -> CheckStep:
    return found.findings[-1].step


async def test_a_well_board_passes_every_step_and_each_tells_its_figures(tmp_path: Path) -> None:
    async with bench_on_rack(tmp_path) as bench:
        found = await check(bench, plan_of(bench))
        assert (found.outcome, found.reason) == (Outcome.PASSED, "")
        assert [each.step for each in found.findings] == list(CheckStep)
        told = found.document()
        assert told["handshake"]["model"]
        assert told["rail_off"]["voltage_v"] < 0.1
        assert told["power_on"]["voltage_v"] == pytest.approx(board_of(bench, BOARD).supply.voltage_v, rel=0.05)
        assert told["idle"]["current_a"] > 0
        assert told["timing"]["edges"] >= 1
        again = await check(bench, replace(plan_of(bench), earlier_idle_a=(told["idle"]["current_a"],) * 5))
        assert again.outcome is Outcome.PASSED
        assert again.document()["idle"]["learned_from"] == 5


async def test_a_performance_image_is_checked_without_its_timing_pin(tmp_path: Path) -> None:
    async with bench_on_rack(tmp_path) as bench:
        found = await check(bench, plan_of(bench, mode=Mode.PERFORMANCE))
        assert found.outcome is Outcome.PASSED
        assert last(found) is CheckStep.IDLE


async def test_a_board_without_a_probe_is_found_at_the_rate_of_the_image_that_it_holds(tmp_path: Path) -> None:
    async with bench_on_rack(tmp_path) as bench:
        await check(bench, plan_of(bench, mode=Mode.PERFORMANCE))  # leaves its image in the board
        bare = board_of(bench, BOARD).model_copy(update={"flash": None})
        found = await check(bench, CheckPlan(bare, None))
        assert found.outcome is Outcome.PASSED
        assert found.document()["handshake"]["baud"] == bare.serial.baud_for(Mode.PERFORMANCE)


async def test_a_silent_board_fails_its_handshake(tmp_path: Path) -> None:
    async with bench_on_rack(tmp_path) as bench:
        turn(bench, BOARD, "silent", on=True)
        found = await check(bench, plan_of(bench))
        assert (found.outcome, last(found)) == (Outcome.FAILED, CheckStep.HANDSHAKE)
        assert found.reason.startswith("handshake:")
        turn(bench, BOARD, "silent", on=False)
        assert (await check(bench, plan_of(bench))).outcome is Outcome.PASSED


async def test_a_rail_that_does_not_fall_is_dangerous(tmp_path: Path) -> None:
    async with bench_on_rack(tmp_path) as bench:
        board = board_of(bench, BOARD)
        stuck = board.model_copy(
            update={"supply": board.supply.model_copy(update={"off_below_v": -1.0, "discharge_s": 0.2})}
        )
        found = await check(bench, plan_of(bench, stuck))
        assert (found.outcome, last(found)) == (Outcome.DANGEROUS, CheckStep.RAIL_OFF)


async def test_a_board_that_draws_more_than_its_limit_is_dangerous(tmp_path: Path) -> None:
    async with bench_on_rack(tmp_path) as bench:
        board = board_of(bench, BOARD)
        starved = board.model_copy(update={"limits": board.limits.model_copy(update={"current_max_a": 2e-4})})
        found = await check(bench, plan_of(bench, starved))
        assert found.outcome is Outcome.DANGEROUS


@pytest.mark.parametrize("band", [(0.05, 0.06), (0.0, 1e-9)])
async def test_an_idle_current_outside_of_its_band_fails_with_the_figure(
    tmp_path: Path, band: tuple[float, float]
) -> None:
    async with bench_on_rack(tmp_path) as bench:
        wrong = board_of(bench, BOARD).model_copy(update={"idle_current_a": band})
        found = await check(bench, plan_of(bench, wrong))
        assert (found.outcome, last(found)) == (Outcome.FAILED, CheckStep.IDLE)
        assert "mA" in found.reason


async def test_a_port_that_is_gone_fails_before_anything_is_powered(tmp_path: Path) -> None:
    async with bench_on_rack(tmp_path) as bench:
        bench.rack.seats[BOARD].board.port.unlink()
        found = await check(bench, plan_of(bench))
        assert (found.outcome, last(found)) == (Outcome.FAILED, CheckStep.PORT)
        assert len(found.findings) == 1


async def test_an_analyzer_that_is_off_says_nothing_of_the_board(tmp_path: Path) -> None:
    async with bench_on_rack(tmp_path) as bench:
        turn(bench, "psu-1", "off", on=True)
        found = await examine(plan_of(bench), bench.bench)
        assert found.outcome is Outcome.HINDERED
        assert "psu-1" in found.reason
        turn(bench, "psu-1", "off", on=False)
        assert (await check(bench, plan_of(bench))).outcome is Outcome.PASSED


async def test_an_analyzer_without_a_reading_says_nothing_of_the_board(tmp_path: Path) -> None:
    async with bench_on_rack(tmp_path) as bench:
        turn(bench, "psu-1", "no_reading", on=True)
        found = await check(bench, plan_of(bench))
        assert (found.outcome, last(found)) == (Outcome.HINDERED, CheckStep.RAIL_OFF)
        assert "psu-1, channel 1, has no reading of the voltage" in found.reason
        turn(bench, "psu-1", "no_reading", on=False)
        assert (await check(bench, plan_of(bench))).outcome is Outcome.PASSED


async def test_a_dead_probe_is_the_boards(tmp_path: Path) -> None:
    async with bench_on_rack(tmp_path) as bench:
        turn(bench, f"{BOARD}.probe", "off", on=True)
        found = await check(bench, plan_of(bench))
        assert (found.outcome, last(found)) == (Outcome.FAILED, CheckStep.IMAGE)


async def test_a_check_that_is_cancelled_leaves_the_board_dark(tmp_path: Path) -> None:
    async with bench_on_rack(tmp_path) as bench:
        task = asyncio.create_task(examine(plan_of(bench), bench.bench), name="check")
        async with asyncio.timeout(HUNG_S):
            while output_is_off(bench):
                await asyncio.sleep(0.005)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        assert output_is_off(bench)


def test_a_band_is_learned_from_enough_checks_and_takes_the_uncertainty_of_a_reading_into_account() -> None:
    assert learned_band([1e-3] * 4) is None
    band = learned_band([1.0e-3, 1.1e-3, 0.9e-3, 1.0e-3, 1.0e-3])
    assert band is not None
    assert Idle(1.05e-3, 0.0, 10).within(band)
    assert not Idle(2e-3, 0.01e-3, 10).within(band)
    assert Idle(2e-3, 0.5e-3, 10).within(band)


@pytest.mark.parametrize("poison", [9.91e36, -9.9e36, math.nan, math.inf, 0.2])
def test_earlier_checks_of_readings_that_were_none_do_not_widen_the_band(poison: float) -> None:
    good = [1.0e-3, 1.02e-3, 0.98e-3, 1.01e-3, 1.0e-3, 0.99e-3, 1.0e-3]
    band = learned_band([poison, *good, poison])
    assert band is not None
    assert 0.7e-3 < band.low_a < 1e-3 < band.high_a < 1.3e-3
    assert not Idle(2.0, 1e-3, 10).within(band)
    assert Idle(1.01e-3, 1e-6, 10).within(band)


def test_a_band_that_only_readings_that_were_none_would_make_is_not_learned() -> None:
    assert learned_band([9.91e36] * 30 + [1e-3] * 4) is None


@given(st.lists(st.floats(0.9e-3, 1.1e-3), min_size=9, max_size=9), st.floats(), st.integers(0, 9))
@example([1e-3] * 6 + [1.1e-3] * 3, 2.0, 4)  # the read-back has steps, and the median deviation is 0
def test_whatever_one_reading_of_ten_says_the_idle_current_stays_where_the_others_are(
    good: list[float], bad: float, place: int
) -> None:
    idle = idle_of([*good[:place], bad, *good[place:]])
    assert idle is not None
    most = max(abs(value - median(good)) for value in good)
    assert abs(idle.current_a - median(good)) <= 2 * most + 0.05e-3


def test_a_board_that_often_draws_more_shows_what_it_draws() -> None:
    idle = idle_of([1e-3, 10e-3, 1e-3, 1e-3, 10e-3, 1e-3, 10e-3, 1e-3, 1e-3, 1e-3])
    assert idle is not None
    assert idle.left_out == 2
    assert idle.current_a == pytest.approx(17e-3 / 8)
    assert idle.u_a > 1e-3
