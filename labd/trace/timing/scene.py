"""What there is to ask about the place of a trace's windows: its current, its edges, its pulses, and its steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from drivers.api import Quantity
from labd.trace.layout import is_digital
from labd.trace.reader import Trace
from labd.trace.timing.jumps import find_jump
from labd.trace.timing.steps import (
    FAR_S,
    Signal,
    StepsFound,
    find_roughly,
    search_steps,
)
from labd.trace.timing.timebase import Anchor, AnchorKind, Clocks, Timebase, TimebaseError, rate_prior
from labd.trace.timing.windows import TimedEdge, window_edges

SLACK_S = 20e-3
"""What a bracket is widened by: how long an instrument takes from a command to what it does, s."""
U_PULSE_MIN_S = 0.2e-6
"""What no trigger is known better than, s."""
HALF = 0.5
"""If more of a kind's edges have steps than this share, those that have none are missed, and most windows is more."""
RATES = 4.0
"""So many standard uncertainties may the rate of the samples lie off what both clocks' makers state."""
KINDS = (AnchorKind.OPENING, AnchorKind.CLOSING)
NAMES = {AnchorKind.OPENING: "opening", AnchorKind.CLOSING: "closing"}


@dataclass(frozen=True, slots=True)
class Scene:
    """All that there is to ask about.

    Args:
        trace: The trace.
        signal: Its current.
        edges: The edges of its windows, in order.
        syncs: The trigger's pulses.
    """

    trace: Trace
    signal: Signal
    edges: tuple[TimedEdge, ...]
    syncs: tuple[Anchor, ...]

    @property
    def clocks(self) -> Clocks:
        """The two clocks."""
        return self.signal.clocks

    def middles(self, ticks: int) -> tuple[float, float]:
        """Least and largest sample index that a tick can have by the bracket of the first sample."""
        least, largest = 0.0, math.inf
        for bracket in self.trace.brackets():
            reach = abs(ticks - bracket.earliest_ticks) / self.clocks.ticks_per_sample
            slack = SLACK_S / self.clocks.period_s + 3 * self.clocks.u_stretch * reach
            earliest, latest = (
                bracket.sample + (ticks - at) / self.clocks.ticks_per_sample
                for at in (bracket.latest_ticks, bracket.earliest_ticks)
            )
            least, largest = max(least, earliest - slack), min(largest, latest + slack)
        return least, largest

    def roughly(self) -> tuple[list[tuple[int, float]], str]:
        """Where the current alone puts the edges: a tick, and its place in samples; or why it does not.

        All edges together, and each kind by itself: where a board goes on as before at one kind of edges, that kind is
        seen elsewhere, and the other one in its place.
        """
        if not self.edges:
            return [], "no window has two edges"
        found, why = [], ""
        for kinds in (KINDS, *((kind,) for kind in KINDS)):
            edges = [edge for edge in self.edges if edge.kind in kinds]
            middle = (edges[0].ticks + edges[-1].ticks) // 2
            for repeat_s in (self.inference_s(), 0.0):
                try:
                    place = find_roughly(self.signal, edges, repeat_s, self.middles(middle))
                except TimebaseError as error:
                    why = why or error.message
                else:
                    found.append((middle, place.middle))
                    break
        return found, why

    def inference_s(self) -> float:
        """How long an inference lasts, the median of the windows, s."""
        return float(np.median(list(self.each_s().values())))

    def each_s(self) -> dict[int, float]:
        """How long an inference of each trial lasts by the edges, s."""
        inferences = {trial.index: trial.started.inferences for trial in self.trace.trials()}
        return {
            opening.trial: (closing.ticks - opening.ticks) / self.clocks.tick_rate_hz / inferences[opening.trial]
            for opening, closing in zip(self.edges[::2], self.edges[1::2], strict=True)
        }

    def shifts_s(self, near: StepsFound, base: Timebase) -> dict[AnchorKind, float]:
        """By how much later than a map says the steps of each kind that is seen lie, s."""
        return {kind: near.shift_s(kind, base, self.clocks.period_s) for kind in KINDS if near.sees(kind)}

    def near(self, wired: Timebase) -> StepsFound | None:
        """The steps within `FAR_S` of where a map says that the edges lie; None if no window was recorded."""
        recorded = [
            edge
            for pair in zip(self.edges[::2], self.edges[1::2], strict=True)
            for edge in pair
            if all(0 < wired.sample(each.ticks)[0] < self.signal.rows for each in pair)
        ]
        if not recorded:
            return None
        place, u_place = wired.sample((recorded[0].ticks + recorded[-1].ticks) // 2)
        reach = FAR_S / self.clocks.period_s + 2 * u_place
        try:
            return search_steps(self.signal, recorded, self.inference_s(), (place - reach, place + reach))
        except TimebaseError:
            return None

    def offs_s(self, rough: list[tuple[int, float]], wired: Timebase) -> list[float]:
        """By how much later the current alone puts all edges, and each kind of them, than a map, s."""
        return [(place - wired.sample(ticks)[0]) * self.clocks.period_s for ticks, place in rough]


def scene_of(trace: Trace) -> Scene:
    """Look at a trace.

    Raises:
        TimebaseError: it declares no tick rate, or has no column in which an edge can be a step.
    """
    meta = trace.meta
    if meta.tick_rate_hz is None or meta.tick_clock_ppm is None:
        raise TimebaseError("the trace declares no tick rate", where=trace.where)
    column = next((c for c in meta.columns if c.quantity is Quantity.CURRENT), None) or next(
        (c for c in meta.columns if not is_digital(c.quantity)), None
    )
    if column is None:
        raise TimebaseError("the trace has no column in which an edge can be a step", where=trace.where)
    quantity = column.quantity

    def read(start: int, stop: int) -> npt.NDArray[np.float32]:
        return np.asarray(trace.samples(quantity, start, stop), dtype=np.float32)

    u_stretch = max(rate_prior(meta.sample_clock_ppm, meta.tick_clock_ppm), 1e-9)
    clocks = Clocks(tick_rate_hz=meta.tick_rate_hz, period_s=meta.period_s, u_stretch=u_stretch)
    syncs = tuple(
        Anchor(pulse.ticks, pulse.sample, max(pulse.u_latency_s, U_PULSE_MIN_S) / meta.period_s)
        for pulse in trace.sync_pulses()
    )
    signal = Signal(read, trace.rows, column.accuracy.noise_rms, column.sample, clocks)
    return Scene(trace, signal, window_edges(trace), syncs)


def shifted_said(shifts_s: dict[AnchorKind, float]) -> str:
    """By how much later than the edges the steps of each kind lie, in words."""
    said = ", ".join(f"{NAMES[kind]} ones {1e3 * shift_s:+.3g} ms" for kind, shift_s in shifts_s.items())
    return f"steps of the current lie at the edges, {said} from them"


def jump_said(anchors: Sequence[Anchor], clocks: Clocks) -> str:
    """What a jump of the sample index means; empty without one."""
    jump = find_jump(anchors, clocks)
    if jump is None:
        return ""
    what = "lost" if jump.samples < 0 else "too many"
    return f"{abs(jump.samples):.1f} ± {jump.u_samples:.1f} (k = 1) samples are {what} within the trace"


def rate_said(base: Timebase, clocks: Clocks) -> str:
    """What a rate of the samples means that neither clock can have; empty for one that they can."""
    if abs(base.stretch) <= RATES * clocks.u_stretch:
        return ""
    what = "lost" if base.stretch < 0 else "too many"
    return f"samples come {1e6 * base.stretch:+.0f} ppm off their rate, which means that some are {what}"
