"""What of a trace goes into a file: which samples, at which rate, as which series.

A selection is fixed when it is made; of a trace that is being recorded it holds what was there when it was opened.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from drivers.api import Column, Quantity
from labd.errors import TraceError
from labd.trace.export.reduction import Counts, Levels, Means, Reducer, Totals
from labd.trace.layout import is_digital
from labd.trace.meta import PowerSource, TraceMeta
from labd.trace.reader import PIECE, Trace

assert PIECE % 8 == 0  # formats with a bit a sample need whole bytes

FACTOR_MAX = 10**12
"""Most samples of one reduced sample."""


class SeriesName(StrEnum):
    """A series of an export, by the name that formats give it."""

    CURRENT = "current"
    VOLTAGE = "voltage"
    POWER = "power"
    ENERGY = "energy"
    DIGITAL = "digital"
    COUNT = "count"
    """Of a reduced sample: how many samples it is made of in which every analog column is a number."""


UNITS: Mapping[SeriesName, str] = {
    SeriesName.CURRENT: "A",
    SeriesName.VOLTAGE: "V",
    SeriesName.POWER: "W",
    SeriesName.ENERGY: "J",
}
"""Units of the series that have one."""


@dataclass(frozen=True, slots=True)
class Series:
    """One series of an export.

    Args:
        name: What it is.
        column: How it was recorded; None if it was computed here.
    """

    name: SeriesName
    column: Column | None

    @property
    def unit(self) -> str:
        """Its unit; empty for levels and counts."""
        return UNITS.get(self.name, "")

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a sample, little endian."""
        match self.name:
            case SeriesName.DIGITAL:
                return np.dtype("u1")
            case SeriesName.COUNT:
                return np.dtype("<u4")
            case _:
                return np.dtype("<f4")


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive samples of an export: number of the first one, and the arrays by series."""

    first: int
    values: Mapping[SeriesName, npt.NDArray[Any]]

    def __len__(self) -> int:
        return len(next(iter(self.values.values())))


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time, s from the start of sample 0."""

    start_s: float
    stop_s: float


