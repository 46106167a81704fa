"""One capture: the analyzer streams into a trace while the board works, and the trace is sealed whatever happens.

Both its ends are bracketed by the edge source's clock: see `labd.bench.stopping`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from drivers.api import (
    CaptureRequest,
    CaptureSetup,
    DriverError,
    Edge,
    EdgeSource,
    Identity,
    Instrument,
    PowerAnalyzer,
    Quantity,
    TriggerInput,
    TriggerSource,
)
from labd.bench.clock import host_clock
from labd.bench.edges import settled
from labd.bench.failure import RunFailedError, within
from labd.bench.keeping import recording
from labd.bench.run import Run
from labd.bench.shield import shielded
from labd.bench.stopping import STOP_S, end_bracketed
from labd.bench.sync_load import SyncLoad, sync_load
from labd.config import Load, Measure, Timing
from labd.errors import LabError
from labd.model.causes import Cause
from labd.model.states import RunStep
from labd.trace import meta as trace_meta
from labd.trace.journal import Bracket, EdgeSeen, SyncPulse
from labd.trace.meta import Headroom, TraceMeta, Wiring
from labd.trace.recorder import TraceRecorder
from labd.trace.timing.edges import Polarity

ARM_S = 10.0
"""Longest wait for a capture to be set up and armed, s."""
PULSE_S = 10e-6
"""Width of a sync pulse where the trigger input asks for no longer one, s."""
PULSE_MARGIN = 2.0
"""A sync pulse is at least this many times as long as the shortest one that the trigger input takes."""
REPORT_S = 0.5
"""Pause between two reports of the sample count, s."""


class Capture:
    """A capture that runs: what it records to, whether the analyzer still streams, and the load that is seen in it."""

    def __init__(self, recorder: TraceRecorder, stream: asyncio.Task[int], load: SyncLoad | None) -> None:
        self.recorder = recorder
        self._stream = stream
        self._load = load

    def journal_edge(self, edge: Edge) -> None:
        """Write down an edge as it comes."""
        self.recorder.journal(EdgeSeen.of(edge))

    async def pulse_load(self) -> None:
        """Let the sync load pulse while the board idles, if one is wired. Raises as `SyncLoad.pulse` does."""
        if self._load is not None:
            await self._load.pulse()

    def check(self) -> None:
        """Raise what ended the stream, if it has ended before its time."""
        if self._stream.done():
            self._stream.result()
            raise RunFailedError(Cause.INSTRUMENT_NONSENSE, "the analyzer ended the capture by itself")


@asynccontextmanager
async def capturing(
    run: Run, edges: EdgeSource, request: CaptureRequest, headroom: Headroom | None
) -> AsyncIterator[Capture]:
    """Record the board's power inside the block, from before its first sample is needed until after the last.

    The trace is closed and sealed in the end whether the block succeeds or not: what was measured is never lost.

    Args:
        run: Whose capture it is.
        edges: Who sees the edges.
        request: What to ask of the analyzer.
        headroom: What is known of the peaks; None if nothing is.
    """
    measure, timing = _wiring(run)
    devices = run.bench.devices
    analyzer = await devices.analyzer(measure.instrument)
    identity = (await devices.instrument(measure.instrument)).identity
    async with within(ARM_S, Cause.INSTRUMENT_SILENT, "the analyzer did not take the settings of the capture"):
        setup = await analyzer.configure(measure.channel, request)
    meta = _meta(run, setup, edges, identity).model_copy(update={"headroom": headroom})
    async with recording(meta, run.bench.database, run.bench.traces_dir) as recorder:
        run.trace = recorder.folder
        async with (
            sync_load(edges, timing, recorder, setup.period_s) as load,
            _streaming(run, analyzer, setup, recorder, edges, load=load) as capture,
        ):
            yield capture
        await run.enter(RunStep.SEAL)


@asynccontextmanager
async def _streaming(
    run: Run,
    analyzer: PowerAnalyzer,
    setup: CaptureSetup,
    recorder: TraceRecorder,
    edges: EdgeSource,
    *,
    load: SyncLoad | None,
) -> AsyncIterator[Capture]:
    """Let the analyzer stream into the recorder inside the block."""
    measure, _ = _wiring(run)
    stream: asyncio.Task[int] | None = None
    unbracketed: LabError | DriverError | None = None
    try:
        await _arm(run, analyzer, setup, recorder, edges)
        stream = asyncio.create_task(
            analyzer.stream(measure.channel, recorder.sink), name=f"stream-{recorder.folder.name}"
        )
        capture = Capture(recorder, stream, load)
        reporter = asyncio.create_task(_report(run, recorder, setup), name=f"report-{recorder.folder.name}")
        try:
            async with while_streaming(stream):
                yield capture
        except (LabError, DriverError, TimeoutError):
            capture.check()  # an analyzer that failed first tells more than what that made fail
            raise
        finally:
            reporter.cancel()
            await asyncio.wait({reporter})
    finally:
        unbracketed = await shielded(
            end_bracketed(run, analyzer, stream, recorder, edges, period_s=setup.period_s),
            f"stop-{recorder.folder.name}",
        )
    if stream.cancelled():
        raise RunFailedError(Cause.INSTRUMENT_SILENT, f"the last samples did not come within {STOP_S:g} s")
    stream.result()
    if unbracketed is not None:
        raise unbracketed


@asynccontextmanager
async def while_streaming(stream: asyncio.Task[int]) -> AsyncIterator[None]:
    """End the block with a `TimeoutError` as soon as the stream ends: what a window may last need not be waited for."""
    async with asyncio.timeout(None) as guard:

        def end(_: asyncio.Task[int]) -> None:
            if inside:
                guard.reschedule(asyncio.get_running_loop().time())

        inside = True
        stream.add_done_callback(end)
        try:
            yield
        finally:
            inside = False


def _wiring(run: Run) -> tuple[Measure, Timing]:
    board = run.plan.board
    assert board.measure is not None, "the match gives energy jobs only to boards that are wired for them"
    assert board.timing is not None, "the match gives energy jobs only to boards that are wired for them"
    return board.measure, board.timing


def capture_request(run: Run) -> CaptureRequest:
    """What the run asks of the analyzer before anything is known of the board's peaks."""
    plan = run.plan
    measure, timing = _wiring(run)
    return CaptureRequest(
        quantities=(Quantity.CURRENT, Quantity.VOLTAGE),
        period_s=plan.period_s,
        current_max_a=measure.current_range_a or plan.board.limits.current_max_a,
        voltage_max_v=plan.board.limits.voltage_max_v,
        trigger=TriggerSource.IMMEDIATE if timing.sync_pin is None else TriggerSource.EXTERNAL,
    )


