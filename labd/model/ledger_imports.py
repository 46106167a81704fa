"""Jobs that were measured elsewhere: they enter the ledger ended, whole, in one transaction.

As in `labd.model.ledger`, nothing here commits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlmodel import Session, col, select

from labd.benchmarks import Mode
from labd.model import ledger, ledger_measures
from labd.model.causes import Ending
from labd.model.ledger_events import note, note_of_run
from labd.model.states import BoardState, JobState, RunState, RunStep, TraceState, TrialState
from labd.model.tables import Job, Run, Score, Trace, Trial, Window

IMPORTED_BOARD = "Imported"
"""The board of such runs. No board of a lab can be called so: theirs are lower case."""
DIGEST_LABEL = "session_sha256"
"""Label by which the jobs of a session are found again."""


@dataclass(frozen=True, slots=True)
class TimedWindow:
    """The timed span of a trial: `edges` or `lap`, in ticks of a clock."""

    method: str
    start_ticks: int
    stop_ticks: int
    tick_rate_hz: float


@dataclass(frozen=True, slots=True)
class MeasuredTrial:
    """One trial that was measured elsewhere; `input` is its place in the order of the session's inputs."""

    number: int
    input: int
    inferences: int
    results: tuple[float, ...]
    window: TimedWindow | None


@dataclass(frozen=True, slots=True)
class KeptTrace:
    """A sealed trace that lies in the lab's folder."""

    id: str
    rows: int
    period_s: float
    bytes: int
    sha256: str
    started_at: datetime


@dataclass(frozen=True, slots=True)
class MadeScore:
    """What a scorer made of the run."""

    scorer: str
    inputs: Mapping[str, Any]
    result: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class MeasuredElsewhere:
    """All there is of one results set.

    Args:
        benchmark, mode: What was measured.
        spec: The job as it would have been asked for, with the labels that tell where it is from.
        facts: What the session says of board and runner.
        ending: How the run stands by the rules.
        trials, traces, scores: What it is made of.
    """

    benchmark: str
    mode: Mode
    spec: Mapping[str, Any]
    facts: Mapping[str, Any]
    ending: Ending
    trials: Sequence[MeasuredTrial]
    traces: Sequence[KeptTrace]
    scores: Sequence[MadeScore]


def imported_jobs(session: Session, digest: str) -> list[int]:
    """Numbers of the jobs that a session was imported as, in order; empty if it was not."""
    label = col(Job.spec)[("labels", DIGEST_LABEL)].as_string()
    # Any client may give its job this label; none can have it run on that board.
    query = select(Job.id).join(Run).where(label == digest, Run.board_id == IMPORTED_BOARD).order_by(col(Job.id))
    return [number for number in session.exec(query) if number]


def known_traces(session: Session, trace_ids: Sequence[str]) -> set[str]:
    """Those of the ids that the lab has a row of."""
    return set(session.exec(select(Trace.id).where(col(Trace.id).in_(trace_ids))))


def add_measured(session: Session, measured: MeasuredElsewhere, *, client: str, now: datetime) -> int:
    """Add a job with its run and all that belongs to it; return the job's number.

    The run ends now: how long its traces are kept counts from the import, not from years ago.
    """
    # A board is known before a run can name it; it is never online, so nothing is ever sent to it.
    ledger.set_board_state(session, IMPORTED_BOARD, BoardState.OFFLINE, "stands for boards measured elsewhere", now)
    ending = measured.ending
    job = Job(
        benchmark=measured.benchmark,
        mode=measured.mode,
        state=JobState(ending.state.value),
        cause=ending.cause,
        detail=ending.detail,
        client=client,
        spec=dict(measured.spec),
        submitted_at=now,
        ended_at=now,
    )
    session.add(job)
    session.flush()
    assert job.id is not None, "rows have their number after a flush"
    run = Run(
        job_id=job.id,
        attempt=1,
        board_id=IMPORTED_BOARD,
        state=RunState(ending.state.value),
        step=RunStep.RELEASE,
        cause=ending.cause,
        detail=ending.detail,
        facts=dict(measured.facts),
        started_at=now,
        ended_at=now,
    )
    session.add(run)
    session.flush()
    assert run.id is not None, "rows have their number after a flush"
    reason = ending.cause or ""
    note(session, now, kind="job", subject=str(job.id), state=job.state, reason=reason, job_id=job.id)
    note_of_run(session, run.id, now, kind="run", subject=str(run.id), state=run.state, reason=reason)
    _add_trials(session, run.id, measured.trials)
    for kept in measured.traces:
        session.add(
            Trace(
                id=kept.id,
                run_id=run.id,
                state=TraceState.SEALED,
                rows=kept.rows,
                period_s=kept.period_s,
                bytes=kept.bytes,
                sha256=kept.sha256,
                started_at=kept.started_at,
            )
        )
        note_of_run(session, run.id, now, kind="trace", subject=kept.id, state=TraceState.SEALED)
    for made in measured.scores:
        score = Score(
            run_id=run.id, scorer=made.scorer, inputs=dict(made.inputs), result=dict(made.result), created_at=now
        )
        ledger_measures.add_score(session, score)
    return job.id


def _add_trials(session: Session, run_id: int, trials: Sequence[MeasuredTrial]) -> None:
    rows = [
        Trial(
            run_id=run_id,
            number=trial.number,
            input=trial.input,
            inferences=trial.inferences,
            state=TrialState.MEASURED,
            results=list(trial.results),
        )
        for trial in trials
    ]
    session.add_all(rows)
    session.flush()
    for row, trial in zip(rows, trials, strict=True):
        assert row.id is not None, "rows have their number after a flush"
        if trial.window is not None:
            window = trial.window
            session.add(
                Window(
                    trial_id=row.id,
                    method=window.method,
                    start_ticks=window.start_ticks,
                    stop_ticks=window.stop_ticks,
                    tick_rate_hz=window.tick_rate_hz,
                    duration_s=(window.stop_ticks - window.start_ticks) / window.tick_rate_hz,
                )
            )
