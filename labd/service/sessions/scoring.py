"""Scores published sessions, with no lab: do the printed figures follow from what was published beside them?

Energy comes from the published samples (`labd.service.sessions.windows`), accuracy from the published result of each
input where the session tells the input's class, throughput from the board's own timestamps or the edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from statistics import median
from typing import Any

from labd.benchmarks import Mode
from labd.dut.protocol import lap_duration_us
from labd.score.accuracy import score_accuracy
from labd.score.roc import roc_auc
from labd.score.uncertainty import Estimate, median_of
from labd.service.sessions.windows import WindowFigures, rounded_as, unstated, window_figures
from labd.trace.sessions.folders import find_sessions
from labd.trace.sessions.published import Inference, Printed, ResultsSet, Session, SessionFormat


@dataclass(frozen=True, slots=True)
class Compared:
    """A figure of ours, rounded as the published one beside it; None for what is not there."""

    ours: float | None = None
    published: float | None = None

    @property
    def agrees(self) -> bool:
        """False only if both are there and differ."""
        return self.ours is None or self.published is None or self.ours == self.published


@dataclass(frozen=True, slots=True)
class SessionScore:
    """What a session comes to.

    Args:
        name: Its name.
        format: Who wrote it.
        windows: Its energy windows, in the order printed.
        inferences_per_window: N, if it is the same in all windows; of the performance results without energy ones.
        uj_per_inference: Median energy of an inference by the runner's convention, µJ.
        own_uj_per_inference: Median of labd's figures, with its uncertainty, µJ.
        accuracy_metric: `top-1` or `AUC`.
        accuracy: As a share, 0 to 1.
        inferences_per_s: Median throughput: of the performance results if there are some, else of the energy windows.
        remarks: What a reader has to know, a sentence each.
    """

    name: str
    format: SessionFormat
    windows: tuple[WindowFigures, ...]
    inferences_per_window: int | None
    uj_per_inference: Compared
    own_uj_per_inference: Estimate | None
    accuracy_metric: str
    accuracy: Compared
    inferences_per_s: Compared
    remarks: tuple[str, ...]

    @property
    def missed(self) -> tuple[WindowFigures, ...]:
        """Windows that do not come out at the printed digits."""
        return tuple(window for window in self.windows if not window.is_reproduced)

    def document(self) -> dict[str, Any]:
        """The score as JSON for scripts; None where the session lacks something."""
        return {
            "format": self.format.value,
            "windows": [
                {
                    "index": window.index,
                    "start_s": window.start_s,
                    "duration_s": window.duration_s,
                    "energy_uj": float(window.energy),
                    "published_uj": float(window.printed),
                    "energy_own_uj": None if window.own is None else window.own.value,
                    "uncertainty_uj": None if window.own is None else window.own.standard_uncertainty,
                }
                for window in self.windows
            ],
            "inferences_per_window": self.inferences_per_window,
            "median_uj_per_inference": self.uj_per_inference.ours,
            "published_median_uj_per_inference": self.uj_per_inference.published,
            "accuracy": self.accuracy.published if self.accuracy.ours is None else self.accuracy.ours,
            "throughput": self.inferences_per_s.ours,
        }


def score_sessions(path: Path) -> tuple[SessionScore, ...]:
    """Score every published session in a folder; at least one.

    Raises:
        SessionError: there is none, or a file is missing, damaged or foreign, or contradicts another.
    """
    return tuple(score_session(session) for session in find_sessions(path))


def score_session(session: Session) -> SessionScore:
    """Score one session. Raises `SessionError` if its files contradict each other, or were changed meanwhile."""
    energy = session.sets.get(Mode.ENERGY)
    performance = session.sets.get(Mode.PERFORMANCE)
    windows = () if energy is None else window_figures(energy)
    medians = _median_energy(energy, windows)
    metric, accuracy = _accuracy(session)
    throughput = _throughput(performance or energy, windows)
    counts = {each.inferences for each in windows} or _counts(performance)
    remarks = [] if energy is None else _energy_remarks(energy, windows)
    if accuracy.ours is None and accuracy.published is not None:
        remarks.append(f"accuracy ({metric}) is as published: the session does not tell the classes of its inputs")
    for what, figure in (("median energy", medians), (metric, accuracy), ("median throughput", throughput)):
        if not figure.agrees:
            remarks.append(f"{what} comes to {figure.ours:g}, published is {figure.published:g}")
    return SessionScore(
        name=session.name,
        format=session.format,
        windows=windows,
        inferences_per_window=counts.pop() if len(counts) == 1 else None,
        uj_per_inference=medians,
        own_uj_per_inference=_own_median(windows),
        accuracy_metric=metric,
        accuracy=accuracy,
        inferences_per_s=throughput,
        remarks=tuple(remarks),
    )


def _counts(performance: ResultsSet | None) -> set[int | None]:
    if performance is None:
        return set()
    return {rate.inferences for rate in performance.printed.rates} or {
        each.inferences for each in performance.inferences
    }


def _median_energy(energy: ResultsSet | None, windows: Sequence[WindowFigures]) -> Compared:
    if energy is None:
        return Compared()
    each = [window.per_inference for window in windows if window.per_inference is not None]
    whole = len(each) == len(windows) > 0
    return _compared(median(each) if whole else None, energy.printed.median_uj_per_inference)


def _own_median(windows: Sequence[WindowFigures]) -> Estimate | None:
    each = [window.own.scaled(1 / window.inferences) for window in windows if window.own and window.inferences]
    if not each or len(each) != len(windows):
        return None
    shared = set.intersection(*({term.name for term in estimate.terms} for estimate in each))
    return median_of(
        [estimate.value for estimate in each],
        [[term for term in estimate.terms if term.name in shared] for estimate in each],
    )


def _throughput(timed: ResultsSet | None, windows: Sequence[WindowFigures]) -> Compared:
    """The board's own laps tell it best; an energy session has edges instead; else what is printed of each window."""
    if timed is None:
        return Compared()
    rates = [
        each.inferences * 1e6 / lap_duration_us(*each.laps_us)
        for each in timed.inferences
        if len(each.laps_us) == 2 and each.laps_us[0] != each.laps_us[1]
    ]
    if not rates:
        rates = [window.inferences / window.duration_s for window in windows if window.inferences is not None]
    if not rates:
        rates = [float(rate.inferences_per_s) for rate in timed.printed.rates]
    return _compared(median(rates) if rates else None, timed.printed.median_inferences_per_s)


