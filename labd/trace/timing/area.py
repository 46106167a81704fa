"""Where a step of the current lies, below the sample, by the area method.

About the edge the signal goes from a level A to a level B; the samples between are means, so the area under them tells
where:

    position = lo + Σ_{k=lo}^{hi-1} (x_k − B) / (A − B)

lo and hi enclose where the step is *predicted* to lie, with its uncertainty; they do not depend on the samples they
enclose, and the fraction is never clipped, so noise does not bend the result. A and B come from the samples next to
[lo, hi): few where the board is restless, more where it is steady.

Inside a window a board is restless in the same way again and again: over whole inferences it is steady. So on that side
the stretch ends a number of inferences away, and the level is the mean of some more of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

SIDE = 8
"""Samples next to an edge that its levels are taken from, at most."""
CLEAR = 6.0
RESTLESS = 3.0
"""A step counts if it is larger than so many standard deviations of the noise and of the levels' restlessness."""


@dataclass(frozen=True, slots=True)
class Located:
    """Where a step lies, in samples: its own standard uncertainty (noise) and the shared one (restless levels).

    Args:
        position: In samples of the signal.
        u_noise, u_levels: Standard uncertainties, in samples.
        step: Level after it less the level before it, in the signal's unit.
        u_step: Standard uncertainty of that.
    """

    position: float
    u_noise: float
    u_levels: float
    step: float
    u_step: float


def locate(signal: Floats, lo: int, hi: int, noise_rms: float) -> Located | None:
    """Locate the step between samples `lo` and `hi` by its area; None if it is not clear.

    Args:
        signal: The step with its neighbours, at least two on each side, shape (n,).
        lo: First sample that the step may lie in.
        hi: End of those.
        noise_rms: Standard deviation of a sample by noise.
    """
    if not np.isfinite(signal).all():
        return None
    above, below = _level(signal[:lo][::-1], noise_rms), _level(signal[hi:], noise_rms)
    step = above.value - below.value
    if abs(step) <= CLEAR * noise_rms + RESTLESS * math.hypot(above.restless, below.restless):
        return None
    position = lo + float((signal[lo:hi] - below.value).sum()) / step
    left, right = position - lo, hi - position
    u_noise = math.sqrt((hi - lo) * noise_rms**2 + (left * above.noise) ** 2 + (right * below.noise) ** 2)
    u_levels = math.hypot(left * above.restless, right * below.restless)
    u_step = math.hypot(above.noise, below.noise, above.restless, below.restless)
    return Located(position, u_noise / abs(step), u_levels / abs(step), -step, u_step)


def locate_repeating(signal: Floats, place: float, repeat: float, reach: float, noise_rms: float) -> Located | None:
    """Locate the step to what repeats; None if it is not clear, or there is too little of it.

    Args:
        signal: The step with what comes before and after it, shape (n,).
        place: Where it is thought to be.
        repeat: How many samples one repeat lasts, from `place` on.
        reach: So many samples before and after `place` enclose it.
        noise_rms: Standard deviation of a sample by noise.
    """
    lo = place - reach
    hi = place + max(1, math.ceil(2 * reach / repeat)) * repeat
    level = max(1, math.ceil(SIDE / repeat)) * repeat
    before, end = signal[: max(0, math.floor(lo))][-SIDE:], hi + level
    if len(before) < 2 or end > len(signal) or not np.isfinite(signal).all():
        return None
    sums, index = np.concatenate([[0.0], np.cumsum(signal)]), np.arange(len(signal) + 1, dtype=np.float64)
    to_lo, to_hi, to_end = (float(np.interp(at, index, sums)) for at in (lo, hi, end))
    above, below = _level(before[::-1], noise_rms), (to_end - to_hi) / level
    # How a sample that such an end cuts is divided is not known: two of them, each to a twelfth of what repeats.
    cut = float(np.std(signal[math.floor(hi) : math.ceil(end)])) * math.sqrt(2 / 12)
    step = above.value - below
    if abs(step) <= CLEAR * noise_rms + RESTLESS * math.hypot(above.restless, cut / level):
        return None
    position = lo + (to_hi - to_lo - below * (hi - lo)) / step
    left, right = position - lo, hi - position
    noise = noise_rms / math.sqrt(level)
    u_noise = math.sqrt((hi - lo) * noise_rms**2 + (left * above.noise) ** 2 + (right * noise) ** 2)
    u_levels = math.hypot(left * above.restless, cut, right * cut / level)
    u_step = math.hypot(above.noise, noise, above.restless, cut / level)
    return Located(position, u_noise / abs(step), u_levels / abs(step), -step, u_step)


@dataclass(frozen=True, slots=True)
class _Level:
    value: float
    noise: float
    restless: float


def _level(samples: Floats, noise_rms: float) -> _Level:
    """Level next to an edge, from samples with the nearest first.

    Half the mean square of consecutive differences, less the noise, is what the board itself is restless by (q). The
    mean of n samples then misses the level at the edge by noise²/n + q (n + 1)/2 as for a random walk; the best n of
    1, 2, 4, 8 is taken.
    """
    differences = np.array([b - a for a, b in pairwise(samples.tolist())])
    # With few differences noise alone reaches 1 + 3 √(2/m) times its mean square: only what is beyond is the board's.
    mean_square = float(np.mean(differences**2)) / 2
    beyond = mean_square > noise_rms**2 * (1 + 3 * math.sqrt(2 / len(differences)))
    q = max(0.0, mean_square - noise_rms**2) if beyond else 0.0
    counts = [n for n in (1, 2, 4, 8) if n <= len(samples)]
    n = min(counts, key=lambda n: noise_rms**2 / n + q * (n + 1) / 2)
    return _Level(float(samples[:n].mean()), noise_rms / math.sqrt(n), math.sqrt(q * (n + 1) / 2))
