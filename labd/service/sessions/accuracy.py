"""By what a published session's accuracy is measured, and what it comes to.

Which of the two it is, top-1 or AUC, is seen in what was measured: in the inputs, in what the board answered, in what
the results print. The model's name is the last to be asked, and whoever shows the figure says so: a session may call
its model as it likes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

from labd.benchmarks import Mode
from labd.score.accuracy import score_accuracy
from labd.score.roc import roc_auc
from labd.service.sessions.compared import Compared, compared
from labd.trace.sessions.convert import benchmark_of
from labd.trace.sessions.energyrunner_log import expected_class, is_anomaly_input
from labd.trace.sessions.published import Inference, ResultsSet, Session


class Metric(StrEnum):
    """What an accuracy is a share of."""

    TOP1 = "top-1"
    AUC = "AUC"


_OF_BENCHMARK = {"ad01": Metric.AUC, "ic01": Metric.TOP1, "ic02": Metric.TOP1} | dict.fromkeys(
    ("kws01", "vww01"), Metric.TOP1
)
"""MLPerf Tiny's rules v1.4."""


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The accuracy of a session.

    Args:
        metric: What it is; None if nothing tells.
        figure: As a share, 0 to 1.
        remarks: What a reader has to know.
        findings: What is wrong with it.
    """

    metric: Metric | None = None
    figure: Compared = field(default_factory=Compared)
    remarks: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()


def accuracy_of(session: Session) -> Accuracy:
    """Make the accuracy of a session again from the board's answers, where the session tells the inputs' classes."""
    results = session.sets.get(Mode.ACCURACY)
    if results is None or results.is_streaming:
        return Accuracy(metric_of(session))
    metric, remarks = _measured(session), []
    if metric is None:
        metric = _named(session)
        remarks.append(f"that accuracy is {metric} is known from the name {benchmark_of(session)!r} alone")
    if metric is None:
        return Accuracy(findings=("neither its inputs, its answers nor its results tell if accuracy is top-1 or AUC",))
    figure, findings = _figure(metric, results), list(_gaps(results))
    if figure.as_published:
        remarks.append(f"accuracy ({metric}) is as published: {_why_not(metric, results)}")
    if figure.published is None:
        findings.append(f"its results print no {metric}")
    return Accuracy(metric, figure, tuple(remarks), tuple(findings))


def metric_of(session: Session) -> Metric | None:
    """What the session's accuracy is; None if nothing tells."""
    return _measured(session) or _named(session)


def _measured(session: Session) -> Metric | None:
    """The metric by what was measured; None if nothing of it tells."""
    accuracy = session.sets.get(Mode.ACCURACY)
    first = [] if accuracy is None else accuracy.inferences
    every = [each for results in session.sets.values() for each in results.inferences]
    return (
        _by_inputs(first)
        or _by_answers(first, Metric.AUC)
        or _OF_BENCHMARK.get(session.dataset)
        or _by_results(accuracy)
        or _by_answers(first, Metric.TOP1)
        or _by_inputs(every)
        or _by_answers(every, Metric.AUC)
        or _by_answers(every, Metric.TOP1)
    )


def _named(session: Session) -> Metric | None:
    return _OF_BENCHMARK.get(benchmark_of(session))


def _by_inputs(inferences: Iterable[Inference]) -> Metric | None:
    """Sounds of machines are normal or not; keyword spotting's inputs are called by their class."""
    for each in inferences:
        if is_anomaly_input(each.input):
            return Metric.AUC
        if expected_class(each.input) is not None:
            return Metric.TOP1
    return None


def _by_answers(inferences: Iterable[Inference], metric: Metric) -> Metric | None:
    """One number is a score, several are those of classes."""
    lengths = {len(each.results) for each in inferences if each.results}
    if not lengths:
        return None
    return metric if (lengths == {1}) is (metric is Metric.AUC) else None


def _by_results(results: ResultsSet | None) -> Metric | None:
    """The only one of the two that is printed."""
    if results is None or (results.printed.auc is None) == (results.printed.top1_percent is None):
        return None
    return Metric.TOP1 if results.printed.auc is None else Metric.AUC


def _labelled(results: ResultsSet) -> list[tuple[Inference, int]]:
    return [(each, each.expected) for each in results.inferences if each.expected is not None and each.results]


def _figure(metric: Metric, results: ResultsSet) -> Compared:
    labelled = _labelled(results)
    whole = bool(labelled) and len(labelled) == len(results.inferences)
    lengths = {len(each.results) for each, _ in labelled}
    if metric is Metric.AUC:
        both = len({label for _, label in labelled}) > 1
        return compared(_auc(labelled) if whole and both and lengths == {1} else None, results.printed.auc)
    ours = None
    if whole and len(lengths) == 1:
        ours = score_accuracy(
            [each.results for each, _ in labelled], [label for _, label in labelled], top1_target=0.0
        ).top1
    # Published in %: rounded there, and shown as a share.
    percent = compared(None if ours is None else 100 * ours, results.printed.top1_percent)
    return Compared(
        ours=ours if percent.published is None else _share(percent.ours), published=_share(percent.published)
    )


def _gaps(results: ResultsSet) -> Iterator[str]:
    """What is missing in a run that has answers."""
    silent = sum(not each.results for each in results.inferences)
    unlabelled = sum(each.expected is None for each in results.inferences)
    every = len(results.inferences)
    for count, what in ((silent, "have no answer in the log"), (unlabelled, "do not tell their class")):
        if 0 < count < every:
            yield f"{count} of {every} inputs {what}"


def _why_not(metric: Metric, results: ResultsSet) -> str:
    if not any(each.results for each in results.inferences):
        return "the session holds no answers"
    if len({len(each.results) for each in results.inferences}) > 1:
        return "the board's answers are of different lengths"
    if not any(each.expected is not None for each in results.inferences):
        return "the session does not tell the classes of its inputs"
    return f"its answers make no {metric}"


def _share(percent: float | None) -> float | None:
    return None if percent is None else float(Decimal(str(percent)) / 100)


def _auc(labelled: Sequence[tuple[Inference, int]]) -> float:
    """A file's score is the mean of its windows' (MLPerf Tiny's rules for ad01)."""
    files: dict[str, list[tuple[float, int]]] = {}
    for each, label in labelled:
        files.setdefault(each.input, []).append((each.results[0], label))
    scores = [sum(score for score, _ in parts) / len(parts) for parts in files.values()]
    return roc_auc(scores, [parts[0][1] == 1 for parts in files.values()])
