"""What a run measures, as it comes: trials with their windows, traces, scores.

As in `labd.model.ledger`, every function takes the writer's session, and none commits.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import bindparam, insert, update
from sqlmodel import Session, SQLModel

from labd.model.causes import Cause
from labd.model.ledger_events import note_of_run
from labd.model.states import TraceState, TrialState, check_transition
from labd.model.tables import Score, Trace, Trial, Window

# A run writes these dozens of times: as rows of their tables, not as objects, they take half of the time.
_TRIALS = SQLModel.metadata.tables["trial"]
_ADD_TRIAL = insert(_TRIALS)
_ADD_WINDOW = insert(SQLModel.metadata.tables["window"])
_ADD_SCORE = insert(SQLModel.metadata.tables["score"])
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
        check_transition(f"trial {trial_id}", session.get_one(Trial, trial_id).state, TrialState.MEASURED)
    if window is not None:
        connection.execute(_ADD_WINDOW, window.model_dump(exclude={"id"}))


def refuse_trial(session: Session, trial_id: int, cause: Cause, detail: str, now: datetime) -> None:
    """Refuse a trial; it keeps its cause."""
    trial = session.get_one(Trial, trial_id)
    trial.state = check_transition(f"trial {trial_id}", trial.state, TrialState.REFUSED)
    trial.cause, trial.detail = cause, detail
    session.add(trial)
    note_of_run(session, trial.run_id, now, kind="trial", subject=str(trial_id), state=trial.state, reason=cause)


def start_trace(session: Session, trace: Trace) -> None:
    """Note a trace before its first sample."""
    session.add(trace)
    note_of_run(session, trace.run_id, trace.started_at, kind="trace", subject=trace.id, state=trace.state)


def end_trace(
    session: Session, trace_id: str, state: TraceState, *, rows: int, size: int, sha256: str, now: datetime
) -> None:
    """Note how a trace was closed."""
    trace = session.get_one(Trace, trace_id)
    trace.state = check_transition(f"trace {trace_id}", trace.state, state)
    trace.rows, trace.bytes, trace.sha256 = rows, size, sha256
    session.add(trace)
    note_of_run(session, trace.run_id, now, kind="trace", subject=trace_id, state=trace.state)


def add_score(session: Session, score: Score) -> None:
    """Add one score of a run."""
    session.connection().execute(_ADD_SCORE, score.model_dump(exclude={"id"}))
