"""Where a trace's samples are read from: batches of the hot Arrow stream, or row groups of the sealed Parquet file.

Both lie in chunks: consecutive samples that are fetched together. What was fetched last is kept. A row group is held
against the checksums of its pages, so that a disk that has spoilt it is named; a long stretch that is read at once is
not: that costs a tenth of its time, and `verify` looks at all.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from itertools import accumulate
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from drivers.api import Quantity
from labd.errors import TraceError
from labd.trace.files import FileMissingError, TraceFiles
from labd.trace.index import ENTRY, Entry, Index, digest_of
from labd.trace.layout import BLOCK, END_OF_STREAM, INDEX, PARQUET, SAMPLES, is_digital, samples_schema
from labd.trace.meta import TraceMeta

Column = npt.NDArray[Any]
Places = npt.NDArray[np.int64]

HEAD = 1 << 16
"""More bytes than the schema takes at the start of a stream."""
UNREADABLE = (pa.ArrowException, OSError, EOFError)
"""What Arrow raises for a message that is none; `EOFError` for zeros, which it takes for the end of the stream."""
KEPT = 2048 * BLOCK
"""Samples of the hot batches that are kept, about: those of a place far away are in memory."""
HOLE = 256 * BLOCK
"""Most samples of a chunk that stands for batches that were lost."""


class Samples(Protocol):
    """Random access to the columns of a trace, in the chunks that its file happens to have."""

    rows: int

    def place(self, samples: Places) -> Places:
        """Number of the chunk in which each sample lies, int64 of shape (n,)."""
        ...

    def limits(self, chunk: int) -> tuple[int, int]:
        """Index of a chunk's first sample, and of the one after its last."""
        ...

    def chunk(self, chunk: int, quantity: Quantity) -> Column:
        """A column of a chunk, read-only. Raises `TraceError` if it cannot be read."""
        ...


def chunks(source: Samples, quantity: Quantity, start: int, stop: int) -> Iterator[Column]:
    """The pieces of a column that make up samples `start` to `stop`, in order; read-only views."""
    if start >= stop:
        return
    at = int(source.place(np.array([start]))[0])
    while start < stop:
        begin, end = source.limits(at)
        upto = min(stop, end)
        yield source.chunk(at, quantity)[start - begin : upto - begin]
        start, at = upto, at + 1


def read_column(source: Samples, quantity: Quantity, start: int, stop: int) -> Column:
    """Samples `start` to `stop` of a column as one array: a view if they lie in one chunk."""
    parts = list(chunks(source, quantity, start, stop))
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if parts else np.empty(0, dtype=dtype_of(quantity))


def dtype_of(quantity: Quantity) -> np.dtype[Any]:
    """What the samples of a column are."""
    return np.dtype(np.uint8 if is_digital(quantity) else np.float32)


class HotSamples:
    """The samples of a hot stream as they were when it was opened. Made by `open_hot` and `examine_hot`."""

    def __init__(self, batches: Batches, entries: npt.NDArray[np.void], durable: int) -> None:
        self._batches = batches
        self._entries = entries
        self._firsts = entries["first"]
        self._cache: OrderedDict[int, tuple[Column, ...]] = OrderedDict()
        self._kept = 0
        self.rows = int(entries["first"][-1] + entries["count"][-1]) if len(entries) else 0
        self.durable = durable

    def place(self, samples: Places) -> Places:
        """Number of the batch in which each sample lies."""
        return np.searchsorted(self._firsts, samples.astype(np.uint64), side="right") - 1

    def limits(self, chunk: int) -> tuple[int, int]:
        """Where a batch begins and ends."""
        first = int(self._firsts[chunk])
        return first, first + int(self._entries["count"][chunk])

    def chunk(self, chunk: int, quantity: Quantity) -> Column:
        """A column of a batch."""
        if chunk not in self._cache:
            columns = self._cache[chunk] = self._batches.columns(self._entries[chunk])
            self._kept += len(columns[0])
            while self._kept > KEPT and len(self._cache) > 1:
                self._kept -= len(self._cache.popitem(last=False)[1][0])
        self._cache.move_to_end(chunk)
        return self._cache[chunk][self._batches.names[quantity]]

    def told_to(self, recorded: int) -> int:
        """Samples of which the first `recorded` bytes of the journal tell everything."""
        short = np.flatnonzero(self._entries["journal"] > recorded)
        return int(self._firsts[short[0]]) if len(short) else self.rows

    def holes(self) -> Iterator[tuple[int, int]]:
        """The stretches whose batches were lost, as `examine_hot` found them."""
        lost = self._entries[(self._entries["length"] == 0) & (self._entries["count"] > 0)]
        start = stop = -1
        for row in lost:
            if int(row["first"]) != stop:
                if stop > 0:
                    yield start, stop
                start = int(row["first"])
            stop = int(row["first"] + row["count"])
        if stop > 0:
            yield start, stop


