"""The timing pin while a run is on: every edge is kept as it comes, and journalled once a trace is open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any

import structlog

from drivers.api import DriverError, Edge, EdgeSource, ProtocolError
from labd.bench.failure import RunFailedError, failing_as, within
from labd.bench.shield import shielded
from labd.config import Timing
from labd.errors import TraceError
from labd.model.causes import Cause
from labd.trace.timing.edges import Polarity, hold_off

SETTLE_S = 5.0
"""Longest wait for an edge source to hand over what it has seen, s."""


async def settled(source: EdgeSource) -> int:
    """The source's clock, in ticks, once it has handed over all that it had seen.

    Raises:
        DriverError: it cannot answer, or has lost edges.
        RunFailedError: it did not answer in time.
    """
    async with within(SETTLE_S, Cause.INSTRUMENT_SILENT, "the edge source did not hand over what it had seen"):
        return await source.settle()


class EdgeLog:
    """All edges of one board's timing pin since the watch began."""

    def __init__(self, source: EdgeSource, timing: Timing) -> None:
        self._source = source
        self._timing = timing
        self._edges: list[Edge] = []
        self._failure: DriverError | TraceError | None = None
        self._journal: Callable[[Edge], None] | None = None

    @contextmanager
    def journalled(self, journal: Callable[[Edge], None]) -> Iterator[None]:
        """Write every edge down as it comes, inside the block."""
        self._journal = journal
        try:
            yield
        finally:
            self._journal = None

    def mark(self) -> int:
        """A place in the log: edges after it belong to what begins now."""
        return len(self._edges)

    async def since(self, mark: int) -> Sequence[Edge]:
        """The edges that count since `mark`, after the source has handed over all that it had seen.

        Raises:
            DriverError, TraceError: what ended the watch.
            RunFailedError: the source did not hand over its edges in time, or their time goes backwards.
        """
        self._raise_failure()
        await settled(self._source)
        self._raise_failure()
        with failing_as(Cause.INSTRUMENT_NONSENSE, TraceError):
            return hold_off(
                self._edges[mark:],
                pin=self._timing.pin,
                polarity=Polarity(self._timing.edge),
                tick_rate_hz=self._source.tick_rate_hz,
                hold_off_s=self._timing.hold_us * 1e-6,
            )

    async def window_since(self, mark: int) -> tuple[Edge, Edge]:
        """The two edges of the window that was measured since `mark`.

        Raises:
            RunFailedError: there are fewer than two, or more.
        """
        edges = await self.since(mark)
        if len(edges) != 2:
            cause = Cause.EDGES_MISSING if len(edges) < 2 else Cause.EDGES_EXTRA
            raise RunFailedError(cause, f"{self._timing.edge} edges that came for one window: {len(edges)}, not 2")
        return edges[0], edges[1]

    async def collect(self, edges: AsyncIterator[Edge]) -> None:
        """Take edges until the watch is closed; a failure is kept for whoever asks for edges next."""
        try:
            async for edge in edges:
                self._edges.append(edge)
                if self._journal is not None:
                    self._journal(edge)
            self._failure = ProtocolError("the edge source ended its watch by itself")
        except (DriverError, TraceError) as error:
            self._failure = error

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure


@asynccontextmanager
async def watching(source: EdgeSource, timing: Timing) -> AsyncIterator[EdgeLog]:
    """Watch a board's timing pin inside the block. That the watch cannot be ended is no failure of the block."""
    log = EdgeLog(source, timing)
    watch = source.watch(frozenset({timing.pin}))
    edges = await watch.__aenter__()
    task = asyncio.create_task(log.collect(edges), name=f"edges-of-pin-{timing.pin}")
    try:
        yield log
    finally:
        # Shielded: a watch that was not ended would keep its pin from all later runs.
        await shielded(_end_watch(watch, task, timing), f"end-watch-of-pin-{timing.pin}")


async def _end_watch(watch: AbstractAsyncContextManager[Any], task: asyncio.Task[None], timing: Timing) -> None:
    task.cancel()
    await asyncio.wait({task})
    try:
        await watch.__aexit__(None, None, None)
    except DriverError as error:
        structlog.get_logger().warning("edge_watch_not_ended", pin=timing.pin, error=str(error))
