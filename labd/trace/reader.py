"""Reads a trace: while it is recorded, when it is closed, when it is sealed, here or far away; the face is the same.

A `Trace` is what was there when it was opened; open it again to see more. Of a trace that is being recorded, or that
was cut off, only whole record batches count. Indices are sample indices, fractions of them where a float is taken;
sample k spans [k, k+1). Times are seconds from the start of sample 0. Nothing is read before it is asked for: opening
costs the same for a thousand samples as for a billion.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from drivers.api import Edge, Interval, IntervalKind, Quantity
from labd.errors import TraceError
from labd.trace.digital import digital_edges
from labd.trace.energy import window_sums
from labd.trace.files import FileMissingError, TraceFiles, files_of
from labd.trace.journal import (
    JOURNAL,
    Bracket,
    EdgeSeen,
    LoadPulse,
    Marked,
    Record,
    SyncPulse,
    Trial,
    parse,
    read_journal,
    trials_of,
)
from labd.trace.layout import BLOCKS, SEAL, is_digital, samples_schema
from labd.trace.levels import Levels
from labd.trace.meta import TraceMeta, read_meta
from labd.trace.overview import Overview, overview_of
from labd.trace.pyramid import power_columns, power_of
from labd.trace.samples import HotSamples, Samples, SealedSamples, chunks, open_hot, read_column
from labd.trace.seal import Seal, read_seal
from labd.trace.timing.edges import Polarity, hold_off

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]

PIECE = BLOCKS[2]
"""Samples of a piece: what the hot file's batches and the sealed file's row groups hold at most."""


ROUNDING = 1e-15
"""Relative error of an index that became a time and an index again: two roundings of a float64."""


@dataclass(frozen=True, slots=True)
class Window:
    """The samples of a stretch: index of the first one, and the columns."""

    first: int
    columns: dict[Quantity, npt.NDArray[Any]]


class Trace:
    """A trace, open for reading. Made by `open`; safe to use from one thread at a time."""

    def __init__(self, files: TraceFiles, meta: TraceMeta, seal: Seal | None, hot: HotSamples | None) -> None:
        self._files = files
        self.meta = meta
        self.seal = seal
        self._hot = hot
        # What the journal says of a sample was written before the sample was: it is looked at after the samples.
        self._journal_bytes = files.size(JOURNAL)

    @classmethod
    def open(cls, where: Path | TraceFiles) -> Trace:
        """Open a trace: its folder, or its files wherever they lie.

        Raises:
            TraceError: a part of it is missing, damaged, or another trace's.
        """
        files = files_of(where)
        meta = read_meta(files)
        seal = read_seal(files)
        hot: HotSamples | None = None
        if seal is None:
            try:
                hot = open_hot(files, meta)
            except FileMissingError:
                seal = read_seal(files)  # it may have been sealed a moment ago
                if seal is None:
                    raise
        if seal is not None and seal.trace_id != meta.trace_id:
            raise TraceError(f"the seal is that of {seal.trace_id!r}", where=f"{files.where}/{SEAL}")
        return cls(files, meta, seal, hot)

    @property
    def where(self) -> str:
        """Where the trace lies, for people: a folder or a URL."""
        return self._files.where

    @cached_property
    def records(self) -> tuple[Record, ...]:
        """The journal. Of a trace that is not sealed, what can be read of it; samples of which it may not tell
        everything are marked as a gap.

        Raises:
            TraceError: the journal of a sealed trace is damaged.
        """
        if self._hot is None:
            return read_journal(self._files)
        told = parse(bytes(self._files.span(JOURNAL, 0, self._journal_bytes)))
        upto = self._hot.told_to(told.recorded)
        if upto == self.rows:
            return told.records
        return (*told.records, Marked.of(Interval(IntervalKind.GAP, upto, self.rows)))

    @cached_property
    def _samples(self) -> Samples:
        if self._hot is not None:
            return self._hot
        samples = SealedSamples(self._files, self.meta)
        if samples.rows != self.rows:
            message = f"the sealed file has {samples.rows} samples, its seal says {self.rows}"
            raise TraceError(message, where=self.where)
        return samples

    @cached_property
    def _levels(self) -> Levels:
        hot = None if self._hot is None else (self._hot, self._hot.durable)
        return Levels(self._files, self.meta, self.rows, hot)

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
        start, stop = self._stretch(start, stop)
        if isinstance(self._samples, SealedSamples) and stop - start > PIECE:
            values: npt.NDArray[Any] = self._samples.read((quantity,), start, stop).column(0).to_numpy()
            return values
        return read_column(self._samples, quantity, start, stop)

    def pieces(self, start: int = 0, stop: int | None = None, size: int = PIECE) -> Iterator[Window]:
        """All columns of samples `start` to `stop`, in pieces of `size`, one after the other in constant memory.

        Raises:
            TraceError: the stretch does not lie in the trace, or a piece is of less than one sample.
        """
        begin, end = self._stretch(start, stop)
        if size < 1:
            raise TraceError(f"a piece cannot hold {size} samples", where=self.where)
        for first in range(begin, end, size):
            upto = min(first + size, end)
            columns = {q: read_column(self._samples, q, first, upto) for q in self.meta.quantities}
            yield Window(first=first, columns=columns)

    def to_numpy(self, start_s: float = 0.0, stop_s: float | None = None) -> dict[Quantity, npt.NDArray[Any]]:
        """All samples that touch a span of time, an array a column: float32, digital uint8.

        Args:
            start_s: Where it begins, s.
            stop_s: Where it ends, s; None for the end of the trace.

        Raises:
            TraceError: the span does not lie in the trace.
        """
        table = self.to_arrow(start_s, stop_s)
        return {q: table.column(place).to_numpy() for place, q in enumerate(self.meta.quantities)}

    def to_arrow(self, start_s: float = 0.0, stop_s: float | None = None) -> pa.Table:
        """The same as a table whose schema carries the columns' declarations, and `labd.first`: the first index."""
        first, stop = self.span(start_s, self.duration_s if stop_s is None else stop_s)
        schema = samples_schema(self.meta)
        schema = schema.with_metadata({**schema.metadata, b"labd.first": str(first).encode()})
        if isinstance(self._samples, SealedSamples):
            read = self._samples.read(self.meta.quantities, first, stop)
            return pa.Table.from_arrays(read.columns, schema=schema)
        columns = [
            pa.chunked_array(
                [
                    pa.Array.from_buffers(field.type, len(part), [None, pa.py_buffer(part)], null_count=0)
                    for part in chunks(self._samples, quantity, first, stop)
                ],
                type=field.type,
            )
            for field, quantity in zip(schema, self.meta.quantities, strict=True)
        ]
        return pa.Table.from_arrays(columns, schema=schema)

    def to_pandas(self, start_s: float = 0.0, stop_s: float | None = None) -> pd.DataFrame:
        """The same as a data frame, with the start of each sample in s as its index.

        Raises:
            TraceError: the span does not lie in the trace, or pandas is not installed.
        """
        try:
            import pandas as pd  # noqa: PLC0415  (optional)
        except ImportError as error:
            raise TraceError("pandas is not installed", remedy="install it, or use to_arrow or to_numpy") from error
        first, stop = self.span(start_s, self.duration_s if stop_s is None else stop_s)
        columns = self.to_numpy(start_s, stop_s)
        index = pd.Index(np.arange(first, stop) * self.period_s, name="time_s")
        return pd.DataFrame({q.value: values for q, values in columns.items()}, index=index)

    def power(self, start: int = 0, stop: int | None = None) -> Floats:
        """Power of samples `start` to `stop`, W, float64. Raises `TraceError` if the columns do not tell it."""
        columns = {q: self.samples(q, start, stop) for q in power_columns(self.meta)}
        return power_of(self.meta, columns)

    def span(self, start_s: float, stop_s: float) -> tuple[int, int]:
        """Indices of the samples that touch a span of time: the first, and the one after the last.

        A time that was made of an index, by the period, is that index whatever its rounding.

        Raises:
            TraceError: the span does not lie in the trace, or runs backwards.
        """
        start, stop = start_s / self.period_s, stop_s / self.period_s
        slack = 1e-6 + ROUNDING * self.rows
        if not (-slack <= start <= stop <= self.rows + slack):
            raise self._outside(start, stop)
        first = min(max(0, math.floor(start + slack)), self.rows)
        return first, max(first, min(math.ceil(stop - slack), self.rows))

    def window(self, start_s: float, stop_s: float) -> Window:
        """All samples that touch the span from `start_s` to `stop_s`. Raises `TraceError` if it is not in the trace."""
        first, stop = self.span(start_s, stop_s)
        return Window(first=first, columns={q: self.samples(q, first, stop) for q in self.meta.quantities})

    def overview(self, start_s: float, stop_s: float, pixels: int) -> Overview:
        """A stretch in at most `pixels` bins, of whole blocks, from one level of the pyramid alone.

        Raises:
            TraceError: the span does not lie in the trace, or there is no pixel.
        """
        if pixels < 1:
            raise TraceError("an overview needs at least one pixel", where=self.where)
        first, stop = self.span(start_s, stop_s)
        return overview_of(self._levels, self.meta, first, stop, pixels)

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
            raise TraceError(f"windows have shape (n, 2), not {windows.shape}", where=self.where)
        start, stop = windows[:, 0], windows[:, 1]
        bad = np.flatnonzero(~((start >= 0) & (start <= stop) & (stop <= self.rows)))
        if len(bad):
            raise self._outside(float(start[bad[0]]), float(stop[bad[0]]))
        power_of(self.meta, {q: np.empty(0, dtype=np.float32) for q in power_columns(self.meta)})  # or raises
        sums = window_sums(windows, self._levels, lambda: self._samples, self.meta)
        bad = np.flatnonzero(~np.isfinite(sums))
        if len(bad):
            low, high = windows[bad[0]]
            raise TraceError(
                f"samples {low:.3f} to {high:.3f} hold some that are not numbers",
                where=self.where,
                remedy="samples or readings are missing there; `marked` lists them",
            )
        return sums * self.period_s

    def edges(
        self, pin: int | None = None, polarity: Polarity | None = None, hold_off_s: float | None = None
    ) -> tuple[Edge, ...]:
        """Edges of a pin that count as the windows' edges, in the order reported; see `labd.trace.timing.edges`.

        Without an edge source of its own they are those of the `digital` column: their ticks are samples.

        Args:
            pin: Pin; None for the timing pin.
            polarity: Direction; None for the trace's.
            hold_off_s: Hold-off, s; None for the trace's.

        Raises:
            TraceError: the edges' time goes backwards, or the trace has no tick rate.
        """
        if self.meta.tick_rate_hz is None and any(is_digital(q) for q in self.meta.quantities):
            return digital_edges(
                ((piece.first, piece.columns[Quantity.DIGITAL]) for piece in self._digital()),
                pin=self.meta.timing_pin if pin is None else pin,
                polarity=self.meta.edge_polarity if polarity is None else polarity,
                hold_off=(self.meta.hold_off_s if hold_off_s is None else hold_off_s) / self.period_s,
                marked=self.marked(),
            )
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
            raise TraceError("the trace has edges but declares no tick rate", where=self.where)
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

    def load_pulses(self) -> tuple[LoadPulse, ...]:
        """The pulses of the sync load, in order."""
        return tuple(record for record in self.records if isinstance(record, LoadPulse))

    def brackets(self) -> tuple[Bracket, ...]:
        """Between which ticks the trace was at some of its samples."""
        return tuple(record for record in self.records if isinstance(record, Bracket))

    def marked(self, start: float = 0.0, stop: float = math.inf) -> tuple[Interval, ...]:
        """Marked intervals of any kind that touch the samples from `start` to `stop`, in the order recorded."""
        first, end = math.floor(start), stop if math.isinf(stop) else math.ceil(stop)
        return tuple(
            record.interval
            for record in self.records
            if isinstance(record, Marked) and record.start < end and record.stop > first
        )

    def _digital(self) -> Iterator[Window]:
        for first in range(0, self.rows, PIECE):
            upto = min(first + PIECE, self.rows)
            yield Window(first, {Quantity.DIGITAL: read_column(self._samples, Quantity.DIGITAL, first, upto)})

    def _stretch(self, start: int, stop: int | None) -> tuple[int, int]:
        """A stretch that lies in the trace."""
        end = self.rows if stop is None else stop
        if not 0 <= start <= end <= self.rows:
            raise self._outside(start, end)
        return start, end

    def _outside(self, start: float, stop: float) -> TraceError:
        return TraceError(
            f"samples {start} to {stop} do not lie in the trace", where=self.where, remedy=f"it has {self.rows}"
        )
