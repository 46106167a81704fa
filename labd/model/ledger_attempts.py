"""What a judge of retries is told of a job: its attempts, and what has become of their boards since."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import bindparam, inspect, select, true
from sqlmodel import Session, func

from labd.model.attempts import Attempt
from labd.model.states import RunState
from labd.model.tables import Check, Run

_RUNS = inspect(Run).local_table
_CHECKS = inspect(Check).local_table
_HOW_MANY = select(func.count()).select_from(_RUNS).where(_RUNS.c.job_id == bindparam("job"))
_COUNTING = (
    select(_RUNS.c.id, _RUNS.c.board_id, _RUNS.c.cause, _RUNS.c.ended_at)
    .where(_RUNS.c.job_id == bindparam("job"), _RUNS.c.attempt > bindparam("forgiven"))
    .order_by(_RUNS.c.attempt)
)
_COMPLETED = (
    select(_RUNS.c.id)
    .where(_RUNS.c.board_id == bindparam("board"), _RUNS.c.id > bindparam("run"), _RUNS.c.state == RunState.COMPLETED)
    .limit(1)
)
_PASSED = (
    select(_CHECKS.c.id)
    .where(
        _CHECKS.c.board_id == bindparam("board"),
        _CHECKS.c.passed == true(),
        _CHECKS.c.started_at >= bindparam("since"),
    )
    .limit(1)
)


def attempts_of(session: Session, job_id: int) -> int:
    """How many attempts a job has had."""
    session.flush()
    return session.connection().execute(_HOW_MANY, {"job": job_id}).scalar_one()


def history_of(session: Session, job_id: int, forgiven: int) -> list[Attempt]:
    """The attempts that count, oldest first; one that ends now is the last.

    Args:
        session: Where it is read.
        job_id: The job.
        forgiven: Attempts up to this number count no more.
    """
    session.flush()
    runs = session.connection().execute(_COUNTING, {"job": job_id, "forgiven": forgiven}).all()
    return [
        Attempt(board_id, cause, recovered=cause is not None and _recovered_since(session, run_id, board_id, ended_at))
        for run_id, board_id, cause, ended_at in runs
    ]


def _recovered_since(session: Session, run_id: int, board_id: str, ended_at: datetime) -> bool:
    """Whether the board of a run has done well after it: completed another run, or passed a check."""
    connection = session.connection()
    if connection.execute(_COMPLETED, {"board": board_id, "run": run_id}).first() is not None:
        return True
    return connection.execute(_PASSED, {"board": board_id, "since": ended_at}).first() is not None
