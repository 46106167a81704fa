"""What MQTT 5 says beside a payload: read from requests, written on replies and documents."""

from __future__ import annotations

import time
from typing import Any

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from labd.service.sender import NOWHERE, Origin

REPLY_EXPIRY_S = 3600
"""After so long the broker throws a reply away that nobody has fetched, s."""
JSON = "application/json"
_ASKING = ("ResponseTopic", "CorrelationData", "UserProperty", "ContentType", "PayloadFormatIndicator")
_UTF8 = 1
"""Payload format indicator of text (MQTT 5.0, 3.3.2.3.2)."""


def origin_of(message: aiomqtt.Message, user: str | None) -> Origin:
    """What the way of a request says, on a connection of either version."""
    expiry_s = _said(message, "MessageExpiryInterval")
    reply_to, correlation = _said(message, "ResponseTopic"), _said(message, "CorrelationData")
    if user is None and reply_to is None and correlation is None and expiry_s is None:
        return NOWHERE
    return Origin(
        user=user,
        reply_to=reply_to,
        correlation=correlation,
        expires_at_s=None if expiry_s is None else time.monotonic() + expiry_s,
    )


def document_properties() -> Properties:
    """Of a document in JSON."""
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.PayloadFormatIndicator = _UTF8
    properties.ContentType = JSON
    return properties


def request_properties(wait_s: float) -> Properties:
    """Of a request whose sender waits no longer than this, s: then nobody wants it done any more.

    The broker counts in whole seconds, of which there is at least one. A connection in MQTT 3.1.1 sends none of this.
    """
    properties = document_properties()
    properties.MessageExpiryInterval = max(1, int(wait_s))
    return properties


def reply_properties(request: aiomqtt.Message, verb: str, ok: bool) -> Properties | None:
    """Of the reply to a request; None where nobody would read them: the request has none of its own."""
    if all(_said(request, name) is None for name in _ASKING):
        return None
    properties = document_properties()
    properties.MessageExpiryInterval = REPLY_EXPIRY_S
    properties.UserProperty = [("labd-ok", "true" if ok else "false"), ("labd-verb", verb[:64])]
    correlation = _said(request, "CorrelationData")
    if correlation is not None:
        properties.CorrelationData = correlation
    return properties


def _said(message: aiomqtt.Message, name: str) -> Any:
    return getattr(message.properties, name, None)
