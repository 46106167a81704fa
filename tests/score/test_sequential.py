"""The detector keeps its promise under noise of many kinds, and finds what is there."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from labd.score.sequential import BaselineKind, Charts, Episode, Watch, charts_seen, evidence

Array = npt.NDArray[np.float64]
Noise = Callable[[np.random.Generator, int, int], Array]
CELLS, NIGHTS = 60, 30
K = 2 * CELLS


def normal(random: np.random.Generator, cells: int, nights: int) -> Array:
    return random.standard_normal((cells, nights))


def heavy(random: np.random.Generator, cells: int, nights: int) -> Array:
    """Student's t with three degrees of freedom, of unit variance."""
    return random.standard_t(3, (cells, nights)) / np.sqrt(3)


def _following(innovations: Array, correlation: float) -> Array:
    figures = innovations.copy()
    for night in range(1, figures.shape[1]):
        figures[:, night] = correlation * figures[:, night - 1] + np.sqrt(1 - correlation**2) * innovations[:, night]
    return figures


def alike(random: np.random.Generator, cells: int, nights: int) -> Array:
    """Each night correlated by 0.3 with the one before."""
    return _following(normal(random, cells, nights), 0.3)


def alike_and_heavy(random: np.random.Generator, cells: int, nights: int) -> Array:
    return _following(heavy(random, cells, nights), 0.3)


def in_step(random: np.random.Generator, cells: int, nights: int) -> Array:
    """Cells that all move together: a rack that is warm on some nights."""
    return np.repeat(normal(random, 1, nights), cells, axis=0)


NOISES = (normal, heavy, alike, alike_and_heavy, in_step)


def detect(
    figures: Array, baseline: int, *, uncertainty: float = 0.0, kind: BaselineKind = BaselineKind.FIRST
) -> list[list[Episode]]:
    """As a sweep of 60 cells would be watched, in the upward direction."""
    thresholds = np.full(figures.shape, Watch().nights_per_false_alarm * K)
    return Charts(figures, np.full(figures.shape, uncertainty), kind, baseline, Watch()).detect(thresholds)


def false_alarms(noise: Noise, spread: float, baseline: int, months: int, kind: BaselineKind) -> list[int]:
    """Alarms of each of so many months of 30 watched nights, in both directions, estimated baselines included."""
    random = np.random.default_rng(7)
    counts = []
    for _ in range(months):
        figures = spread * noise(random, CELLS, baseline + NIGHTS)
        counts.append(sum(len(row) for sign in (1, -1) for row in detect(sign * figures, baseline, kind=kind)))
    return counts


@pytest.mark.parametrize("noise", NOISES, ids=lambda noise: noise.__name__)
def test_false_alarms_stay_below_one_a_month(noise: Noise) -> None:
    counts = false_alarms(noise, 0.02, 5, 4, BaselineKind.FIRST)
    assert np.mean(counts) <= 1.0, counts


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", BaselineKind)
@pytest.mark.parametrize("noise", NOISES, ids=lambda noise: noise.__name__)
def test_false_alarms_stay_below_one_a_month_with_a_margin(noise: Noise, kind: BaselineKind) -> None:
    for spread, baseline in ((0.005, 5), (0.02, 5), (0.02, 10), (0.1, 5)):
        counts = false_alarms(noise, spread, baseline, 30, kind)
        upper = float(np.mean(counts) + 2.5 * max(np.std(counts, ddof=1), 0.3) / np.sqrt(len(counts)))
        print(
            f"{noise.__name__} {kind} spread {spread:g} first {baseline}: {np.mean(counts):.3f} a month, <= {upper:.3f}"
        )
        assert upper <= 1.0


def test_the_e_processes_of_the_t_test_are_one_on_average() -> None:
    random = np.random.default_rng(3)
    before, after = random.standard_normal((2, 200_000, 4))
    squares = 3 * before.var(axis=1, ddof=1) + 3 * after.var(axis=1, ddof=1)
    made = evidence(after.mean(axis=1) - before.mean(axis=1), squares, np.array(6.0), np.array(2.0))
    # Its tail is as heavy as an e-value's may be: what is cut off above 1e4 is less than one in the mean.
    assert np.mean(np.minimum(made, 1e4)) <= 1.0
    assert np.mean(made) == pytest.approx(1.0, abs=0.25)
    for level in (10, 100, 1000):
        assert np.mean(made >= level) <= 1 / level  # Markov's, so Ville's at a fixed time


