"""How a capture is stopped, and what that tells of its time.

Both ends of a capture are bracketed: the edge source's clock is read before and after what begins the first sample and
what ends the last one, so that a trace that began late or lost much of itself shows it.

This assumes what drivers of a `PowerAnalyzer` keep to. An `arm` that has returned has started an immediate capture. A
`stream` that returns after a `stop` has looked at the instrument's buffer once more after that call, and found it
empty: so the samples that came are all that had ended when `stop` was called, the next one had begun at most one period
before, and all of them had ended when the stream returned. What an instrument takes beyond that, from a command to its
work or until a sample that has ended can be fetched, is for whoever reads the brackets to allow for.
"""

from __future__ import annotations

import asyncio
import math

import structlog

from drivers.api import DriverError, EdgeSource, PowerAnalyzer
from labd.bench.edges import settled
from labd.bench.run import Run
from labd.errors import LabError
from labd.trace.journal import Bracket
from labd.trace.recorder import TraceRecorder

STOP_S = 30.0
"""Longest wait for the last samples after a stop, s."""
TELL_S = 10.0
"""Longest wait for an analyzer to take a stop, s."""


async def end_bracketed(
    run: Run,
    analyzer: PowerAnalyzer,
    stream: asyncio.Task[int] | None,
    recorder: TraceRecorder,
    edges: EdgeSource,
    *,
    period_s: float,
) -> LabError | DriverError | None:
    """End the stream, and journal between which ticks its last sample ended.

    The samples come first: what keeps the bracket from being had is returned, to be raised once they are in. A stream
    that broke off, or ended by itself, gets no bracket: nothing is known of when it did.

    Args:
        run: Whose capture it is.
        analyzer: Who streams.
        stream: Its stream; None if it was not begun.
        recorder: Where the bracket is journalled.
        edges: Whose clock is read.
        period_s: Sample period, s.
    """
    earliest, failure = None, None
    if stream is not None and not stream.done():
        try:
            earliest = await settled(edges)
        except (LabError, DriverError) as error:
            failure = error
    if stream is None or stream.done():
        earliest = None
    await end_stream(run, analyzer, stream)
    if stream is None or earliest is None or stream.cancelled() or stream.exception() is not None:
        return failure
    period_ticks = math.ceil(period_s * edges.tick_rate_hz)
    try:
        latest = await settled(edges)
        recorder.journal(
            Bracket(sample=stream.result(), earliest_ticks=max(0, earliest - period_ticks), latest_ticks=latest)
        )
    except (LabError, DriverError) as error:
        return error
    return None


async def end_stream(run: Run, analyzer: PowerAnalyzer, stream: asyncio.Task[int] | None) -> None:
    """Stop the analyzer and wait for its last samples; what the stream raised stays in its task."""
    measure = run.plan.board.measure
    assert measure is not None, "the match gives energy jobs only to boards that are wired for them"
    stopped = False
    if stream is None or not stream.done():
        stopped = await _tell_stop(analyzer, measure.channel)
    if stream is not None:
        await asyncio.wait({stream}, timeout=STOP_S)
        if not stream.done():
            stream.cancel()
            await asyncio.wait({stream})
        if stream.cancelled() or stream.exception() is not None:  # a stream that broke off has ended nothing
            stopped = await _tell_stop(analyzer, measure.channel)
    if not stopped:
        run.bench.devices.doubt(measure.instrument)


async def _tell_stop(analyzer: PowerAnalyzer, channel: int) -> bool:
    """Stop a capture; the second try finds a new connection where the first one broke."""
    for _ in range(2):
        try:
            async with asyncio.timeout(TELL_S):
                await analyzer.stop(channel)
        except (DriverError, TimeoutError) as error:
            structlog.get_logger().warning("capture_stop_failed", channel=channel, error=str(error))
        else:
            return True
    return False
