"""What a run measures, by mode: trials between lap times, trials between edges on a trace, or every input once."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from drivers.api import DriverError, Edge
from labd.bench.capture import Capture, capturing
from labd.bench.edges import EdgeLog, watching
from labd.bench.failure import RunFailedError, failure_of
from labd.bench.peaks import fitted
from labd.bench.plan import SLOWEST_S
from labd.bench.run import Run
from labd.benchmarks import Mode
from labd.dut.protocol import LAP_WRAP_US, lap_duration_us
from labd.dut.session import DutSession, InferResult
from labd.errors import LabError
from labd.model.causes import Cause
from labd.model.states import RunStep
from labd.model.tables import Window
from labd.trace.journal import TrialEnded, TrialStarted

MARGIN = 1.01
"""A window is made this much longer than asked: the clocks that time it differ by far less."""
PROBE_SHARE = 0.1
"""A window of this share of the one asked for tells well enough how long an inference takes."""
PROBE_MAX_S = 2.0
"""And so does one of this length, s, however long the one asked for: the coarsest lap counter steps by 1 ms."""
PROBES = 6
"""Most windows run to find that out: ten times as many inferences each, so up to a million."""
SLACK_S = 5.0
"""Added to every deadline that follows from a measured speed, s."""
LAP_RATE_HZ = 1e6
"""The lap counter counts microseconds."""
LAP_SPAN_S = 0.9 * LAP_WRAP_US / LAP_RATE_HZ
"""Longest window that the lap counter times, s: a longer one could wrap it twice and look short."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How many inferences a window holds, and how long one takes, or may take at most, s."""

    inferences: int
    each_s: float

    def deadline_s(self, warmups: int) -> float:
        """How long a window with its warm-ups may take on the host's clock, s."""
        return 2.0 * (self.inferences + warmups) * self.each_s + SLACK_S


async def measure(run: Run, dut: DutSession) -> None:
    """Measure what the plan asks for. Raises what stands in the way."""
    match run.plan.mode:
        case Mode.ACCURACY:
            await _accuracy(run, dut)
        case Mode.PERFORMANCE:
            await _performance(run, dut)
        case Mode.ENERGY:
            await _energy(run, dut)


async def _accuracy(run: Run, dut: DutSession) -> None:
    await run.enter(RunStep.MEASURE)
    inputs = run.plan.benchmark.inputs()
    for index in range(len(inputs)):
        run.report(trial=index + 1, share=index / run.plan.rounds)
        await dut.load(inputs.payload(index))
        answer = await dut.infer(1, 0, deadline_s=Pace(1, SLOWEST_S).deadline_s(0))
        await run.add_trial(index, index, 1, answer.results)


async def _performance(run: Run, dut: DutSession) -> None:
    async def probe(pace: Pace) -> float:
        answer = await dut.infer(pace.inferences, 1, deadline_s=pace.deadline_s(1))
        return lap_duration_us(*_laps(answer)) / LAP_RATE_HZ

    pace = await _calibrate(run, dut, probe)
    await run.enter(RunStep.MEASURE, inferences=pace.inferences)
    if (window_s := pace.inferences * pace.each_s) > LAP_SPAN_S:
        raise RunFailedError(
            Cause.DEADLINE_MISSED,
            f"{pace.inferences} inferences take {window_s:.0f} s, the board's lap counter times {LAP_SPAN_S:.0f} s at "
            "most: ask for fewer",
        )
    inputs = run.plan.benchmark.inputs()
    for number in range(run.plan.trials):
        index = number % len(inputs)
        trial_id = await run.start_trial(number, index, pace.inferences)
        await dut.load(inputs.payload(index))
        answer = await _infer(run, dut, pace)
        start, stop = _laps(answer)
        window = Window(
            trial_id=trial_id,
            method="lap",
            start_ticks=start,
            stop_ticks=stop,
            tick_rate_hz=LAP_RATE_HZ,
            duration_s=lap_duration_us(start, stop) / LAP_RATE_HZ,
        )
        await run.end_trial(trial_id, answer.results, window)


