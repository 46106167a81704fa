"""Trials that are like the ones before: what the ratio says of them, and what the interval of the board then covers."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from labd.score.correlation import CORRELATION_MAX, are_alike, possible_correlation, von_neumann_ratio, widening
from labd.score.uncertainty import Estimate, median_factor, with_spread

RUNS = 3000


def runs_of_trials(correlation: float, trials: int, seed: int = 7) -> npt.NDArray[np.float64]:
    """Stationary first-order autoregressions of variance 1 about 0, shape (RUNS, trials)."""
    rng = np.random.default_rng(seed)
    values = np.empty((RUNS, trials))
    values[:, 0] = rng.standard_normal(RUNS)
    for trial in range(1, trials):
        fresh = math.sqrt(1 - correlation**2) * rng.standard_normal(RUNS)
        values[:, trial] = correlation * values[:, trial - 1] + fresh
    return values


def coverage(correlation: float, trials: int) -> float:
    """Share of the runs whose interval holds the board's true mean, which is 0."""
    covered = 0
    for values in runs_of_trials(correlation, trials):
        low, high = with_spread(Estimate.combine(float(np.median(values)), ()), values.tolist()).interval
        covered += low <= 0.0 <= high
    return covered / RUNS


@pytest.mark.parametrize("trials", [5, 7, 10])
def test_trials_that_follow_each_other_are_covered(trials: int) -> None:
    assert coverage(0.8, trials) >= 0.90 - 2 * math.sqrt(0.9 * 0.1 / RUNS)


@pytest.mark.parametrize("trials", [3, 5, 7, 10, 20])
def test_independent_trials_are_not_covered_for_nothing(trials: int) -> None:
    assert 0.95 < coverage(0.0, trials) <= 0.99 + 2 * math.sqrt(0.99 * 0.01 / RUNS)


def test_the_ratio_of_independent_values_is_two_on_average_with_the_stated_scatter() -> None:
    ratios = [von_neumann_ratio(values.tolist()) for values in runs_of_trials(0.0, 5)]
    assert np.mean(ratios) == pytest.approx(2.0, abs=0.05)
    assert np.std(ratios) == pytest.approx(2 * math.sqrt(3 / (4 * 6)), rel=0.05)


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.8])
def test_the_widening_is_that_of_a_simulation(correlation: float) -> None:
    values = runs_of_trials(correlation, 5)
    of_mean = float(np.mean(values.mean(axis=1) ** 2))
    as_if_independent = float(np.mean(values.var(axis=1, ddof=1))) / 5
    assert widening(5, correlation) == pytest.approx(math.sqrt(of_mean / as_if_independent), rel=0.05)


def test_a_trend_is_found_and_chance_is_seldom_taken_for_one() -> None:
    assert are_alike([1.0, 1.1, 1.21, 1.29, 1.4])
    assert not are_alike([1.0, 1.2, 0.9, 1.1, 0.95])
    assert np.mean([are_alike(values.tolist()) for values in runs_of_trials(0.0, 5)]) < 0.07


def test_two_trials_and_equal_trials_have_an_answer() -> None:
    assert possible_correlation([1.0, 2.0]) == 0.0
    assert not are_alike([1.0, 2.0])
    assert von_neumann_ratio([3.0, 3.0, 3.0]) == 2.0
    assert widening(1, 0.5) == 1.0
    assert 0.0 < possible_correlation([3.0, 3.0, 3.0]) <= CORRELATION_MAX


def test_a_trend_makes_the_board_less_known_than_the_same_values_shuffled() -> None:
    ordered, shuffled = [1.0, 2.0, 3.0, 4.0, 5.0], [3.0, 1.0, 5.0, 2.0, 4.0]
    median = Estimate.combine(3.0, ())
    wide, narrow = with_spread(median, ordered), with_spread(median, shuffled)
    plain = median_factor(5) * float(np.std(ordered, ddof=1))
    assert wide.standard_uncertainty > 3 * plain
    assert narrow.standard_uncertainty == pytest.approx(plain)
