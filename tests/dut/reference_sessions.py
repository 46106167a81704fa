"""Dialogues of real boards, as published with MLPerf Tiny results, cut out of the logs of their host."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

_LINE = re.compile(r"^\d+\.\d+ (dut|io|parser): (.*)$")


@dataclass(frozen=True)
class Exchange:
    """A command as the host gave it ("" for the boot banner) and the board's lines, interface prefix kept."""

    command: str
    lines: tuple[str, ...]


def session_logs(pattern: str = "eembc-*/*/*/log.txt") -> list[Path]:
    root = Path(__file__).parents[2]
    reference = Path(os.environ.get("LABD_REFERENCE", root / "../shared/reference")).resolve()
    logs = sorted((reference / "sessions").glob(pattern))
    if not logs:
        pytest.skip(f"no reference sessions under {reference}: set LABD_REFERENCE")
    return logs


def exchanges(log: Path) -> list[Exchange]:
    """Return what the board said after each command of the host, in order."""
    found: list[Exchange] = []
    command, lines = "", []
    for row in log.read_text().splitlines():
        if not (match := _LINE.match(row)):
            continue
        source, text = match.groups()
        if source == "parser":
            if asked := re.match(r'Command "(?:io )?dut (.*)"', text):
                found.append(Exchange(command, tuple(lines)))
                command, lines = asked[1], []
        elif source == "dut" or text.startswith("[dut]: "):
            lines.append(text)
    found.append(Exchange(command, tuple(lines)))
    return found
