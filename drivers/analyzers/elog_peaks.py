"""The extremes of an external data log: what the converter read at most, between the means too.

A record holds the mean, the least and the largest point of each period, current before voltage (order: N6900/N7900
guide, p. 161, same command set), as little-endian float32. Nothing of it becomes a sample: only the largest stays.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from drivers.analyzers.elog import RECORD_ORDER
from drivers.analyzers.n6781a import EXTREME_PARAMETERS
from drivers.api import DeviceError, Peak, Peaks, ProtocolError, Quantity
from drivers.scpi.numbers import NO_NUMBER


class PeakReader:
    """Takes fetches as `ElogReader` does, and keeps the largest point of each quantity.

    Args:
        ends: The logged quantities, each with the end of the range in force, A or V.
        period_s: Of the log, s.
    """

    def __init__(self, ends: Mapping[Quantity, float], period_s: float) -> None:
        self._ends = {quantity: ends[quantity] for quantity in RECORD_ORDER if quantity in ends}
        self._largest = dict.fromkeys(self._ends, 0.0)
        self._period_s = period_s
        self._lost = False
        self._unread = 0
        self.count = 0
        """Records that have come so far."""
        self.last: Mapping[Quantity, float] = {}
        """The newest mean of each quantity."""

    @property
    def record_bytes(self) -> int:
        """Bytes of one record."""
        return 4 * EXTREME_PARAMETERS * len(self._ends)

    def mark_overflow(self, since: int) -> None:
        """Say that records were lost before record `since`: what they held at most is not known."""
        self._lost = True

    def read(self, payload: npt.NDArray[np.uint8]) -> None:
        """Take the records of one fetch, uint8 of shape (n,). Raises `ProtocolError` if they are not whole."""
        if len(payload) % self.record_bytes:
            raise ProtocolError(f"FETC:ELOG?: {len(payload)} bytes are no whole records of {self.record_bytes} bytes")
        if not len(payload):
            return
        records = payload.view("<f4").reshape(-1, len(self._ends), EXTREME_PARAMETERS)
        self.count += len(records)
        newest = records[-1, :, 0].astype(np.float64)
        newest[~(np.abs(newest) < NO_NUMBER)] = np.nan
        self.last = {quantity: float(newest[place]) for place, quantity in enumerate(self._ends)}
        size = np.abs(records[:, :, 1:])
        read = size < NO_NUMBER  # false for a NaN too
        self._unread += int(np.count_nonzero(~read.all(axis=(1, 2))))
        top = np.where(read, size, 0.0).max(axis=(0, 2))
        for place, quantity in enumerate(self._ends):
            self._largest[quantity] = max(self._largest[quantity], float(top[place]))

    def peaks(self, where: str) -> Peaks:
        """What was read at most.

        Raises:
            DeviceError: records were overwritten before they were read, or held no reading.
        """
        if self._lost:
            raise DeviceError(f"{where}: records of peaks were overwritten before they were read")
        if self._unread or not self.count:
            raise DeviceError(f"{where}: {self._unread} of {self.count} records of peaks held no reading")
        found = tuple(Peak(quantity, self._largest[quantity], end) for quantity, end in self._ends.items())
        return Peaks(found, self.count, self._period_s)
