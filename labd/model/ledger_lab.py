"""What befalls the lab as a whole: another lab.toml, boards that come and go with it, an emergency stop.

As in `labd.model.ledger`, every function takes a session and the time, and none commits. A stop is a mark that names
its event, so it stands over a restart, and nothing is granted while it is there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime

from sqlmodel import Session, col, func, select

from labd.errors import ConflictError, StateError
from labd.model.ledger_events import note
from labd.model.prepared import Presence
from labd.model.states import BoardState
from labd.model.tables import Board, Event, Lease, Mark

KIND = "lab"
RELOADED = "reloaded"
RELOAD_REFUSED = "reload_refused"
STOPPED = "stopped"
WHOLE = "database_whole"
DAMAGED = "database_damaged"
RESUMED = "resumed"
REMOVED = "removed from lab.toml"
"""Reason of the state of what is in the record only."""
_STOP = "lab.stopped"
_MARKS = Presence("mark", "reader")


def note_space(session: Session, lab: str, state: str, notice: str, now: datetime) -> None:
    """Note that the free space of the lab has come into another state."""
    note(session, now, kind=KIND, subject=lab, state=state, reason=notice)


def note_reload(session: Session, lab: str, told: str, now: datetime) -> None:
    """Note that another lab.toml is in use from now on."""
    note(session, now, kind=KIND, subject=lab, state=RELOADED, reason=told)


def note_refused_reload(session: Session, lab: str, why: str, now: datetime) -> None:
    """Note that a lab.toml could not be used, and the one before stays."""
    note(session, now, kind=KIND, subject=lab, state=RELOAD_REFUSED, reason=why)


def note_damage(session: Session, lab: str, damage: str | None, now: datetime) -> None:
    """Note that the database was looked through while the lab was at work: `damage` in SQLite's words, or None."""
    told = "it was found whole" if damage is None else f"{damage}; restore a backup"
    note(session, now, kind=KIND, subject=lab, state=DAMAGED if damage else WHOLE, reason=f"database: {told}")


# --- boards that come and go ------------------------------------------------------------------------------------


def retire_boards(session: Session, known: Collection[str], now: datetime) -> list[str]:
    """Take every board offline that is not among `known`; return those that somebody still holds."""
    leased = set(session.exec(select(Lease.board_id).where(col(Lease.released_at).is_(None))))
    waiting = []
    rows = select(Board).where(Board.state != BoardState.OFFLINE, col(Board.id).not_in(known)).order_by(col(Board.id))
    for board in session.exec(rows).all():
        if board.id in leased:
            waiting.append(board.id)
            continue
        board.state, board.reason, board.changed_at = BoardState.OFFLINE, REMOVED, now
        session.add(board)
        note(session, now, kind="board", subject=board.id, state=board.state, reason=REMOVED, board_id=board.id)
    return waiting


def offline_boards(session: Session, known: Iterable[str]) -> list[str]:
    """Those of `known` that were never seen, or are offline, in their order."""
    seen = set(session.exec(select(Board.id).where(Board.state != BoardState.OFFLINE)))
    return [board_id for board_id in known if board_id not in seen]


def bring_up(session: Session, board_id: str, now: datetime) -> None:
    """Put a board that was offline to work; one that left with failures of its own is looked at first."""
    board = session.get(Board, board_id) or Board(id=board_id, changed_at=now)
    if board.state is not BoardState.OFFLINE:
        return
    board.state, board.reason, board.changed_at = BoardState.ONLINE, "", now
    if board.strikes:
        board.state, board.reason = BoardState.SUSPECT, f"it had {board.strikes} failures when it was taken out"
    session.add(board)
    note(session, now, kind="board", subject=board_id, state=board.state, reason=board.reason, board_id=board_id)


# --- emergency stop ---------------------------------------------------------------------------------------------


def stop_lab(session: Session, lab: str, reason: str, now: datetime) -> Event:
    """Let nothing be begun any more, until the lab is resumed. A second stop takes the place of the first."""
    note(session, now, kind=KIND, subject=lab, state=STOPPED, reason=reason)
    number = session.exec(select(func.max(Event.id))).one()
    assert number is not None, "an event was just written"
    session.merge(Mark(reader=_STOP, number=number))
    return session.get_one(Event, number)


def resume_lab(session: Session, lab: str, now: datetime) -> None:
    """Let the lab go on.

    Raises:
        ConflictError: it is not stopped.
    """
    mark = session.get(Mark, _STOP)
    if mark is None:
        raise ConflictError("the lab is not stopped", remedy="look at its status")
    session.delete(mark)
    note(session, now, kind=KIND, subject=lab, state=RESUMED)


def stop_of(session: Session) -> Event | None:
    """The event that stopped the lab; None if it is at work."""
    mark = session.get(Mark, _STOP)
    return None if mark is None else session.get_one(Event, mark.number)


def is_stopped(session: Session) -> bool:
    """Whether the lab is stopped."""
    session.flush()
    return _MARKS.holds(session.connection(), _STOP)


def refuse_if_stopped(session: Session) -> None:
    """Let nothing be begun in a stopped lab.

    Raises:
        StateError: the lab is stopped.
    """
    if is_stopped(session):
        raise StateError("the lab is stopped", where="lab", remedy="resume it first")
