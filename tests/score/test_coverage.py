"""Coverage intervals against closed forms and random draws."""

from __future__ import annotations

import math

import numpy as np
import pytest

from labd.score.coverage import coverage_factor, interval_half_width

DRAWS = 200_000


def test_without_limits_it_is_students_t() -> None:
    assert interval_half_width((), 2.0, 4.0) == pytest.approx(2 * coverage_factor(4))
    assert interval_half_width((), 1.0, math.inf) == pytest.approx(1.959964, abs=1e-6)


def test_of_one_rectangle_it_leaves_the_ends_out() -> None:
    assert interval_half_width((3.0,), 0.0, math.inf) == pytest.approx(0.95 * 3, rel=5e-3)


def test_two_equal_rectangles_make_a_triangle() -> None:
    # P(|x| > h) of a triangle of half width 2 is (1 - h/2)².
    assert interval_half_width((1.0, 1.0), 0.0, math.inf) == pytest.approx(2 * (1 - math.sqrt(0.05)), rel=5e-3)


@pytest.mark.parametrize(
    ("limits", "spread", "freedom"),
    [
        ((1.0,), 0.2, math.inf),
        ((1.0,), 1.0, 2.5),
        ((1.0,), 1e-3, 1.0),
        ((1.0, 0.5, 0.2), 0.5, 6.0),
        ((1e-3,), 1.0, 3.0),
        ((1.0, 1e-3), 0.0, math.inf),
    ],
)
def test_it_covers_what_it_says(limits: tuple[float, ...], spread: float, freedom: float) -> None:
    rng = np.random.default_rng(3)
    drawn = np.zeros(DRAWS)
    for limit in limits:
        drawn += rng.uniform(-limit, limit, DRAWS)
    drawn += spread * (rng.standard_normal(DRAWS) if math.isinf(freedom) else rng.standard_t(freedom, DRAWS))
    covered = float(np.mean(np.abs(drawn) <= interval_half_width(limits, spread, freedom)))
    assert covered == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / DRAWS) + 1e-3)
