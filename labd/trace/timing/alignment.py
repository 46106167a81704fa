"""Where the timing edges lie among the samples, to a few samples: only the offset is unknown, so it is searched.

The distances of the edges are known to parts in a million, their absolute place is not: the host's clock is never
asked. At each edge the current steps, up or down. So for every sample the step about it is computed over 1, 4, 16, 64
samples on each side (the edge's own sample left out), taken against what is usual in this trace, and squared:

    evidence(k) = Σ_n log(1 + (step_n(k) / usual_n)²)

Where it is known by how much the current rises or falls at an edge, each scale says whether it does.

The sum of the evidence over all edges is searched over the offset and, on long traces, over the stretch of the clocks.
Adding logarithms asks for *some* step at every edge rather than a huge one at a few. A long trace is first searched
in means of several samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from labd.trace.timing.timebase import TimebaseError

Floats = npt.NDArray[np.float64]
Reader = Callable[[int, int], npt.NDArray[np.float32]]
"""Gives samples `start` to `stop` of the signal, float32 of shape (stop - start,)."""

SCALES = (1, 4, 16, 64)
BINS_MAX = 400_000
"""Most means that a whole trace is searched in."""
ALIKE = 0.2
"""A step is by a known amount if it differs from it by no more than this share."""
WORTH = 2.0
"""What such a step tells."""
MARGIN = 4.0
"""By how much the best place must beat every other one: e⁴ to 1, were evidence a likelihood."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """The best place: sample index of the edges' middle, stretch of the clocks, and how far it beats the others."""

    middle: float
    stretch: float
    margin: float


