"""The lab's MQTT API as an AsyncAPI 3.0 document, made from the models that check and write every message."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import TypeAdapter

from labd.mqtt.api_examples import PARAMS
from labd.service.documents import VERSION
from labd.service.exchange import Verb
from labd.service.messages import (
    BoardDocument,
    ErrorDocument,
    EventDocument,
    InstrumentDocument,
    JobDocument,
    LabStatus,
    Message,
    Offline,
    ProgressDocument,
)
from labd.service.reports.messages import MorningReport
from labd.service.requests import VERBS
from labd.service.reservations.messages import ReservationDocument
from labd.service.sweeps.messages import SweepDocument

Json = dict[str, Any]

DOCUMENTS: Mapping[str, tuple[type[Message], ...]] = {
    "status": (LabStatus, Offline),
    "event": (EventDocument,),
    "job/{id}": (JobDocument,),
    "job/{id}/progress": (ProgressDocument,),
    "board/{id}": (BoardDocument,),
    "instrument/{id}": (InstrumentDocument,),
    "reservation/{id}": (ReservationDocument,),
    "sweep/{name}": (SweepDocument,),
    "sweep/{name}/report": (MorningReport,),
}
"""What labd says by itself: path below the lab's root, and the forms that it has there."""

PASSING = frozenset({"event", "job/{id}/progress"})
"""What the broker does not keep."""

_ROOT = "labd/v1/{lab}"
_REF = "#/components/schemas/{model}"
_PARAMETERS = {
    "lab": "Name of the lab, from lab.toml.",
    "user": "Who asks, as the broker knows them.",
    "client": "What the request calls its client.",
    "id": "The thing's own number or id.",
    "name": "The sweep's name.",
}


def asyncapi() -> Json:
    """The whole document; the same for the same labd."""
    adapters = {f"{verb}.request": ("validation", served.envelope) for verb, served in VERBS.items()}
    adapters |= {f"{verb}.result": ("serialization", TypeAdapter(served.result)) for verb, served in VERBS.items()}
    adapters |= {
        model.__name__: ("serialization", TypeAdapter(model)) for models in DOCUMENTS.values() for model in models
    }
    adapters["error"] = ("serialization", TypeAdapter(ErrorDocument))
    inputs = [(key, mode, adapter) for key, (mode, adapter) in adapters.items()]
    made, definitions = TypeAdapter.json_schemas(inputs, ref_template=_REF)  # type: ignore[arg-type]
    schemas = {key: schema for (key, _), schema in made.items()}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "labd",
            "version": VERSION,
            "description": "A lab that measures TinyML inferences. The prose is in docs/reference/mqtt.md.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": dict(_channels()),
        "operations": dict(_operations()),
        "components": {
            "messages": dict(_messages(schemas)),
            "schemas": definitions.get("$defs", {}),
        },
    }


def _channels() -> Iterator[tuple[str, Json]]:
    for verb, served in VERBS.items():
        messages = {verb: _to("components/messages", verb)}
        told = f"For {served.role}s."
        yield f"request.{verb}", _channel(f"{_ROOT}/request/{verb}", messages, "In a lab without users.")
        yield f"user.request.{verb}", _channel(f"{_ROOT}/user/{{user}}/request/{verb}", messages, told)
    replies = {f"{verb}.reply": _to("components/messages", f"{verb}.reply") for verb in VERBS}
    replies["refusal"] = _to("components/messages", "refusal")
    yield "reply", _channel(f"{_ROOT}/reply/{{client}}", replies, "Unless a request names another topic.")
    yield "user.reply", _channel(f"{_ROOT}/user/{{user}}/reply/{{client}}", replies, "Seen by that user alone.")
    for path, models in DOCUMENTS.items():
        messages = {model.__name__: _to("components/messages", model.__name__) for model in models}
        kept = "Not retained." if path in PASSING else "Retained; an empty message takes it away."
        yield path, _channel(f"{_ROOT}/{path}", messages, kept)


def _channel(address: str, messages: Json, description: str) -> Json:
    named = [part[1:-1] for part in address.split("/") if part.startswith("{")]
    return {
        "address": address,
        "description": description,
        "messages": messages,
        "parameters": {name: {"description": _PARAMETERS[name]} for name in named},
    }


def _operations() -> Iterator[tuple[str, Json]]:
    for verb, served in VERBS.items():
        for way in ("", "user."):
            channel, reply = f"{way}request.{verb}", f"{way}reply"
            yield (
                channel,
                {
                    "action": "receive",
                    "channel": _to("channels", channel),
                    "summary": _summary(served),
                    "messages": [_to("channels", channel, "messages", verb)],
                    "reply": {
                        "channel": _to("channels", reply),
                        "messages": [_to("channels", reply, "messages", each) for each in (f"{verb}.reply", "refusal")],
                    },
                },
            )
    for path, models in DOCUMENTS.items():
        yield (
            f"tell.{path}",
            {
                "action": "send",
                "channel": _to("channels", path),
                "summary": _first_line(models[0]),
                "messages": [_to("channels", path, "messages", model.__name__) for model in models],
            },
        )


def _messages(schemas: Mapping[str, Json]) -> Iterator[tuple[str, Json]]:
    for verb in VERBS:
        asked: Json = {"name": verb, "payload": schemas[f"{verb}.request"]}
        if verb in PARAMS:
            asked["examples"] = [
                {"payload": {"request_id": "a-1", "client": "alice", "params": PARAMS[verb]}},
            ]
        yield verb, asked
        yield f"{verb}.reply", {"name": f"{verb}.reply", "payload": _reply(ok=schemas[f"{verb}.result"])}
    yield "refusal", {"name": "refusal", "payload": _refusal(schemas["error"])}
    for models in DOCUMENTS.values():
        for model in models:
            yield model.__name__, {"name": model.__name__, "payload": schemas[model.__name__]}


def _reply(ok: Json) -> Json:
    return _envelope({"ok": {"const": True}, "result": ok, "error": {"type": "null"}})


def _refusal(error: Json) -> Json:
    return _envelope({"ok": {"const": False}, "result": {"type": "null"}, "error": error})


def _envelope(properties: Json) -> Json:
    properties = {"request_id": {"type": "string"}, **properties}
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


def _summary(served: Verb) -> str:
    return f"{_first_line(served.result)} For {served.role}s."


def _first_line(model: type[Message]) -> str:
    return (model.__doc__ or "").strip().splitlines()[0]


def _to(*path: str) -> Json:
    """A reference; a slash in a name is written as JSON Pointer (RFC 6901) has it."""
    first, *names = path
    return {"$ref": "/".join(["#", first, *(name.replace("~", "~0").replace("/", "~1") for name in names)])}
