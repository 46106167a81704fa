"""People's holds on boards: asked for, granted, extended, handed over, ended; each change is an event.

A reservation that has a board is ended in two steps, so that its lease goes only when the board is dark: its end is set
to now, with the reason, and whoever switches the board off then ends it. Both are committed, so a crash in between
leaves a reservation whose end is due. As in `labd.model.ledger`, every function takes a session and the time, and none
commits.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Executable, bindparam, text
from sqlmodel import Session, col, func, select

from labd.errors import ConflictError, NotFoundError
from labd.model.ledger import move_busy_board, set_board_state
from labd.model.ledger_events import note
from labd.model.ledger_leases import change_of_reservation, grant_lease, is_held_for, release_of_reservation
from labd.model.rows import Rows
from labd.model.states import BoardState, LeasePurpose, ReservationState, check_transition
from labd.model.tables import Board, Hold, Lease, Reservation

KIND = "reservation"
WARNED = "warned"
"""Reason of the event of a reservation that ends soon."""
TIME_UP = "its time was up"
ORPHANED = "its lease was gone"

# In words: a database sees that a partial index serves a query only where the value is not a parameter.
_WAITING, _ACTIVE, _LIVE = text("state = 'waiting'"), text("state = 'active'"), text("state != 'ended'")


def _wishes() -> Executable:
    """The different wishes that wait, with the owner of the first of each, in the order of asking."""
    wishes = select(func.min(Reservation.requirement).label("requirement")).where(_WAITING).cte("wish", recursive=True)
    following = select(func.min(Reservation.requirement)).where(
        _WAITING, Reservation.requirement > wishes.c.requirement
    )
    wishes = wishes.union_all(
        select(following.correlate(wishes).scalar_subquery()).where(wishes.c.requirement.is_not(None))
    )
    first = select(func.min(Reservation.id)).where(_WAITING, Reservation.requirement == wishes.c.requirement)
    return (
        select(Reservation.requirement, Reservation.owner)
        .where(col(Reservation.id).in_(select(first.correlate(wishes).scalar_subquery()).select_from(wishes)))
        .order_by(col(Reservation.id))
    )


def _free() -> Executable:
    leased = select(Lease.board_id).where(col(Lease.released_at).is_(None))
    among = col(Board.id).in_(bindparam("among", expanding=True))
    return select(Board.id).where(among, Board.state == BoardState.ONLINE, col(Board.id).not_in(leased))


def _numbers() -> Executable:
    first = select(Reservation.id).where(_WAITING, Reservation.requirement == bindparam("requirement"))
    return first.order_by(col(Reservation.id)).limit(bindparam("limit"))


def _live_of() -> Executable:
    return select(func.count()).select_from(Reservation).where(_LIVE, Reservation.owner == bindparam("owner"))


def _held() -> Executable:
    return (
        select(Lease.reservation_id, Hold.resource)
        .outerjoin(Hold, col(Hold.lease_id) == col(Lease.id))
        .where(col(Lease.released_at).is_(None), Lease.purpose == LeasePurpose.RESERVATION)
    )


@dataclass(frozen=True, slots=True)
class _Standing:
    """How far a reservation has come."""

    state: ReservationState
    board_id: str | None
    ends_at: datetime | None
    reason: str


# Every request for a board and every commit while somebody waits ask these: built once, they take half of the time.
_WISHES, _FREE, _NUMBERS, _LIVE_OF, _HELD = _wishes(), _free(), _numbers(), _live_of(), _held()
_STANDING = Rows(Reservation, _Standing)


def reservation_row(session: Session, reservation_id: int) -> Reservation:
    """One reservation.

    Raises:
        NotFoundError: there is no such reservation.
    """
    row = session.get(Reservation, reservation_id)
    if row is None:
        remedy = "list the reservations to see their numbers"
        raise NotFoundError(f"there is no reservation {reservation_id}", where="params.id", remedy=remedy)
    return row


def request_reservation(
    session: Session, *, requirement: str, owner: str, purpose: str, duration_s: float, now: datetime, max_live: int
) -> Reservation:
    """Add a waiting reservation.

    Args:
        session: Where it is written.
        requirement: The wish, in canonical JSON.
        owner: Whose it is.
        purpose: What for.
        duration_s: How long it holds its board from when it gets it, s.
        now: When.
        max_live: Most that one owner may have waiting and active.

    Raises:
        ConflictError: the owner has too many already.
    """
    _check_room(session, owner, max_live)
    row = Reservation(requirement=requirement, owner=owner, purpose=purpose, duration_s=duration_s, requested_at=now)
    session.add(row)
    session.flush()
    _event(session, row, now)
    return row


def grant_reservation(
    session: Session, reservation_id: int, board_id: str, resources: Collection[str], now: datetime
) -> Reservation:
    """Give a board to a waiting reservation: it holds it, with what it needs, until its end.

    Raises:
        StateError: it does not wait any more, the board is not free, or the lab is stopped. Nothing may be committed
            of the transaction.
    """
    row = reservation_row(session, reservation_id)
    row.state = check_transition(f"reservation {reservation_id}", row.state, ReservationState.ACTIVE)
    row.board_id, row.starts_at, row.ends_at = board_id, now, now + timedelta(seconds=row.duration_s)
    grant_lease(
        session,
        board_id,
        LeasePurpose.RESERVATION,
        row.owner,
        resources,
        now=now,
        expires_at=row.ends_at,
        reservation_id=reservation_id,
    )
    set_board_state(session, board_id, BoardState.BUSY, _held_words(row), now)
    session.add(row)
    _event(session, row, now)
    return row


def extend_reservation(
    session: Session, reservation_id: int, duration_s: float, now: datetime, max_s: float
) -> Reservation:
    """Let a reservation hold its board longer, or ask for it longer; it is warned anew.

    Raises:
        NotFoundError: there is no such reservation.
        ConflictError: it ends or has ended, or it would hold its board for more than `max_s` from now on.
    """
    row = _live(session, reservation_id)
    if row.ends_at is not None and (row.ends_at <= now or row.reason):
        raise ConflictError(f"reservation {reservation_id} is just ending", where="params.id", remedy="reserve again")
    left_s = row.duration_s if row.ends_at is None else (row.ends_at - now).total_seconds()
    if left_s + duration_s > max_s:
        raise ConflictError(
            f"that would be {left_s + duration_s:.0f} s from now on, and at most {max_s:.0f} s are allowed",
            where="params.duration_s",
            remedy="ask for less now, and again later",
        )
    row.duration_s += duration_s
    if row.ends_at is not None:
        _set_end(session, row, row.ends_at + timedelta(seconds=duration_s))
    row.warned_at = None
    session.add(row)
    _event(session, row, now, f"extended by {duration_s:g} s")
    return row


def hand_over_reservation(session: Session, reservation_id: int, to: str, now: datetime, max_live: int) -> Reservation:
    """Make a reservation somebody else's.

    Raises:
        NotFoundError: there is no such reservation.
        ConflictError: it has ended, or its new owner has too many already.
    """
    row = _live(session, reservation_id)
    if to != row.owner:
        _check_room(session, to, max_live)
        before, row.owner = row.owner, to
        session.add(row)
        change_of_reservation(session, reservation_id, owner=to)
        if row.board_id is not None:
            move_busy_board(session, row.board_id, BoardState.BUSY, _held_words(row), now)
        _event(session, row, now, f"handed over by {before}")
    return row


def release_reservation(session: Session, reservation_id: int, reason: str, now: datetime) -> Reservation:
    """Give a reservation up: one that waits ends at once, one that has a board is due to end.

    Raises:
        NotFoundError: there is no such reservation.
        ConflictError: it has ended already.
    """
    row = _live(session, reservation_id)
    if row.state is ReservationState.WAITING:
        _end(session, reservation_id, _STANDING.get_one(session, reservation_id), reason, now)
    elif not row.reason:  # else its end is under way
        row.reason = reason
        _set_end(session, row, now)
        _event(session, row, now, reason)
    return row


def warn_reservation(session: Session, reservation_id: int, now: datetime, warn_s: float) -> bool:
    """Note that the owner was told of the end, which is `warn_s` away at most; once for each end.

    Returns:
        Whether it was noted: not if the end was moved away meanwhile, or the reservation ends already.
    """
    row = reservation_row(session, reservation_id)
    if row.state is not ReservationState.ACTIVE or row.reason or row.warned_at is not None:
        return False
    assert row.ends_at is not None, "an active reservation has an end"
    if row.ends_at > now + timedelta(seconds=warn_s):
        return False
    row.warned_at = now
    session.add(row)
    _event(session, row, now, WARNED)
    return True


def is_due(session: Session, reservation_id: int, now: datetime) -> bool:
    """Whether a reservation that has a board is to end: its time is up, it was given up, or its lease is gone."""
    row = _STANDING.get_one(session, reservation_id)
    if row.state is not ReservationState.ACTIVE:
        return False
    assert row.ends_at is not None, "an active reservation has an end"
    return row.ends_at <= now or row.reason != "" or not is_held_for(session, reservation_id)


def end_reservation(session: Session, reservation_id: int, now: datetime, *, dark: bool) -> str:
    """End a reservation whose board is dark: its lease goes, and its board can serve others.

    Args:
        session: Where it is written.
        reservation_id: The reservation; harmless if it has ended.
        now: When.
        dark: Whether the board's supply is known to be off; if not, the board is looked at before it serves again.

    Returns:
        Why it ended.
    """
    row = _STANDING.get_one(session, reservation_id)
    if row.state is ReservationState.ENDED:
        return row.reason
    held = release_of_reservation(session, reservation_id, now)
    reason = row.reason or (TIME_UP if held else ORPHANED)
    if row.board_id is not None:
        suspect = f"its output could not be switched off when reservation {reservation_id} ended"
        state, words = (BoardState.ONLINE, "") if dark else (BoardState.SUSPECT, suspect)
        move_busy_board(session, row.board_id, state, words, now)
    _end(session, reservation_id, row, reason, now)
    return reason


def move_ends(session: Session, step_s: float, since: datetime, known: Collection[int], now: datetime) -> None:
    """Let every active reservation keep the time it has left, after the clock was set by `step_s`.

    Args:
        session: Where it is written.
        step_s: By how much, s; more than the time between `since` and `now`.
        since: When the clock was last seen right, as it would have told it the way it goes now.
        known: Reservations that were active then. One that is not among them, and began after `since`, began by the
            clock as it goes now, and stays.
        now: When.
    """
    for row in active_reservations(session):
        assert row.ends_at is not None, "an active reservation has an end"
        assert row.starts_at is not None, "an active reservation has a start"
        right = row.id not in known and since <= row.starts_at <= now
        if not row.reason and not right:
            _set_end(session, row, row.ends_at + timedelta(seconds=step_s))
            _event(session, row, now, f"the clock was set by {step_s:+.0f} s: it keeps the time it has left")


def bound_ends(session: Session, now: datetime) -> list[Reservation]:
    """End no reservation later than its whole duration from now on: the clock may have been set back meanwhile."""
    found = []
    for row in active_reservations(session):
        assert row.ends_at is not None, "an active reservation has an end"
        latest = now + timedelta(seconds=row.duration_s)
        if row.ends_at > latest:
            _set_end(session, row, latest)
            _event(session, row, now, "the clock was set back while the lab was down")
            found.append(row)
    return found


# --- what there is ----------------------------------------------------------------------------------------------


def waiting_wishes(session: Session) -> list[tuple[str, str]]:
    """The different wishes that wait, each with who asked for it first, in the order of asking.

    Costs as much as there are different wishes, however many reservations wait: the index is jumped through from one
    wish to the next, in which grouping would read all of it.
    """
    return [(row.requirement, row.owner) for row in session.connection().execute(_WISHES)]


def waiting_numbers(session: Session, requirement: str, limit: int) -> list[int]:
    """Numbers of the first reservations that wait with this wish, lowest first."""
    return list(session.connection().execute(_NUMBERS, {"requirement": requirement, "limit": limit}).scalars())


def free_boards(session: Session, among: Collection[str]) -> set[str]:
    """Ids of those of some boards that are online, and that no lease holds."""
    return set(session.connection().execute(_FREE, {"among": sorted(among)}).scalars())


def active_reservations(session: Session) -> list[Reservation]:
    """Those that have a board, the one that ends first standing first."""
    query = select(Reservation).where(_ACTIVE).order_by(col(Reservation.ends_at), col(Reservation.id))
    return list(session.exec(query))


def held_reservations(session: Session) -> dict[int, frozenset[str]]:
    """What each reservation that a lease is in force for holds beside its board, by its number."""
    held: dict[int, set[str]] = {}
    for number, resource in session.connection().execute(_HELD):
        held.setdefault(number, set()).update([resource] if resource is not None else [])
    return {number: frozenset(resources) for number, resources in held.items()}


def list_reservations(
    session: Session, *, state: ReservationState | None, owner: str | None, before: int | None, limit: int
) -> list[Reservation]:
    """At most `limit` reservations, newest first."""
    query = select(Reservation).order_by(col(Reservation.id).desc()).limit(limit)
    if state is not None:
        query = query.where(Reservation.state == state)
    if owner is not None:
        query = query.where(Reservation.owner == owner)
    if before is not None:
        query = query.where(col(Reservation.id) < before)
    return list(session.exec(query))


# --- inside -----------------------------------------------------------------------------------------------------


def _live(session: Session, reservation_id: int) -> Reservation:
    row = reservation_row(session, reservation_id)
    if row.state is ReservationState.ENDED:
        raise ConflictError(f"reservation {reservation_id} has ended: {row.reason}", where="params.id")
    return row


def _check_room(session: Session, owner: str, max_live: int) -> None:
    live = session.connection().execute(_LIVE_OF, {"owner": owner}).scalar_one()
    if live >= max_live:
        message = f"{owner} has {live} reservations already, and may have {max_live}"
        raise ConflictError(message, remedy="release one, or have max_per_owner raised in lab.toml")


def _set_end(session: Session, row: Reservation, ends_at: datetime) -> None:
    row.ends_at = ends_at
    session.add(row)
    change_of_reservation(session, _number(row), expires_at=ends_at)


def _end(session: Session, reservation_id: int, row: _Standing, reason: str, now: datetime) -> None:
    state = check_transition(f"reservation {reservation_id}", row.state, ReservationState.ENDED)
    _STANDING.change(session, reservation_id, state=state, reason=reason, ended_at=now)
    note(session, now, kind=KIND, subject=str(reservation_id), state=state, reason=reason, board_id=row.board_id)


def _event(session: Session, row: Reservation, now: datetime, reason: str = "") -> None:
    session.flush()
    note(session, now, kind=KIND, subject=str(row.id), state=row.state, reason=reason, board_id=row.board_id)


def _held_words(row: Reservation) -> str:
    return f"reservation {row.id} of {row.owner}" + (f": {row.purpose}" if row.purpose else "")


def _number(row: Reservation) -> int:
    assert row.id is not None, "rows have their number after a flush"
    return row.id
