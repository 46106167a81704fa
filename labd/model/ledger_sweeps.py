"""The ledger of sweeps and their nights: each function checks the transition and writes row and event in one go.

As in `labd.model.ledger`, every function takes the writer's session and the time, and none commits. A night is there
once for each time it was due, and a cell once in its night, so whoever died in the middle may simply do it again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlmodel import Session, col, func, or_, select

from labd.benchmarks import Mode
from labd.errors import ConflictError, NotFoundError
from labd.model import ledger
from labd.model.ledger_events import note
from labd.model.states import UNDER_WAY, BoardState, JobState, NightState, SweepState, check_transition
from labd.model.tables import LIVE_JOBS, Board, Job, Night, Sweep

LIVE = (NightState.EXPANDING, NightState.RUNNING)
_OUT = (BoardState.QUARANTINED, BoardState.MAINTENANCE, BoardState.OFFLINE)
"""Boards that take nothing until they are mended or given back; a suspect one is looked at by itself."""


@dataclass(frozen=True, slots=True)
class CellJob:
    """A cell of a night as the job that it becomes.

    Args:
        cell: Its number in the matrix.
        benchmark, mode, spec: What is measured; `spec` is complete, with all defaults.
        priority: -10 to 10.
        requirement: What it asks of a board, in canonical JSON; None to have it read from `spec`.
        estimate_s: How long a run of it should take, s.
    """

    cell: int
    benchmark: str
    mode: Mode
    spec: dict[str, Any]
    priority: int
    requirement: str | None
    estimate_s: float


# --- sweeps ---------------------------------------------------------------------------------------------------


def sweep_named(session: Session, name: str) -> Sweep:
    """The sweep that has the name now.

    Raises:
        NotFoundError: there is none.
    """
    sweep = _find(session, name)
    if sweep is None:
        remedy = "list the sweeps to see their names"
        raise NotFoundError(f"there is no sweep {name!r}", where="params.name", remedy=remedy)
    return sweep


def create_sweep(
    session: Session, name: str, *, owner: str, spec: dict[str, Any], due_at: datetime | None, now: datetime
) -> Sweep:
    """Add an active sweep.

    Raises:
        ConflictError: the name is taken.
    """
    if _find(session, name) is not None:
        remedy = "choose another name, or say replace to change it and keep its nights"
        raise ConflictError(f"there is a sweep {name!r} already", where="params.name", remedy=remedy)
    sweep = Sweep(name=name, owner=owner, spec=spec, due_at=due_at, created_at=now, changed_at=now)
    _write(session, sweep, now)
    return sweep


def replace_sweep(
    session: Session, sweep: Sweep, *, spec: dict[str, Any], due_at: datetime | None, now: datetime
) -> None:
    """Change what a sweep is; its owner and its nights stay, and the night under way goes on as it was begun.

    A paused sweep stays paused.
    """
    sweep.spec, sweep.changed_at = spec, now
    sweep.due_at = None if sweep.state is SweepState.PAUSED else due_at
    _write(session, sweep, now, "replaced")


def pause_sweep(session: Session, sweep: Sweep, now: datetime, reason: str = "") -> None:
    """Let the cron line count no more; a night under way goes on.

    Raises:
        ConflictError: it is paused already.
    """
    if sweep.state is SweepState.PAUSED:
        raise ConflictError(f"sweep {sweep.name!r} is paused already", where="params.name")
    _set_state(session, sweep, SweepState.PAUSED, now, reason=reason)


def resume_sweep(session: Session, sweep: Sweep, due_at: datetime | None, now: datetime) -> None:
    """Let the cron line count again; what was due meanwhile is not made up for.

    Raises:
        ConflictError: it is not paused.
    """
    if sweep.state is not SweepState.PAUSED:
        raise ConflictError(f"sweep {sweep.name!r} is not paused", where="params.name")
    _set_state(session, sweep, SweepState.ACTIVE, now, due_at=due_at)


def remove_sweep(session: Session, sweep: Sweep, now: datetime) -> None:
    """Take a sweep away and free its name; jobs that are in the queue stay there, and no further ones are added."""
    assert sweep.id is not None, "rows that were read have their number"
    _set_state(session, sweep, SweepState.REMOVED, now)
    for night in live_nights_of(session, sweep.id):
        if night.state is NightState.EXPANDING:
            end_expansion(session, night, now, "the sweep was removed")


def set_due(session: Session, sweep_id: int, due_at: datetime, now: datetime) -> None:
    """Note when an active sweep is due next."""
    sweep = session.get_one(Sweep, sweep_id)
    if sweep.state is SweepState.ACTIVE and sweep.due_at != due_at:
        sweep.due_at, sweep.changed_at = due_at, now
        _write(session, sweep, now, f"due {due_at.isoformat()}")


# --- nights ---------------------------------------------------------------------------------------------------


def night_at(session: Session, sweep_id: int, due_at: datetime) -> Night | None:
    """The night of a sweep that was due at that time, whatever became of it."""
    return session.exec(select(Night).where(Night.sweep_id == sweep_id, Night.due_at == due_at)).first()


def live_nights_of(session: Session, sweep_id: int) -> list[Night]:
    """The nights of a sweep that have not ended, oldest first."""
    of_sweep = select(Night).where(Night.sweep_id == sweep_id, col(Night.state).in_(LIVE))
    return list(session.exec(of_sweep.order_by(col(Night.id))))


def start_night(session: Session, sweep_id: int, due_at: datetime, now: datetime, reason: str = "") -> Night | None:
    """Begin a night, to which cells can be added; None if it was begun or skipped before."""
    night = Night(sweep_id=sweep_id, due_at=due_at, reason=reason, started_at=now)
    return _add_night(session, night, now)


def skip_night(session: Session, sweep_id: int, due_at: datetime, now: datetime, reason: str) -> Night | None:
    """Note that a night was due and is not run; None if it was begun or skipped before."""
    skipped = check_transition("night", NightState.EXPANDING, NightState.SKIPPED)
    night = Night(sweep_id=sweep_id, due_at=due_at, state=skipped, reason=reason, started_at=now, ended_at=now)
    return _add_night(session, night, now)


def set_night_spec(session: Session, night_id: int, spec: dict[str, Any], jobs: int) -> None:
    """Note what a night was found to be when it was looked at closely: its boards by name, and how many jobs."""
    night = session.get_one(Night, night_id)
    night.spec, night.jobs = spec, jobs
    session.add(night)


def cells_of(session: Session, night_id: int) -> set[int]:
    """Numbers of the cells that the night has as jobs."""
    return {cell for cell in session.exec(select(Job.cell).where(Job.night_id == night_id)) if cell is not None}


def room(session: Session, max_queued: int) -> int:
    """How many more jobs the queue takes."""
    queued = session.exec(select(func.count()).select_from(Job).where(LIVE_JOBS, Job.state == JobState.QUEUED)).one()
    return max(0, max_queued - queued)


def add_cells(
    session: Session, night_id: int, cells: Sequence[CellJob], *, deadline: datetime | None, now: datetime
) -> int:
    """Queue these cells as jobs of the sweep's owner, in their order; those that are there are left as they are.

    Returns:
        How many were added; none if the night expands no more.
    """
    night = session.get_one(Night, night_id)
    if night.state is not NightState.EXPANDING:
        return 0
    owner = session.get_one(Sweep, night.sweep_id).owner
    numbers = [each.cell for each in cells]
    there = set(session.exec(select(Job.cell).where(Job.night_id == night_id, col(Job.cell).in_(numbers))))
    missing = [each for each in cells if each.cell not in there]
    for each in missing:
        ledger.submit_job(
            session,
            benchmark=each.benchmark,
            mode=each.mode,
            client=owner,
            spec=each.spec,
            now=now,
            requester=owner,
            priority=each.priority,
            deadline=deadline,
            requirement=each.requirement,
            estimate_s=each.estimate_s,
            night_id=night_id,
            cell=each.cell,
        )
    return len(missing)


def end_expansion(session: Session, night: Night, now: datetime, reason: str = "") -> None:
    """Add no more cells to a night: it runs with the jobs that it has, and without any it was skipped."""
    jobs = session.exec(select(func.count()).select_from(Job).where(Job.night_id == night.id)).one()
    night.jobs = jobs
    if reason:
        _add_reason(night, reason)
    if jobs == 0:
        night.ended_at = now
    _set_night_state(session, night, NightState.RUNNING if jobs else NightState.SKIPPED, now)


def is_over(session: Session, night_id: int, boards: Collection[str]) -> bool:
    """Whether nothing of the night is queued or running.

    Args:
        session: What is read.
        night_id: The night.
        boards: Boards of the lab: what is queued for one that has left it is not waited for, as little as what is
            parked.
    """
    spec: Any = col(Job.spec)
    board = spec[("board", "id")].as_string()
    left = select(Job.id).where(
        Job.night_id == night_id,
        col(Job.state).in_(UNDER_WAY),
        or_(Job.state == JobState.RUNNING, board.is_(None), board.in_(boards)),
    )
    return session.exec(left.limit(1)).first() is None


def end_night(
    session: Session, night_id: int, report: dict[str, Any], now: datetime, boards: Collection[str]
) -> Night | None:
    """End a running night with its report; None if it has ended already, or a job of it is under way again."""
    night = session.get_one(Night, night_id)
    if night.state is not NightState.RUNNING or not is_over(session, night_id, boards):
        return None
    night.report, night.ended_at = report, now
    _set_night_state(session, night, NightState.ENDED, now)
    return night


def cancel_queued(session: Session, night_id: int, limit: int, now: datetime) -> int:
    """Cancel at most `limit` queued jobs of a night; how many those were."""
    queued = select(Job.id).where(Job.night_id == night_id, Job.state == JobState.QUEUED).limit(limit)
    job_ids = [job_id for job_id in session.exec(queued) if job_id is not None]
    for job_id in job_ids:
        ledger.cancel_job(session, job_id, now)
    return len(job_ids)


def asked_by_waiting(session: Session, night_id: int) -> set[str | None] | None:
    """What the queued jobs of a night ask of a board, each requirement once; None while one of its jobs runs."""
    waiting = select(Job.state, Job.requirement).where(Job.night_id == night_id, col(Job.state).in_(UNDER_WAY))
    found = set(session.exec(waiting.distinct()).all())
    if any(state is JobState.RUNNING for state, _ in found):
        return None
    return {requirement for _, requirement in found}


def expire_stranded(
    session: Session, night_id: int, boards: Collection[str], *, deadline: datetime, limit: int, now: datetime
) -> int:
    """End at most `limit` queued jobs of a night, and say why, if all boards that can do them are out of work.

    Args:
        session: Where it is written.
        night_id: The night.
        boards: The boards that can do what is queued of it.
        deadline: Until when the jobs had time to start.
        limit: Most jobs to end.
        now: When.

    Returns:
        How many jobs were ended; none if a board is back at work.
    """
    rows = session.exec(select(Board).where(col(Board.id).in_(boards)).order_by(Board.id)).all()
    if len(rows) < len(boards) or any(board.state not in _OUT for board in rows):
        return 0
    away = [
        f"{board.id} is in maintenance" if board.state is BoardState.MAINTENANCE else f"{board.id} is {board.state}"
        for board in rows
    ]
    why = f"no board could do what was left: {', '.join(away) or 'the lab has none for it'}"
    queued = select(Job).where(Job.night_id == night_id, Job.state == JobState.QUEUED).limit(limit)
    jobs = session.exec(queued).all()
    for job in jobs:
        assert job.id is not None, "rows that were read have their number"
        job.deadline = deadline
        if ledger.expire_job(session, job.id, now) is not None:
            job.detail = f"{job.detail}; {why}"
    night = session.get_one(Night, night_id)
    if jobs and why not in night.reason:
        _add_reason(night, why)
        session.add(night)
    return len(jobs)


def counts_of(session: Session, night_ids: Collection[int]) -> dict[int, dict[JobState, int]]:
    """How many jobs of each night are in which state; a state without jobs is left out."""
    counts: dict[int, dict[JobState, int]] = {night_id: {} for night_id in night_ids}
    grouped = select(Job.night_id, Job.state, func.count()).where(col(Job.night_id).in_(night_ids))
    for night_id, state, count in session.exec(grouped.group_by(col(Job.night_id), col(Job.state))):
        if night_id is not None:
            counts[night_id][JobState(state)] = count
    return counts


# --- rows and events ------------------------------------------------------------------------------------------


def _find(session: Session, name: str) -> Sweep | None:
    return session.exec(select(Sweep).where(Sweep.name == name, Sweep.state != SweepState.REMOVED)).first()


def _set_state(
    session: Session,
    sweep: Sweep,
    state: SweepState,
    now: datetime,
    *,
    due_at: datetime | None = None,
    reason: str = "",
) -> None:
    sweep.state = check_transition(f"sweep {sweep.name}", sweep.state, state)
    sweep.due_at, sweep.changed_at = due_at, now
    _write(session, sweep, now, reason)


def _write(session: Session, sweep: Sweep, now: datetime, reason: str = "") -> None:
    session.add(sweep)
    session.flush()
    note(session, now, kind="sweep", subject=sweep.name, state=sweep.state, reason=reason)


def _add_night(session: Session, night: Night, now: datetime) -> Night | None:
    if night_at(session, night.sweep_id, night.due_at) is not None:
        return None
    sweep = session.get_one(Sweep, night.sweep_id)
    night.spec = sweep.spec
    session.add(night)
    session.flush()
    _note_night(session, night, sweep.name, now)
    return night


def _set_night_state(session: Session, night: Night, state: NightState, now: datetime) -> None:
    night.state = check_transition(f"night {night.id}", night.state, state)
    session.add(night)
    _note_night(session, night, session.get_one(Sweep, night.sweep_id).name, now)


def _add_reason(night: Night, reason: str) -> None:
    night.reason = f"{night.reason}; {reason}" if night.reason else reason


def _note_night(session: Session, night: Night, sweep: str, now: datetime) -> None:
    note(session, now, kind="night", subject=f"{sweep}/{night.id}", state=night.state, reason=night.reason)
