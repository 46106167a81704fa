"""Where the windows of a run lie on its samples, and what an inference in each of them needed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from statistics import median

from labd.bench.scoring import score_trace
from labd.errors import ScoreError, TraceError
from labd.score.energy import RunScore
from labd.score.rules import Rule
from labd.service.placement import STEPS_ALONE, STEPS_ALONE_MEANS, by_steps_alone
from labd.trace.export.placing import Placement, place
from labd.trace.meta import PowerSource
from labd.trace.reader import Trace
from labd.trace.timing.proof import Proof

_REFUSALS = {
    Rule.TRIALS: "given up",
    Rule.RECORDED: "too few samples",
    Rule.UNDAMAGED: "damaged",
    Rule.EDGES_PLACED: "edges not placed",
    Rule.WITNESSES_AGREE: "place disputed",
    Rule.SAMPLED: "met in step with the samples",
}


@dataclass(frozen=True, slots=True)
class ShownWindow:
    """The window of a trial.

    Args:
        trial: Number of the trial, from 0.
        start_s, stop_s: Its edges, s.
        inferences: N.
        warmups: Inferences before it that are not timed.
        energy_j: Energy an inference, J; None if it was refused, or the columns do not tell power.
        uncertainty_j: Standard uncertainty of that, J; None if the energy alone is known.
        refused: Why it has no energy, in a word or two; empty if none was refused.
    """

    trial: int
    start_s: float
    stop_s: float
    inferences: int
    warmups: int
    energy_j: float | None = None
    uncertainty_j: float | None = None
    refused: str = ""


@dataclass(frozen=True, slots=True)
class ShownEdge:
    """An edge that counts: when, s, of which pin, and whether the pin is high after it."""

    at_s: float
    pin: int
    rising: bool


@dataclass(frozen=True, slots=True)
class RunWindows:
    """All windows of a run.

    Args:
        windows: Those whose two edges have a place on the samples.
        edges: All edges that count, of every trial.
        energy_j, uncertainty_j: Median energy an inference with its standard uncertainty, J; None if not known.
        remarks: What could not be found, and why.
        proof: What the windows were placed by, and what the witnesses said; None if there are none.
    """

    windows: tuple[ShownWindow, ...] = ()
    edges: tuple[ShownEdge, ...] = ()
    energy_j: float | None = None
    uncertainty_j: float | None = None
    remarks: tuple[str, ...] = ()
    proof: Proof | None = None

    def of(self, trial: int | None, trace_id: str) -> ShownWindow:
        """The window of a trial, None for the first. Raises `TraceError` if there is none."""
        for window in self.windows:
            if trial is None or window.trial == trial:
                return window
        have = ", ".join(str(window.trial) for window in self.windows)
        message = "the trace shows no window" if trial is None else f"trial {trial} has no window in this trace"
        remedy = "; ".join(self.remarks) or (f"trials that have one: {have}" if have else "no trial has one")
        raise TraceError(message, where=trace_id, remedy=remedy)


def find_windows(trace: Trace, scored_max: int) -> RunWindows:
    """Place the windows of a run, and give them their energies.

    Args:
        trace: The trace.
        scored_max: Samples in windows that may be read, all of them, for a score with its uncertainties; if there are
            more, or the edges are those of the digital column, energies are sums between the edges and have none.

    Raises:
        TraceError: the trace is damaged.
    """
    placed = place(trace)
    trials = {trial.index: trial for trial in trace.trials()}
    times_s = dict(zip(placed.edges, placed.times_s, strict=True))
    digital = trace.meta.tick_rate_hz is None
    counted = placed.edges if digital else [edge for t in trials.values() for edge in trace.counted(t.edges)]
    found = RunWindows(
        windows=tuple(
            ShownWindow(
                index, span.start_s, span.stop_s, trials[index].started.inferences, trials[index].started.warmups
            )
            for index, span in placed.windows.items()
        ),
        edges=tuple(
            ShownEdge(times_s[edge], edge.pin, rising=edge.level == 1)
            for edge in counted
            if math.isfinite(times_s[edge])
        ),
        remarks=tuple(_doubts(placed)),
        proof=placed.proof,
    )
    if trace.meta.power_source is PowerSource.NONE or not found.windows:
        return found
    # the scorer knows edges with timestamps only
    if digital or sum(w.stop_s - w.start_s for w in found.windows) > scored_max * trace.period_s:
        return _summed(trace, found)
    try:
        return _scored(found, score_trace(trace))
    except ScoreError as error:
        return replace(found, remarks=(*found.remarks, f"not scored: {error.message}"))


def _doubts(placed: Placement) -> Iterator[str]:
    """What speaks against the place of the windows."""
    if placed.remark:
        yield placed.remark
    if placed.proof is not None:
        if by_steps_alone(placed.proof.basis):
            yield f"{STEPS_ALONE}: {STEPS_ALONE_MEANS}"
        for each in placed.proof.disputes:
            yield f"place disputed by the {each.witness}: {each.said}"


def _scored(found: RunWindows, score: RunScore) -> RunWindows:
    """What the scorer makes of them."""
    made = {window.trial: window.energy_j_per_inference for window in score.windows}
    why = {finding.trial: _REFUSALS.get(finding.rule, "not scored") for finding in reversed(score.findings)}
    windows = tuple(
        replace(window, energy_j=made[window.trial].value, uncertainty_j=made[window.trial].standard_uncertainty)
        if window.trial in made
        else replace(window, refused=why.get(window.trial, "not scored"))
        for window in found.windows
    )
    run = score.energy_j_per_inference
    if run is None:
        return replace(found, windows=windows)
    return replace(found, windows=windows, energy_j=run.value, uncertainty_j=run.standard_uncertainty)


def _summed(trace: Trace, found: RunWindows) -> RunWindows:
    """The sums between their edges alone; a window with samples that are marked, or are no numbers, has none."""
    sums = [energy_between(trace, window.start_s, window.stop_s) for window in found.windows]
    windows = tuple(
        replace(
            window,
            energy_j=None if energy_j is None else energy_j / window.inferences,
            refused=_REFUSALS[Rule.UNDAMAGED] if _marked(trace, window.start_s, window.stop_s) else "",
        )
        for window, energy_j in zip(found.windows, sums, strict=True)
    )
    return replace(found, windows=windows, energy_j=_median(window.energy_j for window in windows))


def energy_between(trace: Trace, start_s: float, stop_s: float) -> float | None:
    """Energy between two moments, J; None where the columns or the samples do not tell it, or some are marked."""
    if _marked(trace, start_s, stop_s):
        return None
    try:
        return trace.energy(start_s / trace.period_s, stop_s / trace.period_s)
    except TraceError:
        return None


def _marked(trace: Trace, start_s: float, stop_s: float) -> bool:
    """Whether samples between two moments are marked."""
    return bool(trace.marked(start_s / trace.period_s, stop_s / trace.period_s))


def _median(energies: Iterable[float | None]) -> float | None:
    known = [energy for energy in energies if energy is not None]
    return median(known) if known else None
