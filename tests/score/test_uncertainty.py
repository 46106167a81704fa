"""The arithmetic of uncertainty: closed forms, and simulations of what the intervals promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labd.score.coverage import coverage_factor
from labd.score.uncertainty import (
    Distribution,
    Estimate,
    Scope,
    Term,
    TermName,
    effective_degrees_of_freedom,
    limits_of_error,
    median_factor,
    median_of,
    median_uncertainty,
    quadrature,
    with_spread,
)


def term(uncertainty: float, *, freedom: float | None = None, scope: Scope = Scope.RUN) -> Term:
    return Term(
        name=TermName.NOISE,
        standard_uncertainty=uncertainty,
        distribution=Distribution.NORMAL,
        scope=scope,
        degrees_of_freedom=freedom,
        source="test",
    )


def test_limits_of_error_are_rectangular() -> None:
    assert limits_of_error(TermName.CURRENT_GAIN, -0.3, "guide").standard_uncertainty == pytest.approx(
        0.3 / math.sqrt(3)
    )


@given(st.lists(st.floats(min_value=0, max_value=1e3), min_size=1, max_size=8))
def test_quadrature_is_the_root_of_the_sum_of_squares(values: list[float]) -> None:
    assert quadrature([term(value) for value in values]) == pytest.approx(math.hypot(*values))


def test_known_terms_have_no_degrees_of_freedom_to_lose() -> None:
    assert effective_degrees_of_freedom([term(1.0), term(2.0)]) == math.inf
    assert coverage_factor(math.inf) == pytest.approx(1.959964, abs=1e-6)


def test_welch_and_satterthwaite_as_in_gum_h1() -> None:
    # GUM H.1.6: 25 nm (18), 9.7 nm (25.6), 2.9 nm (50), 16.6 nm (2) make 16 degrees of freedom at 32 nm.
    terms = [term(25.0, freedom=18), term(9.7, freedom=25.6), term(2.9, freedom=50), term(16.6, freedom=2)]
    expected = quadrature(terms) ** 4 / (25**4 / 18 + 9.7**4 / 25.6 + 2.9**4 / 50 + 16.6**4 / 2)
    assert effective_degrees_of_freedom(terms) == pytest.approx(expected)
    assert math.floor(expected) == 16
    assert quadrature(terms) == pytest.approx(31.7, abs=0.1)


def test_student_factor_of_five_trials() -> None:
    assert coverage_factor(4) == pytest.approx(2.776, abs=1e-3)


def test_an_estimate_says_what_it_is_made_of_and_survives_json() -> None:
    estimate = Estimate.combine(
        10.0, [term(3.0, freedom=4), limits_of_error(TermName.CLOCK, 4.0 * math.sqrt(3), "ppm")]
    )
    assert estimate.standard_uncertainty == pytest.approx(5.0)
    assert estimate.part(TermName.CLOCK) == pytest.approx(4.0)
    assert estimate.interval[0] < 0.2
    assert estimate.interval[1] > 19.8
    assert Estimate.model_validate_json(estimate.model_dump_json()) == estimate


@given(st.floats(min_value=1e-6, max_value=1e6))
def test_scaling_keeps_the_relative_uncertainty(factor: float) -> None:
    terms = [term(0.5), term(0.1, freedom=4), limits_of_error(TermName.CLOCK, 0.4, "ppm")]
    estimate = Estimate.combine(10.0, terms)
    for sign in (1, -1):
        scaled = estimate.scaled(sign * factor)
        again = Estimate.combine(sign * factor * 10.0, [each.scaled(factor) for each in terms])
        assert scaled.relative_uncertainty == pytest.approx(estimate.relative_uncertainty)
        assert scaled.interval == pytest.approx(again.interval, rel=1e-5)


@pytest.mark.parametrize(("count", "exact"), [(3, 1.1602), (5, 1.1976), (7, 1.2137)])
def test_standard_error_of_the_median_of_normal_values(count: int, exact: float) -> None:
    assert median_factor(count) * math.sqrt(count) == pytest.approx(exact, rel=0.01)


def test_shared_errors_do_not_average_out() -> None:
    values = [1.0, 1.1, 0.9, 1.05, 0.95]
    shared = median_of(values, [[term(0.01)]] * 5)
    own = median_of(values, [[term(0.01, scope=Scope.WINDOW)]] * 5)
    alike = median_of([1.0] * 5, [[term(0.01, scope=Scope.WINDOW)]] * 5)
    assert shared.value == 1.0
    assert shared.standard_uncertainty == pytest.approx(0.01)
    assert own.standard_uncertainty == pytest.approx(0.01, rel=0.02)  # far apart: the middle one's own error stays
    assert alike.standard_uncertainty == pytest.approx(0.01 * 1.1976 / math.sqrt(5), rel=0.01)


@pytest.mark.parametrize("true_spread", [0.0, 0.5, 2.0, 20.0])
def test_uncertainty_of_a_median_matches_a_simulation(true_spread: float) -> None:
    rng = np.random.default_rng(5)
    errors, stated = [], []
    for _ in range(1000):
        truth = true_spread * rng.standard_normal(5)
        seen = truth + rng.standard_normal(5)
        errors.append(np.median(seen) - np.median(truth))
        stated.append(median_uncertainty(list(seen), [1.0] * 5))
    ratio = np.sqrt(np.mean((np.array(errors) / np.array(stated)) ** 2))
    assert 0.8 < ratio < 1.15


@pytest.mark.parametrize("instrument", [0.0, 1.0])
def test_the_interval_of_five_trials_covers_at_least_what_it_says(instrument: float) -> None:
    rng = np.random.default_rng(11)
    runs, covered = 4000, 0
    for _ in range(runs):
        shared = instrument * rng.uniform(-math.sqrt(3), math.sqrt(3))
        values = list(100 + shared + rng.standard_normal(5))
        median = median_of(values, [[limits_of_error(TermName.CURRENT_GAIN, instrument * math.sqrt(3), "test")]] * 5)
        low, high = with_spread(median, values).interval
        covered += low <= 100 <= high
    noise = 3 * math.sqrt(0.95 * 0.05 / runs)
    assert 0.95 - noise < covered / runs < 0.99 + noise


def test_a_board_is_never_known_better_than_its_windows() -> None:
    values = [1.0, 1.0, 1.0, 1.0, 1.0]
    median = median_of(values, [[term(0.01)]] * 5)
    assert with_spread(median, values).standard_uncertainty == pytest.approx(median.standard_uncertainty)
