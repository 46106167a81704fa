"""What clients send and get about who did what."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import AwareDatetime, Field

from labd.service.messages import ClientName, Id, Message, Number, RequestId


class AuditQuery(Message):
    """Asks for a page of what was asked for and of what became of it, newest first."""

    requester: ClientName | None = None
    """Only what they asked for, and what came of it; `labd` for what the lab did by itself."""
    verb: Id | None = None
    """Only requests of this verb; no state changes."""
    kind: Id | None = None
    """Only state changes of this kind of thing, such as `job`; no requests."""
    subject: Id | None = None
    """Only state changes of this thing; goes with `kind`."""
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    limit: Annotated[int, Field(ge=1, le=500)] = 50
    before: Number | None = None
    """Only state changes older than this number; no requests, unless `requests_before` is given too."""
    requests_before: RequestId | None = None
    """Only requests older than the one of this id; no state changes, unless `before` is given too."""


class AskedDocument(Message):
    """A request that changed something. Queries and refused requests change nothing, and stand in the log alone."""

    at: datetime
    request_id: str
    verb: str
    requester: str
    client: str
    params: dict[str, Any]


class ChangeDocument(Message):
    """One state change, who brought it about, and why."""

    number: int
    at: datetime
    actor: str
    kind: str
    subject: str
    state: str
    reason: str


class AuditPage(Message):
    """Reply to `audit.list`: two lists, each newest first; what is null has no further page."""

    requests: tuple[AskedDocument, ...]
    changes: tuple[ChangeDocument, ...]
    next_before: int | None
    next_requests_before: str | None
