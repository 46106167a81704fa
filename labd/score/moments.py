"""Moments of a column over a window, gathered piece by piece so that a window of any length fits into memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Moments:
    """Figures of one column over the whole samples of a window, in the column's unit.

    Args:
        mean: Mean.
        mean_square: Mean of the squares.
        low, high: Least and largest sample.
        within: Mean of (a - x)(x - b) over the samples x that lie between their neighbours a and b: the variance
            inside the samples of what steps from one to the other.
    """

    mean: float
    mean_square: float
    low: float
    high: float
    within: float = 0.0


class Tally:
    """Adds up samples in float64."""

    def __init__(self) -> None:
        self._count = 0
        self._sum = self._squares = self._within = 0.0
        self._low, self._high = math.inf, -math.inf

    def add(self, samples: npt.NDArray[Any]) -> None:
        """Take the next samples, shape (n,)."""
        if not len(samples):
            return
        wide = samples.astype(np.float64)
        self._count += len(wide)
        self._sum += float(wide.sum())
        self._squares += float(wide @ wide)
        self._low = min(self._low, float(wide.min()))
        self._high = max(self._high, float(wide.max()))
        steps = np.diff(wide)
        self._within += float(np.maximum(steps[:-1] * steps[1:], 0.0).sum())

    def moments(self) -> Moments:
        """The figures of all samples so far. Raises `ZeroDivisionError` if there are none."""
        return Moments(
            mean=self._sum / self._count,
            mean_square=self._squares / self._count,
            low=self._low,
            high=self._high,
            within=self._within / self._count,
        )
