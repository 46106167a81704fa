"""What a lab can be asked about reservations, and what it keeps of them at the broker."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pydantic import TypeAdapter
from sqlmodel import Session, col, select

from labd.config.derived import BoardFacts
from labd.errors import ConflictError, NotFoundError, UnmatchableError
from labd.model import ledger_reservations
from labd.model.states import ReservationState
from labd.model.tables import Event, Reservation
from labd.schedule.expression import check_names
from labd.schedule.grammar import canonical, parse
from labd.schedule.wishes import Wish, refusal
from labd.service.access import Role
from labd.service.exchange import Asked, Change, Done, Query, Verb, own
from labd.service.lab import Lab
from labd.service.messages import BoardChoice, Envelope, Message
from labd.service.reservations.messages import (
    ReservationDocument,
    ReservationExtension,
    ReservationHandOver,
    ReservationPage,
    ReservationQuery,
    ReservationRef,
    ReservationRequest,
)
from labd.service.shelf import Shelf, Shown


def reserve_board(lab: Lab, session: Session, request: ReservationRequest, asked: Asked) -> Done:
    """Ask for a board; the reply says whether the reservation has one already."""
    rules = lab.config.reservation
    _check_length(request.duration_s, rules.max_s)
    wish = Wish(
        board_id=request.board.id if request.board else None,
        tags=frozenset(request.board.tags) if request.board else frozenset(),
        require=canonical(request.require) if request.require else "",
    )
    _check_matchable(lab, wish, lab.granting.facts(lab.config))
    row = ledger_reservations.request_reservation(
        session,
        requirement=wish.canonical(),
        owner=asked.requester,
        purpose=request.purpose,
        duration_s=request.duration_s,
        now=asked.at,
        max_live=rules.max_per_owner,
    )
    lab.granting.grant(session, lab.config, asked.at)
    return _told(lab, row)


def release_board(lab: Lab, session: Session, ref: ReservationRef, asked: Asked) -> Done:
    """Give a reservation up; a board that it holds goes dark first."""
    _own(session, ref.id, asked)
    row = ledger_reservations.release_reservation(session, ref.id, f"released by {asked.requester}", asked.at)
    return _told(lab, row)


def extend_reservation(lab: Lab, session: Session, extension: ReservationExtension, asked: Asked) -> Done:
    """Let a reservation last longer."""
    _own(session, extension.id, asked)
    max_s = lab.config.reservation.max_s
    return _told(
        lab,
        ledger_reservations.extend_reservation(session, extension.id, extension.duration_s, asked.at, max_s),
    )


def hand_over_reservation(lab: Lab, session: Session, change: ReservationHandOver, asked: Asked) -> Done:
    """Make a reservation somebody else's, who could have asked for it."""
    _own(session, change.id, asked)
    users = {user.name: user for user in lab.config.user}
    if users and change.to not in users:
        raise NotFoundError(f"this lab has no user {change.to!r}", where="params.to", remedy="see lab.toml's [[user]]")
    if users and not Role(users[change.to].role).includes(Role.OPERATOR):
        message = f"{change.to} is a {users[change.to].role}, who cannot hold a board"
        raise ConflictError(message, where="params.to", remedy="hand it to an operator")
    limit = lab.config.reservation.max_per_owner
    return _told(lab, ledger_reservations.hand_over_reservation(session, change.id, change.to, asked.at, limit))


def get_reservation(lab: Lab, session: Session, ref: ReservationRef) -> Message:
    """One reservation."""
    return reservation_document(ledger_reservations.reservation_row(session, ref.id))


def list_reservations(lab: Lab, session: Session, query: ReservationQuery) -> Message:
    """A page of reservations, newest first."""
    rows = ledger_reservations.list_reservations(
        session, state=query.state, owner=query.owner, before=query.before, limit=query.limit
    )
    documents = tuple(map(reservation_document, rows))
    return ReservationPage(
        reservations=documents, next_before=documents[-1].id if len(documents) == query.limit else None
    )


def reservation_document(row: Reservation) -> ReservationDocument:
    """A reservation as clients see it."""
    assert row.id is not None, "rows that were read have their number"
    wish = Wish.parse(row.requirement)
    named = wish.board_id is not None or wish.tags
    return ReservationDocument(
        id=row.id,
        state=row.state,
        owner=row.owner,
        purpose=row.purpose,
        board=BoardChoice(id=wish.board_id, tags=tuple(sorted(wish.tags))) if named else None,
        require=wish.require,
        duration_s=row.duration_s,
        board_id=row.board_id,
        requested_at=row.requested_at,
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        warned_at=row.warned_at,
        ended_at=row.ended_at,
        reason=row.reason,
    )


def _told(lab: Lab, row: Reservation) -> Done:
    return Done(reservation_document(row).model_dump(mode="json"), lab.reservations_changed)


def _own(session: Session, reservation_id: int, asked: Asked) -> None:
    own(asked, ledger_reservations.reservation_row(session, reservation_id).owner, f"reservation {reservation_id}")


def _check_length(duration_s: float, max_s: float) -> None:
    if duration_s > max_s:
        raise ConflictError(
            f"{duration_s:.0f} s are more than the {max_s:.0f} s that are allowed",
            where="params.duration_s",
            remedy="ask for less, and extend the reservation later",
        )


def _check_matchable(lab: Lab, wish: Wish, facts: Mapping[str, BoardFacts]) -> None:
    if wish.require:
        check_names(parse(wish.require), frozenset[str]().union(*facts.values()))
    refusals: dict[str, str] = {}
    for board in lab.config.board:
        reason = refusal(wish, board, facts[board.id])
        if reason is None:
            return
        refusals[board.id] = reason
    reasons = "; ".join(f"{board_id} {reason}" for board_id, reason in refusals.items()) or "the lab has no boards"
    raise UnmatchableError(
        f"no board meets this: {reasons}",
        where="params.require" if wish.require else "params.board",
        remedy="list the boards to see what they are",
    )


def _touched(session: Session, lab: Lab, events: Sequence[Event]) -> Iterable[Shown]:
    numbers = {int(event.subject) for event in events if event.kind == ledger_reservations.KIND}
    if not numbers:
        return
    for row in session.exec(select(Reservation).where(col(Reservation.id).in_(numbers)).order_by(col(Reservation.id))):
        yield _shown(row)


def _every(session: Session, lab: Lab) -> Iterable[Shown]:
    live = select(Reservation).where(Reservation.state != ReservationState.ENDED).order_by(col(Reservation.id))
    return map(_shown, session.exec(live))


def _shown(row: Reservation) -> Shown:
    ended = row.state is ReservationState.ENDED
    return Shown(f"reservation/{row.id}", None if ended else reservation_document(row))


RESERVATIONS = Shelf(_touched, _every)

RESERVATION_VERBS: Mapping[str, Verb] = {
    "board.reserve": Change(TypeAdapter(Envelope[ReservationRequest]), reserve_board, ReservationDocument),
    "board.release": Change(TypeAdapter(Envelope[ReservationRef]), release_board, ReservationDocument),
    "reservation.list": Query(TypeAdapter(Envelope[ReservationQuery]), list_reservations, ReservationPage),
    "reservation.get": Query(TypeAdapter(Envelope[ReservationRef]), get_reservation, ReservationDocument),
    "reservation.extend": Change(TypeAdapter(Envelope[ReservationExtension]), extend_reservation, ReservationDocument),
    "reservation.hand_over": Change(
        TypeAdapter(Envelope[ReservationHandOver]), hand_over_reservation, ReservationDocument
    ),
}
