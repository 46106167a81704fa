"""What is remembered of boards' health: checks with what they held, standings, and people's word on them.

As in `labd.model.ledger`, every function takes the writer's session and the time, and none commits; what a check means
for its board is decided elsewhere and handed in.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from sqlmodel import Session, col, select

from labd.errors import ConflictError, NotFoundError
from labd.model.causes import Blame
from labd.model.checks import CheckStep, Examination, Outcome
from labd.model.ledger import set_board_state, set_instrument_state
from labd.model.ledger_events import LABD, note
from labd.model.ledger_lab import refuse_if_stopped
from labd.model.ledger_leases import CUT_OFF, grant_lease, release_lease
from labd.model.states import BoardState, CheckTrigger, InstrumentState, JobState, LeasePurpose, RunState
from labd.model.tables import Board, Check, Instrument, Job, Lease, Run

ROW_MAX = 200
"""So many of a board's last runs are looked through for failures in a row."""
_RETURNS = frozenset({BoardState.QUARANTINED, BoardState.MAINTENANCE})


def board_row(session: Session, board_id: str) -> Board:
    """The board. Raises `NotFoundError`."""
    row = session.get(Board, board_id)
    if row is None:
        raise NotFoundError(
            f"there is no board {board_id!r}", where="params.id", remedy="list the boards to see their ids"
        )
    return row


def instrument_row(session: Session, instrument_id: str) -> Instrument:
    """The instrument. Raises `NotFoundError`."""
    row = session.get(Instrument, instrument_id)
    if row is None:
        raise NotFoundError(
            f"there is no instrument {instrument_id!r}", where="params.id", remedy="list the instruments"
        )
    return row


# --- checks ---------------------------------------------------------------------------------------------------


def start_check(
    session: Session, board_id: str, trigger: CheckTrigger, resources: Iterable[str], *, now: datetime, lease_s: float
) -> Check:
    """Begin a check: the board and what it needs are held for it; its state stays as it is.

    Raises:
        StateError: something of it is held already, or the lab is stopped. The transaction must be rolled back.
    """
    refuse_if_stopped(session)
    check = Check(board_id=board_id, trigger=trigger, started_at=now)
    session.add(check)
    session.flush()
    expires_at = now + timedelta(seconds=lease_s)
    grant_lease(
        session, board_id, LeasePurpose.CHECK, LABD, resources, now=now, expires_at=expires_at, check_id=check.id
    )
    _check_event(session, check, now, "started", trigger)
    return check


def end_check(session: Session, check_id: int, found: Examination | None, now: datetime) -> Check:
    """End a check and let go of what it held.

    Args:
        session: Where it is written.
        check_id: The check.
        found: What it found; None for one that was cut off.
        now: When.
    """
    check = session.get_one(Check, check_id)
    check.ended_at = now
    state, reason = CUT_OFF, ""
    if found is not None:
        check.findings = found.document()
        state, reason = found.outcome.value, found.reason
        if found.outcome is not Outcome.HINDERED:
            check.passed = found.outcome is Outcome.PASSED
            board = session.get_one(Board, check.board_id)
            board.checked_at = now
            session.add(board)
    session.add(check)
    held = select(Lease.id).where(Lease.check_id == check_id, col(Lease.released_at).is_(None))
    for lease_id in session.exec(held).all():
        assert lease_id is not None, "rows that were read have their number"
        release_lease(session, lease_id, now)
    _check_event(session, check, now, state, reason)
    return check


def _check_event(session: Session, check: Check, now: datetime, state: str, reason: str) -> None:
    note(
        session,
        now,
        kind="check",
        subject=str(check.id),
        state=state,
        reason=reason,
        board_id=check.board_id,
    )


def last_checks(session: Session, board_id: str, limit: int) -> list[Check]:
    """The last checks of a board, newest first."""
    query = select(Check).where(Check.board_id == board_id).order_by(col(Check.id).desc()).limit(limit)
    return list(session.exec(query))


