"""Scores published sessions, with no lab: do the printed figures follow from what was published beside them?

Energy comes from the published samples (`labd.service.sessions.windows`), accuracy from the published result of each
input where the session tells the input's class, throughput from the board's own timestamps or the edges.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from labd.benchmarks import Mode
from labd.score.uncertainty import Estimate, median_of
from labd.service.sessions.accuracy import Accuracy, accuracy_of
from labd.service.sessions.agreement import disagreements, lap_s
from labd.service.sessions.compared import Compared, compared
from labd.service.sessions.streaming import StreamFigures, stream_figures
from labd.service.sessions.windows import WindowFigures, unstated, window_figures
from labd.trace.sessions.folders import Found, LeftOut, survey
from labd.trace.sessions.published import ResultsSet, Session, SessionError, SessionFormat


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
        accuracy_metric: `top-1` or `AUC`; empty if nothing tells, or the benchmark has neither.
        accuracy: As a share, 0 to 1.
        inferences_per_s: Median throughput: of the performance results if there are some, else of the energy windows.
        stream: A streaming benchmark's figures; None of others.
        remarks: What a reader has to know, a sentence each, the findings among them.
        findings: What does not fit together, or was not published, so that the score cannot be taken as whole.
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
    stream: StreamFigures | None
    remarks: tuple[str, ...]
    findings: tuple[str, ...]

    @property
    def missed(self) -> tuple[WindowFigures, ...]:
        """Windows that do not come out at the printed digits."""
        return tuple(window for window in self.windows if not window.is_reproduced)

    def document(self) -> dict[str, Any]:
        """The score as JSON for scripts; None where the session lacks something."""
        figures = {name: each for name, each in self._figures() if each["value"] is not None}
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
                    "standard_uncertainty_uj": None if window.own is None else window.own.standard_uncertainty,
                    "uncertainty_uj": None if window.own is None else window.own.standard_uncertainty,  # the same
                }
                for window in self.windows
            ],
            "inferences_per_window": self.inferences_per_window,
            "median_uj_per_inference": self.uj_per_inference.ours,
            "published_median_uj_per_inference": self.uj_per_inference.published,
            "accuracy": self.accuracy.value,
            "throughput": self.inferences_per_s.value,
            "as_published": any(each["as_published"] for each in figures.values()),
            "figures": figures,
            "findings": list(self.findings),
        }

    def _figures(self) -> Iterator[tuple[str, dict[str, Any]]]:
        yield "uj_per_inference", self.uj_per_inference.document()
        yield "inferences_per_s", self.inferences_per_s.document()
        yield "accuracy", {"metric": self.accuracy_metric or None, **self.accuracy.document()}
        if self.stream is not None:
            yield "duty_cycle", self.stream.duty_cycle.document()
            for name, each in self.stream.counts():
                yield name, each.document()


def score_sessions(path: Path) -> tuple[SessionScore, ...]:
    """Score every published session in a folder; at least one.

    Raises:
        SessionError: there is none, or a file is missing, damaged or foreign, or contradicts another.
    """
    return tuple(map(score_session, survey(path).whole()))


def score_found(found: Found) -> tuple[tuple[SessionScore, ...], tuple[LeftOut, ...]]:
    """Score what was read; a session whose files contradict each other is left out, and keeps no other from it."""
    scores, left_out = [], list(found.left_out)
    for session in found.sessions:
        try:
            scores.append(score_session(session))
        except SessionError as error:
            left_out.append(LeftOut(session.folder, error))
    return tuple(scores), tuple(left_out)


def score_session(session: Session) -> SessionScore:
    """Score one session. Raises `SessionError` if its files contradict each other, or were changed meanwhile."""
    energy = session.sets.get(Mode.ENERGY)
    performance = session.sets.get(Mode.PERFORMANCE)
    windows = () if energy is None else window_figures(energy)
    medians = _median_energy(energy, windows)
    accuracy = accuracy_of(session)
    stream = _stream(session)
    throughput = _throughput(performance, windows, energy) if stream is None else stream.inferences_per_s
    counts = {each.inferences for each in windows} or _counts(performance)
    remarks = [*_energy_remarks(energy, windows), *accuracy.remarks, *_complaints(session)]
    findings = [
        *(f"{results.mode.value}: {each}" for results in session.sets.values() for each in results.lacks),
        *(
            f"{results.mode.value}: {each}"
            for results in session.sets.values()
            for each in disagreements(results, windows if results is energy else ())
        ),
        *_models(session),
        *accuracy.findings,
        *_differences(medians, accuracy, throughput, stream),
    ]
    return SessionScore(
        name=session.name,
        format=session.format,
        windows=windows,
        inferences_per_window=counts.pop() if len(counts) == 1 else None,
        uj_per_inference=medians,
        own_uj_per_inference=_own_median(windows),
        accuracy_metric=accuracy.metric or "",
        accuracy=accuracy.figure,
        inferences_per_s=throughput,
        stream=stream,
        remarks=(*remarks, *findings),
        findings=tuple(findings),
    )


def _stream(session: Session) -> StreamFigures | None:
    """Of several sets the one whose recordings were published."""
    sets = [results for results in session.sets.values() if results.is_streaming]
    if not sets:
        return None
    whole = next((results for results in sets if results.streams), sets[0])
    return stream_figures(whole.streams, whole.printed)


def _differences(
    medians: Compared, accuracy: Accuracy, throughput: Compared, stream: StreamFigures | None
) -> Iterator[str]:
    figures = [("median energy", medians), (accuracy.metric or "accuracy", accuracy.figure)]
    figures.append(("median throughput", throughput))
    if stream is not None:
        figures += [("duty cycle", stream.duty_cycle), *stream.counts()]
    for what, figure in figures:
        if not figure.agrees:
            yield f"{what.replace('_', ' ')} comes to {figure.ours:g}, published is {figure.published:g}"


def _models(session: Session) -> Iterator[str]:
    said = {results.mode.value: results.model for results in session.sets.values() if results.model}
    if len(set(said.values())) > 1:
        yield f"its sets are of several models: {', '.join(f'{model} ({mode})' for mode, model in said.items())}"


def _complaints(session: Session) -> Iterator[str]:
    for results in session.sets.values():
        for each in results.printed.complaints:
            yield f"{results.mode.value}: its runner says: {each}"


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
    return compared(median(each) if whole else None, energy.printed.median_uj_per_inference)


def _own_median(windows: Sequence[WindowFigures]) -> Estimate | None:
    each = [window.own.scaled(1 / window.inferences) for window in windows if window.own and window.inferences]
    if not each or len(each) != len(windows):
        return None
    shared = set.intersection(*({term.name for term in estimate.terms} for estimate in each))
    return median_of(
        [estimate.value for estimate in each],
        [[term for term in estimate.terms if term.name in shared] for estimate in each],
    )


def _throughput(
    performance: ResultsSet | None, windows: Sequence[WindowFigures], energy: ResultsSet | None
) -> Compared:
    """Of performance results by the board's laps, of energy ones by the edges; else the printed one, not checked.

    A board may print laps in energy mode as well: the edges are what the energy was cut by, so they win.
    """
    timed = performance or energy
    if timed is None:
        return Compared()
    if performance is not None:
        laps = [(each.inferences, lap_s(each)) for each in performance.inferences]
        rates = [inferences / lap for inferences, lap in laps if lap is not None]
        # A lap of another run than the printed ones makes no median of theirs.
        whole = len(rates) == len(laps) == (len(performance.printed.rates) or len(laps))
    else:
        rates = [window.inferences / window.duration_s for window in windows if window.inferences is not None]
        whole = len(rates) == len(windows)
    printed = timed.printed.median_inferences_per_s
    if printed is None and timed.printed.rates:
        printed = median(rate.inferences_per_s for rate in timed.printed.rates)
    return compared(median(rates) if rates and whole else None, printed)


def _energy_remarks(energy: ResultsSet | None, windows: Sequence[WindowFigures]) -> list[str]:
    if energy is None:
        return []
    remarks = [unstated(energy)] if any(window.own for window in windows) else []
    remarks += [
        f"window {window.index} lies too close to an end of its capture for labd's own figure"
        for window in windows
        if window.own is None
    ]
    return remarks
