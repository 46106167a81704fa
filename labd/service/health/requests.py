"""What can be asked about the health of boards and instruments: looked at, checked, taken out of work, given back.

Each change is one commit; the caretaker sees it by itself. What a person says of a busy board stands at once, and its
run goes on to its end.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from pydantic import TypeAdapter
from sqlalchemy import func
from sqlmodel import Session, col, select

from labd.errors import NotFoundError
from labd.model import ledger_health
from labd.model.states import BoardState, CheckTrigger
from labd.model.tables import Check, Event, Hold, Lease, Run
from labd.service.access import Role
from labd.service.documents import board_documents, event_document, instrument_documents
from labd.service.exchange import Asked, Change, Done, Query, Verb, nothing
from labd.service.health.messages import (
    BoardDetail,
    BoardRef,
    BoardWithdrawal,
    CheckDocument,
    InstrumentDetail,
    InstrumentPage,
    InstrumentQuery,
    InstrumentRef,
    InstrumentWithdrawal,
)
from labd.service.lab import Lab
from labd.service.messages import BoardDocument, Envelope, EventDocument, InstrumentDocument, Message

CHECKS_SHOWN = 10
CHANGES_SHOWN = 20
EVENTS_SEARCHED = 100_000
"""So many of the lab's last events are searched for changes of one board: there can be millions."""


# --- boards ---------------------------------------------------------------------------------------------------


def get_board(lab: Lab, session: Session, board: BoardRef) -> Message:
    """All that the lab knows of one board's health."""
    found = _board(lab, session, board.id)
    holds = session.exec(
        select(Hold.resource)
        .join(Lease)
        .where(Lease.board_id == board.id, col(Lease.released_at).is_(None))
        .order_by(col(Hold.resource))
    )
    digest = session.exec(
        select(Run.firmware_sha256)
        .where(Run.board_id == board.id, Run.firmware_sha256 != "")
        .order_by(col(Run.id).desc())
        .limit(1)
    ).first()
    return BoardDetail(
        board=found,
        holds=tuple(holds),
        firmware_sha256=digest or "",
        checks=tuple(check_document(each) for each in ledger_health.last_checks(session, board.id, CHECKS_SHOWN)),
        changes=_changes(session, "board", board.id),
    )


def check_board(lab: Lab, session: Session, board: BoardRef, asked: Asked) -> Done:
    """Have a board checked as soon as it is free."""
    _board(lab, session, board.id)
    ledger_health.ask_check(session, board.id, CheckTrigger.ASKED, asked.at)
    return _told_board(lab, session, board.id)


def quarantine_board(lab: Lab, session: Session, board: BoardWithdrawal, asked: Asked) -> Done:
    """Trust a board no longer until it passes a check, which is not before the pause of a quarantined one."""
    _board(lab, session, board.id)
    row = ledger_health.withdraw_board(session, board.id, BoardState.QUARANTINED, _said(board.reason, asked), asked.at)
    row.check_due_at = asked.at + timedelta(seconds=lab.config.health.retry_s)
    return _told_board(lab, session, board.id)


def maintain_board(lab: Lab, session: Session, board: BoardWithdrawal, asked: Asked) -> Done:
    """Leave a board to a person until it is returned."""
    _board(lab, session, board.id)
    ledger_health.withdraw_board(session, board.id, BoardState.MAINTENANCE, _said(board.reason, asked), asked.at)
    return _told_board(lab, session, board.id)


def return_board(lab: Lab, session: Session, board: BoardRef, asked: Asked) -> Done:
    """Have a board back: it is checked at once, and is online again if it passes."""
    _board(lab, session, board.id)
    ledger_health.return_board(session, board.id, f"returned by {asked.requester}: to be checked", asked.at)
    return _told_board(lab, session, board.id)


def check_document(check: Check) -> CheckDocument:
    """One look at a board's health."""
    assert check.id is not None, "rows that were read have their number"
    return CheckDocument(
        id=check.id,
        trigger=check.trigger,
        started_at=check.started_at,
        ended_at=check.ended_at,
        passed=check.passed,
        findings=check.findings,
    )