def earlier_idle_a(session: Session, board_id: str, limit: int) -> tuple[float, ...]:
    """Idle currents of a board's last passed checks since it last came back, oldest first, A."""
    board = session.get_one(Board, board_id)
    query = (
        select(Check)
        .where(Check.board_id == board_id, col(Check.passed).is_(True))
        .order_by(col(Check.id).desc())
        .limit(limit)
    )
    if board.returned_at is not None:  # it may have been mended, and draw something else now
        query = query.where(col(Check.started_at) >= board.returned_at)
    found = [check.findings.get("idle", {}).get("current_a") for check in session.exec(query)]
    return tuple(float(current_a) for current_a in reversed(found) if current_a is not None)


def boards_without_port(session: Session) -> frozenset[str]:
    """Boards out of work whose last check did not find their serial port."""
    out = (BoardState.SUSPECT, BoardState.QUARANTINED)
    ids = session.exec(select(Board.id).where(col(Board.state).in_(out))).all()
    lost = str(CheckStep.PORT)
    return frozenset(
        board_id
        for board_id in ids
        if any(check.findings.get(lost, {}).get("passed") is False for check in last_checks(session, board_id, 1))
    )


# --- standings ------------------------------------------------------------------------------------------------


def set_standing(
    session: Session,
    board_id: str,
    state: BoardState,
    reason: str,
    now: datetime,
    *,
    strikes: int,
    due_at: datetime | None,
    well: bool,
) -> Board:
    """Note what a check made of a board; what was asked of it before has been done with.

    Args:
        session: Where it is written.
        board_id: The board.
        state, reason: How it is now, and why.
        now: When.
        strikes: Failed checks in a row.
        due_at: When it is checked next; None for as its state says.
        well: Whether it was found well.
    """
    board = session.get_one(Board, board_id)
    before = board.state
    set_board_state(session, board_id, state, reason, now)
    board.strikes, board.check_due_at, board.check_trigger = strikes, due_at, None
    if well:
        board.well_at = now
    if before in _RETURNS and state is BoardState.ONLINE:
        board.returned_at = now
    session.add(board)
    return board


def make_suspect(session: Session, board_id: str, reason: str, now: datetime) -> bool:
    """Trust a board that works no longer until it was checked: at once, or when its run has ended.

    False for one that does not work any more.
    """
    board = session.get_one(Board, board_id)
    if board.state is BoardState.BUSY:
        board.check_due_at, board.check_trigger = now, CheckTrigger.FAILURE
        note(session, now, kind="board", subject=board_id, state=board.state, reason=reason, board_id=board_id)
    elif board.state is BoardState.ONLINE:
        set_board_state(session, board_id, BoardState.SUSPECT, reason, now)
        board.check_due_at = None
    else:
        return False
    session.add(board)
    return True


def ask_check(session: Session, board_id: str, trigger: CheckTrigger, now: datetime) -> Board:
    """Have a board checked as soon as it is free.

    Raises:
        NotFoundError: there is no such board.
        ConflictError: it has been taken out of lab.toml.
    """
    board = board_row(session, board_id)
    if board.state is BoardState.OFFLINE:
        raise ConflictError(f"board {board_id} is not in lab.toml any more", where="params.id")
    board.check_due_at, board.check_trigger = now, trigger
    session.add(board)
    note(session, now, kind="board", subject=board_id, state=board.state, reason="check asked for", board_id=board_id)
    return board


def withdraw_board(session: Session, board_id: str, state: BoardState, reason: str, now: datetime) -> Board:
    """Put a board into maintenance or quarantine: it takes nothing more. A run that is on goes on to its end.

    The state is committed at once, so it stands whatever happens to that run or to the daemon.

    Raises:
        NotFoundError: there is no such board.
        ConflictError: it has been taken out of lab.toml, or is in a person's hands.
    """
    board = board_row(session, board_id)
    if board.state is BoardState.OFFLINE:
        raise ConflictError(f"board {board_id} is not in lab.toml any more", where="params.id")
    if board.state is BoardState.MAINTENANCE and state is not BoardState.MAINTENANCE:
        raise ConflictError(
            f"board {board_id} is in maintenance", where="params.id", remedy="return it, and then quarantine it"
        )
    set_board_state(session, board_id, state, reason, now)
    board.check_due_at = board.check_trigger = None
    session.add(board)
    return board


