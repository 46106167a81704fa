"""White noise, flicker and hum of steady stretches: how strong each is, told apart by how means of them scatter.

- Lines of the mains and their harmonics are fitted by least squares, with a phase of its own in each stretch.
- Of what remains, the Allan variance at octaves of the block length (Allan 1966; Riley, NIST SP 1065 (2008), section
  5.2) is w/τ for white noise of density w, and 2 ln 2 · h for flicker of density h/f. Half the mean square difference
  of two means over τ that begin r τ apart is w/τ + h g(r), with 2 g(r) = (r + 1)² ln(r + 1) + (r - 1)² ln(r - 1) -
  2 r² ln r, which is the Allan variance for r = 1 (Barnes, NBS Technical Note 375 (1969): variances with dead time). So
  short stretches, far apart, tell of slow noise. Flicker is taken to be there only if it is seen (`SEEN`): carried to
  ten times the length, the scatter of an estimate would count as noise.
- White noise is a density, taken from means of a millisecond: an instrument whose bandwidth is far below its sample
  rate has samples that are alike, and their number says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import chdtri

Floats = npt.NDArray[np.float64]

MAINS_HZ = (50.0, 60.0)
HARMONICS = 3
LINE_CHANCE = 1e-6
"""How seldom noise is to be taken for a line."""
REDDEST = 0.3
"""Noise may be flicker, which is the stronger the slower, from so many cycles a block down."""
SEEN = 3.0
"""Flicker is there if it is so many of its own standard uncertainties away from none,"""
WANDER_CHANCE = 1e-2
"""or if means far apart differ by more than white noise makes them but so seldom."""
PAIRS_MIN = 2
"""Fewest differences of means far apart that are looked at."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line in the spectrum.

    Args:
        frequency_hz: Where.
        amplitude_w: How strong: half of peak to peak, W.
    """

    frequency_hz: float
    amplitude_w: float


def without_hum(power: Floats, steady: Sequence[slice], block_s: float) -> Floats:
    """A rest less the lines that are clearly there in its steady stretches, which have one phase all through it."""
    if not steady:
        return power
    best: tuple[float, Floats] = (0.0, power)
    for mains_hz in MAINS_HZ:
        turns = _turns(len(power), _harmonics(mains_hz, block_s), block_s)
        # Each stretch has a level of its own: it is taken off the lines as off the power.
        model = np.vstack([turns[span] - turns[span].mean(axis=0) for span in steady])
        seen = np.concatenate([power[span] - power[span].mean() for span in steady])
        found = np.linalg.lstsq(model, seen, rcond=None)[0]
        explained = float(seen @ seen) - float(np.sum((seen - model @ found) ** 2))
        if explained > best[0]:
            best = explained, power - turns @ found
    return best[1]


def _harmonics(mains_hz: float, block_s: float) -> list[float]:
    return [n * mains_hz for n in range(1, HARMONICS + 1) if n * mains_hz * block_s < 0.5]


def _turns(count: int, frequencies: Sequence[float], block_s: float) -> Floats:
    """Cosines and sines of lines, shape (count, 2 · lines)."""
    angle = 2 * math.pi * block_s * np.outer(np.arange(count), frequencies)
    return np.hstack([np.cos(angle), np.sin(angle)])


def hum(stretches: Sequence[Floats], block_s: float) -> tuple[tuple[Line, ...], list[Floats]]:
    """The lines of the mains that are clearly there, of the frequency that explains more, and the stretches without."""
    best: tuple[float, tuple[Line, ...], list[Floats]] = (0.0, (), list(stretches))
    for mains_hz in MAINS_HZ:
        found = _lines(stretches, _harmonics(mains_hz, block_s), block_s)
        if found[0] > best[0]:
            best = found
    return best[1], best[2]


def _lines(
    stretches: Sequence[Floats], frequencies: Sequence[float], block_s: float
) -> tuple[float, tuple[Line, ...], list[Floats]]:
    """Lines at the frequencies that are clearly there, with a phase of its own in each stretch.

    Returns:
        Sum of squares that they explain, the lines, and the stretches without them, at their levels.
    """
    kept = list(frequencies)
    while kept:
        fits = [_fit(stretch, kept, block_s) for stretch in stretches]
        free = sum(len(fit.remainder) for fit in fits) - sum(1 + 2 * len(kept) for _ in fits)
        if free < 1:
            break
        variance = sum(float(fit.remainder @ fit.remainder) for fit in fits) / free
        # n a²/2 over the variance of a block is χ² with two degrees of freedom a stretch, if there is no line.
        squares = np.sum([len(fit.remainder) * fit.amplitudes**2 / 2 for fit in fits], axis=0)
        # Of flicker it is as much more as its line is slower than the remainder, most of which is fast.
        red = np.maximum(1.0, REDDEST / (block_s * np.array(kept)))
        limit = variance * red * float(chdtri(2 * len(fits), LINE_CHANCE))
        clear = [frequency for frequency, square, least in zip(kept, squares, limit, strict=True) if square > least]
        if len(clear) == len(kept):
            blocks = sum(len(fit.remainder) for fit in fits)
            true = np.maximum(squares - 2 * len(fits) * variance, 0.0) * 2 / blocks
            lines = tuple(
                Line(frequency, math.sqrt(square) / float(np.sinc(frequency * block_s)))
                for frequency, square in zip(kept, true.tolist(), strict=True)
            )
            return float(squares.sum()), lines, [fit.level + fit.remainder for fit in fits]
        kept = clear
    return 0.0, (), list(stretches)


@dataclass(frozen=True, slots=True)
class _LineFit:
    level: float
    amplitudes: Floats
    remainder: Floats


def _fit(stretch: Floats, frequencies: Sequence[float], block_s: float) -> _LineFit:
    model = np.hstack([np.ones((len(stretch), 1)), _turns(len(stretch), frequencies, block_s)])
    found = np.linalg.lstsq(model, stretch, rcond=None)[0]
    lines = found[1:].reshape(2, -1)
    return _LineFit(level=float(found[0]), amplitudes=np.hypot(lines[0], lines[1]), remainder=stretch - model @ found)


@dataclass(frozen=True, slots=True)
class Broadband:
    """White noise of density `white`, W² s, flicker of density `flicker`/f, W², and the degrees of freedom of each."""

    white: float
    flicker: float
    white_freedom: float
    flicker_freedom: float


@dataclass(frozen=True, slots=True)
class Means:
    """Means over equally long parts of a recording, in order.

    Args:
        starts_s: When each begins, s, shape (n,).
        length_s: How long each is, s.
        values: The means, shape (n,).
    """

    starts_s: Floats
    length_s: float
    values: Floats


def white_and_flicker(stretches: Sequence[Floats], block_s: float, apart: Means) -> Broadband:
    """Fit w/τ + h g(r) to the Allan variances at octaves and to means far apart, each weighted by its own variance.

    Args:
        stretches: Consecutive blocks without hum, at least two in one of them.
        block_s: Length of a block, s.
        apart: Means of parts of different stretches.
    """
    octaves = list(_allan_variances(stretches, block_s))
    tau = np.array([each[0] for each in octaves])
    allan = np.array([each[1] for each in octaves])
    freedom = np.array([each[2] for each in octaves])
    white = float(np.sum(freedom * allan * tau) / np.sum(freedom))
    none = Broadband(white, 0.0, float(np.sum(freedom)), 1.0)
    shape = np.full(len(octaves), _flicker_between(np.array([1.0]))[0])
    gaps = np.diff(apart.starts_s) / apart.length_s
    far = gaps >= 1
    wanders = False
    if np.count_nonzero(far) >= PAIRS_MIN:
        tau = np.append(tau, apart.length_s)
        allan = np.append(allan, np.mean(np.diff(apart.values)[far] ** 2) / 2)
        freedom = np.append(freedom, _freedom(int(np.count_nonzero(far)), 1))
        shape = np.append(shape, np.mean(_flicker_between(gaps[far])))
        # So few are not normally scattered: whether they are more than white noise is asked of χ².
        wanders = float(freedom[-1] * allan[-1] * tau[-1]) > white * float(chdtri(freedom[-1], WANDER_CHANCE))
    if len(tau) < 3 or white <= 0:
        return none
    model = np.column_stack([1 / tau, shape])
    expected = np.maximum(white / tau, 0.5 * allan)
    for _ in range(20):
        weight = freedom / (2 * expected**2)
        covariance = np.linalg.inv(model.T @ (weight[:, None] * model))
        found = covariance @ (model.T @ (weight * allan))
        if found[1] <= 0:
            return none
        if found[0] < 0:  # flicker alone
            found = np.array([0.0, float(np.sum(weight * shape * allan) / np.sum(weight * shape**2))])
        expected = model @ found
    w, h = float(found[0]), float(found[1])
    u_w, u_h = (math.sqrt(value) for value in np.diag(covariance).tolist())
    if h <= SEEN * u_h and not wanders:
        return none
    least = float(freedom[-1]) if wanders else 1.0
    return Broadband(w, h, max(1.0, 2 * (w / u_w) ** 2) if w > 0 else 1.0, max(least, 2 * (h / u_h) ** 2))


def _flicker_between(r: Floats) -> Floats:
    """g(r) for means that begin r ≥ 1 of their lengths apart."""
    below = np.where(r > 1, (r - 1) ** 2 * np.log(np.maximum(r - 1, 1e-300)), 0.0)
    return np.asarray(((r + 1) ** 2 * np.log(r + 1) + below - 2 * r**2 * np.log(r)) / 2)


def _allan_variances(stretches: Sequence[Floats], block_s: float) -> Iterator[tuple[float, float, float]]:
    """τ, Allan variance and degrees of freedom at octaves, from all stretches together."""
    size = 1
    while True:
        squares, count, used = 0.0, 0, 0
        for stretch in stretches:
            whole = len(stretch) // size
            if whole >= 2:
                differences = np.diff(stretch[: whole * size].reshape(whole, size).mean(axis=1))
                squares += float(differences @ differences)
                count += whole - 1
                used += 1
        if count < 6:
            return
        yield size * block_s, squares / (2 * count), _freedom(count, used)
        size *= 2


def _freedom(differences: int, rows: int) -> float:
    """What differences of neighbours in so many rows are worth: they share blocks (fourth moments of white noise)."""
    return 2 * differences**2 / (3 * differences - rows)