async def _energy(run: Run, dut: DutSession) -> None:
    timing = run.plan.board.timing
    assert timing is not None, "the match gives energy jobs only to boards with a timing pin"
    source = await run.bench.devices.edges(timing.instrument)
    async with watching(source, timing) as edges:

        async def probe(pace: Pace) -> float:
            mark = edges.mark()
            await dut.infer(pace.inferences, 1, deadline_s=pace.deadline_s(1))
            return _span_s(await edges.window_since(mark), source.tick_rate_hz)

        async def again(pace: Pace) -> float:
            return await probe(_probe_pace(run, pace))

        pace, fit = await fitted(run, lambda: _calibrate(run, dut, probe), again)
        await run.enter(RunStep.MEASURE, inferences=pace.inferences)
        async with capturing(run, source, fit.request, fit.headroom) as capture:
            with edges.journalled(capture.journal_edge):
                await capture.pulse_load()
                for number in range(run.plan.trials):
                    capture.check()
                    await _EnergyTrial(run, dut, edges, capture, source.tick_rate_hz).measure(number, pace)
                    await capture.pulse_load()


@dataclass(frozen=True, slots=True)
class _EnergyTrial:
    """All that a trial on a trace needs."""

    run: Run
    dut: DutSession
    edges: EdgeLog
    capture: Capture
    tick_rate_hz: float

    async def measure(self, number: int, pace: Pace) -> None:
        """Do one trial between two lines of the trace's journal; a failed one says why there too."""
        run, inputs = self.run, self.run.plan.benchmark.inputs()
        index = number % len(inputs)
        trial_id = await run.start_trial(number, index, pace.inferences)
        await self.dut.load(inputs.payload(index))
        self.capture.recorder.journal(
            TrialStarted(
                index=number,
                input=str(index),
                expected=int(inputs.labels[index]),
                inferences=pace.inferences,
                warmups=run.plan.benchmark.warmups,
                at=run.bench.clock.now(),
            )
        )
        results: tuple[float, ...] = ()
        failure = "it was cut off"
        try:
            mark = self.edges.mark()
            results = (await _infer(run, self.dut, pace)).results
            first, second = await self.edges.window_since(mark)
            failure = ""
        except (LabError, DriverError, TimeoutError) as error:
            failure = str(failure_of(error, step=run.step) or error)
            raise
        finally:
            self.capture.recorder.journal(
                TrialEnded(index=number, results=results, failure=failure, at=run.bench.clock.now())
            )
        window = Window(
            trial_id=trial_id,
            method="edges",
            start_ticks=first.ticks,
            stop_ticks=second.ticks,
            tick_rate_hz=self.tick_rate_hz,
            duration_s=_span_s((first, second), self.tick_rate_hz),
        )
        await run.end_trial(trial_id, results, window)


async def _calibrate(run: Run, dut: DutSession, probe: Callable[[Pace], Awaitable[float]]) -> Pace:
    """Find how many inferences make a window long enough, from windows that grow until they tell.

    Args:
        probe: Runs a window, before a deadline by the pace known so far, and returns its length, s.
    """
    plan, benchmark = run.plan, run.plan.benchmark
    await run.enter(RunStep.CALIBRATE)
    await dut.load(benchmark.inputs().payload(0))
    tells_s = _tells_s(run)
    pace = Pace(benchmark.min_inferences, SLOWEST_S)
    for _ in range(PROBES):
        length_s = await probe(pace)
        if length_s > 0 and (plan.inferences or length_s >= tells_s):
            each_s = length_s / pace.inferences
            needed = max(benchmark.min_inferences, math.ceil(MARGIN * plan.min_window_s / each_s))
            return Pace(plan.inferences or needed, each_s)
        grown = 2.0 * tells_s * pace.inferences / length_s if length_s > 0 else math.inf
        pace = Pace(math.ceil(min(10.0 * pace.inferences, grown)), max(length_s, tells_s) / pace.inferences)
    raise RunFailedError(
        Cause.WINDOW_SHORT, f"{pace.inferences} inferences took {length_s:.3g} s: too short to calibrate the window by"
    )


def _tells_s(run: Run) -> float:
    """Length of a window that tells how long an inference takes, s."""
    return min(PROBE_SHARE * run.plan.min_window_s, PROBE_MAX_S)


def _probe_pace(run: Run, pace: Pace) -> Pace:
    """A window of that length, now that the pace is known."""
    return Pace(max(run.plan.benchmark.min_inferences, math.ceil(_tells_s(run) / pace.each_s)), pace.each_s)


async def _infer(run: Run, dut: DutSession, pace: Pace) -> InferResult:
    warmups = run.plan.benchmark.warmups
    return await dut.infer(pace.inferences, warmups, deadline_s=pace.deadline_s(warmups))


def _laps(answer: InferResult) -> tuple[int, int]:
    if answer.lap_us is None:
        raise RunFailedError(Cause.WRONG_MODE, "the board printed no lap times")
    return answer.lap_us


def _span_s(edges: tuple[Edge, Edge], tick_rate_hz: float) -> float:
    first, second = edges
    return (second.ticks - first.ticks) / tick_rate_hz
