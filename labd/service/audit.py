"""Who asked for what and when, and every state change with its reason: kept as long as the results are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import TypeAdapter
from sqlmodel import Session, col, or_, select

from labd.errors import NotFoundError
from labd.model.tables import Event, Request
from labd.service.audit_messages import AskedDocument, AuditPage, AuditQuery, ChangeDocument
from labd.service.exchange import Query, Verb
from labd.service.lab import Lab
from labd.service.messages import Envelope, Message


def list_audit(lab: Lab, session: Session, query: AuditQuery) -> Message:
    """A page of requests and of state changes."""
    of_a_thing = query.kind is not None or query.subject is not None
    further_changes = query.before is not None and query.requests_before is None
    further_requests = query.requests_before is not None and query.before is None
    requests = () if of_a_thing or further_changes else _requests(session, query)
    changes = () if query.verb is not None or further_requests else _changes(session, query)
    return AuditPage(
        requests=tuple(
            AskedDocument(
                at=row.answered_at,
                request_id=row.request_id,
                verb=row.verb,
                requester=row.requester,
                client=row.client,
                params=row.params,
            )
            for row in requests
        ),
        changes=tuple(
            ChangeDocument(
                number=row.id or 0,
                at=row.at,
                actor=row.actor,
                kind=row.kind,
                subject=row.subject,
                state=row.state,
                reason=row.reason,
            )
            for row in changes
        ),
        next_before=changes[-1].id if len(changes) == query.limit else None,
        next_requests_before=requests[-1].request_id if len(requests) == query.limit else None,
    )


def _requests(session: Session, query: AuditQuery) -> Sequence[Request]:
    rows = select(Request).order_by(col(Request.answered_at).desc(), col(Request.request_id)).limit(query.limit)
    if query.requester is not None:
        rows = rows.where(Request.requester == query.requester)
    if query.verb is not None:
        rows = rows.where(Request.verb == query.verb)
    if query.since is not None:
        rows = rows.where(col(Request.answered_at) >= query.since)
    if query.until is not None:
        rows = rows.where(col(Request.answered_at) < query.until)
    if query.requests_before is not None:
        last = _request(session, query.requests_before)
        # Many requests are answered in one moment, so a time alone does not tell where a page ended.
        rows = rows.where(
            col(Request.answered_at) <= last.answered_at,
            or_(col(Request.answered_at) < last.answered_at, col(Request.request_id) > last.request_id),
        )
    return session.exec(rows).all()


def _request(session: Session, request_id: str) -> Request:
    row = session.get(Request, request_id)
    if row is None:
        raise NotFoundError(
            f"there is no request {request_id!r} in the record",
            where="params.requests_before",
            remedy="ask for the first page again, and go on from there",
        )
    return row


def _changes(session: Session, query: AuditQuery) -> Sequence[Event]:
    rows = select(Event).order_by(col(Event.id).desc()).limit(query.limit)
    if query.requester is not None:
        rows = rows.where(Event.actor == query.requester)
    if query.kind is not None:
        rows = rows.where(Event.kind == query.kind)
    if query.subject is not None:
        rows = rows.where(Event.subject == query.subject)
    if query.since is not None:
        rows = rows.where(col(Event.at) >= query.since)
    if query.until is not None:
        rows = rows.where(col(Event.at) < query.until)
    if query.before is not None:
        rows = rows.where(col(Event.id) < query.before)
    return session.exec(rows).all()


AUDIT_VERBS: Mapping[str, Verb] = {"audit.list": Query(TypeAdapter(Envelope[AuditQuery]), list_audit, AuditPage)}