def _board(lab: Lab, session: Session, board_id: str) -> BoardDocument:
    """The board's document. Raises `NotFoundError` for one that is not in lab.toml."""
    for document in board_documents(session, lab.config):
        if document.id == board_id:
            return document
    remedy = "list the boards to see their ids"
    raise NotFoundError(f"there is no board {board_id!r}", where="params.id", remedy=remedy)


def _told_board(lab: Lab, session: Session, board_id: str) -> Done:
    session.flush()
    return Done(_board(lab, session, board_id).model_dump(mode="json"), nothing)


# --- instruments ----------------------------------------------------------------------------------------------


def list_instruments(lab: Lab, session: Session, query: InstrumentQuery) -> Message:
    """All instruments that the daemon has seen."""
    return InstrumentPage(instruments=tuple(instrument_documents(session, lab.config)))


def get_instrument(lab: Lab, session: Session, instrument: InstrumentRef) -> Message:
    """One instrument, its boards and its history."""
    return InstrumentDetail(
        instrument=_instrument(lab, session, instrument.id),
        boards=tuple(board.id for board in lab.config.board if instrument.id in board.instruments),
        changes=_changes(session, "instrument", instrument.id),
    )


def maintain_instrument(lab: Lab, session: Session, instrument: InstrumentWithdrawal, asked: Asked) -> Done:
    """Leave an instrument to a person; its boards wait."""
    _instrument(lab, session, instrument.id)
    ledger_health.maintain_instrument(session, instrument.id, _said(instrument.reason, asked), asked.at)
    return _told_instrument(lab, session, instrument.id)


def return_instrument(lab: Lab, session: Session, instrument: InstrumentRef, asked: Asked) -> Done:
    """Have an instrument back: it is asked at once, and its boards go on when it answers."""
    _instrument(lab, session, instrument.id)
    ledger_health.return_instrument(session, instrument.id, f"returned by {asked.requester}: to be asked", asked.at)
    return _told_instrument(lab, session, instrument.id)


def _instrument(lab: Lab, session: Session, instrument_id: str) -> InstrumentDocument:
    for document in instrument_documents(session, lab.config):
        if document.id == instrument_id:
            return document
    remedy = "list the instruments to see their ids"
    raise NotFoundError(f"there is no instrument {instrument_id!r}", where="params.id", remedy=remedy)


def _told_instrument(lab: Lab, session: Session, instrument_id: str) -> Done:
    session.flush()
    return Done(_instrument(lab, session, instrument_id).model_dump(mode="json"), nothing)


# --- both -----------------------------------------------------------------------------------------------------


def _said(reason: str, asked: Asked) -> str:
    return f"{reason} ({asked.requester})"


def _changes(session: Session, kind: str, subject: str) -> tuple[EventDocument, ...]:
    newest = session.exec(select(func.max(Event.id))).one() or 0
    query = (
        select(Event)
        .where(col(Event.id) > newest - EVENTS_SEARCHED, Event.kind == kind, Event.subject == subject)
        .order_by(col(Event.id).desc())
        .limit(CHANGES_SHOWN)
    )
    return tuple(map(event_document, session.exec(query)))


HEALTH_VERBS: Mapping[str, Verb] = {
    "board.get": Query(TypeAdapter(Envelope[BoardRef]), get_board, BoardDetail),
    "board.check": Change(TypeAdapter(Envelope[BoardRef]), check_board, BoardDocument, Role.OPERATOR),
    "board.quarantine": Change(TypeAdapter(Envelope[BoardWithdrawal]), quarantine_board, BoardDocument, Role.OPERATOR),
    "board.maintain": Change(TypeAdapter(Envelope[BoardWithdrawal]), maintain_board, BoardDocument, Role.ADMIN),
    "board.return": Change(TypeAdapter(Envelope[BoardRef]), return_board, BoardDocument, Role.ADMIN),
    "instrument.list": Query(TypeAdapter(Envelope[InstrumentQuery]), list_instruments, InstrumentPage),
    "instrument.get": Query(TypeAdapter(Envelope[InstrumentRef]), get_instrument, InstrumentDetail),
    "instrument.maintain": Change(
        TypeAdapter(Envelope[InstrumentWithdrawal]), maintain_instrument, InstrumentDocument, Role.ADMIN
    ),
    "instrument.return": Change(
        TypeAdapter(Envelope[InstrumentRef]), return_instrument, InstrumentDocument, Role.ADMIN
    ),
}