class Batches:
    """The record batches of `samples.arrow`, each read by itself.

    Raises:
        TraceError: the stream is not Arrow's, or its columns are not those that the sidecar declares.
        FileMissingError: there is none.
    """

    def __init__(self, files: TraceFiles, meta: TraceMeta) -> None:
        self._files = files
        self._schema = samples_schema(meta)
        self.names = {quantity: place for place, quantity in enumerate(meta.quantities)}
        self.size = files.size(SAMPLES)

    @property
    def where(self) -> str:
        """The file, for people."""
        return f"{self._files.where}/{SAMPLES}"

    def check_schema(self) -> None:
        """See that the stream begins with the schema that the sidecar declares, unless it was cut before its end."""
        head = self._files.span(SAMPLES, 0, min(HEAD, self.size))
        if END_OF_STREAM.startswith(bytes(head[:4])) and len(head) < 8 + int.from_bytes(head[4:8], "little"):
            return
        try:
            found = pa.ipc.read_schema(pa.py_buffer(head))
        except UNREADABLE as error:
            raise TraceError(f"this is not an Arrow stream: {error}", where=self.where) from error
        if not found.equals(self._schema, check_metadata=True):
            raise TraceError("the file's columns are not those that the sidecar declares", where=self.where)

    def columns(self, row: np.void) -> tuple[Column, ...]:
        """The columns of a batch by its entry; a hole's are NaN, or 0. Raises `TraceError`."""
        if row["length"] == 0:
            count = int(row["count"])
            return tuple(
                np.zeros(count, dtype=np.uint8) if is_digital(q) else np.full(count, np.nan, dtype=np.float32)
                for q in self.names
            )
        entry = Entry.decode(row.tobytes())
        columns = None if entry is None else self._read(entry)
        if columns is None:
            message = f"the batch of samples from {int(row['first'])} on is damaged"
            raise TraceError(message, where=self.where, remedy="salvage the trace")
        return columns

    def are_right(self, entry: Entry) -> bool:
        """Whether a batch is there as it was written."""
        columns = self._read(entry) if entry.end <= self.size and entry.length else None
        return columns is not None and digest_of(columns) == entry.digest

    def _read(self, entry: Entry) -> tuple[Column, ...] | None:
        try:
            message = pa.py_buffer(self._files.span(SAMPLES, entry.offset, entry.end))
            batch = pa.ipc.read_record_batch(message, self._schema)
            if batch.num_rows != entry.count:
                return None
            return tuple(batch.column(k).to_numpy() for k in range(len(self.names)))
        except UNREADABLE:
            return None


def open_hot(files: TraceFiles, meta: TraceMeta) -> HotSamples:
    """The samples of a trace that is not sealed: all that is durable, and what follows as far as it is right.

    Raises:
        FileMissingError: a hot file is missing.
        TraceError: the stream is foreign, or the index damaged.
    """
    index, batches = Index(files), Batches(files, meta)
    count, durable = index.durable()
    entries = index.entries
    # A file that was cut after all does not hold what its index knows to be durable.
    while count and int(entries["offset"][count - 1] + entries["length"][count - 1]) > batches.size:
        count -= 1
        durable = int(entries["first"][count])
    if len(index):
        batches.check_schema()
    rows = durable
    while count < len(index):
        entry = index.entry(count)
        if entry is None or entry.first != rows or (entry.count and not batches.are_right(entry)):
            break
        rows, count = entry.stop, count + 1
    if count and entries["count"][count - 1] == 0:
        count -= 1
    entries = entries[:count]
    # Those that need no check are looked up by their places all the same: each must follow on the one before it.
    if not np.array_equal(entries["first"], np.cumsum(entries["count"]) - entries["count"]):
        raise TraceError("the index is damaged", where=f"{files.where}/{INDEX}", remedy="salvage the trace")
    return HotSamples(batches, entries, durable)


