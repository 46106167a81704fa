"""The only place that changes states: each function checks the transition and writes row and event in one transaction.

Every function takes the writer's session and the time; none commits. What they return may travel, since the database
keeps rows usable after the commit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlmodel import Session, col, select

from labd.benchmarks import Mode
from labd.errors import ConflictError, NotFoundError
from labd.model.attempts import Judge, Sequel, Terms, Verdict
from labd.model.causes import Blame, Cause, Ending
from labd.model.ledger_attempts import attempts_of, history_of
from labd.model.ledger_events import LABD, note
from labd.model.ledger_leases import grant_lease, interrupt_checks, release_of_run
from labd.model.ledger_measures import refuse_running
from labd.model.ledger_share import charge
from labd.model.prepared import Insertion
from labd.model.rows import Rows
from labd.model.states import (
    BoardState,
    CheckTrigger,
    InstrumentState,
    JobState,
    LeasePurpose,
    RunState,
    RunStep,
    check_transition,
)
from labd.model.tables import Board, Instrument, Job, Run

CANCEL_REQUESTED = "cancel_requested"
"""Reason of the event of a running job whose cancellation was accepted; its run has yet to be stopped."""
_BARE = Terms()


@dataclass(frozen=True, slots=True)
class Begun:
    """A run that has begun: which attempt at which job it is, where and since when, and how far it has come."""

    id: int
    job_id: int
    attempt: int
    board_id: str
    started_at: datetime
    state: RunState = RunState.RUNNING


@dataclass(frozen=True, slots=True)
class _Facts:
    """What was read back in a run."""

    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _JobNow:
    """How far a job has come, who pays for it, and on what its end depends."""

    id: int
    state: JobState
    requester: str
    forgiven: int
    deadline: datetime | None
    cancel_requested_at: datetime | None


@dataclass(frozen=True, slots=True)
class _BoardNow:
    """How a board is, and why it is to be looked at, if somebody asked."""

    id: str
    state: BoardState
    reason: str = ""
    check_trigger: CheckTrigger | None = None


_JOBS = Rows(Job, _JobNow)
_ADD_JOB = Insertion("job", cause=None, detail="", avoid=[], forgiven=0, cancel_requested_at=None, ended_at=None)
_RUNS = Rows(Run, Begun)
_FACTS = Rows(Run, _Facts)
_ADD_RUN = Insertion("run", step=RunStep.LEASED, cause=None, detail="", firmware_sha256="", facts={}, ended_at=None)
_BOARDS = Rows(Board, _BoardNow)
_ADD_BOARD = Insertion(
    "board", strikes=0, checked_at=None, well_at=None, returned_at=None, check_due_at=None, check_trigger=None
)


def job_row(session: Session, job_id: int) -> Job:
    """The job. Raises `NotFoundError` if there is none."""
    job = session.get(Job, job_id)
    if job is None:
        raise _no_job(job_id)
    return job


def _job(session: Session, job_id: int) -> _JobNow:
    job = _JOBS.get(session, job_id)
    if job is None:
        raise _no_job(job_id)
    return job


def _no_job(job_id: int) -> NotFoundError:
    return NotFoundError(f"there is no job {job_id}", where="params.id", remedy="list the jobs to see their ids")


def _no_run(run_id: int) -> NotFoundError:
    return NotFoundError(f"there is no run {run_id}", where="run")


def _job_event(session: Session, job_id: int, state: JobState, now: datetime, reason: str = "") -> None:
    note(session, now, kind="job", subject=str(job_id), state=state, reason=reason, job_id=job_id)


def _run_event(session: Session, run: Begun, state: RunState, now: datetime, reason: str = "") -> None:
    note(
        session,
        now,
        kind="run",
        subject=str(run.id),
        state=state,
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
    _job_event(session, job.id, job.state, now)
    return job


def cancel_job(session: Session, job_id: int, now: datetime) -> Job:
    """Cancel a job that waits or is parked at once; of a running one it is noted, and its run has to be stopped.

    Raises:
        NotFoundError: there is no such job.
        ConflictError: it has ended already.
    """
    job = _job(session, job_id)
    if job.state.ended:
        raise ConflictError(f"job {job_id} has already ended as {job.state}", where="params.id")
    if job.state is not JobState.RUNNING:
        _end_job(session, job, Ending(Cause.CANCELLED), now)
    elif job.cancel_requested_at is None:
        _JOBS.change(session, job_id, cancel_requested_at=now)
        _job_event(session, job_id, job.state, now, CANCEL_REQUESTED)
    return job_row(session, job_id)


def expire_job(session: Session, job_id: int, now: datetime) -> Job | None:
    """End a queued job whose deadline has passed; None if it does not wait any more, or has time yet."""
    job = _JOBS.get(session, job_id)
    if job is None or job.state is not JobState.QUEUED or job.deadline is None or job.deadline > now:
        return None
    _end_job(session, job, Ending(Cause.EXPIRED, f"it had to start by {job.deadline.isoformat()}"), now)
    return job_row(session, job_id)


def park_job(session: Session, job_id: int, ending: Ending, now: datetime) -> Job | None:
    """Lay a queued job aside for a person to look at; None if it does not wait any more."""
    job = _JOBS.get(session, job_id)
    if job is None or job.state is not JobState.QUEUED:
        return None
    _park(session, job, ending, now)
    return job_row(session, job_id)


def release_job(session: Session, job_id: int, now: datetime) -> Job:
    """Queue a parked job again, with all its attempts forgiven: any board will do, and its retries begin anew.

    Raises:
        NotFoundError: there is no such job.
        ConflictError: it is not parked.
    """
    job = _job(session, job_id)
    if job.state is not JobState.PARKED:
        raise ConflictError(
            f"job {job_id} is {job.state}, not parked", where="params.id", remedy="only parked jobs can be released"
        )
    anew: dict[str, Any] = {"forgiven": attempts_of(session, job_id), "cause": None, "detail": "", "avoid": []}
    _move_job(session, job, JobState.QUEUED, now, "released", **anew)
    return job_row(session, job_id)


def _end_job(session: Session, job: _JobNow, ending: Ending, now: datetime) -> None:
    told = {"cause": ending.cause, "detail": ending.detail, "ended_at": now}
    _move_job(session, job, JobState(ending.state.value), now, ending.cause or "", **told)


def _park(session: Session, job: _JobNow, ending: Ending, now: datetime, **values: Any) -> None:
    told = {"cause": ending.cause, "detail": ending.detail}
    _move_job(session, job, JobState.PARKED, now, f"{ending.cause}: {ending.detail}", **told, **values)


def _move_job(session: Session, job: _JobNow, state: JobState, now: datetime, reason: str, **values: Any) -> None:
    _JOBS.change(session, job.id, state=check_transition(f"job {job.id}", job.state, state), **values)
    _job_event(session, job.id, state, now, reason)


# --- runs and leases ------------------------------------------------------------------------------------------


def start_run(
    session: Session, job_id: int, board_id: str, now: datetime, lease_s: float, *, resources: Iterable[str] = ()
) -> Begun:
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
    state = check_transition(f"job {job_id}", _job(session, job_id).state, JobState.RUNNING)
    _JOBS.change(session, job_id, state=state)
    run = _add_run(session, job_id, board_id, now)
    expires_at = now + timedelta(seconds=lease_s)
    grant_lease(session, board_id, LeasePurpose.RUN, LABD, resources, now=now, expires_at=expires_at, run_id=run.id)
    set_board_state(session, board_id, BoardState.BUSY, f"run {run.id} of job {job_id}", now)
    _job_event(session, job_id, state, now)
    _run_event(session, run, run.state, now)
    return run


def _add_run(session: Session, job_id: int, board_id: str, now: datetime) -> Begun:
    attempt = attempts_of(session, job_id) + 1
    row = {"job_id": job_id, "attempt": attempt, "board_id": board_id, "state": RunState.RUNNING, "started_at": now}
    return Begun(_ADD_RUN.number(session.connection(), row), job_id, attempt, board_id, now)


def set_step(session: Session, run_id: int, step: RunStep, facts: dict[str, Any] | None = None) -> None:
    """Note how far a run has come, and what was read back so far."""
    if not _RUNS.change(session, run_id, step=step):
        raise _no_run(run_id)
    if facts:
        _RUNS.change(session, run_id, facts={**_FACTS.get_one(session, run_id).facts, **facts})


def set_firmware(session: Session, run_id: int, sha256: str) -> None:
    """Note the digest of the image that the board holds."""
    if not _RUNS.change(session, run_id, firmware_sha256=sha256):
        raise _no_run(run_id)


def end_run(session: Session, run_id: int, ending: Ending, now: datetime, terms: Terms = _BARE) -> None:
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
    run = _RUNS.get(session, run_id)
    if run is None:
        raise _no_run(run_id)
    state = check_transition(f"run {run_id}", run.state, ending.state)
    _RUNS.change(session, run_id, state=state, cause=ending.cause, detail=ending.detail, ended_at=now)
    _run_event(session, run, state, now, ending.cause or "")
    refuse_running(session, run_id, ending.cause or Cause.INTERNAL, ending.detail, now)
    job = _JOBS.get_one(session, run.job_id)
    _settle_job(session, job, ending, now, terms.judge)
    held_s = release_of_run(session, run_id, now)
    if ending.state is not RunState.INTERRUPTED:  # what the lab broke off is nobody's to pay for
        charge(session, job.requester, held_s, now, terms.half_life_s)
    _rest_board(session, run, ending, now)


def _settle_job(session: Session, job: _JobNow, ending: Ending, now: datetime, judge: Judge) -> None:
    verdict = Verdict(Sequel.ENDED)
    if ending.cause is not None:
        verdict = judge(history_of(session, job.id, job.forgiven))
    if verdict.sequel is Sequel.ENDED:
        _end_job(session, job, ending, now)
    elif job.cancel_requested_at is not None:
        _end_job(session, job, Ending(Cause.CANCELLED), now)
    elif verdict.sequel is Sequel.PARKED:
        _park(session, job, Ending(Cause.POISON, verdict.reason), now, avoid=list(verdict.avoid))
    else:
        reason = f"{ending.cause}: {verdict.reason}" if verdict.reason else f"{ending.cause}"
        _move_job(session, job, JobState.QUEUED, now, reason, avoid=list(verdict.avoid))


def _rest_board(session: Session, run: Begun, ending: Ending, now: datetime) -> None:
    board = _BOARDS.get_one(session, run.board_id)
    well = {"strikes": 0, "well_at": now} if ending.cause is None else {}
    if board.state is BoardState.BUSY:
        state, reason = _after_run(run, ending, board)
        _move_board(session, board, state, reason, now, **well)
    elif well:  # a person or a check has said meanwhile how it is
        _BOARDS.change(session, board.id, **well)


def _after_run(run: Begun, ending: Ending, board: _BoardNow) -> tuple[BoardState, str]:
    """How a board is that has nothing to do any more, and why."""
    if ending.cause is not None and ending.cause.meaning.blame in (Blame.BOARD, Blame.INSTRUMENT):
        return BoardState.SUSPECT, f"run {run.id} ended as {ending.cause}"
    if board.check_trigger is not None:  # or the next job would have it before the check that was asked for
        return BoardState.SUSPECT, "to be checked"
    return BoardState.ONLINE, ""


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
    running = session.exec(select(Run).where(Run.state == RunState.RUNNING).order_by(col(Run.id))).all()
    left = [(run.id, run) for run in running if run.id is not None and run.id not in served]
    for run_id, run in left:
        end_run(session, run_id, Ending(cause, f"at step {run.step}"), now, terms)
    return [run for _, run in left]


# --- boards and instruments -----------------------------------------------------------------------------------


def set_board_state(session: Session, board_id: str, state: BoardState, reason: str, now: datetime) -> None:
    """Change a board's state; a board never seen before begins offline. One that stays as it is makes no event."""
    board = _BOARDS.get(session, board_id)
    if board is None:
        board = _BoardNow(board_id, BoardState.OFFLINE)
        _ADD_BOARD.add(session.connection(), {"id": board_id, "state": board.state, "reason": "", "changed_at": now})
    elif (board.state, board.reason) == (state, reason):
        return
    _move_board(session, board, state, reason, now)


def move_busy_board(session: Session, board_id: str, state: BoardState, reason: str, now: datetime) -> None:
    """Change the state of a board that is busy; leave another, of which a person or a check has said how it is."""
    board = _BOARDS.get_one(session, board_id)
    if board.state is BoardState.BUSY:
        _move_board(session, board, state, reason, now)


def _move_board(
    session: Session, board: _BoardNow, state: BoardState, reason: str, now: datetime, **values: Any
) -> None:
    if board.state is not state:
        check_transition(f"board {board.id}", board.state, state)
    _BOARDS.change(session, board.id, state=state, reason=reason, changed_at=now, **values)
    note(session, now, kind="board", subject=board.id, state=state, reason=reason, board_id=board.id)


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
