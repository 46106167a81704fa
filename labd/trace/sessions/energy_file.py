"""EnergyRunner's `trace1-energy.bin`, and the time axis that its windows are cut by.

The file is a byte 0xF1, the sample rate in Hz as float32, then one float32 a sample, the energy in µJ; all little
endian. It is read in pieces, so that its length costs no memory.

EnergyRunner dates sample 0 at 0 s and each further one by adding 1/rate to a float64. The sum drifts from k/rate by its
rounding errors, and which samples a window holds depends on that drift: to come out at the published digits the
addition has to be repeated as it was done, sample by sample.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from labd.trace.sessions.published import SessionError

MARK = 0xF1
_HEADER = 5
PIECE = 1 << 18
"""Samples that are in memory at once."""


@dataclass(frozen=True, slots=True)
class EnergyFile:
    """The samples of one file, µJ each. Made by `open`.

    Args:
        path: The file.
        rate_hz: Samples a second by the file's own word.
        rows: Number of samples.
    """

    path: Path
    rate_hz: float
    rows: int

    @classmethod
    def open(cls, path: Path) -> EnergyFile:
        """Read the header. Raises `SessionError` if the file is missing, foreign, empty, cut off, or of no rate."""
        where = str(path)
        try:
            with path.open("rb") as file:
                header = file.read(_HEADER)
                size = os.fstat(file.fileno()).st_size
        except FileNotFoundError as error:
            raise SessionError(f"{path.name} is missing", where=where) from error
        except OSError as error:
            raise SessionError(f"it cannot be read: {error.strerror}", where=where) from error
        if len(header) < _HEADER or header[0] != MARK:
            raise SessionError(f"it is no energy trace: it does not begin with byte {MARK:#x} and a rate", where=where)
        rate_hz = float(np.frombuffer(header, "<f4", 1, 1)[0])
        if not (math.isfinite(rate_hz) and rate_hz > 0):
            raise SessionError(f"its sample rate is {rate_hz} Hz", where=where)
        rows, rest = divmod(size - _HEADER, 4)
        if rest:
            raise SessionError(f"it is cut off: {rest} bytes follow the last whole sample", where=where)
        if rows == 0:
            raise SessionError("it holds no samples", where=where)
        return cls(path, rate_hz, rows)

    @property
    def period_s(self) -> float:
        """Sample period, s: 1/rate in float64."""
        return 1.0 / self.rate_hz

    def read(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Samples `start` to `stop`, µJ. Raises `SessionError` if one is not a number, or the file has shrunk."""
        try:
            values = np.fromfile(self.path, "<f4", stop - start, offset=_HEADER + 4 * start)
        except OSError as error:
            raise SessionError(f"it cannot be read: {error.strerror}", where=str(self.path)) from error
        if len(values) != stop - start:
            raise SessionError(
                f"it has shrunk to {start + len(values)} samples while it was read", where=str(self.path)
            )
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise SessionError(f"sample {start + int(bad[0])} is {values[bad[0]]}", where=str(self.path))
        return values.astype(np.float32, copy=False)

    def check(self) -> None:
        """Look at every sample. Raises `SessionError` if one is not a number."""
        for start, stop in pieces(0, self.rows):
            self.read(start, stop)


def pieces(start: int, stop: int, size: int = PIECE) -> Iterator[tuple[int, int]]:
    """Cut a stretch of samples into pieces that fit into memory."""
    for first in range(start, stop, size):
        yield first, min(first + size, stop)


def samples_before(times_s: Sequence[float], *, rows: int, period_s: float, piece: int = PIECE) -> tuple[int, ...]:
    """How many samples lie before each time, on the axis of repeated addition.

    So a window from `a` to `b` holds the samples from `samples_before(a)` to `samples_before(b)`: one that lies on `a`
    belongs to it and one on `b` does not. The published windows do not decide that: none of them has a sample exactly
    on an edge, and they come out the same with either end in or out.

    Args:
        times_s: Times since the start, s.
        rows: Number of samples.
        period_s: 1/rate, s.
        piece: Samples of the axis that are in memory at once.
    """
    times = np.asarray(times_s, dtype=np.float64)
    before = np.zeros(len(times), dtype=np.int64)
    latest = float(times.max(initial=0.0))
    clock = 0.0
    for start, stop in pieces(0, rows, piece):
        # `cumsum` adds one after the other, as the runner does; the carry begins the next piece.
        steps = np.full(stop - start + 1, period_s)
        steps[0] = clock
        axis = np.cumsum(steps)
        before += np.searchsorted(axis[:-1], times, side="left")
        clock = float(axis[-1])
        if clock > latest:
            break
    return tuple(int(count) for count in before)
