"""What the product of a mean voltage and a mean current is too large by: R times the current's variance in a sample.

Behind a source resistance R the voltage falls as the current rises. Inside each period the product of the means exceeds
the mean of the products by R times the variance of the current there, which the means do not show. It lies between two
limits.

Where the current steps from a to b within a sample x between them, the variance in that sample is (a - x)(x - b), and 0
in its neighbours: that much there is at least, and no more where all that the board does lasts for two periods.

A current between l and h with mean m has at most the variance (h - m)(m - l) (Bhatia and Davis 2000), of which the
samples show a part. h is the largest sample, or a peak that the analyzer's own points showed between samples; where
there is such a peak, l may lie below the least sample, down to 0.

Boards mostly do what lasts for longer than a period, so the estimate lies nearer to the lower limit (`NEARER`), and the
half width reaches to the upper one.
"""

from __future__ import annotations

from dataclasses import dataclass

from labd.score.moments import Moments

NEARER = 0.4
"""Where the estimate lies between the limits."""
BEYOND = 1.02
"""A peak so much above the largest sample was between samples."""


@dataclass(frozen=True, slots=True)
class Source:
    """What feeds the board.

    Args:
        resistance_ohm: Fall of the voltage with the current, Ω.
        u_ohm: Its standard uncertainty, Ω.
        peak_a: Largest current that was seen between samples too, A; None if nobody watched.
    """

    resistance_ohm: float
    u_ohm: float = 0.0
    peak_a: float | None = None


@dataclass(frozen=True, slots=True)
class Excess:
    """Power by which the product of means is too large, W: best estimate and half width of what remains."""

    bias_w: float
    half_width_w: float


def excess(current: Moments, source: Source) -> Excess:
    """The excess of a window's power.

    Args:
        current: Moments of the current over the window's samples, A.
        source: What feeds the board.
    """
    high = max(current.high, source.peak_a or 0.0)
    low = 0.0 if high > BEYOND * current.high else current.low
    between = current.mean_square - current.mean**2
    least = current.within
    most = max(least, (high - current.mean) * (current.mean - low) - between)
    bias = least + NEARER * (most - least)
    return Excess(
        bias_w=source.resistance_ohm * bias,
        half_width_w=source.resistance_ohm * (most - bias) + 2 * source.u_ohm * most,
    )
