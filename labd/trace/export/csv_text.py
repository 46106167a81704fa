"""Comma-separated values: a header with units, a line a sample, times that are exact decimals.

A time is the sample's index times the period as it is written in decimals, computed in integers, to the picosecond at
most: so no line shows the drift of a running sum. Numbers have as few digits as bring the same float32 back.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from labd.trace.export.landing import landing
from labd.trace.export.selection import Selection, Series, SeriesName
from labd.trace.export.written import Progress, Written
from labd.trace.reader import PIECE

HEADERS = {
    SeriesName.CURRENT: "current_a",
    SeriesName.VOLTAGE: "voltage_v",
    SeriesName.POWER: "power_w",
    SeriesName.ENERGY: "energy_j",
    SeriesName.DIGITAL: "digital",
    SeriesName.COUNT: "count",
}
DECIMALS_MAX = 12

_FOURS = np.frombuffer("".join(f"{k:04d}" for k in range(10_000)).encode(), dtype="<u4")
"""The numbers 0 to 9999 as four digits each."""
_LEVELS = pa.array([str(level) for level in range(256)])


class Times:
    """Times of evenly spaced samples as text, in integers of the last decimal shown."""

    def __init__(self, start: Fraction, period: Fraction) -> None:
        self._start, self._period = start, period
        self.decimals = next((d for d in range(DECIMALS_MAX) if _is_whole(start, period, d)), DECIMALS_MAX)

    def ticks(self, first: int, count: int) -> npt.NDArray[np.int64]:
        """Times of samples `first` on, in units of the last decimal, to the nearest below."""
        scale = 10**self.decimals
        base, period = (self._start + first * self._period) * scale, self._period * scale
        # whole part and rest apart, over one denominator that leaves room for `count` in 64 bits
        room = (1 << 62) // max(count, 1)
        whole, rest = divmod(period, 1)
        at, left = divmod(base, 1)
        denominator = min(math.lcm(rest.denominator, left.denominator), room)
        index = np.arange(count, dtype=np.int64)
        parts = (index * round(rest * denominator) + round(left * denominator)) // denominator
        ticks: npt.NDArray[np.int64] = index * int(whole) + parts + int(at)
        return ticks

    def text(self, first: int, count: int) -> pa.Array:
        """Times of samples `first` on, each after a line break."""
        ticks = self.ticks(first, count)
        parts = []
        begin = 0
        while begin < count:
            digits = max(len(str(int(ticks[begin]))), self.decimals + 1)
            end = int(np.searchsorted(ticks, 10**digits)) if digits < 19 else count
            parts.append(_lines(ticks[begin:end], digits, self.decimals))
            begin = end
        return parts[0] if len(parts) == 1 else pa.concat_arrays(parts)


def _is_whole(start: Fraction, period: Fraction, decimals: int) -> bool:
    scale = 10**decimals
    return bool((start * scale).denominator == 1 and (period * scale).denominator == 1)


def _lines(ticks: npt.NDArray[np.int64], digits: int, decimals: int) -> pa.Array:
    """Numbers that all have so many digits as text: a line break, the digits, a point before the decimals."""
    groups = -(-digits // 4)
    fours = np.empty((len(ticks), groups), dtype="<u4")
    left = ticks
    for group in range(groups - 1, -1, -1):
        higher = left // 10_000
        fours[:, group] = _FOURS[left - higher * 10_000]
        left = higher
    figures = fours.view(np.uint8)[:, groups * 4 - digits :]
    width = 1 + digits + (1 if decimals else 0)
    text = np.empty((len(ticks), width), dtype=np.uint8)
    text[:, 0] = ord("\n")
    text[:, 1 : 1 + digits - decimals] = figures[:, : digits - decimals]
    if decimals:
        text[:, 1 + digits - decimals] = ord(".")
        text[:, 2 + digits - decimals :] = figures[:, digits - decimals :]
    offsets = np.arange(0, (len(ticks) + 1) * width, width, dtype=np.int32)
    return pa.Array.from_buffers(pa.string(), len(ticks), [None, pa.py_buffer(offsets), pa.py_buffer(text)])


def _text(series: Series, values: npt.NDArray[Any]) -> pa.Array:
    if series.name is SeriesName.DIGITAL:
        return _LEVELS.take(pa.array(values))
    return pc.cast(pa.array(values), pa.string())


def write_csv(selection: Selection, path: Path, progress: Progress) -> Written:
    """Write `time_s` and a column a series; compressed with gzip if the name ends in `.gz`.

    Raises:
        TraceError: the trace cannot be read, or the disk refuses the file.
    """
    series = selection.series
    times = Times(selection.start, selection.period)
    with landing(path) as part:
        opened: Callable[[], pa.NativeFile] = (
            (lambda: pa.CompressedOutputStream(str(part), "gzip"))
            if path.suffix == ".gz"
            else (lambda: pa.OSFile(str(part), "wb"))
        )
        with opened() as file:
            file.write(",".join(["time_s", *(HEADERS[s.name] for s in series)]).encode())
            for piece in selection.pieces(series):
                columns = [times.text(piece.first, len(piece)), *(_text(s, piece.values[s.name]) for s in series)]
                lines = pc.binary_join_element_wise(*columns, ",")
                _, _, text = lines.buffers()
                file.write(text)
                progress(piece.first + len(piece), selection.rows)
            file.write(b"\n")
    return Written((path,))


assert PIECE * 256 < 1 << 31  # a piece's lines fit into the 32-bit offsets of their array