def examine_hot(files: TraceFiles, meta: TraceMeta) -> HotSamples:
    """The samples of a trace that is not sealed, every batch held against its digest.

    Up to where the samples were durable a batch that is not right leaves a hole, and what follows is kept; after that
    it is the end: what a power cut has left beyond it came in no order.

    Raises as `open_hot` does.
    """
    index, batches = Index(files), Batches(files, meta)
    durable = index.durable()[1]
    kept: list[npt.NDArray[np.void]] = []
    rows = 0
    if len(index):
        batches.check_schema()
    for number in range(len(index)):
        entry = index.entry(number)
        if entry is not None and entry.count == 0:
            continue
        right = entry is not None and entry.first >= rows and batches.are_right(entry)
        if rows >= durable and not (right and entry is not None and entry.first == rows):
            break
        if right and entry is not None:
            kept += _hole(rows, entry.first, entry.journal)
            kept.append(index.entries[number : number + 1])
            rows = entry.stop
    entries = np.concatenate(kept) if kept else index.entries[:0]
    return HotSamples(batches, entries, min(durable, rows))


def _hole(start: int, stop: int, journal: int) -> list[npt.NDArray[np.void]]:
    """Entries that stand for lost batches."""
    made = []
    for first in range(start, stop, HOLE):
        row = np.zeros(1, dtype=ENTRY)
        row["first"], row["count"], row["journal"] = first, min(HOLE, stop - first), journal
        made.append(row)
    return made


class SealedSamples:
    """The samples of a Parquet file; keeps the columns of the row groups that it read last."""

    KEPT = 12

    def __init__(self, files: TraceFiles, meta: TraceMeta, name: str = PARQUET) -> None:
        self._files, self._name = files, name
        self._where = f"{files.where}/{name}"
        try:
            self._file = pq.ParquetFile(files.source(name), pre_buffer=False, page_checksum_verification=True)
        except FileMissingError as error:
            raise TraceError("the sealed samples are missing", where=self._where) from error
        except UNREADABLE as error:
            raise TraceError(f"the sealed samples cannot be read: {error}", where=self._where) from error
        if not self._file.schema_arrow.remove_metadata().equals(samples_schema(meta).remove_metadata()):
            raise TraceError("the file's columns are not those that the sidecar declares", where=self._where)
        footer = self._file.metadata
        sizes = (footer.row_group(k).num_rows for k in range(footer.num_row_groups))
        self._starts = np.array(list(accumulate(sizes, initial=0)), dtype=np.int64)
        self.rows = int(self._starts[-1])
        self._cache: OrderedDict[tuple[int, Quantity], Column] = OrderedDict()

    def place(self, samples: Places) -> Places:
        """Number of the row group in which each sample lies."""
        return np.searchsorted(self._starts, samples, side="right") - 1

    def limits(self, chunk: int) -> tuple[int, int]:
        """Where a row group begins and ends."""
        return int(self._starts[chunk]), int(self._starts[chunk + 1])

    def chunk(self, chunk: int, quantity: Quantity) -> Column:
        """A column of a row group."""
        key = (chunk, quantity)
        if key not in self._cache:
            try:
                table = self._file.read_row_group(chunk, columns=[quantity.value], use_threads=False)
            except UNREADABLE as error:
                raise TraceError(f"row group {chunk} cannot be read: {error}", where=self._where) from error
            self._cache[key] = _one(table.column(0))
            if len(self._cache) > self.KEPT:
                self._cache.popitem(last=False)
        self._cache.move_to_end(key)
        return self._cache[key]

    def read(self, quantities: tuple[Quantity, ...], start: int, stop: int) -> pa.Table:
        """Samples `start` to `stop` of some columns, decoded by all processors, their checksums left alone.

        Raises `TraceError`.
        """
        if start >= stop:
            return self._file.schema_arrow.remove_metadata().empty_table().select([q.value for q in quantities])
        first, last = self.place(np.array([start, stop - 1])).tolist()
        try:
            file = pq.ParquetFile(self._files.source(self._name), metadata=self._file.metadata, pre_buffer=False)
            table = file.read_row_groups(
                list(range(first, last + 1)), columns=[q.value for q in quantities], use_threads=True
            )
        except UNREADABLE as error:
            raise TraceError(f"samples {start} to {stop} cannot be read: {error}", where=self._where) from error
        return table.slice(start - int(self._starts[first]), stop - start)


def _one(column: pa.ChunkedArray) -> Column:
    parts = [chunk.to_numpy() for chunk in column.chunks]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
