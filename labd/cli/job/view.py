"""Jobs as tables: every figure with its unit, its uncertainty or interval, and how many values it is made of."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from labd.cli.table import counted, local_time, print_table, quantity, results, short_time
from labd.model.states import JobState
from labd.plus_minus import PLUS_MINUS, plus_minus
from labd.service.messages import (
    CauseDocument,
    JobDocument,
    JobSummary,
    RunDocument,
    ScoreDocument,
    TraceDocument,
    TrialDocument,
)
from labd.service.placement import (
    STEPS_ALONE,
    STEPS_ALONE_MEANS,
    by_steps_alone,
    disputed_by,
    placed_by,
    testimonies,
)


class Figure(BaseModel):
    """The part of an estimate that people read."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    value: float
    standard_uncertainty: float
    interval: tuple[float, float]
    coverage: float


_FIGURES = (
    ("energy_j_per_inference", "energy per inference, these windows", 1e6, "µJ"),
    ("board_energy_j_per_inference", "energy per inference, this board", 1e6, "µJ"),
    ("inferences_per_s", "throughput, these windows", 1.0, "inferences/s"),
    ("board_inferences_per_s", "throughput, this board", 1.0, "inferences/s"),
)
"""Keys of a score's result that are estimates: what they are, and the scale and unit that people use."""
_PUBLISHED = (
    ("median_uj_per_inference", "energy per inference", " µJ"),
    ("median_inferences_per_s", "throughput", " inferences/s"),
    ("top1_percent", "top-1 accuracy", " %"),
    ("auc", "area under the ROC curve", ""),
)
"""Keys of what another runner printed; no uncertainty came with it."""


def print_jobs(jobs: Sequence[JobSummary]) -> None:
    """Print a table of jobs."""
    columns = ("job", "what", "state", "board", "prio", "submitted", "ended", "by", "cause")
    rows = (
        (
            str(job.id),
            f"{job.benchmark} {job.mode}",
            job.state,
            job.board_id or "-",
            f"{job.priority:+d}" if job.priority else "-",
            short_time(job.submitted_at),
            short_time(job.ended_at),
            job.requester or job.client,
            job.cause.kind if job.cause is not None else "-",
        )
        for job in jobs
    )
    print_table(counted(len(jobs), "job"), columns, rows)


def print_job(job: JobDocument) -> None:
    """Print all that is known of one job."""
    asked = {key: value for key, value in job.spec.items() if value not in (None, {}, []) and key not in _NAMED}
    rows = [
        ("state", job.state),
        *_cause_rows(job.cause),
        ("benchmark", f"{job.benchmark}, {job.mode}"),
        *([("priority", f"{job.priority:+d}")] if job.priority else []),
        ("asked", ", ".join(f"{key} = {_words(value)}" for key, value in asked.items()) or "-"),
        ("by", job.requester or job.client),
        ("submitted", local_time(job.submitted_at)),
        ("ended", local_time(job.ended_at)),
        *_next_rows(job),
    ]
    print_table(f"job {job.id}", ("what", "is"), rows)
    for run in job.runs:
        _print_run(run)


def _next_rows(job: JobDocument) -> list[tuple[str, str]]:
    """What a person may do next with a job that has not ended."""
    match job.state:
        case JobState.QUEUED:
            attempts = f" after {counted(len(job.runs), 'attempt')}" if job.runs else ""
            return [("next", f"waits{attempts}; why: labctl job why {job.id}")]
        case JobState.RUNNING:
            return [("next", f"follow it: labctl job watch {job.id}")]
        case JobState.PARKED:
            return [("next", f"try it again: labctl job release {job.id}; give it up: labctl job cancel {job.id}")]
    return []


_NAMED = ("benchmark", "mode", "priority")


