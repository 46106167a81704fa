"""The only place that changes states: each function checks the transition and writes row and event in one transaction.

Every function takes the writer's session and the time; none commits. What they return may travel, since the database
keeps rows usable after the commit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, true, update
from sqlalchemy import select as sql_select
from sqlmodel import Session, SQLModel, col, func, select

from labd.benchmarks import Mode
from labd.errors import ConflictError, NotFoundError
from labd.model.attempts import Attempt, Judge, Sequel, Terms, Verdict
from labd.model.causes import Blame, Cause, Ending
from labd.model.ledger_events import LABD, note
from labd.model.ledger_leases import grant_lease, interrupt_checks, release_of_run
from labd.model.ledger_measures import refuse_trial
from labd.model.ledger_share import charge
from labd.model.prepared import Insertion
from labd.model.states import (
    BoardState,
    InstrumentState,
    JobState,
    LeasePurpose,
    RunState,
    RunStep,
    TrialState,
    check_transition,
)
from labd.model.tables import Board, Check, Instrument, Job, Run, Trial

# A client waits while a job is written, and a run notes a dozen steps: as rows of their tables, not as objects, they
# take half of the time.
_ADD_JOB = Insertion("job", cause=None, detail="", avoid=[], forgiven=0, cancel_requested_at=None, ended_at=None)
_RUNS = SQLModel.metadata.tables["run"]
_SET_STEP = update(_RUNS).where(_RUNS.c.id == bindparam("run")).values(step=bindparam("step"))
_SET_FACTS = update(_RUNS).where(_RUNS.c.id == bindparam("run")).values(facts=bindparam("facts"))
_FACTS = sql_select(_RUNS.c.facts).where(_RUNS.c.id == bindparam("run"))
_BARE = Terms()
CANCEL_REQUESTED = "cancel_requested"
"""Reason of the event of a running job whose cancellation was accepted; its run has yet to be stopped."""


def job_row(session: Session, job_id: int) -> Job:
    """The job. Raises `NotFoundError` if there is none."""
    job = session.get(Job, job_id)
    if job is None:
        raise NotFoundError(f"there is no job {job_id}", where="params.id", remedy="list the jobs to see their ids")
    return job


def _run(session: Session, run_id: int) -> Run:
    run = session.get(Run, run_id)
    if run is None:
        raise NotFoundError(f"there is no run {run_id}", where="run")
    return run


def _key(row: Job | Run | Trial) -> int:
    assert row.id is not None, "rows have their id after a flush"
    return row.id


def _job_event(session: Session, job: Job, now: datetime, reason: str = "") -> None:
    note(session, now, kind="job", subject=str(job.id), state=job.state, reason=reason, job_id=job.id)


def _run_event(session: Session, run: Run, now: datetime, reason: str = "") -> None:
    note(
        session,
        now,
        kind="run",
        subject=str(run.id),
        state=run.state,
        reason=reason,
        job_id=run.job_id,
        run_id=run.id,
        board_id=run.board_id,
    )


# --- jobs -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Submitted:
    """A job that was added: its number."""

    id: int
    state: JobState = JobState.QUEUED


def submit_job(
    session: Session,
    *,
    benchmark: str,
    mode: Mode,
    client: str,
    spec: dict[str, Any],
    now: datetime,
    requester: str = "",
    priority: int = 0,
    deadline: datetime | None = None,
    requirement: str | None = None,
    estimate_s: float = 0.0,
    night_id: int | None = None,
    cell: int | None = None,
) -> Submitted:
    """Add a queued job.

    Args:
        session: Where it is written.
        benchmark, mode, spec: What is measured, as it was asked for.
        client, now: Who sent it, and when.
        requester: Who is charged for it; empty for the client.
        priority, deadline: Its level, -10 to 10, and when it has to have started.
        requirement: What it asks of a board, in canonical JSON; None to have it read from `spec`.
        estimate_s: How long a run of it should take, s.
        night_id, cell: The expansion of a sweep that it belongs to, and its place there.
    """
    row = {
        "benchmark": benchmark,
        "mode": mode,
        "state": JobState.QUEUED,
        "client": client,
        "requester": requester or client,
        "priority": priority,
        "deadline": deadline,
        "requirement": requirement,
        "estimate_s": estimate_s,
        "night_id": night_id,
        "cell": cell,
        "spec": spec,
        "submitted_at": now,
    }
    job = Submitted(_ADD_JOB.number(session.connection(), row))
    note(session, now, kind="job", subject=str(job.id), state=job.state, job_id=job.id)
    return job


def cancel_job(session: Session, job_id: int, now: datetime) -> Job:
    """Cancel a job that waits or is parked at once; of a running one it is noted, and its run has to be stopped.

    Raises:
        NotFoundError: there is no such job.
        ConflictError: it has ended already.
    """
    job = job_row(session, job_id)
    if job.state.ended:
        raise ConflictError(f"job {job_id} has already ended as {job.state}", where="params.id")
    if job.state is not JobState.RUNNING:
        _end_job(session, job, Ending(Cause.CANCELLED), now)
    elif job.cancel_requested_at is None:
        job.cancel_requested_at = now
        session.add(job)
        _job_event(session, job, now, CANCEL_REQUESTED)
    return job


def _end_job(session: Session, job: Job, ending: Ending, now: datetime) -> None:
    job.state = check_transition(f"job {job.id}", job.state, JobState(ending.state.value))
    job.cause, job.detail, job.ended_at = ending.cause, ending.detail, now
    session.add(job)
    _job_event(session, job, now, ending.cause or "")


def expire_job(session: Session, job_id: int, now: datetime) -> Job | None:
    """End a queued job whose deadline has passed; None if it does not wait any more, or has time yet."""
    job = session.get(Job, job_id)
    if job is None or job.state is not JobState.QUEUED or job.deadline is None or job.deadline > now:
        return None
    _end_job(session, job, Ending(Cause.EXPIRED, f"it had to start by {job.deadline.isoformat()}"), now)
    return job


def park_job(session: Session, job_id: int, ending: Ending, now: datetime) -> Job | None:
    """Lay a queued job aside for a person to look at; None if it does not wait any more."""
    job = session.get(Job, job_id)
    if job is None or job.state is not JobState.QUEUED:
        return None
    _park(session, job, ending, now)
    return job


def release_job(session: Session, job_id: int, now: datetime) -> Job:
    """Queue a parked job again, with all its attempts forgiven: any board will do, and its retries begin anew.

    Raises:
        NotFoundError: there is no such job.
        ConflictError: it is not parked.
    """
    job = job_row(session, job_id)
    if job.state is not JobState.PARKED:
        raise ConflictError(
            f"job {job_id} is {job.state}, not parked", where="params.id", remedy="only parked jobs can be released"
        )
    job.forgiven = _attempts(session, job_id)
    job.cause, job.detail, job.avoid = None, "", []
    _queue_again(session, job, now, "released")
    return job


def _park(session: Session, job: Job, ending: Ending, now: datetime) -> None:
    job.state = check_transition(f"job {job.id}", job.state, JobState.PARKED)
    job.cause, job.detail = ending.cause, ending.detail
    session.add(job)
    _job_event(session, job, now, f"{ending.cause}: {ending.detail}")


def _queue_again(session: Session, job: Job, now: datetime, reason: str) -> None:
    job.state = check_transition(f"job {job.id}", job.state, JobState.QUEUED)
    session.add(job)
    _job_event(session, job, now, reason)


# --- runs and leases ------------------------------------------------------------------------------------------


def start_run(
    session: Session, job_id: int, board_id: str, now: datetime, lease_s: float, *, resources: Iterable[str] = ()
) -> Run:
    """Begin an attempt: the job runs, the board is busy and a lease holds it until `now + lease_s`.

    Args:
        session: Where it is written.
        job_id: The job.
        board_id: The board.
        now: When.
        lease_s: How long the run may hold the board, s.
        resources: What the run holds beside the board.

    Raises:
        StateError: the job is not queued, the board not free, or one of the resources held. Nothing may be committed
            of the transaction.
    """
    job = job_row(session, job_id)
    job.state = check_transition(f"job {job_id}", job.state, JobState.RUNNING)
    run = Run(job_id=job_id, attempt=_attempts(session, job_id) + 1, board_id=board_id, started_at=now)
    session.add(job)
    session.add(run)
    session.flush()
    grant_lease(
        session,
        board_id,
        LeasePurpose.RUN,
        LABD,
        resources,
        now=now,
        expires_at=now + timedelta(seconds=lease_s),
        run_id=_key(run),
    )
    set_board_state(session, board_id, BoardState.BUSY, f"run {run.id} of job {job_id}", now)
    _job_event(session, job, now)
    _run_event(session, run, now)
    return run


def _attempts(session: Session, job_id: int) -> int:
    return session.exec(select(func.count()).select_from(Run).where(Run.job_id == job_id)).one()


def set_step(session: Session, run_id: int, step: RunStep, facts: dict[str, Any] | None = None) -> None:
    """Note how far a run has come, and what was read back so far."""
    connection = session.connection()
    if connection.execute(_SET_STEP, {"run": run_id, "step": step}).rowcount != 1:
        raise NotFoundError(f"there is no run {run_id}", where="run")
    if facts:
        known = connection.execute(_FACTS, {"run": run_id}).scalar_one()
        connection.execute(_SET_FACTS, {"run": run_id, "facts": {**known, **facts}})


def set_firmware(session: Session, run_id: int, sha256: str) -> None:
    """Note the digest of the image that the board holds."""
    run = _run(session, run_id)
    run.firmware_sha256 = sha256
    session.add(run)


def end_run(session: Session, run_id: int, ending: Ending, now: datetime, terms: Terms = _BARE) -> Run:
    """End an attempt: free what it held, charge its requester, and give its job and its board the state that follows.

    A board that the end may be the fault of, by itself or by an instrument of it, is suspect from here on, so that no
    other job starts there before it was looked at, and so is one whose check was asked for meanwhile; one that
    completes a run has no strikes any more.

    Args:
        session: Where it is written.
        run_id: The run.
        ending: How it ended.
        now: When.
        terms: What becomes of the job, and how its requester's account fades. A job whose cancellation was accepted is
            never tried again.
    """
    run = _run(session, run_id)
    run.state = check_transition(f"run {run_id}", run.state, ending.state)
    run.cause, run.detail, run.ended_at = ending.cause, ending.detail, now
    session.add(run)
    _run_event(session, run, now, ending.cause or "")
    for trial in session.exec(select(Trial).where(Trial.run_id == run_id, Trial.state == TrialState.RUNNING)).all():
        refuse_trial(session, _key(trial), ending.cause or Cause.INTERNAL, ending.detail, now)
    job = job_row(session, run.job_id)
    _settle_job(session, job, ending, now, terms.judge)
    held_s = release_of_run(session, run_id, now)
    if ending.state is not RunState.INTERRUPTED:  # what the lab broke off is nobody's to pay for
        charge(session, job.requester, held_s, now, terms.half_life_s)
    _rest_board(session, run, ending, now)
    return run


def _settle_job(session: Session, job: Job, ending: Ending, now: datetime, judge: Judge) -> None:
    verdict = judge(_history(session, job)) if ending.cause is not None else Verdict(Sequel.ENDED)
    if verdict.sequel is Sequel.ENDED:
        _end_job(session, job, ending, now)
    elif job.cancel_requested_at is not None:
        _end_job(session, job, Ending(Cause.CANCELLED), now)
    elif verdict.sequel is Sequel.PARKED:
        job.avoid = list(verdict.avoid)
        _park(session, job, Ending(Cause.POISON, verdict.reason), now)
    else:
        job.avoid = list(verdict.avoid)
        _queue_again(session, job, now, f"{ending.cause}: {verdict.reason}" if verdict.reason else f"{ending.cause}")


def _history(session: Session, job: Job) -> list[Attempt]:
    """The attempts that count, oldest first; the one that ends now is the last."""
    runs = session.exec(
        select(Run).where(Run.job_id == job.id, Run.attempt > job.forgiven).order_by(col(Run.attempt))
    ).all()
    return [
        Attempt(run.board_id, run.cause, recovered=run.cause is not None and _recovered_since(session, run))
        for run in runs
    ]


def _recovered_since(session: Session, run: Run) -> bool:
    """Whether the board of a run has done well after it: completed another run, or passed a check."""
    completed = select(Run.id).where(
        Run.board_id == run.board_id, col(Run.id) > run.id, Run.state == RunState.COMPLETED
    )
    if session.exec(completed.limit(1)).first() is not None:
        return True
    passed = select(Check.id).where(
        Check.board_id == run.board_id, Check.passed == true(), col(Check.started_at) >= run.ended_at
    )
    return session.exec(passed.limit(1)).first() is not None


def _rest_board(session: Session, run: Run, ending: Ending, now: datetime) -> None:
    board = session.get_one(Board, run.board_id)
    if ending.cause is None:
        board.strikes, board.well_at = 0, now
        session.add(board)
    if board.state is not BoardState.BUSY:  # a person or a check has said otherwise meanwhile
        return
    if ending.cause is not None and ending.cause.meaning.blame in (Blame.BOARD, Blame.INSTRUMENT):
        set_board_state(session, run.board_id, BoardState.SUSPECT, f"run {run.id} ended as {ending.cause}", now)
    elif board.check_trigger is not None:  # or the next job would have it before the check that was asked for
        set_board_state(session, run.board_id, BoardState.SUSPECT, "to be checked", now)
    else:
        set_board_state(session, run.board_id, BoardState.ONLINE, "", now)


def interrupt_runs(session: Session, now: datetime, terms: Terms = _BARE) -> list[Run]:
    """End every run that a dead daemon left running as interrupted, and every check; their jobs are queued again.

    Reservations are kept as they are: they are people's.
    """
    interrupt_checks(session, now)
    return interrupt_unserved(session, now, frozenset(), terms)


def interrupt_unserved(
    session: Session,
    now: datetime,
    served: Collection[int],
    terms: Terms = _BARE,
    *,
    cause: Cause = Cause.DAEMON_DIED,
) -> list[Run]:
    """End every run that is said to be on, but that nothing serves, as interrupted.

    Args:
        session: Where it is written.
        now: When.
        served: Runs that a task of this daemon serves.
        terms: As for `end_run`.
        cause: Why they are cut off.
    """
    left = session.exec(select(Run).where(Run.state == RunState.RUNNING).order_by(col(Run.id))).all()
    return [
        end_run(session, _key(run), Ending(cause, f"at step {run.step}"), now, terms)
        for run in left
        if _key(run) not in served
    ]


# --- boards and instruments -----------------------------------------------------------------------------------


def set_board_state(session: Session, board_id: str, state: BoardState, reason: str, now: datetime) -> Board:
    """Change a board's state; a board never seen before begins offline. One that stays as it is makes no event."""
    board = session.get(Board, board_id)
    if board is not None and (board.state, board.reason) == (state, reason):
        return board
    board = board or Board(id=board_id, changed_at=now)
    if board.state is not state:
        board.state = check_transition(f"board {board_id}", board.state, state)
    board.reason, board.changed_at = reason, now
    session.add(board)
    note(session, now, kind="board", subject=board_id, state=state, reason=reason, board_id=board_id)
    return board


def set_instrument_state(
    session: Session,
    instrument_id: str,
    driver: str,
    state: InstrumentState,
    now: datetime,
    *,
    reason: str = "",
    identity: dict[str, Any] | None = None,
) -> Instrument:
    """Change an instrument's state; one never seen before begins offline."""
    row = session.get(Instrument, instrument_id) or Instrument(id=instrument_id, driver=driver, changed_at=now)
    if row.state is not state:
        row.state = check_transition(f"instrument {instrument_id}", row.state, state)
    row.driver, row.reason, row.changed_at = driver, reason, now
    if identity is not None:
        row.identity = identity
    session.add(row)
    note(session, now, kind="instrument", subject=instrument_id, state=state, reason=reason)
    return row
