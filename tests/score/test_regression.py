"""What the nights of a sweep are found to say."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labd.errors import ScoreError
from labd.score.regression import (
    Baseline,
    BaselineKind,
    CellKey,
    Direction,
    DriftPoint,
    Quantity,
    Reading,
    drift,
    judge,
    merged,
)
from labd.score.sequential import Watch

LEVELS = {Quantity.ENERGY: 14e-6, Quantity.THROUGHPUT: 85.0, Quantity.ACCURACY: 0.91}
FIRST = Baseline.parse("first:5")


def key(cell: int, quantity: Quantity = Quantity.ENERGY) -> CellKey:
    return CellKey(f"kws01/energy/b{cell}", f"b{cell}", quantity)


def nights(
    which: CellKey, count: int, *, spread: float = 0.003, step: float = 0.0, since: int = 10**9, seed: int = 0
) -> list[Reading]:
    """Readings of nights 1 to `count`; from night `since` on they are larger by `step`."""
    noise = random.Random(f"{which}{seed}")
    level = LEVELS[which.quantity]
    return [
        Reading(which, night, level * (1 + noise.gauss(0, spread)) * (1 + step * (night >= since)), level * 1e-4)
        for night in range(1, count + 1)
    ]


def rack(count: int, *, without: CellKey | None = None) -> list[Reading]:
    return [one for cell in range(20) if key(cell) != without for one in nights(key(cell), count)]


def test_one_cell_of_twenty_that_needs_more_energy_is_found_and_only_it() -> None:
    bad = key(7)
    readings = [*rack(25, without=bad), *nights(bad, 25, step=0.03, since=16)]
    (change,) = judge(readings, FIRST, Watch()).changes
    assert (change.key, change.direction, change.since, change.ended) == (bad, Direction.WORSE, 16, None)
    assert change.change == pytest.approx(0.03, abs=0.004)
    assert change.interval[0] < 0.03 < change.interval[1]
    assert change.evidence >= change.threshold == 30 * 2 * 20
    assert change.baseline_nights == (1, 2, 3, 4, 5)
    assert change.baseline_value == pytest.approx(14e-6, rel=0.01)


def test_an_even_rack_has_no_findings() -> None:
    verdict = judge(rack(30), FIRST, Watch())
    assert (verdict.changes, verdict.unsteady, verdict.charts, verdict.waiting) == ((), (), 20, 0)


@pytest.mark.parametrize(
    ("quantity", "step", "direction"),
    [
        (Quantity.ENERGY, -0.04, Direction.BETTER),
        (Quantity.THROUGHPUT, -0.04, Direction.WORSE),
        (Quantity.THROUGHPUT, 0.04, Direction.BETTER),
        (Quantity.ACCURACY, -0.04, Direction.WORSE),
    ],
)
def test_which_way_is_worse_is_the_quantitys(quantity: Quantity, step: float, direction: Direction) -> None:
    (change,) = judge(nights(key(1, quantity), 30, step=step, since=15), FIRST, Watch()).changes
    assert change.direction is direction
    assert change.change == pytest.approx(step if quantity.relative else step * 0.91, abs=0.005)


@given(st.randoms(use_true_random=False), st.sets(st.integers(min_value=1, max_value=30), max_size=8))
@settings(max_examples=15, deadline=None)
def test_the_order_of_readings_does_not_matter_and_missing_nights_are_missing(
    shuffle: random.Random, missing: set[int]
) -> None:
    readings = [one for one in nights(key(1), 30, step=0.05, since=12) if one.night not in missing]
    told = judge(readings, FIRST, Watch())
    shuffle.shuffle(readings)
    assert judge(readings, FIRST, Watch()) == told
    assert [change.direction for change in told.changes] == [Direction.WORSE]


def test_what_was_told_of_a_night_is_told_again_when_later_nights_are_known() -> None:
    readings = nights(key(1), 30, step=0.05, since=12)
    early = judge([one for one in readings if one.night <= 20], FIRST, Watch()).changes[0]
    late = judge(readings, FIRST, Watch()).changes[0]
    assert (early.alarmed, early.since, early.evidence) == (late.alarmed, late.since, late.evidence)


def test_a_cell_that_joins_raises_what_an_alarm_takes_and_one_that_leaves_does_not_lower_it() -> None:
    leaves = [one for one in nights(key(1), 12) if one.night <= 12]
    joins = [one for one in nights(key(2), 40) if one.night >= 10]
    steps = nights(key(3), 40, step=0.05, since=30)
    (change,) = judge([*leaves, *joins, *steps], FIRST, Watch()).changes
    assert (change.key, change.threshold) == (key(3), 30 * 2 * 3)


def test_a_new_baseline_forgives_what_was_before() -> None:
    readings = nights(key(1), 40, step=0.05, since=12)
    assert judge(readings, Baseline.parse("first:5"), Watch()).changes[0].since == 12
    assert judge(readings, Baseline.parse(20), Watch()).changes == ()
    assert judge(readings, Baseline.parse("last:8"), Watch()).changes[0].ended is not None


def test_a_cell_that_the_chosen_night_lacks_is_held_against_its_first_one_after_it() -> None:
    readings = [one for one in nights(key(1), 40, step=0.05, since=25) if one.night not in (5, 6)]
    (change,) = judge(readings, Baseline.parse(5), Watch()).changes
    assert change.baseline_nights == (7,)


def test_digits_that_repeat_exactly_and_then_change_are_told() -> None:
    (change,) = judge(nights(key(1), 20, spread=0.0, step=0.02, since=10), FIRST, Watch()).changes
    assert (change.since, change.alarmed <= 12) == (10, True)
    assert change.change == pytest.approx(0.02)


def test_repetitions_of_a_night_are_one_reading_whose_uncertainty_does_not_shrink() -> None:
    one = Reading(key(1), 3, 10e-6, 1e-7)
    (merging,) = merged([one, replace(one, value=12e-6, standard_uncertainty=3e-7)])
    assert merging.value == pytest.approx(11e-6)
    assert merging.standard_uncertainty == 3e-7


@pytest.mark.parametrize(
    ("value", "uncertainty"), [(math.nan, 0.0), (0.0, 0.0), (-1.0, 0.0), (1.0, math.inf), (1.0, -1)]
)
def test_what_is_no_figure_is_refused(value: float, uncertainty: float) -> None:
    with pytest.raises(ScoreError, match="cannot be compared"):
        Reading(key(1), 1, value, uncertainty)


def test_an_accuracy_of_nothing_is_a_figure() -> None:
    assert Reading(key(1, Quantity.ACCURACY), 1, 0.0).level == 0.0


@pytest.mark.parametrize("text", ["first", "first:0", "best:3", "first:1000", "-4", ""])
def test_a_baseline_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ScoreError, match="names no baseline"):
        Baseline.parse(text)


def test_baselines_are_read() -> None:
    assert Baseline.parse("last:12") == Baseline(BaselineKind.LAST, 12)
    assert Baseline.parse("17") == Baseline.parse(17) == Baseline(BaselineKind.FIRST, 1, 17)


def test_a_cell_with_too_few_nights_waits() -> None:
    verdict = judge(nights(key(1), 5), FIRST, Watch())
    assert (verdict.charts, verdict.waiting) == (0, 1)
    assert judge([], FIRST, Watch()).charts == 0


def test_a_cell_whose_nights_differ_more_than_they_did_is_unsteady() -> None:
    calm = nights(key(1), 25, spread=0.002)
    wild = [0.06, -0.05, 0.07, -0.06, 0.05]
    readings = [
        *calm[:20],
        *(replace(one, value=one.value * (1 + off)) for one, off in zip(calm[20:], wild, strict=True)),
    ]
    (unsteady,) = judge(readings, FIRST, Watch()).unsteady
    assert unsteady.key == key(1)
    assert unsteady.spread > 10 * unsteady.usual_spread
    assert judge(calm, FIRST, Watch()).unsteady == ()


def test_a_golden_job_that_creeps_is_drifting_and_one_that_jumps_is_outside_its_band() -> None:
    noise = random.Random(1)
    creeping = drift([DriftPoint(day, 1e-5 * (1 + 0.002 * day + noise.gauss(0, 1e-3))) for day in range(28)], 0.03)
    assert creeping is not None
    assert creeping.slope_per_week is not None
    assert creeping.slope_per_week == pytest.approx(0.014, rel=0.1)
    assert (creeping.drifting, creeping.outside) == (True, False)
    steady = [DriftPoint(day, 1e-5 * (1 + noise.gauss(0, 1e-3))) for day in range(28)]
    still = drift(steady, 0.03)
    assert still is not None
    assert (still.drifting, still.outside) == (False, False)
    jumped = drift([*steady, DriftPoint(29, 1.05e-5)], 0.03)
    assert jumped is not None
    assert jumped.outside
    assert jumped.deviation == pytest.approx(0.05, abs=0.002)


def test_a_golden_job_with_few_runs_has_no_slope() -> None:
    assert drift([DriftPoint(0, 1.0)], 0.03) is None
    few = drift([DriftPoint(0, 1.0), DriftPoint(1, 1.01), DriftPoint(2, math.nan)], 0.03)
    assert few is not None
    assert (few.points, few.slope_per_week, few.interval) == (2, None, None)
