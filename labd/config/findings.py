"""What the checks of `lab.toml` find: a place, what is wrong there, and what to write instead."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

KeyPath = tuple[str | int, ...]
"""Keys and indices from the top of a document to one of its values."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault or a warning that does not know its line yet."""

    path: KeyPath
    message: str
    remedy: str


def one_of(word: str, choices: Iterable[str], *, none: str) -> str:
    """A remedy for a name that does not exist: the nearest one, else all there are, else `none`."""
    names = sorted(choices)
    if near := get_close_matches(word, names, n=1):
        return f"did you mean {near[0]!r}?"
    return f"use one of: {', '.join(names)}" if names else none
