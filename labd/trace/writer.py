"""Writes a trace while it is recorded: samples with their index, pyramid, journal.

Blocks of any size come in, in one thread. They are gathered in a buffer of 256,000 samples, whose start is always a
multiple of 1,000, so that the pyramid's blocks fall where they must whatever the instrument's blocks are. A full buffer
goes out as one record batch; a slow instrument's samples go out at the latest `coalesce_s` after their first one came.

The order in which a batch goes out: what the journal has to say of its samples, its entry in the index, the batch, the
rows of the pyramid whose blocks are whole. So whatever a crash cuts off, an entry without its batch tells that it is
none, and no batch stands whose marks were not written before it.

What a crash can cost. kill -9 of the daemon: the samples still in the buffer, at most the last `coalesce_s` of them or
256,000; what was written is with the kernel and stays. A power cut: what came after the last fdatasync, which begins
when `sync_s` have passed or `SYNC_BYTES` were written since the one before; so at most `sync_s + coalesce_s` of samples
and journal, and what came while the disk was at it. A thread of its own does that, so that samples go on coming
meanwhile, and a long capture is not durable only at the end of a long wait.

A sync takes the journal first, then samples, index and pyramid. Only when all of them are durable do the entries that
follow say so (`durable`): what they vouch for can never be half there, and what they do not is checked by its digest,
whatever part of it the disk has kept.
"""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from drivers.api import Block, Interval, IntervalKind, Quantity
from labd.errors import TraceError
from labd.trace.index import Entry, digest_of
from labd.trace.journal import JOURNAL, JournalFile, Marked, Record, write_all
from labd.trace.layout import (
    BLOCK,
    BLOCKS,
    END_OF_STREAM,
    INDEX,
    PYRAMID,
    SAMPLES,
    is_digital,
    lock_fd,
    samples_schema,
    sync_folder,
)
from labd.trace.levels import LevelsFile
from labd.trace.meta import META, TraceMeta
from labd.trace.pyramid import Columns, Rows, Summariser
from labd.trace.readings import Gate

BUFFER = BLOCKS[2]
GAP_MAX = 100_000_000
"""A jump of the sample index beyond this is taken for nonsense, not for a gap."""
SYNC_BYTES = 32 * 1024 * 1024
"""Most bytes that are written before the disk is set to work on them."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a recording is: samples taken, bytes written, samples per second of host time since the last sync."""

    samples: int
    bytes: int
    rate_hz: float


@dataclass(frozen=True, slots=True)
class TraceSummary:
    """What a closed trace holds: its folder, samples, bytes of all its files, and marked intervals."""

    folder: Path
    rows: int
    bytes: int
    marked: int


