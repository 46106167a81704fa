"""Clocks that are off by a constant and wander besides; only the generator knows true time."""

from __future__ import annotations

from typing import overload

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

KNOT_S = 0.1
"""Between knots a clock's rate is constant, s."""
BEFORE_S = 2.0
"""A clock is known from so long before time 0, s."""


class Clock:
    """What a clock shows at a true time, in its own seconds from true time 0.

    Args:
        rng: Source of its wander.
        rate_ppm: Its constant error, ppm: positive is fast.
        wander_ppm: Standard deviation of what its rate walks in a second, ppm.
        span_s: Until when it is needed, s of true time.
    """

    def __init__(self, rng: np.random.Generator, *, rate_ppm: float, wander_ppm: float, span_s: float) -> None:
        self._at = np.arange(-BEFORE_S, span_s + 2 * KNOT_S, KNOT_S)
        walk = np.cumsum(rng.standard_normal(len(self._at))) * wander_ppm * np.sqrt(KNOT_S)
        rates = (rate_ppm + walk) * 1e-6
        self._ahead = np.concatenate([[0.0], np.cumsum(rates[:-1] * KNOT_S)])

    @overload
    def shows(self, at_s: float) -> float: ...
    @overload
    def shows(self, at_s: Floats) -> Floats: ...
    def shows(self, at_s: float | Floats) -> float | Floats:
        """The clock's seconds at true times, float64 of their shape."""
        ahead = at_s + np.interp(at_s, self._at, self._ahead)
        return float(ahead) if np.ndim(ahead) == 0 else ahead
