"""What an idle board may draw: the band that lab.toml gives, or one learned from the board's own earlier checks.

A gross check with the supply's own read-back: it finds a board that leaks, hangs awake or sleeps when it should not.
Current and band rest on medians: one reading that is none, or far off, neither passes a board nor fails it, and a check
that once went wrong does not widen the band of those after it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev

READINGS = 10
"""Readings of the idle current of a check."""
READINGS_MIN = 7
"""So many of them have to be readings."""
READING_MAX = 1e6
"""A size that no voltage or current of a board's supply has, V or A: a code for none, such as SCPI's 9.91E37."""
FAR = 5.0
"""A reading is far off from so many standard deviations on, estimated by the median deviation."""
ALIKE = 0.01
"""And never within this share of the median: a supply's read-back has steps."""
FAR_MAX = 2
"""So many readings are left out at most, the farthest: if more are far off, that is what the board draws."""
NORMAL = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation (Rousseeuw and Croux, 1993)."""
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
    """A measured idle current: mean of `readings` and its standard uncertainty of repetition, A.

    Readings that were left out, because they were none or far off, are not among them.
    """

    current_a: float
    u_a: float
    readings: int
    left_out: int = 0

    def within(self, band: Band) -> bool:
        """Whether it can lie in the band, within twice its uncertainty."""
        return band.low_a - 2.0 * self.u_a <= self.current_a <= band.high_a + 2.0 * self.u_a


def is_reading(value: float) -> bool:
    """Whether a supply's voltage [V] or current [A] is one, and neither NaN nor a code for none."""
    return abs(value) < READING_MAX


def idle_of(readings_a: Sequence[float]) -> Idle | None:
    """Mean of the readings without those that are none or far off, and its standard uncertainty, A.

    Returns:
        None if fewer than `READINGS_MIN` are readings.
    """
    known = [reading for reading in readings_a if is_reading(reading)]
    if len(known) < READINGS_MIN:
        return None
    middle_a = median(known)
    near_a = max(FAR * _spread(known), ALIKE * abs(middle_a))
    nearest = sorted(known, key=lambda reading: abs(reading - middle_a))
    near = sum(abs(reading - middle_a) <= near_a for reading in known)
    kept = nearest[: max(near, len(known) - FAR_MAX)]
    return Idle(fmean(kept), stdev(kept) / math.sqrt(len(kept)), len(kept), len(readings_a) - len(kept))


def learned_band(earlier_a: Sequence[float]) -> Band | None:
    """The band that earlier passed checks of a board make, oldest first, A; None while they are too few.

    One that an earlier version stored of readings that were none counts for nothing.
    """
    newest = [current_a for current_a in earlier_a if is_reading(current_a)][-LEARNED_LAST:]
    if len(newest) < LEARNED_MIN:
        return None
    middle_a = median(newest)
    half_a = max(WIDE * abs(middle_a), SPREADS * _spread(newest) * math.sqrt(1.0 + 1.0 / len(newest)))
    return Band(middle_a - half_a, middle_a + half_a, len(newest))


def _spread(values: Sequence[float]) -> float:
    """Standard deviation by the median absolute deviation, which up to half of the values cannot spoil."""
    middle = median(values)
    return NORMAL * median(abs(value - middle) for value in values)