@dataclass(frozen=True, slots=True)
class Selection:
    """Samples `first` to `stop` of a trace, `factor` of them in each sample of the export. Made by `select`."""

    trace: Trace
    first: int
    stop: int
    factor: int

    @property
    def meta(self) -> TraceMeta:
        """What the trace says of itself."""
        return self.trace.meta

    @property
    def rows(self) -> int:
        """Samples of the export; the last may be made of fewer samples of the trace than the others."""
        return -(-(self.stop - self.first) // self.factor)

    @property
    def period(self) -> Fraction:
        """Period of the export's samples, s, as exact as the trace's is written in decimals."""
        return Fraction(repr(self.trace.period_s)) * self.factor

    @property
    def rate_hz(self) -> float:
        """Samples a second of the export, Hz."""
        return float(1 / self.period)

    @property
    def start(self) -> Fraction:
        """Time of the first sample since the trace's start, s."""
        return Fraction(repr(self.trace.period_s)) * self.first

    @property
    def series(self) -> tuple[Series, ...]:
        """What was recorded, and of reduced samples also the mean power and the count behind them.

        The mean of the current times the mean of the voltage is not the mean power, so a reduced sample carries it.
        """
        recorded = tuple(Series(SeriesName(column.quantity.value), column) for column in self.meta.columns)
        if self.factor == 1:
            return recorded
        return (*self.with_power(recorded), Series(SeriesName.COUNT, None))

    def with_power(self, series: Sequence[Series]) -> tuple[Series, ...]:
        """The same series, and the power if the recorded columns tell it but do not hold it."""
        if self.meta.power_source is PowerSource.NONE or any(s.name is SeriesName.POWER for s in series):
            return tuple(series)
        return (*series, Series(SeriesName.POWER, None))

    def pieces(self, series: Sequence[Series]) -> Iterator[Piece]:
        """The samples of some series, `PIECE` at a time, fewer only in the last piece; memory is constant.

        Raises:
            TraceError: the samples cannot be read.
        """
        if self.factor == 1:
            for start, stop in self._spans():
                yield Piece(start - self.first, {s.name: self._raw(s.name, start, stop) for s in series})
            return
        names = [s.name for s in series]
        reducers = {name: self._reducer(name) for name in names}
        waiting: dict[SeriesName, list[npt.NDArray[Any]]] = {name: [] for name in names}
        first, held = 0, 0
        for start, stop in self._spans():
            for name, reducer in reducers.items():
                waiting[name].append(reducer.feed(self._raw(name, start, stop)))
            held += len(waiting[names[0]][-1])
            while held >= PIECE:
                piece, waiting = _split(waiting)
                yield Piece(first, piece)
                first, held = first + PIECE, held - PIECE
        rest = {name: np.concatenate([*waiting[name], reducers[name].finish()]) for name in names}
        for at in range(0, len(rest[names[0]]), PIECE):
            yield Piece(first + at, {name: values[at : at + PIECE] for name, values in rest.items()})

    def _spans(self) -> Iterator[tuple[int, int]]:
        for start in range(self.first, self.stop, PIECE):
            yield start, min(start + PIECE, self.stop)

    def _raw(self, name: SeriesName, start: int, stop: int) -> npt.NDArray[Any]:
        """Samples of the trace, before they are reduced."""
        if name is SeriesName.COUNT:
            analog = [quantity for quantity in self.meta.quantities if not is_digital(quantity)]
            good = np.ones(stop - start, dtype=np.bool_)
            for quantity in analog:
                good &= np.isfinite(self.trace.samples(quantity, start, stop))
            return good
        quantity = Quantity(name.value)
        if quantity in self.meta.quantities:
            return self.trace.samples(quantity, start, stop)
        power = self.trace.power(start, stop)
        return power if self.factor > 1 else power.astype(np.float32)

    def _reducer(self, name: SeriesName) -> Reducer:
        match name:
            case SeriesName.DIGITAL:
                return Levels(self.factor)
            case SeriesName.COUNT:
                return Counts(self.factor)
            case SeriesName.ENERGY:
                return Totals(self.factor)
            case _:
                return Means(self.factor)


Waiting = dict[SeriesName, list[npt.NDArray[Any]]]


def _split(waiting: Waiting) -> tuple[dict[SeriesName, npt.NDArray[Any]], Waiting]:
    """The first `PIECE` reduced samples, and what is left."""
    joined = {name: np.concatenate(parts) for name, parts in waiting.items()}
    return {n: v[:PIECE] for n, v in joined.items()}, {n: [v[PIECE:]] for n, v in joined.items()}


def select(trace: Trace, *, window: Span | None = None, rate_hz: float | None = None) -> Selection:
    """Choose what to export.

    Args:
        trace: An open trace.
        window: Stretch of it: all samples that touch it; None for the whole trace.
        rate_hz: Rate to come down to, Hz; the nearest that makes a reduced sample of a whole number of samples is
            taken (`Selection.rate_hz`). None for every sample.

    Raises:
        TraceError: there are no samples, the window is no stretch of the trace, or the rate is none, or above the
            trace's own.
    """
    if trace.rows == 0:
        raise TraceError("the trace has no samples to export", where=trace.meta.trace_id)
    first, stop = (0, trace.rows) if window is None else _samples(trace, window)
    return Selection(trace, first, stop, 1 if rate_hz is None else _factor(trace, rate_hz))


def _samples(trace: Trace, window: Span) -> tuple[int, int]:
    """Indices of the samples that touch a window, one at least."""
    text = f"{window.start_s:g} s to {window.stop_s:g} s"
    remedy = f"it lasts {trace.duration_s:.9g} s"
    if not (math.isfinite(window.start_s) and math.isfinite(window.stop_s) and window.start_s < window.stop_s):
        raise TraceError(f"{text} is no stretch of time", where=trace.meta.trace_id, remedy=remedy)
    try:
        first, stop = trace.span(window.start_s, window.stop_s)
    except TraceError as error:
        raise TraceError(f"{text} does not lie in the trace", where=trace.meta.trace_id, remedy=remedy) from error
    first = min(first, trace.rows - 1)
    return first, max(stop, first + 1)


def _factor(trace: Trace, rate_hz: float) -> int:
    own_hz = 1 / trace.period_s
    if not (math.isfinite(rate_hz) and rate_hz > 0):
        raise TraceError(f"{rate_hz:g} Hz is no rate", where=trace.meta.trace_id)
    if rate_hz > own_hz * (1 + 1e-9):
        raise TraceError(
            f"{rate_hz:g} Hz is more than was recorded", where=trace.meta.trace_id, remedy=f"it has {own_hz:.9g} Hz"
        )
    return max(1, min(FACTOR_MAX, round(own_hz / rate_hz)))
