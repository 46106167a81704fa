"""Where the windows of a run lie on its samples, and what an inference in each of them needed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from statistics import median

from drivers.api import Edge
from labd.bench.scoring import score_trace
from labd.errors import ScoreError, TraceError
from labd.score.energy import RunScore
from labd.score.rules import Rule
from labd.trace.journal import Trial
from labd.trace.meta import PowerSource
from labd.trace.reader import Trace
from labd.trace.timing.steps import trace_timebase
from labd.trace.timing.timebase import Timebase, TimebaseError

_REFUSALS = {
    Rule.TRIALS: "given up",
    Rule.RECORDED: "too few samples",
    Rule.UNDAMAGED: "damaged",
    Rule.EDGES_PLACED: "edges not placed",
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
    """

    windows: tuple[ShownWindow, ...] = ()
    edges: tuple[ShownEdge, ...] = ()
    energy_j: float | None = None
    uncertainty_j: float | None = None
    remarks: tuple[str, ...] = ()

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
            more, energies come from the pyramid and have none.

    Raises:
        TraceError: the trace is damaged.
    """
    trials = [(trial, trace.counted(trial.edges)) for trial in trace.trials()]
    if not any(edges for _, edges in trials):
        return RunWindows()
    try:
        timebase = trace_timebase(trace)
    except TimebaseError as error:
        return RunWindows(remarks=(f"edges not shown: {error.message}",))
    found = RunWindows(
        windows=tuple(_window(trace, timebase, trial, edges) for trial, edges in trials if len(edges) == 2),
        edges=tuple(
            ShownEdge(_at_s(trace, timebase, edge), edge.pin, rising=edge.level == 1)
            for _, edges in trials
            for edge in edges
        ),
    )
    if trace.meta.power_source is PowerSource.NONE or not found.windows:
        return found
    if sum(window.stop_s - window.start_s for window in found.windows) > scored_max * trace.period_s:
        return _summed(trace, found)
    try:
        return _scored(found, score_trace(trace))
    except ScoreError as error:
        return replace(found, remarks=(f"not scored: {error.message}",))


def _window(trace: Trace, timebase: Timebase, trial: Trial, edges: tuple[Edge, ...]) -> ShownWindow:
    start_s, stop_s = (_at_s(trace, timebase, edge) for edge in edges)
    return ShownWindow(trial.index, start_s, stop_s, trial.started.inferences, trial.started.warmups)


def _at_s(trace: Trace, timebase: Timebase, edge: Edge) -> float:
    return timebase.sample(edge.ticks)[0] * trace.period_s


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
    """The sums between their edges alone; a window with samples that are not numbers has none."""
    sums = [energy_between(trace, window.start_s, window.stop_s) for window in found.windows]
    windows = tuple(
        replace(window, energy_j=None if energy_j is None else energy_j / window.inferences)
        for window, energy_j in zip(found.windows, sums, strict=True)
    )
    return replace(found, windows=windows, energy_j=_median(window.energy_j for window in windows))


def energy_between(trace: Trace, start_s: float, stop_s: float) -> float | None:
    """Energy between two moments, J; None where the columns or the samples do not tell it."""
    try:
        return trace.energy(start_s / trace.period_s, stop_s / trace.period_s)
    except TraceError:
        return None


def _median(energies: Iterable[float | None]) -> float | None:
    known = [energy for energy in energies if energy is not None]
    return median(known) if known else None