def align(
    read: Reader,
    rows: int,
    distances: Sequence[float],
    stretch_max: float,
    middles: tuple[float, float],
    *,
    rises: Sequence[float] | None = None,
    repeat: float = 0.0,
) -> Alignment:
    """Find the edges among the samples.

    Args:
        read: The signal in which edges are steps: the current, or the power.
        rows: Samples of the trace.
        distances: Place of each edge from the middle between first and last, in nominal samples, rising.
        stretch_max: Largest stretch of the clocks to be expected, relative.
        middles: Least and largest sample index that the middle can have.
        rises: By how much the signal rises at each edge; None if that is not known.
        repeat: How many samples an inference lasts: what repeats within a window is no step.

    Raises:
        TimebaseError: the edges do not fit into the trace, or two places fit about equally well where `rises` are not
            known; where they are, whoever knows them sees whether the edges are there.
    """
    places = np.asarray(distances, dtype=np.float64)
    low, high = max(middles[0], -places[0]), min(middles[1], rows - places[-1])
    if rows < 1 or places[-1] - places[0] > rows:
        raise TimebaseError(f"the edges span {places[-1] - places[0]:.0f} samples, the trace has {rows}")
    if high < low:
        raise TimebaseError("no place of the edges fits to when the capture was asked to begin and had ended")
    known = np.zeros(len(places)) if rises is None else np.asarray(rises, dtype=np.float64)
    fold = -(-rows // BINS_MAX)
    signal = means_of(read, 0, rows, fold)
    found = _search(
        signal,
        fold,
        places,
        known,
        repeat=repeat,
        middle=(low + high) / 2,
        reach=(high - low) / 2,
        stretch_max=stretch_max,
    )
    if rises is None and found.margin < MARGIN:
        raise TimebaseError(
            f"the edges' steps are not seen clearly: the best place beats the next by {found.margin:.1f}, "
            f"{MARGIN:g} is needed",
            remedy="wire the edge source's sync pin to the analyzer's trigger, or give the board a clearer step",
        )
    while fold > 1:
        reach = 4 * fold
        fold = max(1, fold // 16)
        found = _refine(read, rows, places, known, found, fold=fold, reach=reach)
    return found


def _search(
    signal: Floats,
    fold: int,
    places: Floats,
    rises: Floats,
    repeat: float,
    *,
    middle: float,
    reach: float,
    stretch_max: float,
) -> Alignment:
    """Search offset and stretch over the whole trace, in means of `fold` samples."""
    half = int(np.ceil(reach / fold)) + 1
    drift = int(np.ceil(stretch_max * float(np.abs(places).max()) / fold)) + 1
    pad = half + drift
    padded = {rise: np.pad(_evidence(signal, rise, repeat / fold), pad) for rise in np.unique(rises).tolist()}
    centres = np.floor((middle + places) / fold).astype(np.int64) + pad
    best = np.full(2 * half + 1, -np.inf, dtype=np.float32)
    stretches = np.zeros(2 * half + 1)
    for stretch in np.linspace(-stretch_max, stretch_max, 2 * drift + 1):
        shifts = np.rint(stretch * places / fold).astype(np.int64)
        total = np.zeros(2 * half + 1, dtype=np.float32)
        for at, rise in zip(np.clip(centres + shifts, half, len(signal) + 2 * pad - half - 1), rises, strict=True):
            total += padded[rise][at - half : at + half + 1]
        better = total > best
        best[better], stretches[better] = total[better], stretch
    top = int(np.argmax(best))
    near = 2 * max(SCALES) + drift
    others = np.concatenate([best[: max(0, top - near)], best[top + near + 1 :]])
    margin = float(best[top] - others.max()) if len(others) else float(best[top])
    return Alignment(middle + (top - half) * fold, float(stretches[top]), margin)


def _refine(
    read: Reader, rows: int, places: Floats, rises: Floats, found: Alignment, *, fold: int, reach: int
) -> Alignment:
    """Search again about a known place in finer means."""
    shift = shift_of(read, rows, found.middle + places * (1 + found.stretch), rises, fold=fold, reach=reach)
    return replace(found, middle=found.middle + shift)


def shift_of(read: Reader, rows: int, places: Floats, rises: Floats, *, fold: int, reach: int) -> int:
    """By how many samples all edges have to be moved to lie best, reading only what lies about them.

    Args:
        read, rows: The signal.
        places: Where the edges are thought to lie, in samples, shape (n,).
        rises: By how much the signal rises at each, 0 if that is not known, shape (n,).
        fold: The search is in means of so many samples.
        reach: Largest shift, in samples.
    """
    half = reach // fold + 1
    room = half + max(SCALES) + 2
    total = np.zeros(2 * half + 1)
    for place, rise in zip(places.tolist(), rises.tolist(), strict=True):
        first = int(place // fold) - room
        piece = np.full(2 * room + 1, np.nan)
        begin, end = max(0, first), min(rows // fold, first + 2 * room + 1)
        if end - begin < 2:
            continue
        piece[begin - first : end - first] = means_of(read, begin * fold, end * fold, fold)
        known = np.flatnonzero(np.isfinite(piece))
        piece = np.interp(np.arange(len(piece)), known, piece[known])
        total += _evidence(piece, rise, 0.0)[room - half : room + half + 1]
    return (int(np.argmax(total)) - half) * fold


def _evidence(signal: Floats, rise: float, repeat: float) -> npt.NDArray[np.float32]:
    """Evidence of a step in each sample, by `rise` if that is not 0; 0 where neighbours are missing."""
    rows = len(signal)
    sums = np.concatenate([[0.0], np.cumsum(signal - signal.mean() if rows else signal)])
    places = np.arange(rows + 1, dtype=np.float64)
    evidence = np.zeros(rows, dtype=np.float32)
    for span in spans(repeat) if rise == 0 else map(float, SCALES[:2]):
        n = math.ceil(span)
        if rows < 2 * n + 1:
            continue
        k = np.arange(n, rows - n)
        back = np.interp(k - span, places, sums) if span != n else sums[: rows - 2 * n]
        ahead = np.interp(k + 1 + span, places, sums) if span != n else sums[2 * n + 1 :]
        step = (ahead - sums[k + 1] - sums[k] + back) / span
        if rise != 0:
            evidence[k] += WORTH * (np.abs(step - rise) <= ALIKE * abs(rise))
            continue
        usual = max(1.4826 * float(np.median(np.abs(step))), 1e-12 + 1e-6 * float(np.abs(step).max()))
        evidence[k] += np.log1p((step / usual) ** 2)
    return evidence


def spans(repeat: float) -> tuple[float, ...]:
    """Samples on each side that the step about one is taken over: whole repeats of what a board does again and again.

    Args:
        repeat: How many samples one inference lasts; below 2 they are not told apart.
    """
    if repeat < 2:
        return tuple(map(float, SCALES))
    return tuple(sorted({max(1, round(scale / repeat)) * repeat for scale in SCALES}))


def means_of(read: Reader, start: int, stop: int, fold: int) -> Floats:
    """Means of `fold` samples each over a stretch, what is not a number replaced by what came before it."""
    parts = []
    step = max(1, 1_000_000 // fold) * fold
    for at in range(start, stop, step):
        piece = read(at, min(at + step, stop)).astype(np.float64)
        piece = piece[: len(piece) // fold * fold]
        parts.append(piece.reshape(-1, fold).mean(axis=1))
    means = np.concatenate(parts) if parts else np.empty(0)
    good = np.isfinite(means)
    if good.all() or not good.any():
        return np.where(good, means, 0.0)
    last = np.maximum.accumulate(np.where(good, np.arange(len(means)), -1))
    return np.where(last >= 0, means[np.maximum(last, 0)], means[np.argmax(good)])
