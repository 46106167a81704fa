"""Reads a sweep file: the parameters of `sweep.create` in TOML or JSON, with every fault named by line and key."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import to_json

from labd.config.findings import Finding, KeyPath
from labd.config.places import Places, key_text, syntax_fault
from labd.config.shape import shape_findings
from labd.errors import ConfigError, Fault
from labd.service.sweeps.messages import SweepCreate

_FORMS = ("id", "table")
"""What the two forms of a board are called in the place of an error."""


def read_sweep(path: Path, **given: Any) -> SweepCreate:
    """The sweep that a file describes.

    Args:
        path: A file whose name ends in `.json`, else TOML.
        given: Keys that take the place of the file's own.

    Raises:
        ConfigError: the file cannot be read, or has faults; all of them are in `faults`.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")  # Windows puts a byte-order mark before its UTF-8
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(
            f"cannot be read: {reason}", where=str(path), remedy="give the path of a sweep file"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError("is not UTF-8 text", where=str(path), remedy="save it as UTF-8") from error
    document, places = _json(path, text) if path.suffix == ".json" else _toml(path, text)
    try:
        return SweepCreate.model_validate_json(to_json({**document, **given}))
    except ValidationError as error:
        found = [_placed(each, places) for each in shape_findings(SweepCreate, error, ())]
        raise _refused(path, sorted(found, key=lambda fault: (fault.line or 0, fault.key))) from error


def _toml(path: Path, text: str) -> tuple[dict[str, Any], Places | None]:
    try:
        return tomllib.loads(text), Places(text)
    except tomllib.TOMLDecodeError as error:
        line, message = syntax_fault(text, error)
        raise _refused(path, [Fault("", line, message, "see toml.io for the syntax")]) from error


def _json(path: Path, text: str) -> tuple[dict[str, Any], Places | None]:
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise _refused(path, [Fault("", error.lineno, error.msg, "write one JSON object")]) from error
    if not isinstance(document, dict):
        raise _refused(path, [Fault("", None, "is no JSON object", "write one JSON object")])
    return document, None


def _placed(finding: Finding, places: Places | None) -> Fault:
    key: KeyPath = tuple(part for part in finding.path if part not in _FORMS or finding.path.index(part) == 0)
    return Fault(key_text(key), places.line(key) if places else None, finding.message, finding.remedy)


def _refused(path: Path, faults: list[Fault]) -> ConfigError:
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    return ConfigError(f"cannot be used, {count}", where=str(path), faults=tuple(faults))
