"""What a picture of a trace shows, as data: the signal at the zoom of the picture, and what lies beside it in time."""

from __future__ import annotations

import math
from dataclasses import dataclass

from drivers.api import IntervalKind, Quantity
from labd.cli.picture.phases import ShownPhase, phases_beside
from labd.cli.picture.signal import Bins, make_bins, quantities_of
from labd.cli.picture.windows import RunWindows, ShownEdge, ShownWindow, energy_between, find_windows
from labd.errors import TraceError
from labd.trace.meta import TraceMeta
from labd.trace.reader import Trace

MARGIN = 0.08
"""What is shown after a window, as a share of it."""
LOAD_MARGIN = 0.25
"""What is shown before the warm-up of a window, as a share of the window."""
BESIDE_SAMPLES = 6.0
"""What is shown on each side of an inference at least, in samples."""
SCORED_MAX = 20_000_000
"""Samples of a trace on this machine that are read, if need be, to tell how uncertain its energies are."""


@dataclass(frozen=True, slots=True)
class WholeRun:
    """Show all samples."""


@dataclass(frozen=True, slots=True)
class OneWindow:
    """Show the window of a trial, and a little of what is beside it."""

    trial: int


@dataclass(frozen=True, slots=True)
class OneInference:
    """Show one part of a window that is cut in as many equal parts as it holds inferences.

    Args:
        number: Which part, from 0.
        trial: Trial of the window; None for the first that has one.
    """

    number: int
    trial: int | None = None


@dataclass(frozen=True, slots=True)
class Stretch:
    """Show the span between two moments of the trace, s."""

    start_s: float
    stop_s: float


Sight = WholeRun | OneWindow | OneInference | Stretch


@dataclass(frozen=True, slots=True)
class ShownInference:
    """One part of a window.

    Args:
        trial, number, of: Which part of which window, both from 0, and how many parts it has.
        start_s, stop_s: Where the part lies, s.
        samples: How many samples long it is.
        energy_j: Energy between its ends, J; None if that cannot be told.
    """

    trial: int
    number: int
    of: int
    start_s: float
    stop_s: float
    samples: float
    energy_j: float | None


@dataclass(frozen=True, slots=True)
class ShownMark:
    """A stretch of samples that cannot be trusted, s."""

    kind: IntervalKind
    start_s: float
    stop_s: float

    @property
    def name(self) -> str:
        """What it is, for people."""
        return self.kind.value.replace("_", " ")


@dataclass(frozen=True, slots=True)
class Scene:
    """All that a picture shows.

    Args:
        meta: What was recorded and how.
        quantity: What is drawn, in SI units.
        sight: Which part was asked for.
        start_s, stop_s: The part that is shown, s.
        bins: The signal; its bins may reach a little further.
        run: All windows and edges of the run, also those out of sight.
        marks: Marked stretches in sight.
        syncs_s: Sync pulses in sight, s.
        phases: What the board does beside the window, if one window was asked for.
        inference: The inference in sight; None if another part was asked for.
    """

    meta: TraceMeta
    quantity: Quantity
    sight: Sight
    start_s: float
    stop_s: float
    bins: Bins
    run: RunWindows
    marks: tuple[ShownMark, ...]
    syncs_s: tuple[float, ...]
    phases: tuple[ShownPhase, ...]
    inference: ShownInference | None

    @property
    def origin_s(self) -> float:
        """Where the time axis has its zero, s: the trace's start, or where a window or a short stretch begins."""
        if self.inference is not None:
            return self.run.of(self.inference.trial, self.meta.trace_id).start_s
        return 0.0

    @property
    def origin(self) -> str:
        """What the time axis counts."""
        return "time" if self.inference is None else f"time from the start of trial {self.inference.trial}'s window"

    @property
    def neighbours(self) -> tuple[tuple[int, float, float], ...]:
        """The inferences in sight beside the one that was asked for: number, start and stop, s."""
        if (part := self.inference) is None:
            return ()
        length_s = part.stop_s - part.start_s
        first = max(0, part.number - math.ceil((part.start_s - self.start_s) / length_s))
        last = min(part.of - 1, part.number + math.ceil((self.stop_s - part.stop_s) / length_s))
        starts = ((k, part.start_s + (k - part.number) * length_s) for k in range(first, last + 1) if k != part.number)
        return tuple((k, start_s, start_s + length_s) for k, start_s in starts)

    @property
    def windows(self) -> tuple[ShownWindow, ...]:
        """The windows in sight."""
        return tuple(w for w in self.run.windows if w.start_s < self.stop_s and w.stop_s > self.start_s)

    @property
    def edges(self) -> tuple[ShownEdge, ...]:
        """The edges in sight."""
        return tuple(edge for edge in self.run.edges if self.start_s <= edge.at_s <= self.stop_s)