def _compared(ours: float | None, published: Decimal | None) -> Compared:
    if published is None:
        return Compared(ours=ours)
    return Compared(
        ours=None if ours is None else float(rounded_as(ours, published)),
        published=float(published),
    )


def _accuracy(session: Session) -> tuple[str, Compared]:
    """Anomaly detection is judged by the area under its ROC curve, all else by its largest result."""
    detects = session.model.startswith("ad")
    metric = "AUC" if detects else "top-1"
    results = session.sets.get(Mode.ACCURACY)
    if results is None:
        return metric, Compared()
    printed: Printed = results.printed
    labelled = [(each, each.expected) for each in results.inferences if each.expected is not None and each.results]
    whole = bool(labelled) and len(labelled) == len(results.inferences)
    if detects:
        both = len({label for _, label in labelled}) > 1
        return metric, _compared(_auc(labelled) if whole and both else None, printed.auc)
    ours = score_accuracy(*_columns(labelled), top1_target=0.0).top1 if whole else None
    # Published in %: rounded there, and shown as a share.
    percent = _compared(None if ours is None else 100 * ours, printed.top1_percent)
    return metric, Compared(
        ours=ours if percent.published is None else _share(percent.ours), published=_share(percent.published)
    )


def _share(percent: float | None) -> float | None:
    return None if percent is None else float(Decimal(str(percent)) / 100)


def _columns(labelled: Sequence[tuple[Inference, int]]) -> tuple[list[tuple[float, ...]], list[int]]:
    return [each.results for each, _ in labelled], [label for _, label in labelled]


def _auc(labelled: Sequence[tuple[Inference, int]]) -> float:
    """A file's score is the mean of its windows' (MLPerf Tiny's rules for ad01)."""
    files: dict[str, list[tuple[float, int]]] = {}
    for each, label in labelled:
        files.setdefault(each.input, []).append((each.results[0], label))
    scores = [sum(score for score, _ in parts) / len(parts) for parts in files.values()]
    return roc_auc(scores, [parts[0][1] == 1 for parts in files.values()])


def _energy_remarks(energy: ResultsSet, windows: Sequence[WindowFigures]) -> list[str]:
    remarks = [unstated(energy)] if any(window.own for window in windows) else []
    remarks += [
        f"window {window.index} lies too close to an end of its capture for labd's own figure"
        for window in windows
        if window.own is None
    ]
    if not windows:
        remarks.append("its results print no energy window")
    return remarks
