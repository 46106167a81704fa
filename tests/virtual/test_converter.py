"""Bursts beyond the range are cut off before they are averaged: the mean is too low, and the extremes tell of it."""

from __future__ import annotations

import numpy as np
import pytest

from labd.virtual.activity import ActivityRecord
from labd.virtual.converter import POINT_S, Ends, Stretch, averaged, tracked
from labd.virtual.instrument_errors import AnalyzerErrors
from labd.virtual.world import Floats

PERIOD_S = 40 * POINT_S
ENDS = Ends(0.102, 20.4)


class Bursts:
    """Draws `high_a` for the first `width_s` of every period and 10 mA for the rest, at 3 V."""

    def __init__(self, high_a: float, width_s: float, periods: int) -> None:
        starts = np.arange(periods) * PERIOD_S
        self.record = ActivityRecord()
        self.record.extend(
            np.column_stack((starts, starts + width_s)).ravel(),
            np.tile([high_a, 0.01], periods),
            np.full(2 * periods, 3.0),
        )

    def supply(self, at_s: float, voltage_v: float, current_limit_a: float) -> None:
        raise NotImplementedError

    def horizon(self) -> float:
        raise NotImplementedError

    def means(self, edges_s: Floats) -> tuple[Floats, Floats]:
        return self.record.means(edges_s)

    def largest(self, edges_s: Floats) -> tuple[Floats, Floats]:
        return self.record.largest(edges_s)

    def terminal(self, at_s: float) -> tuple[float, float, bool]:
        raise NotImplementedError


@pytest.mark.parametrize("points", [2, 5, 12])
def test_a_burst_beyond_the_range_costs_the_mean_what_was_cut_off(points: int) -> None:
    load = Bursts(0.16, points * POINT_S, 50)
    current, voltage = averaged(
        load, AnalyzerErrors.none(), ENDS, Stretch(0.0, PERIOD_S, 0, 49), np.random.default_rng(1)
    )
    share = points / 40
    np.testing.assert_allclose(current, share * 0.102 + (1 - share) * 0.01, rtol=1e-6)
    np.testing.assert_allclose(voltage, 3.0)


def test_a_burst_within_the_range_costs_nothing() -> None:
    load = Bursts(0.1, 5 * POINT_S, 50)
    current, _ = averaged(load, AnalyzerErrors.none(), ENDS, Stretch(0.0, PERIOD_S, 0, 49), np.random.default_rng(1))
    np.testing.assert_allclose(current, load.means(np.arange(50) * PERIOD_S)[0], rtol=1e-6)


def test_only_periods_that_reach_the_end_are_looked_at_by_points() -> None:
    load = Bursts(0.16, 5 * POINT_S, 50)
    asked: list[int] = []
    means = load.means
    load.means = lambda edges: (asked.append(len(edges) - 1), means(edges))[1]  # type: ignore[method-assign]
    averaged(load, AnalyzerErrors.none(), Ends(0.2, 20.4), Stretch(0.0, PERIOD_S, 0, 49), np.random.default_rng(1))
    assert asked == [49]


def test_extremes_are_those_of_the_points_and_end_at_the_range() -> None:
    load = Bursts(0.16, 5 * POINT_S, 1000)
    stretch = Stretch(0.0, 20 * PERIOD_S, 0, 45)
    current, voltage = tracked(load, AnalyzerErrors.none(), ENDS, stretch, np.random.default_rng(1))
    np.testing.assert_allclose(current.largest, 0.102)
    np.testing.assert_allclose(current.least, 0.01)
    np.testing.assert_allclose(current.mean, 0.125 * 0.102 + 0.875 * 0.01, rtol=1e-6)
    np.testing.assert_allclose(voltage.largest, 3.0)


def test_noise_of_the_points_averages_to_that_of_the_sample() -> None:
    load = Bursts(0.16, 5 * POINT_S, 5000)
    errors = AnalyzerErrors(noise_current_a=1e-4, noise_voltage_v=1e-3)
    wide = Ends(1.0, 3.0 + 1e-3)  # the voltage reaches its end, so that all is made of points
    current, _ = averaged(load, errors, wide, Stretch(0.0, PERIOD_S, 0, 4900), np.random.default_rng(2))
    assert current.std() == pytest.approx(1e-4, rel=0.03)