def make_scene(
    trace: Trace, sight: Sight, *, quantity: Quantity | None, pixels: int, scored_max: int = SCORED_MAX
) -> Scene:
    """Read what a picture shows, and no more.

    Args:
        trace: The trace.
        sight: Which part of it.
        quantity: What to draw; None for the first that it has of current, voltage, power and energy.
        pixels: Width of the picture, at least 1.
        scored_max: Samples that may be read for the uncertainties of the windows' energies.

    Raises:
        TraceError: the trace is damaged or empty, or what was asked for is not in it.
    """
    meta = trace.meta
    choices = quantities_of(meta)
    if not choices or (quantity is not None and quantity not in choices):
        remedy = f"it has {', '.join(choices)}" if choices else "its columns are bits"
        raise TraceError(f"the trace has no {quantity or 'quantity'} to plot", where=meta.trace_id, remedy=remedy)
    if trace.rows == 0:
        raise TraceError("the trace has no samples to plot", where=meta.trace_id)
    quantity = quantity or choices[0]
    run = find_windows(trace, scored_max)
    inference: ShownInference | None = None
    phases: tuple[ShownPhase, ...] = ()
    match sight:
        case WholeRun():
            start_s, stop_s = 0.0, trace.duration_s
        case Stretch():
            start_s, stop_s = _stretch(trace, sight)
        case OneWindow(trial):
            window = run.of(trial, meta.trace_id)
            start_s, stop_s = _about_window(trace, run, window)
            phases = phases_beside(trace, run, window, start_s, stop_s)
        case OneInference():
            inference = _inference(trace, run, sight)
            start_s, stop_s = _about_inference(trace, inference)
    first, stop = start_s / trace.period_s, stop_s / trace.period_s
    return Scene(
        meta=meta,
        quantity=quantity,
        sight=sight,
        start_s=start_s,
        stop_s=stop_s,
        bins=make_bins(trace, quantity, start_s, stop_s, pixels),
        run=run,
        marks=tuple(
            ShownMark(mark.kind, mark.start * trace.period_s, mark.stop * trace.period_s)
            for mark in trace.marked(first, stop)
        ),
        # the pulse starts the capture, so it lies at or a little before the first sample
        syncs_s=tuple(
            max(pulse.sample, 0.0) * trace.period_s
            for pulse in trace.sync_pulses()
            if first - 1 <= pulse.sample <= stop
        ),
        phases=phases,
        inference=inference,
    )


def _stretch(trace: Trace, sight: Stretch) -> tuple[float, float]:
    start_s, stop_s = sight.start_s, sight.stop_s
    if not (math.isfinite(start_s) and math.isfinite(stop_s) and start_s < stop_s):
        raise TraceError(f"{start_s:g} to {stop_s:g} s is no stretch of time", where=trace.meta.trace_id)
    if start_s < 0 or stop_s > trace.duration_s * (1 + 1e-9):
        raise TraceError(
            f"{start_s:g} to {stop_s:g} s does not lie in the trace",
            where=trace.meta.trace_id,
            remedy=f"it lasts {trace.duration_s:.6g} s",
        )
    return start_s, min(stop_s, trace.duration_s)


def _about_window(trace: Trace, run: RunWindows, window: ShownWindow) -> tuple[float, float]:
    """A window with its warm-up, some of what was before that, and a little of what came after."""
    length_s = window.stop_s - window.start_s
    before_s = 1.2 * length_s * window.warmups / window.inferences + LOAD_MARGIN * length_s
    last_s = max((other.stop_s for other in run.windows if other.stop_s <= window.start_s), default=0.0)
    return _recorded(trace, max(window.start_s - before_s, last_s), window.stop_s + MARGIN * length_s)


def _about_inference(trace: Trace, part: ShownInference) -> tuple[float, float]:
    margin_s = max(part.stop_s - part.start_s, BESIDE_SAMPLES * trace.period_s)
    return _recorded(trace, part.start_s - margin_s, part.stop_s + margin_s)


def _recorded(trace: Trace, start_s: float, stop_s: float) -> tuple[float, float]:
    """What the trace has of a stretch. Raises `TraceError` if that is nothing."""
    if start_s >= trace.duration_s or stop_s <= 0:
        raise TraceError("the window lies outside what was recorded", where=trace.meta.trace_id)
    return max(start_s, 0.0), min(stop_s, trace.duration_s)


def _inference(trace: Trace, run: RunWindows, sight: OneInference) -> ShownInference:
    window = run.of(sight.trial, trace.meta.trace_id)
    if not 0 <= sight.number < window.inferences:
        raise TraceError(
            f"trial {window.trial} has no inference {sight.number}",
            where=trace.meta.trace_id,
            remedy=f"they count from 0 to {window.inferences - 1}",
        )
    length_s = (window.stop_s - window.start_s) / window.inferences
    start_s = window.start_s + sight.number * length_s
    stop_s = start_s + length_s
    return ShownInference(
        trial=window.trial,
        number=sight.number,
        of=window.inferences,
        start_s=start_s,
        stop_s=stop_s,
        samples=length_s / trace.period_s,
        energy_j=energy_between(trace, start_s, stop_s),
    )
