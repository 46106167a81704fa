"""What an idle board may draw: the band that lab.toml gives, or one learned from the board's own earlier checks.

A gross check with the supply's own read-back: it finds a board that leaks, hangs awake or sleeps when it should not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

LEARNED_MIN = 5
"""From so many earlier checks on a band is learned."""
LEARNED_LAST = 50
"""And from so many of them at most, the newest."""
WIDE = 0.2
"""Least half width of a learned band, share of its middle: temperature and firmware move it by that much."""
SPREADS = 4.0
"""Half width of a learned band where the checks spread more, standard deviations of one check."""


@dataclass(frozen=True, slots=True)
class Band:
    """Least and most idle current, A; `learned_from` earlier checks, 0 for a band of lab.toml."""

    low_a: float
    high_a: float
    learned_from: int


@dataclass(frozen=True, slots=True)
class Idle:
    """A measured idle current: mean of `readings` and its standard uncertainty of repetition, A."""

    current_a: float
    u_a: float
    readings: int

    def within(self, band: Band) -> bool:
        """Whether it can lie in the band, within twice its uncertainty."""
        return band.low_a - 2.0 * self.u_a <= self.current_a <= band.high_a + 2.0 * self.u_a


def idle_of(readings_a: Sequence[float]) -> Idle:
    """Mean and its standard uncertainty from at least two readings, A."""
    return Idle(fmean(readings_a), stdev(readings_a) / math.sqrt(len(readings_a)), len(readings_a))


def learned_band(earlier_a: Sequence[float]) -> Band | None:
    """The band that earlier passed checks of a board make, oldest first, A; None while they are too few."""
    newest = earlier_a[-LEARNED_LAST:]
    if len(newest) < LEARNED_MIN:
        return None
    middle_a = fmean(newest)
    half_a = max(WIDE * abs(middle_a), SPREADS * stdev(newest) * math.sqrt(1.0 + 1.0 / len(newest)))
    return Band(middle_a - half_a, middle_a + half_a, len(newest))
