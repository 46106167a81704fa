"""Whether a run's trials are independent of each other, and what it costs if they are not.

A board that warms up, or a supply that drifts, gives trials of which each is like the one before. Their spread then
says less than it seems: five trials with a lag-1 correlation of 0.8 lie within half of the spread that such trials
have about the board's own mean, and the usual interval about them covers 60 % and not 95 %.

A handful of trials tells little of a correlation: the estimate of five is off by 0.35, and low by half of what it is to
tell. So the largest correlation that the trials leave open is taken, up to `CORRELATION_MAX`, rather than the
likeliest. The price is paid where trials are independent: their interval is about twice as wide, and covers 99 %.
More trials lower it, which is what to do about it.

Source: the ratio of von Neumann, Ann. Math. Statist. 12 (1941) 367, with its moments for independent normal values;
Kendall, Biometrika 41 (1954) 403, on the bias of short series.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

CORRELATION_MAX = 0.85
"""Largest lag-1 correlation that is allowed for: beyond it, trials are one measurement said several times."""


def von_neumann_ratio(values: Sequence[float]) -> float:
    """Sum of the squared differences of neighbours over the sum of squares about the mean; 2 if values are independent.

    Args:
        values: In the order measured, shape (n,), n at least 2; of equal ones it is 2.
    """
    series = np.asarray(values, dtype=np.float64)
    about = float(np.sum((series - series.mean()) ** 2))
    return float(np.sum(np.diff(series) ** 2)) / about if about > 0 else 2.0


def possible_correlation(values: Sequence[float]) -> float:
    """The lag-1 correlation that trials leave open, 0 to `CORRELATION_MAX`.

    One standard error (of independent values, √((n-2)/((n-1)(n+1)))) above the one seen, and that times 1 + 5/n for the
    bias of short series. By simulation with n = 5 (tests/score) the interval then covers 90 % at a correlation of 0.8
    and 99 % of independent trials. Two trials tell nothing: 0.

    Args:
        values: One a trial, in the order measured.
    """
    count = len(values)
    if count < 3:
        return 0.0
    error = math.sqrt((count - 2) / ((count - 1) * (count + 1)))
    seen = 1 - von_neumann_ratio(values) / 2
    return min(max((1 + 5 / count) * (seen + error), 0.0), CORRELATION_MAX)


def widening(count: int, correlation: float) -> float:
    """By what the standard error of a mean exceeds s/√n, if each value has a correlation with the one before.

    With v the variance of the mean over that of a value, v = Σ ρ^|i-j| / n², the expectation of s² is (1 - v) n/(n - 1)
    times the variance of a value, so the factor is √((n - 1) v / (1 - v)); 1 for independent values.

    Args:
        count: Number of values, n.
        correlation: Lag-1 correlation ρ of a first-order autoregression, 0 to less than 1.
    """
    if count < 2:
        return 1.0
    lags = np.arange(1, count)
    of_mean = (count + 2 * float(np.sum((count - lags) * correlation**lags))) / count**2
    return math.sqrt((count - 1) * of_mean / (1 - of_mean))


def are_alike(values: Sequence[float]) -> bool:
    """Whether trials are correlated beyond chance: the ratio lies more than 1.645 standard errors below 2 (5 %)."""
    count = len(values)
    if count < 3:
        return False
    error = 2 * math.sqrt((count - 2) / ((count - 1) * (count + 1)))
    return von_neumann_ratio(values) < 2 - 1.645 * error
