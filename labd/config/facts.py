"""Whether what a board says of itself beside its wiring makes sense: capabilities, shared things, idle current."""

from __future__ import annotations

import re
from collections.abc import Iterator

from labd.config.findings import Finding, KeyPath
from labd.config.models import Board

DERIVED = frozenset(
    {"id", "target", "tags", "supply", "analyzer", "timing", "edges", "serial", "flash", "limits"}
    | {"voltage_max_v", "current_max_a", "clock_ppm", "tag"}
)
"""First words of the facts that labd knows of a board by itself; a board declares none that begins so."""
_WORDS = frozenset({"and", "or", "not", "in", "is", "true", "false", "if", "else", "none"})
"""Words of the requirement language."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")


def check_facts(board: Board, path: KeyPath) -> Iterator[Finding]:
    """Capabilities have names that a job can ask for, resources are named once, the idle current is a band."""
    for name in board.capabilities:
        at: KeyPath = (*path, "capabilities", name)
        first = name.partition(".")[0]
        if not _NAME.fullmatch(name) or not _WORDS.isdisjoint(name.lower().split(".")):
            remedy = "use letters, digits and underscores, in words with dots between: memory_kb, radio.ble"
            yield Finding(at, f"{name!r} is no name that a requirement can use", remedy)
        elif first in DERIVED:
            message = f"what begins with {first!r} is known to labd from the wiring"
            yield Finding(at, message, f"use another name, or put one before it: own.{name}")
    for place, resource in enumerate(board.resources):
        if resource in board.resources[:place]:
            yield Finding((*path, "resources", place), f"{resource!r} is there twice", "remove one")
    if board.idle_current_a is not None:
        yield from _check_idle(board.idle_current_a, board.limits.current_max_a, (*path, "idle_current_a"))


def _check_idle(band_a: tuple[float, float], limit_a: float, path: KeyPath) -> Iterator[Finding]:
    low_a, high_a = band_a
    if low_a < 0:
        yield Finding(path, f"{low_a:g} A is below zero", "write the least and the most that the idle board draws")
    elif not low_a < high_a:
        yield Finding(path, f"{low_a:g} A is not below {high_a:g} A", "write the smaller one first")
    elif high_a > limit_a:
        message = f"{high_a:g} A is above the board's limit of {limit_a:g} A"
        yield Finding(path, message, "lower it, or raise limits.current_max_a if the board allows")
