"""A stretch of a trace in few bins, from one level of the pyramid alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labd.trace.layout import BLOCKS, LEVELS, summarised
from labd.trace.levels import Levels
from labd.trace.meta import TraceMeta

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Envelope:
    """One quantity over the bins of an overview: float64 of shape (bins,); NaN where a bin has no finite sample."""

    min: Floats
    max: Floats
    mean: Floats


@dataclass(frozen=True, slots=True)
class Overview:
    """A stretch of a trace in few bins, exact because the bins are made of whole blocks.

    Args:
        limits_s: Where the bins really begin and end, s, shape (bins + 1,); they enclose what was asked for.
        counts: Samples in each bin, int64 of shape (bins,).
        envelopes: By name: every analog column, and `power`.
    """

    limits_s: Floats
    counts: npt.NDArray[np.int64]
    envelopes: dict[str, Envelope]


def overview_of(levels: Levels, meta: TraceMeta, first: int, stop: int, pixels: int) -> Overview:
    """Samples `first` to `stop` in at most `pixels` bins, of blocks of the coarsest level that has as many."""
    number = LEVELS - 1
    while number and _blocks(number, first, stop) < pixels:
        number -= 1
    count = _blocks(number, first, stop)
    if count == 0:
        return Overview(np.zeros(1), np.zeros(0, dtype=np.int64), {})
    begin = first // BLOCKS[number]
    rows = levels[number].rows(begin, begin + count)
    cuts = np.unique(np.linspace(0, count, min(pixels, count) + 1).round().astype(np.int64))
    at = cuts[:-1]
    counts = np.add.reduceat(rows["count"].astype(np.int64), at)
    limits = np.append(rows["first"][at], rows["first"][-1] + rows["count"][-1]) * meta.period_s
    envelopes = {}
    for name in summarised(meta):
        finite = np.add.reduceat(rows[f"{name}_finite"].astype(np.int64), at)
        total = np.add.reduceat(rows[f"{name}_sum"], at)
        envelopes[name] = Envelope(
            min=np.fmin.reduceat(rows[f"{name}_min"], at).astype(np.float64),
            max=np.fmax.reduceat(rows[f"{name}_max"], at).astype(np.float64),
            mean=np.divide(total, finite, out=np.full(len(at), np.nan), where=finite > 0),
        )
    return Overview(limits_s=limits, counts=counts, envelopes=envelopes)


def _blocks(number: int, first: int, stop: int) -> int:
    """Blocks of a level that the samples touch."""
    return -(-stop // BLOCKS[number]) - first // BLOCKS[number] if stop > first else 0
