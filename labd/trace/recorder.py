"""Between the instrument's thread and the disk: a bounded queue and one writer thread.

The instrument's FIFO must be emptied in time, and a disk may take seconds over an fdatasync. So the driver's sink only
puts the block into a queue; a thread of its own writes it. A full queue makes the sink wait, but never beyond a stated
deadline: then the block is lost, that is recorded in the trace as an overflow, and the sink raises, which ends the
stream. What the writer thread fails with (a full disk) comes up at the next sink call and at `close`.

The event loop takes no part: it journals (a short write), reads counters, and awaits the end.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any, Self

from drivers.api import Block, Interval, IntervalKind
from labd.errors import TraceError
from labd.trace.journal import Marked, Record
from labd.trace.meta import TraceMeta
from labd.trace.writer import Progress, TraceSummary, TraceWriter

TICK_S = 0.25
"""How often the writer thread looks for what is due while no block comes."""


class TraceRecorder:
    """Records one trace from an instrument's thread. Made by `start`, ended by `close`.

    A block handed to `sink` belongs to the recorder: its arrays must not be changed afterwards.
    """

    def __init__(self, *, queue_bytes: int, deadline_s: float) -> None:
        self._queue_bytes, self._deadline_s = queue_bytes, deadline_s
        self._changed = threading.Condition()
        self._queue: deque[Block] = deque()
        self._lost: list[Interval] = []
        self._held = 0  # bytes in the queue and in the writer's hands
        self._ending = False
        self._failure: TraceError | None = None
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[TraceWriter] = self._loop.create_future()
        self._done: asyncio.Future[TraceSummary] = self._loop.create_future()
        self._writer: TraceWriter
        self._thread: threading.Thread

    @classmethod
    async def start(
        cls,
        traces_dir: Path,
        meta: TraceMeta,
        *,
        queue_bytes: int = 32 * 1024 * 1024,
        deadline_s: float = 5.0,
        sync_s: float = 1.0,
    ) -> Self:
        """Begin a trace; its sidecar is durable when this returns.

        Args:
            traces_dir: Where traces lie.
            meta: What will be recorded.
            queue_bytes: Bytes of samples that may wait; a single larger block is taken when nothing else waits.
            deadline_s: Longest time that the sink waits for room, s.
            sync_s: Longest time between two fdatasync, s.

        Raises:
            TraceError: the trace exists already, or the disk refuses it.
        """
        self = cls(queue_bytes=queue_bytes, deadline_s=deadline_s)
        self._thread = threading.Thread(
            target=self._run, args=(traces_dir, meta, sync_s), name=f"trace-{meta.trace_id}"
        )
        self._thread.start()
        try:
            self._writer = await asyncio.shield(self._ready)
        except asyncio.CancelledError:
            self._end()
            raise
        return self

    @property
    def folder(self) -> Path:
        """The trace's folder."""
        return self._writer.folder

    @property
    def progress(self) -> Progress:
        """How far the recording is."""
        return self._writer.progress

    def sink(self, block: Block) -> None:
        """Take a block in the instrument's thread.

        Raises:
            TraceError: the writer has failed, the recording was closed, or the queue stayed full past the deadline.
        """
        size = _bytes_of(block)
        deadline = time.monotonic() + self._deadline_s
        with self._changed:
            while self._held and self._held + size > self._queue_bytes and self._failure is None and not self._ending:
                left = deadline - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    break
            if self._failure is not None:
                raise TraceError(self._failure.message, where=self._failure.where) from self._failure
            if self._ending:
                raise TraceError("a block came after the recording was closed", where=str(self._writer.folder))
            if not self._held or self._held + size <= self._queue_bytes:
                self._queue.append(block)
                self._held += size
                self._changed.notify_all()
                return
            # The writer thread records it when it can: a journal on a disk that hangs would hang the instrument too.
            self._lost.append(Interval(IntervalKind.OVERFLOW, block.first, block.first + max(1, len(block))))
        raise TraceError(
            f"the disk did not take the samples within {self._deadline_s:g} s",
            where=str(self._writer.folder),
            remedy="the samples from there on are lost; look at the disk's load",
        )

    def journal(self, record: Record) -> None:
        """Write down what happened, at once; any thread may. Raises `TraceError`: after a failure, as that says."""
        try:
            self._writer.journal(record)
        except TraceError:
            failure = self._failure
            if failure is None:
                raise
            raise TraceError(failure.message, where=failure.where) from failure

    async def close(self, deadline_s: float = 30.0) -> TraceSummary:
        """Write all that waits, end the trace, make it durable. The same summary a second time.

        Raises:
            TraceError: the disk refused the samples, or did not take them within `deadline_s`.
        """
        self._end()
        done, _ = await asyncio.wait({self._done}, timeout=deadline_s)
        if not done:
            raise TraceError(f"the trace could not be written out within {deadline_s:g} s", where=str(self.folder))
        self._thread.join()
        return self._done.result()

    def _end(self) -> None:
        with self._changed:
            self._ending = True
            self._changed.notify_all()

    def _run(self, traces_dir: Path, meta: TraceMeta, sync_s: float) -> None:
        try:
            writer = TraceWriter.create(traces_dir, meta, sync_s=sync_s)
        except Exception as error:  # whoever waits for it must hear of it, whatever it is
            self._settle(self._ready, error)
            return
        self._settle(self._ready, writer)
        try:
            self._drain(writer)
        except Exception as error:  # this is the thread's end: sink and close carry it on
            with self._changed:
                self._failure = _trace_error(error, writer.folder)
                self._queue.clear()
                self._changed.notify_all()
        try:
            summary = writer.close()
        except Exception as error:
            with self._changed:
                self._failure = self._failure or _trace_error(error, writer.folder)
            self._settle(self._done, self._failure)
        else:
            self._settle(self._done, self._failure or summary)

    def _drain(self, writer: TraceWriter) -> None:
        while True:
            with self._changed:
                if not self._queue and not self._ending:
                    self._changed.wait(TICK_S)
                block = self._queue.popleft() if self._queue else None
                lost, self._lost = self._lost, []
                ending = self._ending
            for interval in lost:
                writer.journal(Marked.of(interval))
            if block is None and ending:
                return
            if block is None:
                writer.tick()
                continue
            writer.write(block)
            with self._changed:
                self._held -= _bytes_of(block)
                self._changed.notify_all()

    def _settle(self, future: asyncio.Future[Any], outcome: object) -> None:
        """Resolve a future of the loop from the writer thread; a loop that is gone has nobody left to tell."""

        def resolve() -> None:
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
                future.exception()  # it is also raised by the sink: not having been awaited is no fault
            else:
                future.set_result(outcome)

        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(resolve)


def _trace_error(error: Exception, folder: Path) -> TraceError:
    if isinstance(error, TraceError):
        return error
    wrapped = TraceError(f"recording broke off: {error!r}", where=str(folder))
    wrapped.__cause__ = error
    return wrapped


def _bytes_of(block: Block) -> int:
    return sum(values.nbytes for values in block.columns.values())
