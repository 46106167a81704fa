"""A published results set as a job of labd's: its trials, windows and scores, with what its runner says beside ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from labd.bench.scoring import score_traces
from labd.benchmarks import Mode
from labd.dut.protocol import lap_duration_us, lap_resolution_us
from labd.model.causes import Ending
from labd.model.ledger_imports import (
    DIGEST_LABEL,
    KeptTrace,
    MadeScore,
    MeasuredElsewhere,
    MeasuredTrial,
    TimedWindow,
)
from labd.score.accuracy import score_accuracy
from labd.score.performance import TimedWindow as Timed
from labd.score.performance import score_performance
from labd.score.rules import Judged, Rules
from labd.service.messages import JobSpec
from labd.service.sessions.accuracy import Metric, metric_of
from labd.service.sessions.windows import unstated, window_figures
from labd.trace.reader import Trace
from labd.trace.sessions.convert import (
    MIN_INFERENCES,
    MIN_WINDOW_S,
    TRIALS,
    Converted,
    benchmark_of,
    inference_of,
)
from labd.trace.sessions.published import Inference, ResultsSet, Session

_LAP_RATE_HZ = 1e6
_RULES = Rules(trials=TRIALS, min_window_s=MIN_WINDOW_S, min_inferences=MIN_INFERENCES)


def measured_elsewhere(
    session: Session, results: ResultsSet, digest: str, traces: Sequence[Converted], kept: Sequence[KeptTrace]
) -> MeasuredElsewhere:
    """Make the job of one mode.

    Args:
        session: The session.
        results: The mode's results set.
        digest: The session's.
        traces: Its traces, sealed; empty but for energy.
        kept: The same, as the lab keeps them.

    Raises:
        SessionError: files of the session contradict each other.
        TraceError, ScoreError: a trace cannot be read or scored.
    """
    trials = _trials(results)
    ours = _score(results, digest, traces, metric_of(session))
    scores = [MadeScore(f"{results.format.value}-published/1", {"session": digest}, _published(results))]
    if ours is not None:
        scores.append(MadeScore(ours.scorer, ours.inputs, ours.model_dump(mode="json")))
    return MeasuredElsewhere(
        benchmark=benchmark_of(session),
        mode=results.mode,
        spec=_spec(session, results, digest),
        facts=_facts(results),
        ending=_ending(ours),
        trials=trials,
        traces=kept,
        scores=scores,
    )


def _spec(session: Session, results: ResultsSet, digest: str) -> dict[str, Any]:
    counts = {window.inferences for window in results.printed.windows} | {
        rate.inferences for rate in results.printed.rates
    }
    count = next(iter(counts)) if len(counts) == 1 else None
    return JobSpec(
        benchmark=benchmark_of(session)[:63],
        mode=results.mode,
        trials=None if results.mode is Mode.ACCURACY else TRIALS,
        min_window_s=None if results.mode is Mode.ACCURACY else MIN_WINDOW_S,
        inferences="auto" if count is None else count,
        voltage_v=results.voltage_v or None,
        rate_hz=1 / results.captures[0].period_s if results.captures else None,
        labels={"imported": results.format.value, "session": session.name[-256:], DIGEST_LABEL: digest},
    ).model_dump(mode="json")


def _facts(results: ResultsSet) -> dict[str, Any]:
    return {
        "name": results.board,
        "profile": results.profile,
        "model": results.model,
        "runner": results.runner,
        "monitor": results.monitor.model if results.monitor else "",
        "began": results.began.isoformat() if results.began else None,
        "unstated": unstated(results) if results.mode is Mode.ENERGY else "",
    }


def _published(results: ResultsSet) -> dict[str, Any]:
    printed = results.printed
    energies = {figures.index: figures for figures in window_figures(results)} if results.captures else {}
    return {
        "as_published": True,
        "median_uj_per_inference": _number(printed.median_uj_per_inference),
        "median_inferences_per_s": _number(printed.median_inferences_per_s),
        "top1_percent": _number(printed.top1_percent),
        "auc": _number(printed.auc),
        "windows": [
            {
                "index": window.index,
                "energy_uj": float(window.energy_uj),
                "recomputed_uj": float(energies[window.index].energy),
                "duration_s": float(window.duration_s),
            }
            for window in printed.windows
        ],
        "rates": [
            {"index": rate.index, "inferences": rate.inferences, "inferences_per_s": float(rate.inferences_per_s)}
            for rate in printed.rates
        ],
    }


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _trials(results: ResultsSet) -> list[MeasuredTrial]:
    if results.mode is not Mode.ENERGY:
        return [
            MeasuredTrial(number, number, each.inferences, each.results, _lap(each))
            for number, each in enumerate(results.inferences)
        ]
    spans = {span.index: (capture, span) for capture, span in results.spans}
    trials = []
    for number, window in enumerate(results.printed.windows):
        capture, span = spans[window.index]
        inference = inference_of(results, number, window.inferences or 1)
        ticks = (round(span.start_s / capture.resolution_s), round(span.stop_s / capture.resolution_s))
        edges = TimedWindow("edges", *ticks, 1 / capture.resolution_s)
        trials.append(MeasuredTrial(number, number, inference.inferences, inference.results, edges))
    return trials


def _lap(inference: Inference) -> TimedWindow | None:
    if len(inference.laps_us) != 2:
        return None
    start, stop = inference.laps_us
    return TimedWindow("lap", start, start + lap_duration_us(start, stop), _LAP_RATE_HZ)


def _score(results: ResultsSet, digest: str, traces: Sequence[Converted], metric: Metric | None) -> Judged | None:
    """What labd's own scorer makes of it; None where the session lacks what that needs."""
    inputs = {"session": digest}
    match results.mode:
        case Mode.ENERGY:
            return score_traces([Trace.open(each.folder) for each in traces]) if traces else None
        case Mode.PERFORMANCE:
            laps = [(each, lap) for each in results.inferences if (lap := _lap(each)) is not None]
            step_us = lap_resolution_us([reading for each, _ in laps for reading in each.laps_us])
            windows = [
                Timed(number, each.inferences, (lap.stop_ticks - lap.start_ticks) / _LAP_RATE_HZ, step_us * 1e-6)
                for number, (each, lap) in enumerate(laps)
            ]
            return score_performance(windows, clock_ppm=0.0, rules=_RULES, inputs=inputs) if windows else None
        case Mode.ACCURACY:
            labels = [each.expected for each in results.inferences if each.expected is not None]
            answers = [each.results for each in results.inferences]
            classes = {len(answer) for answer in answers}
            if metric is not Metric.TOP1 or not labels or len(labels) != len(answers) or len(classes) != 1:
                return None
            return score_accuracy(answers, labels, top1_target=0.0, inputs=inputs)


def _ending(ours: Judged | None) -> Ending:
    if ours is None or not ours.findings:
        return Ending()
    return Ending(ours.findings[0].cause, "; ".join(finding.detail for finding in ours.findings))