def figures(score: ScoreDocument) -> Iterator[tuple[str, str, str, str]]:
    """A score's figures as rows: what, value ± standard uncertainty, interval, made of."""
    windows = score.result.get("windows")
    made_of = f"median of {len(windows)} windows" if isinstance(windows, list) else "-"
    if placed := placed_by(score.result.get("placement")):
        verdicts = ((witness, verdict) for witness, verdict, _ in testimonies(score.result))
        made_of += f", placed by {placed}{disputed_by(verdicts)}"
    for key, what, scale, unit in _FIGURES:
        figure = _figure(score.result, key)
        if figure is not None:
            low, high = (scale * end for end in figure.interval)
            interval = f"{low:.5g} to {high:.5g} {unit} ({100 * figure.coverage:g} %)"
            value = plus_minus(scale * figure.value, scale * figure.standard_uncertainty, unit)
            yield what, value, interval, made_of
    result = score.result
    if "top1" in result:
        low, high = (100 * end for end in result["interval"])
        interval = f"{low:.2f} to {high:.2f} % ({100 * result['coverage']:g} %)"
        made_of = f"{result['correct']} of {result['samples']} inputs"
        yield "top-1 accuracy", f"{100 * result['top1']:.2f} %", interval, made_of
    for key, what, unit in _PUBLISHED:
        if isinstance(printed := result.get(key), float):
            yield f"{what}, as published", f"{printed:.10g}{unit}", "-", made_of


def print_scores(scores: Sequence[ScoreDocument]) -> None:
    """Print the scores of a run: figures, broken rules, remarks, and what the witnesses of the windows' place said."""
    if scored := [row for score in scores for row in _scored(score)]:
        print_table(f"scores: {PLUS_MINUS}", ("figure", "value", "interval", "made of", "scorer"), scored)
    if any(by_steps_alone(score.result.get("placement")) for score in scores):
        results().print(f"{STEPS_ALONE}: {STEPS_ALONE_MEANS}", style="yellow", markup=False)
    if findings := [row for score in scores for row in _findings(score)]:
        print_table("rules broken", ("rule", "trial", "detail"), findings)
    if remarks := [row for score in scores for row in _remarks(score)]:
        print_table("remarks, which the uncertainty already holds", ("about", "detail"), remarks)
    if said := list(dict.fromkeys(row for score in scores for row in testimonies(score.result))):
        print_table("where the windows lie", ("witness", "verdict", "said"), said)


def _print_run(run: RunDocument) -> None:
    rows = [
        ("board", run.board_id),
        ("state", f"{run.state}, step {run.step}"),
        *_cause_rows(run.cause),
        ("firmware", run.firmware_sha256 or "-"),
        ("started", local_time(run.started_at)),
        ("ended", local_time(run.ended_at)),
    ]
    results().print()
    print_table(f"run {run.id}, attempt {run.attempt}", ("what", "is"), rows)
    print_scores(run.scores)
    if timed := [trial for trial in run.trials if trial.window is not None or trial.cause is not None]:
        print_table("trials", ("trial", "input", "inferences", "window", "state", "detail"), map(_trial_row, timed))
    if run.traces:
        columns = ("trace", "state", "samples", "period", "size", "url")
        print_table("traces", columns, map(_trace_row, run.traces))


def _scored(score: ScoreDocument) -> Iterator[tuple[str, ...]]:
    return ((*row, score.scorer) for row in figures(score))


def _findings(score: ScoreDocument) -> Iterator[tuple[str, ...]]:
    for finding in score.result.get("findings") or ():
        trial = finding.get("trial")
        yield str(finding.get("rule", "-")), "-" if trial is None else str(trial), str(finding.get("detail", ""))


def _remarks(score: ScoreDocument) -> Iterator[tuple[str, ...]]:
    for remark in score.result.get("remarks") or ():
        yield str(remark.get("about", "-")), str(remark.get("detail", ""))


def _trial_row(trial: TrialDocument) -> tuple[str, ...]:
    window = "-" if trial.window is None else f"{trial.window.duration_s:.6f} s"
    detail = "-" if trial.cause is None else trial.cause.detail or trial.cause.sentence
    return str(trial.number), str(trial.input), str(trial.inferences), window, trial.state, detail


def _trace_row(trace: TraceDocument) -> tuple[str, ...]:
    period, size = quantity(trace.period_s, "s"), quantity(trace.bytes, "B")
    return trace.id, trace.state, str(trace.rows), period, size, trace.url or "-"


def _cause_rows(cause: CauseDocument | None) -> list[tuple[str, str]]:
    if cause is None:
        return []
    rows = [("cause", f"{cause.kind}: {cause.sentence}"), ("detail", cause.detail), ("remedy", cause.remedy)]
    return [(what, words) for what, words in rows if words]


def _figure(result: Mapping[str, Any], key: str) -> Figure | None:
    """The estimate at `key`; None if the score has none, or has it in a form of another version."""
    try:
        return Figure.model_validate(result.get(key))
    except ValidationError:
        return None


def _words(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
