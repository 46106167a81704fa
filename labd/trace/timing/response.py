"""How far the analyzer's filter smears a step, from steps that are known to be sharp, or stand by themselves.

A filter of unit gain shows a unit step as s(t). A window that opens with it is placed by the middle m of that answer,
where as much of the step comes too early as too late. What comes too late,

    R = ∫ₘ (1 - s) dt = ∫ᵐ s dt,

is the time for which a step at an edge lies on the wrong side of it: a first-order low-pass of time constant τ has
m = τ and R = τ/e. Means over samples smear too, by f (1 - f) samples at a middle that divides its sample at f; dividing
that sample undoes it (`labd.score.edge_sample`), so it is taken off here.

Without a sync load the board's own steps tell: where it wakes and goes back to sleep, one level ends and another one
begins. No filter is slower than the sharpest of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from labd.trace.timing.steps import SPREAD_S, Signal

Floats = npt.NDArray[np.float64]

AROUND = 2
"""Fewest samples on each side of a step that its answer is looked at in, and that its levels are taken from."""
ALONE, LEVEL = 3, 3
"""A step stands by itself if, so many means from it, so many are at one level,"""
FLAT = 0.05
"""which is flat to such a share of the step."""
CLEAR = 20.0
"""And if it is so many times the noise of a mean."""
SHARPEST = 10.0
"""Percentile of what the board's own steps show: some of them are more than one step."""
ALONE_MIN = 3
"""Fewest steps by themselves that tell."""
REST_S = 2.0
"""They are looked for over so long before each window, s."""


def response_of(signal: Signal, places: Sequence[float]) -> float | None:
    """R of the filter, in samples: the median over steps that are sharp; None if none can be looked at.

    Args:
        signal: The samples.
        places: Where the steps lie, to within a part of `SPREAD_S`, in samples.
    """
    found = list(_responses(signal, places))
    return max(0.0, float(np.median(found))) if found else None


def response_alone(signal: Signal, windows: Sequence[tuple[float, float]]) -> float | None:
    """R of the filter, in samples, from what the board does outside its windows; None if that is too little to tell.

    Args:
        signal: The samples.
        windows: Where the windows begin and end, in samples, in order.
    """
    reach = REST_S / signal.clocks.period_s
    ends = [0.0, *(stop for _, stop in windows)]
    starts = [*(start for start, _ in windows), float(signal.rows)]
    found: list[float] = []
    for end, start in zip(ends, starts, strict=True):
        first, last = math.ceil(max(0.0, end, start - reach)), min(math.floor(start), signal.rows)
        found += _responses(signal, _alone(signal, first, last))
    return max(0.0, float(np.percentile(found, SHARPEST))) if len(found) >= ALONE_MIN else None


def _responses(signal: Signal, places: Sequence[float]) -> Iterator[float]:
    room = max(AROUND, math.ceil(SPREAD_S / signal.clocks.period_s))
    for place in places:
        first = math.floor(place) - 2 * room
        last = first + 4 * room + 1
        if first < 0 or last > signal.rows:
            continue
        samples = signal.read(first, last).astype(np.float64)
        before, after = samples[:room].mean(), samples[-room:].mean()
        if not np.isfinite(samples).all() or before == after:
            continue
        left = (after - samples[room:-room]) / (after - before)
        middle = float(left.sum())
        whole = min(max(0, math.floor(middle)), len(left) - 1)
        share = middle - whole
        yield float(left[whole + 1 :].sum()) + (1 - share) * float(left[whole]) - share * (1 - share)


def _alone(signal: Signal, start: int, stop: int) -> list[float]:
    """Where, in samples, steps between two flat levels lie."""
    small, fold = signal.folded()
    begin, end = start // fold, stop // fold
    side = ALONE + LEVEL
    if end - begin < 2 * side + 1:
        return []
    means = small.read(begin, end).astype(np.float64)
    levels = np.lib.stride_tricks.sliding_window_view(means, LEVEL)
    level, extent = levels.mean(axis=1), np.ptp(levels, axis=1)
    # Of the mean at k: the level that ends ALONE before it, and the one that begins ALONE after it.
    before, after = slice(0, len(means) - 2 * side), slice(side + ALONE, None)
    rise = level[after][: len(means) - 2 * side] - level[before]
    flat = np.maximum(extent[before], extent[after][: len(rise)])
    noise = small.noise_rms
    clear = (np.abs(rise) > CLEAR * noise) & (flat < np.maximum(FLAT * np.abs(rise), CLEAR / 2 * noise))
    places = []
    for run in np.split(np.flatnonzero(clear), np.flatnonzero(np.diff(np.flatnonzero(clear)) > 1) + 1):
        if len(run):
            middle = int(run[len(run) // 2]) + side
            piece = means[middle - ALONE : middle + ALONE + 1]
            sharpest = int(np.argmax(np.abs(np.diff(piece))))
            places.append((begin + middle - ALONE + sharpest + 1.0) * fold)
    return places
