"""From the bytes of a request to the reply: every request is answered, whatever is wrong with it.

`answer` never raises for what a client did.
"""

from __future__ import annotations

import structlog
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from labd.errors import RequestError, StoreError
from labd.service.access import Caller, demand, role_of
from labd.service.lab import Lab
from labd.service.messages import PAYLOAD_MAX_BYTES, ErrorDocument, ErrorKind, Reply
from labd.service.requests import VERBS
from labd.service.sender import Sender

_log = structlog.get_logger(__name__)


async def answer(lab: Lab, verb: str, payload: bytes, sender: Sender) -> Reply:
    """Answer one request; what is wrong with it becomes an error that names field and kind, and is logged."""
    try:
        if len(payload) > PAYLOAD_MAX_BYTES:
            error = ErrorDocument(
                kind=ErrorKind.TOO_LARGE,
                message=f"the request has {len(payload)} bytes, the limit is {PAYLOAD_MAX_BYTES}",
                remedy="send a smaller request",
            )
        elif (served := VERBS.get(verb)) is None:
            error = ErrorDocument(
                kind=ErrorKind.UNKNOWN_REQUEST,
                message=f"there is no request {verb[:64]!r}",
                field="topic",
                remedy=f"use one of: {', '.join(VERBS)}",
            )
        else:
            role = role_of(lab.config, sender.origin.user)
            demand(role, served.role, verb)
            result = await served.answer(lab, verb, payload, Caller(role, sender))
            return Reply(request_id=sender.request_id, ok=True, result=result)
    except ValidationError as invalid:
        error = _invalid(invalid)
    except RequestError as refused:
        error = ErrorDocument(
            kind=ErrorKind(refused.kind), message=refused.message, field=refused.where, remedy=refused.remedy
        )
    except StoreError as failed:
        error = ErrorDocument(kind=ErrorKind.STORE, message=str(failed), remedy="try again; see the daemon's log")
    except Exception:
        _log.exception("request_crashed", verb=verb, client=sender.client, request_id=sender.request_id)
        error = ErrorDocument(
            kind=ErrorKind.INTERNAL,
            message="labd itself made a mistake",
            remedy="report it with the daemon's log of this request id",
        )
    return refusal(verb, sender, error)


def refusal(verb: str, sender: Sender, error: ErrorDocument) -> Reply:
    """The reply that refuses a request; it is logged."""
    _log.warning(
        "request_refused",
        verb=verb[:64],
        client=sender.client,
        request_id=sender.request_id,
        kind=error.kind.value,
        field=error.field,
        message=error.message,
    )
    return Reply(request_id=sender.request_id, ok=False, error=error)


def _invalid(invalid: ValidationError) -> ErrorDocument:
    faults = invalid.errors(include_url=False, include_input=False, include_context=False)
    first = faults[0]
    if first["type"] == "json_invalid":
        return ErrorDocument(kind=ErrorKind.MALFORMED_JSON, message=first["msg"], remedy="send one JSON object")
    others = f" (and {len(faults) - 1} more: {', '.join(map(_field, faults[1:6]))})" if len(faults) > 1 else ""
    return ErrorDocument(
        kind=ErrorKind.BAD_REQUEST, message=first["msg"] + others, field=_field(first), remedy="correct this field"
    )


def _field(fault: ErrorDetails) -> str:
    return ".".join(str(part) for part in fault["loc"] if part != "[key]")[:256]
