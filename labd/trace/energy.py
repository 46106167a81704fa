"""Energy between two fractional sample indices: whole blocks from the pyramid, partial ones from the samples.

Sample k stands for the span [k, k+1) of the sample index and holds its power over that span. A window [start, stop)
takes the share of each sample that lies in it, so its energy is

    period · Σ_k power_k · |[k, k+1) ∩ [start, stop)|

Whole blocks are taken from the coarsest levels that fit, so a window of a billion samples adds some hundred rows and
not a million. All sums are float64, and short; no running total over the whole trace is ever differenced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from labd.trace.layout import BLOCK, FANOUT, LEVELS, POWER
from labd.trace.levels import Levels
from labd.trace.meta import TraceMeta
from labd.trace.pyramid import power_columns, power_of
from labd.trace.samples import Samples

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def window_sums(windows: Floats, levels: Levels, samples: Callable[[], Samples], meta: TraceMeta) -> Floats:
    """Sum of power over each window, W · samples; NaN where a sample in it is no number.

    Args:
        windows: Fractional start and stop of each window, shape (n, 2), 0 <= start <= stop <= rows.
        levels: The trace's pyramid.
        samples: Gives its samples; called only if a window ends within a block.
        meta: Its sidecar.

    Returns:
        float64 of shape (n,).
    """
    start, stop = windows[:, 0], windows[:, 1]
    head = -np.floor_divide(-start, BLOCK).astype(np.int64)  # first block that begins in the window
    tail = np.floor_divide(stop, BLOCK).astype(np.int64)  # first block that does not end in it
    inner = tail > head
    # What is left of a window beside its whole blocks: one stretch, or one at each end.
    starts = np.concatenate([start, tail[inner] * float(BLOCK)])
    stops = np.concatenate([np.where(inner, head * float(BLOCK), stop), stop[inner]])
    ends = np.zeros(len(starts))
    if (stops > starts).any():
        ends = _stretch_sums(starts, stops, samples(), meta)
    sums = ends[: len(windows)]
    sums[inner] += ends[len(windows) :] + _block_sums(head[inner], tail[inner], levels)
    return sums


def _block_sums(head: Ints, tail: Ints, levels: Levels) -> Floats:
    """Sum of power over whole blocks `head` to `tail` of the finest level, of each window."""
    sums = np.zeros(len(head))
    windows = np.arange(len(head))
    for number in range(LEVELS):
        if not len(windows):
            break
        above, below = -(-head // FANOUT), tail // FANOUT
        climbs = below > above if number < LEVELS - 1 else np.zeros(len(head), dtype=np.bool_)
        whose = np.concatenate([windows, windows[climbs]])
        begin = np.concatenate([head, below[climbs] * FANOUT])
        counts = np.concatenate([np.where(climbs, above * FANOUT, tail), tail[climbs]]) - begin
        order = np.argsort(begin, kind="stable")
        whose, begin, counts = whose[order], begin[order], counts[order]
        before = np.cumsum(counts) - counts
        places = np.arange(counts.sum()) + np.repeat(begin - before, counts)
        some = counts > 0
        if some.any():
            found = np.add.reduceat(levels[number].sums(POWER, places), before[some])
            np.add.at(sums, whose[some], found)
        windows, head, tail = windows[climbs], above[climbs], below[climbs]
    return sums


def _stretch_sums(starts: Floats, stops: Floats, samples: Samples, meta: TraceMeta) -> Floats:
    """Sum of power over short stretches with fractional ends, those of a chunk together."""
    sums = np.zeros(len(starts))
    stretches = np.flatnonzero(stops > starts)
    first = np.floor(starts[stretches]).astype(np.int64)
    end = np.ceil(stops[stretches]).astype(np.int64)
    order = np.argsort(first, kind="stable")
    stretches, first, end = stretches[order], first[order], end[order]
    # The shares of the first and of the last sample; where they are one, the first has it all.
    head = np.minimum(first + 1, stops[stretches]) - starts[stretches]
    tail = np.where(end - first > 1, stops[stretches] - (end - 1), 1.0)
    quantities = power_columns(meta)
    for chunk, parts, begin, stop in _by_chunk(first, end, samples):
        at, _ = samples.limits(chunk)
        spans = list(zip((begin - at).tolist(), (stop - at).tolist(), strict=True))
        columns = {}
        for quantity in quantities:
            column = samples.chunk(chunk, quantity)
            columns[quantity] = np.concatenate([column[low:high] for low, high in spans])
        power = power_of(meta, columns)
        ends = np.cumsum(stop - begin)
        offsets = ends - (stop - begin)
        power[offsets] *= np.where(begin == first[parts], head[parts], 1.0)
        power[ends - 1] *= np.where(stop == end[parts], tail[parts], 1.0)
        with np.errstate(invalid="ignore"):  # infinities of both signs make NaN, which is what is meant
            np.add.at(sums, stretches[parts], np.add.reduceat(power, offsets))
    return sums


def _by_chunk(first: Ints, end: Ints, samples: Samples) -> Iterator[tuple[int, Ints, Ints, Ints]]:
    """Cut stretches, sorted by `first`, at the chunks' limits.

    Yields:
        A chunk, the numbers of the stretches that touch it, and where they begin and end in it.
    """
    if not len(first):
        return
    chunk, last = samples.place(first), samples.place(end - 1)
    numbers = np.arange(len(first))
    carried: dict[int, list[int]] = {}  # by chunk, stretches that began in one before
    for number in np.flatnonzero(last > chunk).tolist():
        for later in range(int(chunk[number]) + 1, int(last[number]) + 1):
            carried.setdefault(later, []).append(number)
    cuts = {int(c): part for c, part in zip(*_groups(chunk, numbers), strict=True)}
    for number in sorted(cuts.keys() | carried.keys()):
        parts = np.array([*carried.get(number, ()), *cuts.get(number, np.zeros(0, dtype=np.int64))], dtype=np.int64)
        low, high = samples.limits(number)
        yield number, parts, np.maximum(first[parts], low), np.minimum(end[parts], high)


def _groups(keys: Ints, values: Ints) -> tuple[Ints, list[Ints]]:
    """Runs of equal keys, which are sorted: the key and the values of each."""
    cuts = np.flatnonzero(np.diff(keys)) + 1
    return keys[np.concatenate([[0], cuts])], np.split(values, cuts)
