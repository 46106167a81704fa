"""Who sent a request, and where its reply goes: read before anything is judged, so that everybody can be answered."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from labd.service.messages import PAYLOAD_MAX_BYTES, ClientName, RequestId

T = TypeVar("T")

_CLIENT = TypeAdapter(ClientName)
_REQUEST_ID = TypeAdapter(RequestId)
_LOOSE = re.compile(rb'"(request_id|client|reply_to)"\s*:\s*"([^"\\]{1,256})"')


@dataclass(frozen=True, slots=True)
class Origin:
    """What the way that a request came says of it, beside its own words.

    Args:
        user: Who the broker vouches for; None on the open topic.
        reply_to: MQTT 5's response topic.
        correlation: MQTT 5's correlation data.
        expires_at_s: On the monotonic clock, when nobody wants it done any more, s; None for never.
    """

    user: str | None = None
    reply_to: str | None = None
    correlation: bytes | None = None
    expires_at_s: float | None = None


NOWHERE = Origin()
"""Of a request that came with nothing but its words."""


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sent a request and where the reply goes; None where neither the request nor its way says it."""

    request_id: str = ""
    client: str | None = None
    reply_to: str | None = None
    origin: Origin = NOWHERE


def sender_of(payload: bytes, origin: Origin = NOWHERE) -> Sender:
    """Read who sent `payload`; what is malformed or too large is searched for it as far as the limit goes.

    What the request leaves out its way may say: the user stands for the client, and correlation data for the id.
    """
    head = payload[:PAYLOAD_MAX_BYTES]
    try:
        raw = from_json(head) if len(payload) <= PAYLOAD_MAX_BYTES else None
    except ValueError:
        raw = None
    if not isinstance(raw, dict):
        raw = {key.decode(): value.decode(errors="replace") for key, value in _LOOSE.findall(head)}
    reply_to = raw.get("reply_to")
    client = _valid(_CLIENT, raw.get("client")) or _valid(_CLIENT, origin.user)
    return Sender(
        request_id=_valid(_REQUEST_ID, raw.get("request_id")) or _correlated(origin, client),
        client=client,
        reply_to=reply_to if isinstance(reply_to, str) else origin.reply_to,
        origin=origin,
    )


def _correlated(origin: Origin, client: str | None) -> str:
    """An id made of correlation data: another one for the same data of another client."""
    if not origin.correlation:
        return ""
    scope = f"{origin.user}\n{client}\n{origin.reply_to if client is None else ''}\n"
    return f"c-{hashlib.sha256(scope.encode() + origin.correlation).hexdigest()[:32]}"


def _valid(kind: TypeAdapter[T], value: Any) -> T | None:
    if value is None:
        return None
    try:
        return kind.validate_python(value)
    except ValidationError:
        return None