def test_the_bayes_factor_is_the_integral_that_it_stands_for() -> None:
    """Against the noncentral t averaged over half-normal effects, by quadrature."""
    n, m, t = 5, 3, 4.2
    pairs, freedom = n * m / (n + m), n + m - 2
    effects = (np.arange(40_000) + 0.5) * 0.005
    total = 0.0
    for variance in (4.0, 64.0, 1024.0):
        prior = 2 * stats.norm.pdf(effects, scale=np.sqrt(variance)) * 0.005
        total += float(np.sum(prior * stats.nct.pdf(t, freedom, effects * np.sqrt(pairs))))
    expected = total / 3 / stats.t.pdf(t, freedom)
    made = evidence(np.array(t / np.sqrt(pairs)), np.array(float(freedom)), np.array(float(freedom)), np.array(pairs))
    assert float(made) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(("step", "median", "most"), [(0.05, 3, 5), (0.03, 4, 9), (0.02, 9, 16)])
def test_a_step_is_found_soon(step: float, median: int, most: int) -> None:
    figures = 0.005 * normal(np.random.default_rng(5), 60, 5 + 10 + 25)
    figures[:, 15:] += step
    found = detect(figures, 5)
    delays = [next((change.alarm - 14 for change in row if change.alarm >= 15), 99) for row in found]
    print(f"a step of {step:.0%} at 0.5 % spread is told after {np.percentile(delays, [50, 90])} nights (50 %, 90 %)")
    assert np.median(delays) <= median
    assert np.percentile(delays, 90) <= most
    starts = [row[-1].start for row in found if row]
    assert np.median(np.abs(np.array(starts) - 15)) <= 1
    shifts = [row[-1].shift for row in found if row]
    assert np.median(shifts) == pytest.approx(step, abs=0.003)


def test_digits_that_repeat_are_watched_without_a_spread() -> None:
    figures = np.zeros((3, 20))
    figures[1, 10:] = 0.03
    figures[2, 10:] = 0.005  # too little to matter
    still, changed, little = detect(figures, 5)
    assert (still, little) == ([], [])
    assert [(change.start, change.alarm <= 12, change.end) for change in changed] == [(10, True, None)]


def test_what_the_stated_uncertainty_explains_is_no_change() -> None:
    figures = 0.001 * normal(np.random.default_rng(2), 4, 40)
    figures[:, 20:] += 0.03
    assert all(row == [] for row in detect(figures, 5, uncertainty=0.02))
    assert all(len(row) == 1 for row in detect(figures, 5, uncertainty=0.002))


@given(wild=st.floats(min_value=0.01, max_value=1e6), night=st.integers(min_value=5, max_value=29))
@settings(max_examples=40, deadline=None)
def test_one_wild_night_is_no_change(wild: float, night: int) -> None:
    figures = 0.005 * normal(np.random.default_rng(11), 1, 30)
    figures[0, night] += wild
    assert detect(figures, 5) == [[]]


def test_a_change_that_goes_ends_and_another_is_told_anew() -> None:
    figures = 0.002 * normal(np.random.default_rng(4), 1, 50)
    figures[0, 15:25] += 0.05
    figures[0, 35:] += 0.05
    first, second = detect(figures, 5)[0]
    assert (first.start, first.end) == (15, 25)
    assert (second.start, second.end) == (35, None)


def test_what_lasts_becomes_the_baseline_of_the_last_nights() -> None:
    figures = 0.002 * normal(np.random.default_rng(4), 1, 60)
    figures[0, 20:] += 0.05
    (change,) = detect(figures, 10, kind=BaselineKind.LAST)[0]
    assert (change.start, change.end) == (20, 30)


@given(
    st.lists(st.floats(min_value=-50, max_value=50), min_size=2, max_size=24),
    st.integers(min_value=1, max_value=6),
    st.sampled_from(BaselineKind),
)
@settings(max_examples=80, deadline=None)
def test_no_figures_make_the_detector_stumble(figures: list[float], baseline: int, kind: BaselineKind) -> None:
    for row in detect(np.array([figures]), baseline, kind=kind):
        for change in row:
            assert np.isfinite([change.evidence, change.shift, change.half_width]).all()
            assert baseline <= change.start <= change.alarm < len(figures)


def test_the_number_of_charts_never_shrinks() -> None:
    assert charts_seen([2, 0, 4, 0]) == [2, 2, 6, 6]
    assert charts_seen([0]) == [1]
