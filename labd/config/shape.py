"""From a TOML document to models, with every deviation noted in one pass.

One unknown key must not hide a wrong wire three tables further down. So each table of the lab is validated by itself;
what deviates in it is noted and cut away, and the checks of the wiring go on with what is left.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, to_json

from labd.config.findings import Finding, KeyPath, one_of
from labd.config.models import (
    Board,
    Firmware,
    Health,
    Http,
    Instrument,
    Keep,
    Lab,
    LabConfig,
    Mqtt,
    Queue,
    ReservationRules,
    Store,
    User,
)

Table = TypeVar("Table", bound=BaseModel)

_REMEDIES = {
    "string_type": "put the value in quotes",
    "string_pattern_mismatch": "use letters (in ids lower-case ones), digits, dots, dashes and underscores, at most 63",
    "int_type": "write a whole number without quotes",
    "float_type": "write a number without quotes",
    "bool_type": "write true or false without quotes",
    "tuple_type": "write a list: [ ... ]",
    "dict_type": "write a table: { key = value }",
    "model_type": "write a table: { key = value }",
    "greater_than": "write a larger number",
    "greater_than_equal": "write a larger number",
    "less_than_equal": "write a smaller number",
}


@dataclass(frozen=True, slots=True)
class Parts:
    """The tables of a lab that can be used; those of an array by their index in the file."""

    lab: Lab | None
    mqtt: Mqtt | None
    store: Store | None
    http: Http | None
    keep: Keep | None
    queue: Queue | None
    health: Health | None
    reservation: ReservationRules | None
    users: dict[int, User]
    instruments: dict[int, Instrument]
    boards: dict[int, Board]
    firmware: dict[int, Firmware]
    instrument_ids: frozenset[str]
    """All ids in the file, those of unusable instruments too: a reference to one of them is not wrong."""

    def config(self) -> LabConfig:
        """The whole lab, once there was nothing to find."""
        return LabConfig.model_validate(
            {
                "lab": self.lab,
                "mqtt": self.mqtt,
                "store": self.store,
                "http": self.http,
                "keep": self.keep,
                "queue": self.queue,
                "health": self.health,
                "reservation": self.reservation,
                "user": tuple(self.users.values()),
                "instrument": tuple(self.instruments.values()),
                "board": tuple(self.boards.values()),
                "firmware": tuple(self.firmware.values()),
            }
        )


def shape(document: dict[str, Any]) -> tuple[Parts, list[Finding]]:
    """Models of what can be used of a document, and a finding for each thing in it that cannot.

    TOML has types, so they are taken at their word: a quoted number is no number.
    """
    found = [
        Finding((key,), "is not a table that labd knows", one_of(key, LabConfig.model_fields, none="remove it"))
        for key in document
        if key not in LabConfig.model_fields
    ]
    if "lab" not in document:
        found.append(Finding(("lab",), "is missing", 'add [lab] with name = "..."'))
    parts = Parts(
        lab=_usable(Lab, document["lab"], ("lab",), found) if "lab" in document else None,
        mqtt=_usable(Mqtt, document.get("mqtt", {}), ("mqtt",), found),
        store=_usable(Store, document.get("store", {}), ("store",), found),
        http=_usable(Http, document.get("http", {}), ("http",), found),
        keep=_usable(Keep, document.get("keep", {}), ("keep",), found),
        queue=_usable(Queue, document.get("queue", {}), ("queue",), found),
        health=_usable(Health, document.get("health", {}), ("health",), found),
        reservation=_usable(ReservationRules, document.get("reservation", {}), ("reservation",), found),
        users=_usable_array(User, document, "user", found),
        instruments=_usable_array(Instrument, document, "instrument", found),
        boards=_usable_array(Board, document, "board", found),
        firmware=_usable_array(Firmware, document, "firmware", found),
        instrument_ids=_ids(document.get("instrument")),
    )
    return parts, found


def shape_findings(model: type[BaseModel], error: ValidationError, at: KeyPath) -> list[Finding]:
    """What pydantic found, in words for the one who wrote the file.

    Args:
        model: What was validated.
        error: What its validation raised.
        at: Where the validated table stands in the document.
    """
    return [_finding(model, detail, at) for detail in error.errors(include_url=False)]


def _usable_array(model: type[Table], document: dict[str, Any], name: str, found: list[Finding]) -> dict[int, Table]:
    given = document.get(name, [])
    if not isinstance(given, list):
        found.append(Finding((name,), "is one table, where there can be many", f"write [[{name}]] with two brackets"))
        return {}
    tables = {index: _usable(model, raw, (name, index), found) for index, raw in enumerate(given)}
    return {index: table for index, table in tables.items() if table is not None}


def _usable(model: type[Table], raw: Any, at: KeyPath, found: list[Finding]) -> Table | None:
    """The model of one table without what deviates in it; None if nothing usable is left."""
    left, first = copy.deepcopy(raw), True
    while True:
        try:
            return model.model_validate_json(to_json(left), strict=True)
        except ValidationError as error:
            if first:
                found.extend(shape_findings(model, error, at))
                first = False
            cuts = [_cut_path(detail) for detail in error.errors(include_url=False)]
        if not all(cuts):
            return None
        for cut in cuts:
            _cut(left, cut)


def _cut_path(detail: ErrorDetails) -> KeyPath:
    """An unknown key goes alone, anything else with the table it is in: half a table would deviate again.

    Of an array nothing is left, or the next table in it would take the place of the one that goes.
    """
    path = _path(detail)
    for depth, part in enumerate(path):
        if isinstance(part, int):
            return path[:depth]
    return path if detail["type"] == "extra_forbidden" else path[:-1]


def _cut(left: Any, path: KeyPath) -> None:
    for part in path[:-1]:
        left = left.get(part)
        if not isinstance(left, dict):  # cut already, with the table above it
            return
    left.pop(path[-1], None)


def _finding(model: type[BaseModel], detail: ErrorDetails, at: KeyPath) -> Finding:
    path, kind, given = _path(detail), detail["type"], detail["input"]
    if kind == "extra_forbidden":
        return Finding(
            at + path, "is not a key that labd knows", one_of(str(path[-1]), _keys(model, path[:-1]), none="remove it")
        )
    if kind == "missing":
        return Finding(at + path, "is missing", f"add {path[-1]} = ... to this table")
    if kind in ("enum", "literal_error"):
        subject = "is a key" if "[key]" in detail["loc"] else f"is {given!r},"
        return Finding(at + path, f"{subject} that labd does not know", f"use {detail.get('ctx', {}).get('expected')}")
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
    shown = "" if isinstance(given, dict | list) else f", and is {given!r}"
    return Finding(at + path, f"{message[:1].lower()}{message[1:]}{shown}", _REMEDIES.get(kind, "change the value"))


def _path(detail: ErrorDetails) -> KeyPath:
    return tuple(part for part in detail["loc"] if part != "[key]")


def _keys(model: type[BaseModel], path: KeyPath) -> list[str]:
    """The keys of the table at `path` below a model."""
    for part in path:
        if isinstance(part, int):  # a table of an array has the keys of each
            continue
        field = model.model_fields.get(part)
        annotation = field.annotation if field is not None else None
        inner = [kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type)]
        tables = [kind for kind in inner if issubclass(kind, BaseModel)]
        if not tables:
            return []
        model = tables[0]
    return list(model.model_fields)


def _ids(raw: Any) -> frozenset[str]:
    tables = raw if isinstance(raw, list) else []
    return frozenset(str(table["id"]) for table in tables if isinstance(table, dict) and "id" in table)
