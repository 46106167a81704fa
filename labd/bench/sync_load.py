"""The sync load of a run: bursts of pulses across the supply of a board that idles, journalled as they were seen.

Nothing here waits for a length of time by the host's clock: an edge is awaited from the watch of the load's pin, and a
pause is over when the edge source's clock says so. A burst returns when its last pulse and the pause after it are over,
so no pulse reaches into what the caller does next. The edge source ends its pulses by itself: whatever happens here,
the load is off a pulse later.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from drivers.api import Edge, EdgeSource, Level
from labd import config
from labd.bench.edges import settled
from labd.bench.failure import RunFailedError, within
from labd.config import burst
from labd.model.causes import Cause
from labd.trace.journal import LoadPulse
from labd.trace.recorder import TraceRecorder

EDGE_S = 5.0
"""Longest wait for an edge beyond the pulse's own width, and for a pause to be over beyond its length, s."""
LOOK_S = 1e-3
"""Pause between two looks at the edge source's clock, s."""


class SyncLoad:
    """A load that is wired, its pin watched and at rest; made by `sync_load`."""

    def __init__(
        self, source: EdgeSource, load: config.Load, recorder: TraceRecorder, seen: AsyncIterator[Edge], period_s: float
    ) -> None:
        self._source = source
        self._pin = load.pin
        self._recorder = recorder
        self._seen = seen
        self._burst = burst(period_s)

    async def pulse(self) -> None:
        """Put out a burst while the board idles. Nothing else may happen to the board meanwhile.

        Raises:
            DriverError: what the edge source refused, or that it lost edges.
            RunFailedError: an edge of a pulse was not reported, or another one was.
        """
        await self._rest(await settled(self._source), self._burst.before_s)
        for width_s, pause_s in zip(self._burst.widths_s, self._burst.pauses_s, strict=True):
            await self._source.pulse(self._pin, width_s, Level.HIGH)
            on = await self._edge(Level.HIGH, EDGE_S)
            off = await self._edge(Level.LOW, width_s + EDGE_S)
            self._recorder.journal(LoadPulse(pin=self._pin, on_ticks=on.ticks, off_ticks=off.ticks))
            await self._rest(off.ticks, pause_s)

    async def _edge(self, level: Level, deadline_s: float) -> Edge:
        missing = f"the {'rise' if level else 'fall'} of the load's pin {self._pin} was not reported"
        async with within(deadline_s, Cause.EDGES_MISSING, missing):
            edge = await anext(self._seen, None)
        if edge is None:
            raise RunFailedError(Cause.INSTRUMENT_NONSENSE, f"the watch of the load's pin {self._pin} ended by itself")
        if edge.level != level:
            said = f"the load's pin {self._pin} went {Level(edge.level).word} where it had to go {level.word}"
            raise RunFailedError(Cause.EDGES_EXTRA, said)
        return edge

    async def _rest(self, since_ticks: int, pause_s: float) -> None:
        """Wait until the edge source's clock is so far beyond a tick."""
        due_ticks = since_ticks + pause_s * self._source.tick_rate_hz
        stands = "the edge source's clock did not go on by a pause of the load"
        async with within(pause_s + EDGE_S, Cause.INSTRUMENT_NONSENSE, stands):
            while await settled(self._source) < due_ticks:
                await asyncio.sleep(LOOK_S)


@asynccontextmanager
async def sync_load(
    source: EdgeSource, timing: config.Timing, recorder: TraceRecorder, period_s: float
) -> AsyncIterator[SyncLoad | None]:
    """Let a board's load rest, and watch its pin inside the block; yields None where none is wired.

    Args:
        source: What switches it, and sees its edges.
        timing: How the board is wired.
        recorder: Where its pulses are journalled.
        period_s: Sample period of the capture, s.
    """
    load = timing.load
    if load is None:
        yield None
        return
    await source.idle(load.pin, Level.LOW)  # first: on the way there the pin may have an edge
    async with source.watch(frozenset({load.pin})) as seen:
        yield SyncLoad(source, load, recorder, seen, period_s)
