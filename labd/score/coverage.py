"""How far the coverage interval of a sum of independent errors reaches.

Errors that are known by their limits only have no tails, so twice a standard uncertainty covers all of one that is
rectangular, and not 95 % of it. The sum of those is therefore made by its characteristic function, a product of sines
(JCGM 101:2008, 5.2: propagation of distributions); all others together are Student's t at the degrees of freedom of
Welch and Satterthwaite (GUM G.4.1). The interval is the one of their convolution, symmetric about the estimate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri, stdtr, stdtrit

Floats = npt.NDArray[np.float64]

COVERAGE = 0.95
"""Share of the values that an interval is to cover."""
_NODES = 512
"""Nodes over four times the limits: the end of a lone rectangle comes out to 0.4 %."""
_HALVINGS = 24


def coverage_factor(degrees_of_freedom: float, coverage: float = COVERAGE) -> float:
    """Student's t for a two-sided interval (GUM G.3.2)."""
    if math.isinf(degrees_of_freedom):
        return float(ndtri((1 + coverage) / 2))
    return float(stdtrit(degrees_of_freedom, (1 + coverage) / 2))


@lru_cache(maxsize=256)
def interval_half_width(
    limits: tuple[float, ...], spread: float, degrees_of_freedom: float, coverage: float = COVERAGE
) -> float:
    """Half width of the symmetric interval that holds a share of the sum.

    Args:
        limits: Half widths of independent rectangular errors.
        spread: Standard uncertainty of all others together.
        degrees_of_freedom: Of that; infinite for a normal distribution.
        coverage: The share.
    """
    total = math.fsum(limits)
    tails = coverage_factor(degrees_of_freedom, coverage) * spread
    if total <= 1e-6 * spread or total == 0:
        return tails
    places, weights = _bounded(limits, total)
    step = float(places[1] - places[0])
    if spread < step:  # without anything else the sum would be known at nodes only: it is smoothed between them
        spread, degrees_of_freedom = step, math.inf
    share = (1 + coverage) / 2
    low, high = 0.0, total + coverage_factor(degrees_of_freedom, coverage) * spread
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        below = (middle - places) / spread
        cumulated = ndtr(below) if math.isinf(degrees_of_freedom) else stdtr(degrees_of_freedom, below)
        low, high = (low, middle) if float(weights @ cumulated) >= share else (middle, high)
    return high


def _bounded(limits: Sequence[float], total: float) -> tuple[Floats, Floats]:
    """A sum of rectangular errors as nodes and their weights, each of shape (n,)."""
    step = 4 * total / _NODES
    frequencies = np.fft.rfftfreq(_NODES, step)
    transform = np.sinc(frequencies * step)  # each node stands for what is nearest to it
    for limit in limits:
        transform = transform * np.sinc(2 * frequencies * limit)
    weights = np.fft.fftshift(np.maximum(np.fft.irfft(transform, _NODES), 0.0))
    places = step * (np.arange(_NODES) - _NODES // 2)
    kept = np.abs(places) <= total + step
    return places[kept], weights[kept] / weights[kept].sum()
