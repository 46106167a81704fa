"""Records of an external data log, from the bytes of one fetch to a block with its doubtful stretches marked.

Pure but for the count of what has come. A record holds the mean current and then the mean voltage of one period, as
little-endian float32 (order: N6900/N7900 guide, p. 161, same command set; byte order: `FORM:BORD SWAP`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from drivers.api import Block, Interval, IntervalKind, ProtocolError, Quantity
from drivers.scpi.numbers import NO_NUMBER

RECORD_ORDER = (Quantity.CURRENT, Quantity.VOLTAGE)


class ElogReader:
    """Turns fetches into blocks.

    Args:
        ends: The logged quantities, each with the end of the range in force, A or V. A reading at the end or beyond
            is marked as clipped and keeps its value: part of its period may have been cut off. SCPI's codes for no
            reading, and what is not finite, become NaN and are marked as such.
    """

    def __init__(self, ends: Mapping[Quantity, float]) -> None:
        self._ends = {quantity: ends[quantity] for quantity in RECORD_ORDER if quantity in ends}
        self.count = 0
        """Records that have come so far."""
        self.last: Mapping[Quantity, float] = {}
        """The newest reading of each quantity, NaN if it was none."""
        self._lost_since: int | None = None

    @property
    def record_bytes(self) -> int:
        """Bytes of one record."""
        return 4 * len(self._ends)

    def mark_overflow(self, since: int) -> None:
        """Say that records were lost before record `since`: from there on none has a known place in time.

        The next block marks what has come since, every block after it itself.
        """
        if self._lost_since is None:
            self._lost_since = since

    def read(self, payload: npt.NDArray[np.uint8]) -> Block | None:
        """Return the block of one fetch, None if it was empty.

        Args:
            payload: uint8 of shape (n,), whole records.

        Raises:
            ProtocolError: not whole records.
        """
        if len(payload) % self.record_bytes:
            raise ProtocolError(f"FETC:ELOG?: {len(payload)} bytes are no whole records of {self.record_bytes} bytes")
        if not len(payload):
            return None
        records = payload.view("<f4").reshape(-1, len(self._ends))
        columns = {
            quantity: np.ascontiguousarray(records[:, index]).astype(np.float32, copy=False)
            for index, quantity in enumerate(self._ends)
        }
        first, self.count = self.count, self.count + len(records)
        intervals: list[Interval] = []
        if self._lost_since is not None:
            intervals.append(Interval(IntervalKind.OVERFLOW, self._lost_since, self.count))
            self._lost_since = self.count
        for quantity, column in columns.items():
            # A NaN makes a comparison false, so one pass each decides for nearly all blocks.
            if not (column.max() < self._ends[quantity] and column.min() > -self._ends[quantity]):
                columns[quantity], doubtful = _sorted_out(column, self._ends[quantity], first)
                intervals += doubtful
        self.last = {quantity: float(column[-1]) for quantity, column in columns.items()}
        return Block(first, columns, tuple(dict.fromkeys(intervals)))  # columns may say the same


def _sorted_out(
    column: npt.NDArray[np.float32], end: float, first: int
) -> tuple[npt.NDArray[np.float32], list[Interval]]:
    """The column with NaN for what is no reading, and the marks of those samples and of clipped ones."""
    size = np.abs(column)
    none = ~(size < NO_NUMBER)
    clipped = (size >= end) & ~none
    marks = [*_runs(none, IntervalKind.NO_READING, first), *_runs(clipped, IntervalKind.CLIPPED, first)]
    return np.where(none, np.float32(np.nan), column), marks


def _runs(flags: npt.NDArray[np.bool_], kind: IntervalKind, first: int) -> list[Interval]:
    steps = np.flatnonzero(np.diff(flags, prepend=False, append=False)) + first
    return [Interval(kind, int(start), int(stop)) for start, stop in steps.reshape(-1, 2)]
