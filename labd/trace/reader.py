"""Reads a trace: while it is recorded, when it is closed, when it is sealed; the face is the same.

A `Trace` is what was there when it was opened; open it again to see more. Of a trace that is being recorded, or that
was cut off, only whole record batches count. Indices are sample indices, fractions of them where a float is taken;
sample k spans [k, k+1). Times are seconds from the start of sample 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from drivers.api import Edge, Interval, Quantity
from labd.errors import TraceError
from labd.trace.energy import window_sums
from labd.trace.journal import EdgeSeen, Marked, Record, SyncPulse, Trial, read_journal, trials_of
from labd.trace.layout import BLOCK, PARQUET, POWER, PYRAMID, SAMPLES, SEAL, summarised
from labd.trace.meta import TraceMeta, read_meta
from labd.trace.pyramid import Rows, Summariser, join_rows, power_columns, power_of, read_pyramid
from labd.trace.samples import HotSamples, Samples, SealedSamples, read_column
from labd.trace.seal import Seal, read_seal
from labd.trace.timing.edges import Polarity, hold_off

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


@dataclass(frozen=True, slots=True)
class Window:
    """The samples of a stretch: index of the first one, and the columns."""

    first: int
    columns: dict[Quantity, npt.NDArray[Any]]


class Trace:
    """A trace folder, open for reading. Made by `open`; safe to use from one thread at a time."""

    def __init__(self, folder: Path, meta: TraceMeta, records: tuple[Record, ...], seal: Seal | None) -> None:
        self.folder = folder
        self.meta = meta
        self.records = records
        self.seal = seal

    @classmethod
    def open(cls, folder: Path) -> Trace:
        """Open a trace.

        Raises:
            TraceError: a part of it is missing, damaged, or another trace's.
        """
        meta = read_meta(folder)
        seal = read_seal(folder)
        # Samples come first: what the journal says of a sample was written before the sample was.
        hot: HotSamples | None = None
        if seal is None:
            try:
                hot = HotSamples(folder / SAMPLES, meta)
            except FileNotFoundError as error:
                seal = read_seal(folder)  # it may have been sealed a moment ago
                if seal is None:
                    raise TraceError("the trace has no samples", where=str(folder / SAMPLES)) from error
            except OSError as error:
                raise TraceError(f"the samples cannot be read: {error}", where=str(folder / SAMPLES)) from error
        if seal is not None and seal.trace_id != meta.trace_id:
            raise TraceError(f"the seal is that of {seal.trace_id!r}", where=str(folder / SEAL))
        trace = cls(folder, meta, read_journal(folder), seal)
        if hot is not None:
            trace.__dict__["_samples"] = hot
        return trace

    @cached_property
    def _samples(self) -> Samples:
        return SealedSamples(self.folder / PARQUET, self.meta)

    @cached_property
    def _pyramid(self) -> Rows:
        """The pyramid of all rows: what was written of it, and the rest made from the samples."""
        rows = read_pyramid(self.folder / PYRAMID, self.meta)
        good = int(np.searchsorted(rows["first"] + rows["count"], self.rows, side="right"))
        have = int(rows["count"][:good].sum())
        if have == self.rows:
            return {name: values[:good] for name, values in rows.items()}
        if self.seal is not None:
            raise TraceError(f"the pyramid has {have} samples of {self.rows}", where=str(self.folder / PYRAMID))
        have = have // BLOCK * BLOCK
        parts = [{name: values[: have // BLOCK] for name, values in rows.items()}]
        summarise = Summariser(self.meta)
        for start in range(have, self.rows, 64 * BLOCK):
            stop = min(start + 64 * BLOCK, self.rows)
            columns = {q: read_column(self._samples, q, start, stop) for q in self.meta.quantities}
            parts.append(summarise.rows(start, columns, 0, stop - start))
        return join_rows(self.meta, parts)

    @cached_property
    def rows(self) -> int:
        """Number of samples."""
        return self._samples.rows if self.seal is None else self.seal.rows

    @property
    def period_s(self) -> float:
        """Sample period by the instrument's own word, s."""
        return self.meta.period_s

    @property
    def duration_s(self) -> float:
        """Span of all samples, s."""
        return self.rows * self.period_s

    def samples(self, quantity: Quantity, start: int = 0, stop: int | None = None) -> npt.NDArray[Any]:
        """Samples `start` to `stop` of a column: float32, digital uint8, read-only where it is a view.

        Raises:
            TraceError: the trace lacks the column, or the stretch does not lie in it.
        """
        self.meta.column(quantity)
        stop = self.rows if stop is None else stop
        if not 0 <= start <= stop <= self.rows:
            raise self._outside(start, stop)
        return read_column(self._samples, quantity, start, stop)

    def power(self, start: int = 0, stop: int | None = None) -> Floats:
        """Power of samples `start` to `stop`, W, float64. Raises `TraceError` if the columns do not tell it."""
        columns = {q: self.samples(q, start, stop) for q in power_columns(self.meta)}
        return power_of(self.meta, columns)

    def window(self, start_s: float, stop_s: float) -> Window:
        """All samples that touch the span from `start_s` to `stop_s`. Raises `TraceError` if it is not in the trace."""
        first, stop = self._span(start_s, stop_s)
        return Window(first=first, columns={q: self.samples(q, first, stop) for q in self.meta.quantities})

    def overview(self, start_s: float, stop_s: float, pixels: int) -> Overview:
        """A stretch in at most `pixels` bins, of whole blocks, from the pyramid alone.

        Raises:
            TraceError: the span does not lie in the trace, or there is no pixel.
        """
        if pixels < 1:
            raise TraceError("an overview needs at least one pixel", where=str(self.folder))
        first, stop = self._span(start_s, stop_s)
        begin, end = first // BLOCK, -(-stop // BLOCK)
        rows = {name: values[begin:end] for name, values in self._pyramid.items()}
        blocks = len(rows["count"])
        if blocks == 0:
            return Overview(np.zeros(1), np.zeros(0, dtype=np.int64), {})
        cuts = np.unique(np.linspace(0, blocks, min(pixels, blocks) + 1).round().astype(np.int64))
        at = cuts[:-1]
        counts = np.add.reduceat(rows["count"].astype(np.int64), at)
        limits = np.append(rows["first"][at], rows["first"][-1] + rows["count"][-1]) * self.period_s
        envelopes = {}
        for name in summarised(self.meta):
            finite = np.add.reduceat(rows[f"{name}_finite"].astype(np.int64), at)
            total = np.add.reduceat(rows[f"{name}_sum"], at)
            envelopes[name] = Envelope(
                min=np.fmin.reduceat(rows[f"{name}_min"], at).astype(np.float64),
                max=np.fmax.reduceat(rows[f"{name}_max"], at).astype(np.float64),
                mean=np.divide(total, finite, out=np.full(len(at), np.nan), where=finite > 0),
            )
        return Overview(limits_s=limits, counts=counts, envelopes=envelopes)

    def energy(self, start: float, stop: float) -> float:
        """Energy between two fractional sample indices, J; see `energies`."""
        return float(self.energies(np.array([[start, stop]], dtype=np.float64))[0])

    def energies(self, windows: Floats) -> Floats:
        """Energy of many windows, J.

        Args:
            windows: Fractional sample indices of start and stop, float64 of shape (n, 2).

        Returns:
            float64 of shape (n,).

        Raises:
            TraceError: a window is not finite, runs backwards, does not lie in the trace, or holds a sample that is
                not finite (a gap); or the columns do not tell the power.
        """
        windows = np.asarray(windows, dtype=np.float64)
        if windows.ndim != 2 or windows.shape[1] != 2:
            raise TraceError(f"windows have shape (n, 2), not {windows.shape}", where=str(self.folder))
        start, stop = windows[:, 0], windows[:, 1]
        bad = np.flatnonzero(~((start >= 0) & (start <= stop) & (stop <= self.rows)))
        if len(bad):
            raise self._outside(float(start[bad[0]]), float(stop[bad[0]]))
        power_of(self.meta, {q: np.empty(0, dtype=np.float32) for q in power_columns(self.meta)})  # or raises
        rows = self._pyramid
        whole = rows[f"{POWER}_finite"] == rows["count"]
        sums = window_sums(windows, np.where(whole, rows[f"{POWER}_sum"], np.nan), self.power)
        bad = np.flatnonzero(~np.isfinite(sums))
        if len(bad):
            low, high = windows[bad[0]]
            raise TraceError(
                f"samples {low:.3f} to {high:.3f} hold some that are not numbers",
                where=str(self.folder),
                remedy="the trace has a gap there; `marked` lists it",
            )
        return sums * self.period_s

    def edges(
        self, pin: int | None = None, polarity: Polarity | None = None, hold_off_s: float | None = None
    ) -> tuple[Edge, ...]:
        """Edges of a pin that count as the windows' edges, in the order reported; see `labd.trace.timing.edges`.

        Args:
            pin: Pin; None for the timing pin.
            polarity: Direction; None for the trace's.
            hold_off_s: Hold-off, s; None for the trace's.

        Raises:
            TraceError: the edges' time goes backwards, or the trace has no tick rate.
        """
        seen = [record.edge for record in self.records if isinstance(record, EdgeSeen)]
        return self.counted(seen, pin, polarity, hold_off_s)

    def counted(
        self,
        edges: list[Edge] | tuple[Edge, ...],
        pin: int | None = None,
        polarity: Polarity | None = None,
        hold_off_s: float | None = None,
    ) -> tuple[Edge, ...]:
        """Those of `edges` (a trial's, say) that count; arguments and errors as for `edges`."""
        if not edges:
            return ()
        if self.meta.tick_rate_hz is None:
            raise TraceError("the trace has edges but declares no tick rate", where=str(self.folder))
        return hold_off(
            edges,
            pin=self.meta.timing_pin if pin is None else pin,
            polarity=self.meta.edge_polarity if polarity is None else polarity,
            tick_rate_hz=self.meta.tick_rate_hz,
            hold_off_s=self.meta.hold_off_s if hold_off_s is None else hold_off_s,
        )

    def trials(self) -> tuple[Trial, ...]:
        """The trials in the order they ran, each with the edges reported in it."""
        return trials_of(self.records)

    def sync_pulses(self) -> tuple[SyncPulse, ...]:
        """The pulses that tie ticks to samples by wire."""
        return tuple(record for record in self.records if isinstance(record, SyncPulse))

    def marked(self, start: float = 0.0, stop: float = math.inf) -> tuple[Interval, ...]:
        """Intervals (gap, overflow, clipped) that touch the samples from `start` to `stop`, in the order recorded."""
        first, end = math.floor(start), stop if math.isinf(stop) else math.ceil(stop)
        return tuple(
            record.interval
            for record in self.records
            if isinstance(record, Marked) and record.start < end and record.stop > first
        )

    def _span(self, start_s: float, stop_s: float) -> tuple[int, int]:
        """Indices of the samples that touch a span of time."""
        start, stop = start_s / self.period_s, stop_s / self.period_s
        # A time that was made of an index must come back as that index, whatever the rounding of the division.
        slack = 1e-9 * max(1.0, self.rows)
        if not (-slack <= start <= stop <= self.rows + slack):
            raise self._outside(start, stop)
        first = round(start) if abs(start - round(start)) < 1e-6 else math.floor(start)
        end = round(stop) if abs(stop - round(stop)) < 1e-6 else math.ceil(stop)
        return max(0, min(first, self.rows)), max(0, min(end, self.rows))

    def _outside(self, start: float, stop: float) -> TraceError:
        return TraceError(
            f"samples {start} to {stop} do not lie in the trace", where=str(self.folder), remedy=f"it has {self.rows}"
        )
