"""Where the edges and windows of a trace lie among its samples, as far as anything ties them together.

Edges of a timestamper are mapped by the trace's timebase. Edges of the digital column lie at samples already; they do
not say which trial they belong to, so they are windows only if there are exactly two for each trial.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from drivers.api import Edge, Quantity
from labd.errors import TraceError
from labd.trace.export.selection import Span
from labd.trace.journal import EdgeSeen
from labd.trace.reader import Trace
from labd.trace.timing.proof import Proof, prove
from labd.trace.timing.timebase import TimebaseError


@dataclass(frozen=True, slots=True)
class Placement:
    """Edges and windows in time.

    Args:
        edges: All edges that were reported, or those that count of the digital column, in their order.
        times_s: When each was, s from the start of sample 0; NaN if it is not known.
        windows: By number of the trial, of those that have one of two edges.
        remark: Why edges have no time; empty if they have, or there are none.
        proof: What edges of a timestamper were placed by, and what the witnesses said; None without such edges.
    """

    edges: tuple[Edge, ...]
    times_s: tuple[float, ...]
    windows: Mapping[int, Span]
    remark: str = ""
    proof: Proof | None = None


def place(trace: Trace) -> Placement:
    """Find the edges and windows of a trace. Raises `TraceError` if it cannot be read."""
    if trace.meta.tick_rate_hz is None and Quantity.DIGITAL in trace.meta.quantities:
        return _of_digital(trace)
    edges = tuple(record.edge for record in trace.records if isinstance(record, EdgeSeen))
    if not edges:
        return Placement((), (), {})
    try:
        proof = prove(trace)
    except TimebaseError as error:
        return Placement(edges, (math.nan,) * len(edges), {}, f"edges have no time: {error.message}")

    def at_s(edge: Edge) -> float:
        return proof.timebase.sample(edge.ticks)[0] * trace.period_s

    counted = {trial.index: trace.counted(trial.edges) for trial in trace.trials()}
    windows = {trial: Span(*map(at_s, pair)) for trial, pair in counted.items() if len(pair) == 2}
    return Placement(edges, tuple(map(at_s, edges)), windows, proof=proof)


def _of_digital(trace: Trace) -> Placement:
    edges = trace.edges()
    times_s = tuple(edge.ticks * trace.period_s for edge in edges)
    trials = [trial.index for trial in trace.trials()]
    paired = len(edges) == 2 * len(trials)
    pairs = zip(times_s[::2], times_s[1::2], strict=True) if paired else ()
    return Placement(edges, times_s, {trial: Span(*pair) for trial, pair in zip(trials, pairs, strict=False)})


def trial_span(trace: Trace, trial: int, margin_s: float) -> Span:
    """The window of a trial, and a little on each side as far as the trace goes.

    Args:
        trace: An open trace.
        trial: Number of the trial in its run, from 0.
        margin_s: What to add on each side, s, at least 0.

    Raises:
        TraceError: the trial has no window of two edges, or nothing ties them to the samples.
    """
    if not (math.isfinite(margin_s) and margin_s >= 0):
        raise TraceError(f"{margin_s:g} s is no margin", where=trace.meta.trace_id)
    placed = place(trace)
    window = placed.windows.get(trial)
    if window is None:
        have = ", ".join(map(str, sorted(placed.windows)))
        remedy = placed.remark or (f"these have one: {have}" if have else "no trial of this trace has one")
        raise TraceError(f"trial {trial} has no window", where=trace.meta.trace_id, remedy=remedy)
    return Span(max(0.0, window.start_s - margin_s), min(trace.duration_s, window.stop_s + margin_s))
