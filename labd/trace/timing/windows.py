"""The edges of a trace's windows, each with what is known of it: its kind, its trial, and how long the pin stayed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from drivers.api import Edge
from labd.trace.reader import Trace
from labd.trace.timing.timebase import AnchorKind


@dataclass(frozen=True, slots=True)
class TimedEdge:
    """An edge of a window.

    Args:
        ticks: Its time.
        pulse: How long the pin stayed, in ticks.
        kind: Whether it opens or closes.
        trial: Number of its trial.
    """

    ticks: int
    pulse: int
    kind: AnchorKind
    trial: int


def window_edges(trace: Trace) -> tuple[TimedEdge, ...]:
    """The edges of all trials that have exactly two that count, in order."""
    found: list[TimedEdge] = []
    for trial in trace.trials():
        counted = trace.counted(trial.edges)
        if len(counted) == 2:
            for edge, kind in zip(counted, (AnchorKind.OPENING, AnchorKind.CLOSING), strict=True):
                found.append(TimedEdge(edge.ticks, _pulse(trace, trial.edges, edge), kind, trial.index))
    return tuple(found)


def _pulse(trace: Trace, edges: Sequence[Edge], edge: Edge) -> int:
    """Ticks from an edge to the next one of its pin, at most the hold-off; the declared pulse if none came."""
    assert trace.meta.tick_rate_hz is not None
    longest = max(trace.meta.hold_off_s, trace.meta.pulse_s) * trace.meta.tick_rate_hz
    for other in edges:
        if other.pin == edge.pin and other.level != edge.level and 0 < other.ticks - edge.ticks <= longest:
            return other.ticks - edge.ticks
    return round(trace.meta.pulse_s * trace.meta.tick_rate_hz)