def _meta(run: Run, setup: CaptureSetup, edges: EdgeSource, instrument: Identity) -> TraceMeta:
    plan, now = run.plan, run.bench.clock.now()
    measure, timing = _wiring(run)
    return TraceMeta(
        trace_id=f"{now:%Y%m%dT%H%M%S}-j{plan.job_id}-r{plan.run_id}",
        job_id=plan.job_id,
        run_id=plan.run_id,
        board=plan.board.id,
        benchmark=plan.benchmark.id,
        mode=plan.mode,
        min_window_s=plan.min_window_s,
        min_inferences=plan.benchmark.min_inferences,
        trials=plan.trials,
        instrument=instrument,
        calibrated_on=run.bench.devices.settings(measure.instrument).calibrated_on,
        edge_source=edges.identity if isinstance(edges, Instrument) else None,
        wiring=Wiring(
            supply=plan.board.supply.instrument,
            supply_channel=plan.board.supply.channel,
            measure=measure.instrument,
            timing=timing.instrument,
            serial_port=plan.board.serial.port,
        ),
        channel=measure.channel,
        timing_pin=timing.pin,
        edge_polarity=Polarity(timing.edge),
        pulse_s=timing.pulse_us * 1e-6,
        hold_off_s=timing.hold_us * 1e-6,
        columns=setup.columns,
        period_s=setup.period_s,
        period_requested_s=plan.period_s,
        sample_clock_ppm=setup.clock_ppm,
        tick_rate_hz=edges.tick_rate_hz,
        tick_clock_ppm=edges.clock_ppm,
        trigger=TriggerSource.IMMEDIATE if timing.sync_pin is None else TriggerSource.EXTERNAL,
        sync_pin=timing.sync_pin,
        sync_load=None if timing.load is None else _declared(timing.load),
        supply_voltage_v=run.supply_voltage_v,
        firmware_sha256=run.firmware_sha256,
        labd_version=version("labd"),
        started_at=now,
        host_clock=host_clock(),
    )


def _declared(load: Load) -> trace_meta.SyncLoad:
    """The load as the trace keeps it."""
    return trace_meta.SyncLoad(
        pin=load.pin, ohm=load.ohm, tolerance=load.tolerance_percent / 100, switch_s=load.switch_us * 1e-6
    )


async def _arm(
    run: Run, analyzer: PowerAnalyzer, setup: CaptureSetup, recorder: TraceRecorder, edges: EdgeSource
) -> None:
    """Start the capture, or arm it; where a sync pulse is wired, send it and journal its leading edge."""
    measure, timing = _wiring(run)
    channel, sync_pin = measure.channel, timing.sync_pin
    async with within(ARM_S, Cause.INSTRUMENT_SILENT, "the capture was not started"):
        if sync_pin is None:
            earliest = await settled(edges)
            await analyzer.arm(channel)
            recorder.journal(Bracket(sample=0, earliest_ticks=earliest, latest_ticks=await settled(edges)))
            return
        taken = setup.trigger_input
        if taken is None:
            raise RunFailedError(Cause.INSTRUMENT_NONSENSE, "the analyzer does not say what starts its capture")
        async with run.bench.devices.trigger(measure.instrument, timing.instrument):
            await edges.idle(sync_pin, taken.active.opposite)  # first: on the way there the line may see an edge
            await analyzer.arm(channel)
            earliest = await settled(edges)
            edge = await _pulse(edges, sync_pin, taken)
    recorder.journal(Bracket(sample=0, earliest_ticks=earliest, latest_ticks=await settled(edges)))
    delay_s = setup.trigger_delay_max_s
    recorder.journal(
        SyncPulse(
            pin=sync_pin,
            ticks=edge.ticks,
            sequence=edge.sequence,
            sample=-0.5 * delay_s / setup.period_s,
            u_latency_s=delay_s / math.sqrt(12),
        )
    )


async def _pulse(edges: EdgeSource, pin: int, taken: TriggerInput) -> Edge:
    """Send one sync pulse as the trigger input takes it, and return its leading edge."""
    async with edges.watch(frozenset({pin})) as seen:
        await edges.pulse(pin, max(PULSE_S, PULSE_MARGIN * taken.pulse_min_s), taken.active)
        async for edge in seen:
            if edge.level == taken.active:
                return edge
    raise RunFailedError(Cause.EDGES_MISSING, f"the sync pulse on pin {pin} was not reported")


async def _report(run: Run, recorder: TraceRecorder, setup: CaptureSetup) -> None:
    while True:
        run.report(samples=recorder.progress.samples, rate_hz=1.0 / setup.period_s)
        await asyncio.sleep(REPORT_S)
