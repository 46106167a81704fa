"""The pyramid: a row per 1,000 samples, and coarser levels above, so that nothing reads what it need not.

A row tells where its block starts, how many samples it holds (fewer than its level's only in the last row of a closed
trace) and, for each analog column and for power, `finite`, `min`, `max`, `sum` and `sumsq`. Power is computed sample by
sample in float64; sums are accumulated in float64. A row of a coarser level is made of 16 rows of the level below.

What is not finite (the NaN that stand for a gap, or whatever an instrument sent) is left out of all five figures:
`finite` says how many samples they rest on, so `finite < count` tells a reader that a sum is not the whole block's. A
block with no finite sample has NaN as its min and max and 0 as its sums.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from drivers.api import Quantity
from labd.errors import TraceError
from labd.trace.layout import BLOCK, FANOUT, is_digital, pyramid_row, summarised
from labd.trace.meta import PowerSource, TraceMeta

Floats = npt.NDArray[np.float64]
Columns = Mapping[Quantity, npt.NDArray[Any]]
Rows = npt.NDArray[np.void]
"""Rows of a level, shape (n,), dtype `pyramid_row` of the trace."""

STRIDE = 128
"""Blocks worked on at once: many, so that what each call costs is paid seldom (measured)."""


def power_of(meta: TraceMeta, columns: Columns) -> Floats:
    """Power of each sample, W, float64 of shape (n,). Raises `TraceError` if the columns do not tell it."""
    match meta.power_source:
        case PowerSource.POWER:
            return columns[Quantity.POWER].astype(np.float64)
        case PowerSource.ENERGY:
            return columns[Quantity.ENERGY].astype(np.float64) / meta.period_s
        case PowerSource.PRODUCT:
            power = columns[Quantity.CURRENT].astype(np.float64)
            with np.errstate(invalid="ignore"):
                power *= columns[Quantity.VOLTAGE]
            return power
        case PowerSource.NONE:
            raise TraceError("power does not follow from the columns of this trace", where=meta.trace_id)


def power_columns(meta: TraceMeta) -> tuple[Quantity, ...]:
    """The columns that `power_of` needs."""
    needed = {
        PowerSource.POWER: (Quantity.POWER,),
        PowerSource.ENERGY: (Quantity.ENERGY,),
        PowerSource.PRODUCT: (Quantity.CURRENT, Quantity.VOLTAGE),
        PowerSource.NONE: (),
    }
    return needed[meta.power_source]


class Summariser:
    """Turns samples into rows; keeps its working memory, so it serves one thread."""

    def __init__(self, meta: TraceMeta) -> None:
        self._meta = meta
        self._names = summarised(meta)
        self._row = pyramid_row(meta)
        self._recorded = tuple(q for q in meta.quantities if not is_digital(q))
        self._wide = np.empty((len(self._names), STRIDE * BLOCK), dtype=np.float64)
        self._narrow = np.empty(STRIDE * BLOCK, dtype=np.float32)
        self._ones = np.ones(BLOCK)

    def rows(self, first: int, columns: Columns, start: int, stop: int) -> Rows:
        """Summarise samples `start` to `stop` of `columns`; the last row may be a partial block.

        Args:
            first: Index in the trace of sample `start`, a multiple of 1,000.
            columns: Arrays of the trace's columns.
            start: First sample of the arrays to take.
            stop: End of the samples to take.
        """
        rows = np.zeros(-(-(stop - start) // BLOCK), dtype=self._row)
        with np.errstate(invalid="ignore", over="ignore"):
            for at in range(start, stop, STRIDE * BLOCK):
                end = min(at + STRIDE * BLOCK, stop)
                whole = at + (end - at) // BLOCK * BLOCK
                row, last = (at - start) // BLOCK, (whole - start) // BLOCK
                if whole > at:
                    self._some(rows[row:last], first + at - start, columns, slice(at, whole))
                if end > whole:
                    self._some(rows[last:], first + whole - start, columns, slice(whole, end))
        return rows

    def _some(self, rows: Rows, first: int, columns: Columns, span: slice) -> None:
        """Fill rows, all of one size, from a span of the columns."""
        start, stop, count = span.start, span.stop, len(rows)
        size = (stop - start) // count
        shape = (len(self._names), count)
        wide = self._wide[:, : stop - start]
        narrow = [columns[q][start:stop] for q in self._recorded]
        for k, samples in enumerate(narrow):
            wide[k] = samples
        if len(self._names) > len(narrow):
            narrow.append(self._power(narrow, wide))
        blocks = wide.reshape(*shape, size)
        total, squares = np.vecdot(blocks, self._ones[:size]), np.vecdot(blocks, blocks)  # twice as fast as `sum`
        low, high = np.empty(shape, dtype=np.float32), np.empty(shape, dtype=np.float32)
        starts = np.arange(0, stop - start, size)
        for k, samples in enumerate(narrow):  # `reduceat` is a third faster here than `min(axis=1)`
            np.minimum.reduceat(samples, starts, out=low[k])
            np.maximum.reduceat(samples, starts, out=high[k])
        finite = np.full(shape, size, dtype=np.uint32)
        # A sum of float32 samples cannot overflow in float64: it is finite exactly if every sample is.
        for k, row in np.argwhere(~np.isfinite(total)):
            good = blocks[k, row][np.isfinite(blocks[k, row])]
            finite[k, row] = len(good)
            total[k, row], squares[k, row] = good.sum(), good @ good
            low[k, row], high[k, row] = (good.min(), good.max()) if len(good) else (np.nan, np.nan)
        rows["first"] = first + np.arange(count, dtype=np.uint64) * np.uint64(size)
        rows["count"] = size
        for k, name in enumerate(self._names):
            rows[f"{name}_finite"], rows[f"{name}_min"], rows[f"{name}_max"] = finite[k], low[k], high[k]
            rows[f"{name}_sum"], rows[f"{name}_sumsq"] = total[k], squares[k]

    def _power(self, narrow: list[npt.NDArray[Any]], wide: Floats) -> npt.NDArray[np.float32]:
        """Put the power that follows from the recorded columns into the last row of `wide`; return it rounded."""
        power, rounded = wide[-1], self._narrow[: wide.shape[1]]
        at = {q: k for k, q in enumerate(self._recorded)}
        if self._meta.power_source is PowerSource.PRODUCT:
            current, voltage = at[Quantity.CURRENT], at[Quantity.VOLTAGE]
            np.multiply(wide[current], wide[voltage], out=power)
            # Products of float32 are exact in float64, so this rounds them just once as well, and faster.
            np.multiply(narrow[current], narrow[voltage], out=rounded)
        else:
            np.divide(wide[at[Quantity.ENERGY]], self._meta.period_s, out=power)
            rounded[:] = power
        return rounded


def join_rows(*parts: Rows) -> Rows:
    """Several sets of rows as one; numpy alone would leave out the padding of a row."""
    return np.concatenate(parts, dtype=parts[0].dtype)


_JOINS = {"finite": np.add, "min": np.fmin, "max": np.fmax, "sum": np.add, "sumsq": np.add}


def coarser(meta: TraceMeta, rows: Rows) -> Rows:
    """Rows of the next coarser level out of rows that begin at one of its blocks; the last may be of fewer than 16."""
    at = np.arange(0, len(rows), FANOUT)
    made = np.zeros(len(at), dtype=rows.dtype)
    if not len(at):
        return made
    made["first"] = rows["first"][at]
    with np.errstate(invalid="ignore"):
        for figure, join in _JOINS.items():
            for name in summarised(meta):
                made[f"{name}_{figure}"] = join.reduceat(rows[f"{name}_{figure}"], at)
    made["count"] = np.add.reduceat(rows["count"], at)
    return made
