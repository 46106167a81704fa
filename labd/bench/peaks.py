"""What the board draws at most, watched while its pace is found, and the range that holds it.

A burst beyond the range that is shorter than a sample leaves a mean within the range, and too low, without a mark. So
where the analyzer sees the extremes of its converter's own points, they are watched before anything is recorded: a peak
that the range may have cut off picks the next one, or the run is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from drivers.api import Block, CaptureRequest, DriverError, LimitError, Peak, PeakMeter, Peaks, Quantity
from labd.bench.capture import ARM_S, capture_request, while_streaming
from labd.bench.failure import RunFailedError, within
from labd.bench.run import Run
from labd.bench.shield import shielded
from labd.bench.stopping import STOP_S, end_stream
from labd.config import Measure
from labd.errors import LabError
from labd.model.causes import Cause
from labd.trace.meta import Headroom

NEXT = 1.001
"""A request this much beyond the end of a range is for the next one."""
RANGES_MAX = 8
"""Most ranges that are tried."""
_UNITS = {Quantity.CURRENT: "A", Quantity.VOLTAGE: "V", Quantity.POWER: "W"}
Done = TypeVar("Done")


@dataclass(frozen=True, slots=True)
class Fit:
    """What to ask of the analyzer, and how far its ranges reach beyond what was seen; None where peaks cannot be."""

    request: CaptureRequest
    headroom: Headroom | None


async def fitted(
    run: Run, first: Callable[[], Awaitable[Done]], again: Callable[[Done], Awaitable[object]]
) -> tuple[Done, Fit]:
    """Watch the peaks of `first`, and of `again` on each wider range; return what `first` gave, and what fits.

    Args:
        run: Whose analyzer it is.
        first: What the board does, with a window in it.
        again: A window like that, with what `first` gave.

    Raises:
        RunFailedError: no range holds the peaks, or the one that was set by hand does not.
    """
    request, measure = capture_request(run), _measure(run)
    analyzer = await run.bench.devices.analyzer(measure.instrument)
    if not isinstance(analyzer, PeakMeter):
        return await first(), Fit(request, None)
    done, peaks = await _watched(run, analyzer, request, first)
    for _ in range(RANGES_MAX):
        beyond = tuple(peak for peak in peaks.found if peak.beyond)
        if not beyond:
            return done, Fit(request, _headroom(peaks))
        request = _wider(measure, request, beyond)
        try:
            _, peaks = await _watched(run, analyzer, request, lambda: again(done))
        except LimitError as error:
            raise _refused(
                beyond[0], f"the largest that {measure.instrument} has: lower what the board draws"
            ) from error
    raise RunFailedError(Cause.INSTRUMENT_NONSENSE, f"{measure.instrument} does not take a wider range")


async def _watched(
    run: Run, analyzer: PeakMeter, request: CaptureRequest, work: Callable[[], Awaitable[Done]]
) -> tuple[Done, Peaks]:
    """Do `work`; return what it gave, and what the analyzer read at most meanwhile."""
    measure = _measure(run)
    channel, stream = measure.channel, None
    async with run.bench.devices.watching_peaks(measure.instrument):
        try:
            async with within(ARM_S, Cause.INSTRUMENT_SILENT, "the watch of peaks was not started"):
                await analyzer.configure_peaks(channel, request)
                await analyzer.arm(channel)
            stream = asyncio.create_task(analyzer.stream(channel, _nothing), name=f"peaks-r{run.plan.run_id}")
            try:
                async with while_streaming(stream):
                    done = await work()
            except (LabError, DriverError, TimeoutError):
                if stream.done():  # an analyzer that failed first tells more than what that made fail
                    stream.result()
                    raise RunFailedError(
                        Cause.INSTRUMENT_NONSENSE, "the analyzer ended the watch of peaks by itself"
                    ) from None
                raise
        finally:
            await shielded(end_stream(run, analyzer, stream), f"stop-peaks-r{run.plan.run_id}")
    if stream.cancelled():
        raise RunFailedError(Cause.INSTRUMENT_SILENT, f"the last peaks did not come within {STOP_S:g} s")
    stream.result()
    return done, analyzer.peaks(channel)


def _nothing(block: Block) -> None:
    """A watch hands on no blocks; one that does is not kept."""


def _measure(run: Run) -> Measure:
    measure = run.plan.board.measure
    assert measure is not None, "the match gives energy jobs only to boards that are wired for them"
    return measure


def _wider(measure: Measure, request: CaptureRequest, beyond: tuple[Peak, ...]) -> CaptureRequest:
    """The request for the next range of what was beyond. Raises `RunFailedError` if that was set by hand."""
    for peak in beyond:
        match peak.quantity:
            case Quantity.CURRENT:
                if measure.current_range_a is not None:
                    raise _refused(
                        peak,
                        f"which measure.current_range_a = {measure.current_range_a:g} picks: raise it, or leave it out",
                    )
                request = replace(request, current_max_a=NEXT * peak.range_max)
            case Quantity.VOLTAGE:
                request = replace(request, voltage_max_v=NEXT * peak.range_max)
            case _:
                raise _refused(peak, "and no other can be asked for")
    return request


def _refused(peak: Peak, why: str) -> RunFailedError:
    unit = _UNITS.get(peak.quantity, "")
    return RunFailedError(
        Cause.CAPTURE_DAMAGED,
        f"the {peak.quantity} peaked at {peak.largest:.4g} {unit} or more while the board's pace was found, beyond the "
        f"range of {peak.range_max:g} {unit}, {why}",
    )


def _headroom(peaks: Peaks) -> Headroom | None:
    found = {peak.quantity: peak for peak in peaks.found}
    current, voltage = found.get(Quantity.CURRENT), found.get(Quantity.VOLTAGE)
    if current is None:
        return None
    return Headroom(
        current_peak_a=current.largest,
        current_range_a=current.range_max,
        voltage_peak_v=voltage.largest if voltage is not None else None,
        voltage_range_v=voltage.range_max if voltage is not None else None,
        records=peaks.records,
        record_s=peaks.period_s,
    )
