"""Fewer samples a second: each reduced sample stands for a whole number of samples, and no edge goes unseen.

An analog column becomes the mean of the bin's finite samples (NaN if it has none), in float64. Energy a sample stays
energy a sample: that mean times the samples of the bin, so that the sum over a file is the trace's energy where it has
no gaps. A digital pin keeps its level where it was steady; in a bin in which it changed, the reduced sample shows the
level that the one before it did not. So a pulse of any length, high or low, is seen, at its place to one reduced
sample; pulses that share a bin become one.

Samples come in chunks of any length; a bin that a chunk leaves unfinished goes on in the next one.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[Any]


class Reducer(Protocol):
    """Turns the samples of one column into reduced ones."""

    def feed(self, chunk: Samples) -> Samples:
        """The reduced samples that `chunk` completes, shape (m,)."""
        ...

    def finish(self) -> Samples:
        """The last bin, if the samples did not fill it: shape (0,) or (1,)."""
        ...


class _Bins:
    """Where bins begin in the chunks of a column."""

    def __init__(self, factor: int) -> None:
        self._factor = factor
        self.filled = 0
        """Samples of the bin that is unfinished."""

    def cut(self, length: int) -> tuple[npt.NDArray[np.int64], int, bool]:
        """Starts of the bins in a chunk, how many of them it completes, and whether the first one goes on."""
        goes_on = self.filled > 0
        starts = np.arange(-self.filled, length, self._factor, dtype=np.int64)
        starts[:1] = 0
        whole, self.filled = divmod(self.filled + length, self._factor)
        return starts, whole, goes_on


class _Means:
    """Means of the finite samples of each bin, float64."""

    def __init__(self, factor: int) -> None:
        self._bins = _Bins(factor)
        self._sum, self._finite = 0.0, 0

    @property
    def unfinished(self) -> int:
        """Samples of the bin that is not full."""
        return self._bins.filled

    def feed(self, chunk: Samples) -> Samples:
        """The means that the chunk completes."""
        if len(chunk) == 0:
            return np.empty(0)
        starts, whole, goes_on = self._bins.cut(len(chunk))
        good = np.isfinite(chunk)
        sums = np.add.reduceat(np.where(good, chunk, 0.0), starts, dtype=np.float64)
        finite = np.add.reduceat(good, starts, dtype=np.int64)
        if goes_on:
            sums[0] += self._sum
            finite[0] += self._finite
        if self._bins.filled:
            self._sum, self._finite = float(sums[-1]), int(finite[-1])
        return _divided(sums[:whole], finite[:whole])

    def finish(self) -> Samples:
        """The mean of the unfinished bin."""
        count = 1 if self.unfinished else 0
        return _divided(np.full(count, self._sum), np.full(count, self._finite))


def _divided(sums: Samples, finite: Samples) -> Samples:
    means: Samples = np.divide(sums, finite, out=np.full(len(sums), np.nan), where=finite > 0)
    return means


class Means:
    """Means of the finite samples of each bin, float32."""

    def __init__(self, factor: int) -> None:
        self._means = _Means(factor)

    def feed(self, chunk: Samples) -> Samples:
        """The means that the chunk completes."""
        return self._means.feed(chunk).astype(np.float32)

    def finish(self) -> Samples:
        """The mean of the unfinished bin."""
        return self._means.finish().astype(np.float32)


class Totals:
    """Of samples that add up (energy a sample): the mean of a bin's finite ones times all its samples, float32."""

    def __init__(self, factor: int) -> None:
        self._means = _Means(factor)
        self._factor = factor

    def feed(self, chunk: Samples) -> Samples:
        """The totals that the chunk completes."""
        return (self._means.feed(chunk) * self._factor).astype(np.float32)

    def finish(self) -> Samples:
        """The total of the unfinished bin."""
        return (self._means.finish() * self._means.unfinished).astype(np.float32)


class Counts:
    """How many samples of each bin are set in a mask, uint32."""

    def __init__(self, factor: int) -> None:
        self._bins = _Bins(factor)
        self._count = 0

    def feed(self, chunk: Samples) -> Samples:
        """The counts that the chunk completes."""
        if len(chunk) == 0:
            return np.empty(0, dtype=np.uint32)
        starts, whole, goes_on = self._bins.cut(len(chunk))
        counts = np.add.reduceat(chunk, starts, dtype=np.uint32)
        if goes_on:
            counts[0] += self._count
        if self._bins.filled:
            self._count = int(counts[-1])
        return counts[:whole]

    def finish(self) -> Samples:
        """The count of the unfinished bin."""
        return np.full(1 if self._bins.filled else 0, self._count, dtype=np.uint32)


class Levels:
    """Levels of eight pins, uint8, by the rule above."""

    def __init__(self, factor: int) -> None:
        self._bins = _Bins(factor)
        self._any, self._all = 0, 0xFF
        self._shown: int | None = None

    def feed(self, chunk: Samples) -> Samples:
        """The levels that the chunk completes."""
        if len(chunk) == 0:
            return np.empty(0, dtype=np.uint8)
        starts, whole, goes_on = self._bins.cut(len(chunk))
        high = np.bitwise_or.reduceat(chunk, starts)
        low = np.bitwise_and.reduceat(chunk, starts)
        if self._shown is None:
            self._shown = int(chunk[0])  # a change in the very first bin is one from its first sample
        if goes_on:
            high[0] |= self._any
            low[0] &= self._all
        if self._bins.filled:
            self._any, self._all = int(high[-1]), int(low[-1])
        return self._show(high[:whole], low[:whole])

    def finish(self) -> Samples:
        """The levels of the unfinished bin."""
        count = 1 if self._bins.filled else 0
        return self._show(np.full(count, self._any, dtype=np.uint8), np.full(count, self._all, dtype=np.uint8))

    def _show(self, high: Samples, low: Samples) -> Samples:
        """Steady pins as they are; one that changed is shown as what it was not before."""
        if len(high) == 0:
            return high
        shown = low.copy()
        changed = high ^ low
        before = self._shown or 0
        at = np.arange(len(high))
        for pin in np.flatnonzero(np.unpackbits(np.bitwise_or.reduce(changed, keepdims=True), bitorder="little")):
            moved = (changed >> pin) & 1
            steady = np.maximum.accumulate(np.where(moved == 0, at, -1))
            level = np.where(steady >= 0, (low[steady] >> pin) & 1, (before >> pin) & 1)
            # from the last steady bin on, every further bin in which it changed turns the level over
            level ^= (at - steady) & 1
            shown = (shown & ~np.uint8(1 << pin)) | (level << pin).astype(np.uint8)
        self._shown = int(shown[-1])
        return shown
