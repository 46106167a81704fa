"""The gate that every sample passes on its way into a trace: what is no reading becomes NaN, and is marked.

No reading is what is not finite, and what lies farther beyond the end of the range in force than the device can read
(`Accuracy.overrange`): a code that stands for a missing reading, such as SCPI's 9.91E37, or bytes out of step. A column
that declares no range (0) is held to be finite only. So whatever a driver lets through, no figure is made of it: the
pyramid, reductions, plots and exports leave out NaN, and a window that touches the mark is refused.

A reading at the end of its range is one: it keeps its value, and that it is clipped is the driver's to say. The other
columns of a sample keep theirs, too, and levels of pins are always there.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from drivers.api import Block, Interval, IntervalKind
from labd.trace.layout import is_digital
from labd.trace.meta import TraceMeta
from labd.trace.pyramid import Columns

LARGEST = float(np.finfo(np.float32).max)
"""What a column of a trace can hold."""
STRETCHES_MAX = 1000
"""Most marks that one block adds: of more, one is made from the first to the last, or the journal would grow faster
than the samples do."""

Flags = npt.NDArray[np.bool_]


class Gate:
    """Looks at the blocks of one trace, in their order."""

    def __init__(self, meta: TraceMeta) -> None:
        self._limits = {
            column.quantity: _limit(column.accuracy.range_max, column.accuracy.overrange)
            for column in meta.columns
            if not is_digital(column.quantity)
        }
        self._told: list[Interval] = []
        """Marks on samples that are still to come."""

    def note(self, mark: Interval) -> None:
        """A mark was journalled."""
        if mark.kind is not IntervalKind.CLIPPED:
            self._told.append(mark)

    def admit(self, block: Block) -> tuple[Columns, tuple[Interval, ...]]:
        """The columns as they go into the trace, and the marks on those samples that none speaks of yet.

        Args:
            block: What came; its marks have been noted. Its arrays are not changed.
        """
        if not len(block):
            return block.columns, ()
        stop = block.first + len(block)
        suspects = {}
        for quantity, limit in self._limits.items():
            values = block.columns[quantity]
            # a NaN makes a comparison false, so that two passes decide for nearly all blocks
            if not (values.max() <= limit and values.min() >= -limit):
                suspects[quantity] = ~(np.abs(values) <= limit)
        columns: Columns = block.columns
        marks: tuple[Interval, ...] = ()
        if suspects:
            columns = {q: np.where(suspects[q], np.nan, v) if q in suspects else v for q, v in columns.items()}
            untold = np.logical_or.reduce(list(suspects.values()))
            for mark in self._told:
                untold[max(mark.start - block.first, 0) : max(mark.stop - block.first, 0)] = False
            marks = _stretches(untold, block.first)
        self._told = [mark for mark in self._told if mark.stop > stop]
        return columns, marks


def _limit(range_max: float, overrange: float) -> float:
    if not (math.isfinite(range_max) and range_max > 0):
        return LARGEST
    return min(range_max * (1 + overrange), LARGEST)


def _stretches(flags: Flags, first: int) -> tuple[Interval, ...]:
    steps = np.flatnonzero(np.diff(flags, prepend=False, append=False)) + first
    if len(steps) > 2 * STRETCHES_MAX:
        steps = steps[[0, -1]]
    return tuple(Interval(IntervalKind.NO_READING, start, stop) for start, stop in steps.reshape(-1, 2).tolist())