class TraceWriter:
    """Records one trace. `write`, `tick` and `close` are for one thread, the instrument's; `journal` is for any.

    Made by `create`.
    """

    def __init__(self, folder: Path, meta: TraceMeta, files: ExitStack, *, sync_s: float, coalesce_s: float) -> None:
        self.folder = folder
        self.meta = meta
        self._files = files
        self._sync_s, self._coalesce_s = sync_s, coalesce_s
        self._buffer: dict[Quantity, npt.NDArray[Any]] = {
            q: np.empty(BUFFER, dtype=np.uint8 if is_digital(q) else np.float32) for q in meta.quantities
        }
        self._filled = self._written = self._summarised = 0  # positions in the buffer
        self._start = 0  # index in the trace of the buffer's first sample
        self._oldest = 0.0  # when the first unwritten sample came
        self._schema = samples_schema(meta)
        self._summarise = Summariser(meta)
        self._gate = Gate(meta)
        self._marks_lock = threading.Lock()
        self._marked = 0
        self._summary: TraceSummary | None = None
        self._broken: str = ""
        self._broken_by: OSError | None = None
        self._journal = files.enter_context(closing(JournalFile(folder / JOURNAL)))
        self._index_fd = _new_file(folder / INDEX, files)
        self._index_bytes = 0
        self._levels = files.enter_context(closing(LevelsFile(tuple(folder / name for name in PYRAMID), meta)))
        self._samples_fd = _new_file(folder / SAMPLES, files)
        self._bytes = 0
        self._append(self._schema.serialize())
        os.fdatasync(self._samples_fd)  # without the schema the batches would be foreign
        self._syncer = ThreadPoolExecutor(1, thread_name_prefix="trace-sync")
        self._syncing: Future[int] | None = None
        self._synced_bytes = 0
        self._durable = 0
        now = time.monotonic()
        self._synced, self._synced_samples = now, 0
        self._samples, self._rate_hz = 0, 0.0

    @classmethod
    def create(cls, traces_dir: Path, meta: TraceMeta, *, sync_s: float = 1.0, coalesce_s: float = 0.5) -> TraceWriter:
        """Begin a trace: make its folder and sidecar durable, then the empty files.

        Args:
            traces_dir: Where traces lie; it is made if it is not there.
            meta: What will be recorded.
            sync_s: Longest time between two fdatasync while samples come, s.
            coalesce_s: Longest time that a sample waits in memory while samples come, s.

        Raises:
            TraceError: the trace exists already, or the disk refuses it.
        """
        folder = traces_dir / meta.trace_id
        try:
            with ExitStack() as files:
                traces_dir.mkdir(parents=True, exist_ok=True)
                folder.mkdir()
                lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                files.callback(os.close, lock)
                lock_fd(lock, folder)
                with (folder / META).open("xb") as file:
                    file.write(meta.model_dump_json(indent=1).encode() + b"\n")
                    file.flush()
                    os.fsync(file.fileno())
                sync_folder(folder)
                sync_folder(traces_dir)
                writer = cls(folder, meta, files, sync_s=sync_s, coalesce_s=coalesce_s)
                sync_folder(folder)
                writer._files = files.pop_all()
        except FileExistsError as error:
            if not traces_dir.is_dir():
                raise TraceError("a file lies where the traces' folder should be", where=str(traces_dir)) from error
            raise TraceError("a trace of this name exists already", where=str(folder)) from error
        except OSError as error:
            raise TraceError(f"the trace cannot be created: {error.strerror}", where=str(folder)) from error
        return writer

    @property
    def samples(self) -> int:
        """Samples taken so far, those filled in for gaps among them; any thread may read it."""
        return self._samples

    @property
    def progress(self) -> Progress:
        """How far the recording is; any thread may read it."""
        return Progress(self._samples, self._bytes, self._rate_hz)

    def journal(self, record: Record) -> None:
        """Write down what happened, at once; any thread may. Raises `TraceError`."""
        if isinstance(record, Marked):
            with self._marks_lock:
                self._marked += 1
                self._gate.note(record.interval)
        self._journal.append(record)

    def write(self, block: Block) -> None:
        """Take a block. One that starts after the next sample leaves a gap: it is marked, and filled with NaN (0 in
        a digital column), so that the sample index stays the clock. What is no reading becomes NaN and is marked; see
        `labd.trace.readings`.

        Raises:
            TraceError: the block's columns are not the trace's, it overlaps what was written, it lies absurdly far
                ahead, the trace is closed, or the disk refuses the data.
        """
        self._usable()
        size = self._checked(block)
        hole = block.first - self._samples
        if hole and not any(
            mark.start <= self._samples and mark.stop >= block.first and mark.kind.lost for mark in block.intervals
        ):
            self.journal(Marked.of(Interval(IntervalKind.GAP, self._samples, block.first)))
        for mark in block.intervals:
            self.journal(Marked.of(mark))
        with self._marks_lock:
            columns, unmarked = self._gate.admit(block)
        for mark in unmarked:
            self.journal(Marked.of(mark))
        try:
            if hole:
                self._fill(None, hole)
            self._fill(columns, size)
            self._due()
        except OSError as error:
            raise self._fail(error) from error

    def tick(self) -> None:
        """Write and sync what is due; for the times when no block comes. Raises `TraceError`."""
        self._usable()
        try:
            self._due()
        except OSError as error:
            raise self._fail(error) from error

    def close(self) -> TraceSummary:
        """Write the rest, end stream and pyramid, make all durable; the same summary a second time.

        Raises:
            TraceError: the disk refuses the data, or refused it before; the files are let go all the same.
        """
        if self._summary is not None:
            return self._summary
        try:
            self._usable()
            self._emit()
            self._levels.finish(self._rows_to(self._filled))
            self._journal.finish()
            end = self._bytes
            self._append(END_OF_STREAM)
            self._await_sync()
            self._durable = self._sync(self._samples)
            told = self._journal
            self._note(Entry(self._samples, 0, end, self._bytes - end, told.bytes, self._durable, told.digest))
            os.fdatasync(self._index_fd)
            self._summary = TraceSummary(
                folder=self.folder,
                rows=self._samples,
                bytes=self._bytes
                + self._index_bytes
                + self._levels.bytes
                + self._journal.bytes
                + (self.folder / META).stat().st_size,
                marked=self._marked,
            )
        except OSError as error:
            raise self._fail(error) from error
        finally:
            self._broken = self._broken or "the trace is closed"
            self._let_go()
        return self._summary

    def _let_go(self) -> None:
        self._syncer.shutdown(wait=True)
        self._files.close()

    def _usable(self) -> None:
        if self._broken:
            raise TraceError(self._broken, where=str(self.folder)) from self._broken_by

    def _fail(self, error: OSError) -> TraceError:
        self._broken, self._broken_by = f"the samples cannot be written: {error.strerror or error}", error
        return TraceError(
            self._broken, where=str(self.folder), remedy="make room on the disk; what was written can be salvaged"
        )

    def _checked(self, block: Block) -> int:
        where = str(self.folder)
        if block.columns.keys() != self._buffer.keys():
            raise TraceError(
                f"a block has columns {sorted(block.columns)}, the trace {sorted(self._buffer)}", where=where
            )
        size = len(block)
        for quantity, values in block.columns.items():
            # A float64 is rounded, as float32 is what a trace holds; a wider integer would lose its upper pins.
            fits = values.dtype == np.uint8 if is_digital(quantity) else values.dtype.kind == "f"
            if values.shape != (size,) or not fits:
                raise TraceError(
                    f"column {quantity.value!r} of a block is {values.dtype} of shape {values.shape}, "
                    f"not {self._buffer[quantity].dtype} of shape ({size},)",
                    where=where,
                )
        if not 0 <= block.first - self._samples <= GAP_MAX:
            raise TraceError(f"a block starts at sample {block.first}, expected was {self._samples}", where=where)
        return size

    def _fill(self, columns: Columns | None, size: int) -> None:
        """Put `size` samples into the buffer, those given or of a gap; write whenever it is full."""
        taken = 0
        while taken < size:
            if self._filled == self._written:
                self._oldest = time.monotonic()
            part = min(size - taken, BUFFER - self._filled)
            for quantity, values in self._buffer.items():
                room = values[self._filled : self._filled + part]
                if columns is None:
                    room[:] = 0 if is_digital(quantity) else np.nan
                else:
                    room[:] = columns[quantity][taken : taken + part]
            self._filled += part
            self._samples += part
            taken += part
            if self._filled == BUFFER:
                self._emit()

    def _due(self) -> None:
        now = time.monotonic()
        if self._filled > self._written and now - self._oldest >= self._coalesce_s:
            self._emit()
        if now - self._synced >= self._sync_s:
            self._rate_hz = (self._samples - self._synced_samples) / (now - self._synced)
            self._synced, self._synced_samples = now, self._samples
            self._begin_sync()

    def _emit(self) -> None:
        """Write the unwritten part of the buffer as one batch, and summarise its whole blocks."""
        if self._filled > self._written:
            self._write_batch({q: values[self._written : self._filled] for q, values in self._buffer.items()})
            self._written = self._filled
        whole = self._filled // BLOCK * BLOCK
        if whole > self._summarised:
            self._levels.add(self._rows_to(whole))
        if self._bytes - self._synced_bytes >= SYNC_BYTES:
            self._begin_sync()
        if self._filled == BUFFER:
            self._start += BUFFER
            self._filled = self._written = self._summarised = 0

    def _write_batch(self, columns: dict[Quantity, npt.NDArray[Any]]) -> None:
        count = self._filled - self._written
        arrays = [
            pa.Array.from_buffers(field.type, count, [None, pa.py_buffer(values)], null_count=0)
            for field, values in zip(self._schema, columns.values(), strict=True)
        ]
        message = pa.RecordBatch.from_arrays(arrays, schema=self._schema).serialize()
        first, digest = self._start + self._written, digest_of(columns.values())
        self._note(Entry(first, count, self._bytes, message.size, self._journal.bytes, self._durable, digest))
        self._append(message)

    def _append(self, message: pa.Buffer | bytes) -> None:
        view = memoryview(message)
        write_all(self._samples_fd, view)
        self._bytes += len(view)

    def _note(self, entry: Entry) -> None:
        data = entry.encode()
        write_all(self._index_fd, data)
        self._index_bytes += len(data)

    def _rows_to(self, stop: int) -> Rows:
        rows = self._summarise.rows(self._start + self._summarised, self._buffer, self._summarised, stop)
        self._summarised = stop
        return rows

    def _begin_sync(self) -> None:
        """Have the disk make durable what was written; while it is at that, the next one waits for its turn."""
        if self._syncing is not None and not self._syncing.done():
            return
        self._await_sync()
        self._synced_bytes = self._bytes
        self._syncing = self._syncer.submit(self._sync, self._start + self._written)

    def _await_sync(self) -> None:
        """Wait for a sync that has begun. Raises `OSError` if the disk refused it."""
        syncing, self._syncing = self._syncing, None
        if syncing is not None:
            self._durable = syncing.result()

    def _sync(self, samples: int) -> int:
        """Make durable so many samples, which were written with all that belongs to them; return their number."""
        self._journal.sync()
        os.fdatasync(self._samples_fd)
        os.fdatasync(self._index_fd)
        self._levels.sync()
        return samples


def _new_file(path: Path, files: ExitStack) -> int:
    """Make a file that is closed with the others."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    files.callback(os.close, fd)
    return fd
