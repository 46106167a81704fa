"""What a run measures, as it comes: trials with their windows, traces, scores.

As in `labd.model.ledger`, every function takes the writer's session, and none commits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, insert, select, update
from sqlmodel import Session, SQLModel

from labd.model.causes import Cause
from labd.model.ledger_events import note_of_run
from labd.model.rows import Rows
from labd.model.states import TraceState, TrialState, check_transition
from labd.model.tables import Score, Trace, Trial, Window


@dataclass(frozen=True, slots=True)
class _Measured:
    """How far a trial has come, and of which run it is."""

    run_id: int
    state: TrialState


@dataclass(frozen=True, slots=True)
class _Recorded:
    """How far a trace has come, and of which run it is."""

    run_id: int
    state: TraceState


# A run writes these dozens of times: as rows of their tables, not as objects, they take half of the time.
_TRIALS = SQLModel.metadata.tables["trial"]
_ADD_TRIAL = insert(_TRIALS)
_ADD_WINDOW = insert(SQLModel.metadata.tables["window"])
_ADD_TRACE = insert(SQLModel.metadata.tables["trace"])
_ADD_SCORE = insert(SQLModel.metadata.tables["score"])
_TRIAL_ROWS = Rows(Trial, _Measured)
_TRACE_ROWS = Rows(Trace, _Recorded)
_RUNNING = select(_TRIALS.c.id).where(_TRIALS.c.run_id == bindparam("run"), _TRIALS.c.state == TrialState.RUNNING)
_END_TRIAL = (
    update(_TRIALS)
    .where(_TRIALS.c.id == bindparam("trial"), _TRIALS.c.state == TrialState.RUNNING)
    .values(state=TrialState.MEASURED, results=bindparam("measured"))
)


def start_trial(session: Session, run_id: int, *, number: int, input_index: int, inferences: int) -> int:
    """Add a running trial and return its id."""
    trial = Trial(run_id=run_id, number=number, input=input_index, inferences=inferences, results=[])
    key = session.connection().execute(_ADD_TRIAL, trial.model_dump(exclude={"id"})).inserted_primary_key
    assert key is not None, "an insert of one row tells its key"
    return int(key[0])


def end_trial(session: Session, trial_id: int, results: Iterable[float], window: Window | None) -> None:
    """Note a trial's results, and its window where it has one."""
    connection = session.connection()
    if connection.execute(_END_TRIAL, {"trial": trial_id, "measured": list(results)}).rowcount != 1:
        check_transition(f"trial {trial_id}", _TRIAL_ROWS.get_one(session, trial_id).state, TrialState.MEASURED)
    if window is not None:
        connection.execute(_ADD_WINDOW, window.model_dump(exclude={"id"}))


def refuse_running(session: Session, run_id: int, cause: Cause, detail: str, now: datetime) -> None:
    """Refuse the trials of a run that are under way: it ends."""
    for trial_id in session.connection().execute(_RUNNING, {"run": run_id}).scalars().all():
        refuse_trial(session, trial_id, cause, detail, now)


def refuse_trial(session: Session, trial_id: int, cause: Cause, detail: str, now: datetime) -> None:
    """Refuse a trial; it keeps its cause."""
    trial = _TRIAL_ROWS.get_one(session, trial_id)
    state = check_transition(f"trial {trial_id}", trial.state, TrialState.REFUSED)
    _TRIAL_ROWS.change(session, trial_id, state=state, cause=cause, detail=detail)
    note_of_run(session, trial.run_id, now, kind="trial", subject=str(trial_id), state=state, reason=cause)


def start_trace(session: Session, trace: Trace) -> None:
    """Note a trace before its first sample."""
    session.connection().execute(_ADD_TRACE, trace.model_dump())
    note_of_run(session, trace.run_id, trace.started_at, kind="trace", subject=trace.id, state=trace.state)


def end_trace(
    session: Session, trace_id: str, state: TraceState, *, rows: int, size: int, sha256: str, now: datetime
) -> None:
    """Note how a trace was closed."""
    trace = _TRACE_ROWS.get_one(session, trace_id)
    check_transition(f"trace {trace_id}", trace.state, state)
    _TRACE_ROWS.change(session, trace_id, state=state, rows=rows, bytes=size, sha256=sha256)
    note_of_run(session, trace.run_id, now, kind="trace", subject=trace_id, state=state)


def add_score(session: Session, score: Score) -> None:
    """Add one score of a run."""
    session.connection().execute(_ADD_SCORE, score.model_dump(exclude={"id"}))
