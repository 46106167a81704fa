"""What a lab can be asked, by verb; each room of the service has its own."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import TypeAdapter
from sqlmodel import Session

from labd.service.audit import AUDIT_VERBS
from labd.service.documents import board_documents
from labd.service.exchange import Query, Verb
from labd.service.health.requests import HEALTH_VERBS
from labd.service.lab import Lab
from labd.service.lab_requests import LAB_VERBS
from labd.service.messages import BoardPage, BoardQuery, Envelope, Message
from labd.service.queue.requests import QUEUE_VERBS
from labd.service.reports.requests import REPORT_VERBS
from labd.service.reservations.requests import RESERVATION_VERBS
from labd.service.sweeps.requests import SWEEP_VERBS
from labd.service.traces.requests import TRACE_VERBS


def list_boards(lab: Lab, session: Session, query: BoardQuery) -> Message:
    """All boards."""
    return BoardPage(boards=tuple(board_documents(session, lab.config)))


VERBS: Mapping[str, Verb] = {
    **QUEUE_VERBS,
    "board.list": Query(TypeAdapter(Envelope[BoardQuery]), list_boards, BoardPage),
    **AUDIT_VERBS,
    **LAB_VERBS,
    **RESERVATION_VERBS,
    **HEALTH_VERBS,
    **TRACE_VERBS,
    **SWEEP_VERBS,
    **REPORT_VERBS,
}
