"""Who asked for what and when, and every state change with its reason: kept as long as the results are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import TypeAdapter
from sqlmodel import Session, col, select

from labd.model.tables import Event, Request
from labd.service.audit_messages import AskedDocument, AuditPage, AuditQuery, ChangeDocument
from labd.service.exchange import Query, Verb
from labd.service.lab import Lab
from labd.service.messages import Envelope, Message


def list_audit(lab: Lab, session: Session, query: AuditQuery) -> Message:
    """A page of requests and of state changes."""
    only_changes = query.kind is not None or query.subject is not None
    requests = () if only_changes else _requests(session, query)
    changes = () if query.verb is not None else _changes(session, query)
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
        next_requests_before=requests[-1].answered_at if len(requests) == query.limit else None,
    )


def _requests(session: Session, query: AuditQuery) -> Sequence[Request]:
    rows = select(Request).order_by(col(Request.answered_at).desc(), col(Request.request_id)).limit(query.limit)
    if query.requester is not None:
        rows = rows.where(Request.requester == query.requester)
    if query.verb is not None:
        rows = rows.where(Request.verb == query.verb)
    if query.since is not None:
        rows = rows.where(col(Request.answered_at) >= query.since)
    for until in (query.until, query.requests_before):
        if until is not None:
            rows = rows.where(col(Request.answered_at) < until)
    return session.exec(rows).all()


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