def return_board(session: Session, board_id: str, reason: str, now: datetime) -> Board:
    """Have a board back from quarantine or maintenance: it is checked at once, and is online again if it passes.

    Raises:
        NotFoundError: there is no such board.
        ConflictError: it is in neither.
    """
    board = board_row(session, board_id)
    if board.state not in _RETURNS:
        raise ConflictError(
            f"board {board_id} is {board.state}, not in quarantine or maintenance",
            where="params.id",
            remedy="ask for a check if you doubt it",
        )
    if board.state is BoardState.MAINTENANCE:
        set_board_state(session, board_id, BoardState.SUSPECT, reason, now)
        board.strikes = 0
        board.returned_at = now
    else:  # it stays in quarantine until it passes
        note(session, now, kind="board", subject=board_id, state=board.state, reason=reason, board_id=board_id)
    board.check_due_at, board.check_trigger = now, CheckTrigger.RETURN
    session.add(board)
    return board


# --- failures that no check sees ------------------------------------------------------------------------------


def failures_in_a_row(session: Session, board_id: str) -> list[Run]:
    """Runs that failed by the board's fault since its last completed run or its last return, newest first."""
    board = session.get_one(Board, board_id)
    row: list[Run] = []
    query = select(Run).where(Run.board_id == board_id).order_by(col(Run.id).desc()).limit(ROW_MAX)
    for run in session.exec(query):
        if run.state is RunState.COMPLETED:
            break
        if board.returned_at is not None and run.started_at < board.returned_at:
            break
        if run.cause is not None and run.cause.meaning.blame is Blame.BOARD:
            row.append(run)
    return row


def runs_elsewhere(session: Session, job_id: int, board_id: str) -> list[Run]:
    """Runs of a job on other boards."""
    return list(session.exec(select(Run).where(Run.job_id == job_id, Run.board_id != board_id)))


def job_ended(session: Session, job_id: int) -> bool:
    """Whether nothing more will happen to a job by itself."""
    job = session.get_one(Job, job_id)
    return job.state.ended or job.state is JobState.PARKED


# --- instruments ----------------------------------------------------------------------------------------------


def note_instrument(
    session: Session,
    instrument_id: str,
    driver: str,
    state: InstrumentState,
    now: datetime,
    *,
    reason: str = "",
    identity: dict[str, Any] | None = None,
) -> None:
    """Note how an instrument was found; one that is in a person's hands stays there."""
    row = session.get(Instrument, instrument_id)
    if row is None or row.state is not InstrumentState.MAINTENANCE:
        set_instrument_state(session, instrument_id, driver, state, now, reason=reason, identity=identity)


def instrument_states(session: Session) -> dict[str, InstrumentState]:
    """How each instrument was found last, or was left by a person."""
    rows = session.exec(select(Instrument.id, Instrument.state))
    return {name: InstrumentState(state) for name, state in rows}


def maintain_instrument(session: Session, instrument_id: str, reason: str, now: datetime) -> Instrument:
    """Leave an instrument to a person: labd asks nothing of it; its boards wait. Raises `NotFoundError`."""
    row = instrument_row(session, instrument_id)
    return set_instrument_state(session, instrument_id, row.driver, InstrumentState.MAINTENANCE, now, reason=reason)


def return_instrument(session: Session, instrument_id: str, reason: str, now: datetime) -> Instrument:
    """Have an instrument back: it counts as offline until it answers.

    Raises:
        NotFoundError: there is no such instrument.
        ConflictError: it is not in maintenance.
    """
    row = instrument_row(session, instrument_id)
    if row.state is not InstrumentState.MAINTENANCE:
        raise ConflictError(f"instrument {instrument_id} is {row.state}, not in maintenance", where="params.id")
    return set_instrument_state(session, instrument_id, row.driver, InstrumentState.OFFLINE, now, reason=reason)
