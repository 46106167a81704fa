"""The lab's holds on boards and on what they share: granted, released, and reclaimed when their holder is gone.

A board has one lease in force at most, and a resource one holder: the database itself refuses a second one, so two
decisions that both found a board free cannot both have it. As in `labd.model.ledger`, every function takes a session
and the time, and none commits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy
from sqlalchemy import and_, bindparam, delete, insert, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, SQLModel, col, or_, select

from labd.errors import StateError
from labd.model.ledger_events import note
from labd.model.ledger_lab import refuse_if_stopped
from labd.model.rows import Rows
from labd.model.states import LeasePurpose, ReservationState, RunState
from labd.model.tables import Board, Check, Lease, Reservation, Run

CUT_OFF = "cut_off"
"""State of the event of a check that ended without a verdict."""


@dataclass(frozen=True, slots=True)
class _Lent:
    """When a lease was released; None for one in force."""

    released_at: datetime | None


_LEASE_ROWS = Rows(Lease, _Lent)
_LEASE, _HOLD = SQLModel.metadata.tables["lease"], SQLModel.metadata.tables["hold"]
_ADD_LEASE = insert(_LEASE)
_ADD_HOLD = insert(_HOLD)
_REMOVE_HOLDS = delete(_HOLD).where(_HOLD.c.lease_id == bindparam("lease"))
_OF_RUN = sqlalchemy.select(_LEASE.c.id, _LEASE.c.granted_at, _LEASE.c.expires_at).where(
    _LEASE.c.run_id == bindparam("run"), _LEASE.c.released_at.is_(None)
)
_FOR_RESERVATION = and_(_LEASE.c.reservation_id == bindparam("reservation"), _LEASE.c.released_at.is_(None))
_OF_RESERVATION = sqlalchemy.select(_LEASE.c.id).where(_FOR_RESERVATION)
_CHANGE_OF_RESERVATION = update(_LEASE).where(_FOR_RESERVATION)
_HELD = sqlalchemy.select(_HOLD.c.resource)


def grant_lease(
    session: Session,
    board_id: str,
    purpose: LeasePurpose,
    owner: str,
    resources: Iterable[str],
    *,
    now: datetime,
    expires_at: datetime,
    run_id: int | None = None,
    check_id: int | None = None,
    reservation_id: int | None = None,
) -> None:
    """Hold a board and everything that it needs for itself, until `expires_at` at the latest.

    The board's state stays as it is: whoever grants the lease says what the board is then.

    Args:
        session: Where it is written.
        board_id: The board; it must be known to the ledger.
        purpose: What for; exactly the number of that kind is given.
        owner: Who holds it: a person, or `labd`.
        resources: What else is held, by name, such as `channel psu-1/1`.
        now: From when on.
        expires_at: When it may be reclaimed from whoever is still there.
        run_id, check_id, reservation_id: Whom it serves.

    Raises:
        StateError: the lab is stopped, or the board or one of the resources is held already. The
            transaction must be rolled back.
    """
    refuse_if_stopped(session)
    served = {
        LeasePurpose.RUN: run_id,
        LeasePurpose.CHECK: check_id,
        LeasePurpose.RESERVATION: reservation_id,
    }
    if served[purpose] is None or sum(number is not None for number in served.values()) != 1:
        raise StateError(f"a lease for a {purpose} serves exactly one", where=f"board {board_id}")
    lease = {
        "board_id": board_id,
        "purpose": purpose,
        "owner": owner,
        "run_id": run_id,
        "check_id": check_id,
        "reservation_id": reservation_id,
        "granted_at": now,
        "expires_at": expires_at,
        "released_at": None,
    }
    connection = session.connection()
    try:
        key = connection.execute(_ADD_LEASE, lease).inserted_primary_key
        assert key is not None, "an insert of one row tells its key"
        holds = [{"resource": resource, "lease_id": key[0]} for resource in sorted(set(resources))]
        if holds:
            connection.execute(_ADD_HOLD, holds)
    except IntegrityError as error:
        raise StateError(
            "is held already, or shares what it needs with one that is", where=f"board {board_id}"
        ) from error


def release_lease(session: Session, lease_id: int, now: datetime) -> None:
    """Let go of a board and of all that was held with it; harmless if that has happened."""
    if _LEASE_ROWS.get_one(session, lease_id).released_at is None:
        _release(session, lease_id, now)


def _release(session: Session, lease_id: int, now: datetime) -> None:
    _LEASE_ROWS.change(session, lease_id, released_at=now)
    session.connection().execute(_REMOVE_HOLDS, {"lease": lease_id})


def leases_in_force(session: Session) -> list[Lease]:
    """All leases that were not released, oldest first."""
    return list(session.exec(select(Lease).where(col(Lease.released_at).is_(None)).order_by(col(Lease.id))))


def held_resources(session: Session) -> frozenset[str]:
    """Names of everything but boards that a lease holds now."""
    return frozenset(session.connection().execute(_HELD).scalars())


def release_of_run(session: Session, run_id: int, now: datetime) -> float:
    """Let go of what a run held, and return for how long it held it, s.

    That is at most as long as the lease was meant for: a clock that is set forward costs nobody a day.
    """
    held_s = 0.0
    session.flush()
    for lease_id, granted_at, expires_at in session.connection().execute(_OF_RUN, {"run": run_id}).all():
        _release(session, lease_id, now)
        meant_s = (expires_at - granted_at).total_seconds()
        held_s += min(max(0.0, (now - granted_at).total_seconds()), meant_s)
    return held_s


def is_held_for(session: Session, reservation_id: int) -> bool:
    """Whether a lease serves a reservation."""
    return session.connection().execute(_OF_RESERVATION, {"reservation": reservation_id}).first() is not None


def release_of_reservation(session: Session, reservation_id: int, now: datetime) -> bool:
    """Let go of what a reservation held; False if it held nothing any more."""
    found = session.connection().execute(_OF_RESERVATION, {"reservation": reservation_id}).scalars().all()
    for lease_id in found:
        _release(session, lease_id, now)
    return bool(found)


def change_of_reservation(session: Session, reservation_id: int, **values: str | datetime) -> None:
    """Give the lease of a reservation another owner or end, by the names of its columns."""
    session.connection().execute(_CHANGE_OF_RESERVATION, {"reservation": reservation_id, **values})


def interrupt_checks(session: Session, now: datetime) -> list[Check]:
    """End every check that a dead daemon left under way, without a verdict, and let go of what it held."""
    left = session.exec(select(Check).where(col(Check.ended_at).is_(None)).order_by(col(Check.id))).all()
    for check in left:
        check.ended_at = now
        session.add(check)
        held = select(Lease.id).where(Lease.check_id == check.id, col(Lease.released_at).is_(None))
        for lease_id in session.exec(held).all():
            release_lease(session, _number(lease_id), now)
        note(session, now, kind="check", subject=str(check.id), state=CUT_OFF, board_id=check.board_id)
    return list(left)


def reclaim_leases(session: Session, now: datetime) -> list[Lease]:
    """Release leases whose run, check or reservation has ended: nobody is behind them any more.

    Whoever is still there is not cut off here, even past the lease's end: a run and a check meet their own deadlines,
    and a reservation is ended by its warden.

    Returns:
        The leases that were released, whose boards may still be under power.
    """
    orphaned = (
        select(Lease, Board.state)
        .join(Board)
        .outerjoin(Run, col(Lease.run_id) == col(Run.id))
        .outerjoin(Check, col(Lease.check_id) == col(Check.id))
        .outerjoin(Reservation, col(Lease.reservation_id) == col(Reservation.id))
        .where(col(Lease.released_at).is_(None))
        .where(
            or_(
                col(Run.state) != RunState.RUNNING,
                col(Check.ended_at).is_not(None),
                col(Reservation.state) == ReservationState.ENDED,
            )
        )
        .order_by(col(Lease.id))
    )
    found = session.exec(orphaned).all()
    for lease, state in found:
        release_lease(session, _number(lease.id), now)
        note(
            session,
            now,
            kind="board",
            subject=lease.board_id,
            state=state,
            reason=f"reclaimed: the {lease.purpose} that held it has ended",
            board_id=lease.board_id,
        )
    return [lease for lease, _ in found]


def _number(row_id: int | None) -> int:
    assert row_id is not None, "rows that were read have their number"
    return row_id
