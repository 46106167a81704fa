"""Where a key stands in a TOML text: the line that an operator must look at.

A TOML text cut after any whole statement is itself TOML. So the line of a key is the end of the shortest parseable
prefix that holds the key; no second parser is needed, and array tables may be interleaved as the file's author likes.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any

from labd.config.findings import KeyPath

_AT_LINE = re.compile(r"\(at line (\d+), column \d+\)$")


def key_text(path: KeyPath) -> str:
    """The path as people write it: `board[0].supply.voltage_v`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


def syntax_fault(text: str, error: tomllib.TOMLDecodeError) -> tuple[int, str]:
    """The line that a syntax error names, and what is wrong with it.

    An error at the end of the document has the last line.
    """
    message = str(error)
    found = _AT_LINE.search(message)
    if found is None:
        return text.rstrip("\n").count("\n") + 1, message.replace("(at end of document)", "before the end of the file")
    return int(found.group(1)), message[: found.start()].strip()


class Places:
    """Finds the lines of keys in one TOML text that parses as a whole.

    Args:
        text: The text of the file.
    """

    def __init__(self, text: str) -> None:
        self._lines = [line + "\n" for line in text.split("\n")]
        self._prefixes: dict[int, dict[str, Any] | None] = {0: {}}

    def line(self, path: KeyPath) -> int | None:
        """The line, counted from 1, on which `path` or the nearest thing above it begins; None for the top."""
        for length in range(len(path), 0, -1):
            found = self._begins(path[:length])
            if found is not None:
                return found
        return None

    def _begins(self, path: KeyPath) -> int | None:
        low, high = 0, len(self._lines)
        if not self._holds(self._cut(high), path):
            return None
        while low + 1 < high:
            middle = (low + high) // 2
            if self._holds(self._cut(middle), path):
                high = middle
            else:
                low = middle
        # `high` ends the statement; it began after the last whole statement before it
        return self._cut(high - 1) + 1

    def _cut(self, lines: int) -> int:
        """The longest prefix of at most so many lines that parses."""
        while self._parsed(lines) is None:
            lines -= 1
        return lines

    def _holds(self, lines: int, path: KeyPath) -> bool:
        value: Any = self._parsed(lines)
        for part in path:
            if isinstance(value, dict) and part in value:
                value = value[str(part)]
            elif isinstance(value, list) and isinstance(part, int) and part < len(value):
                value = value[part]
            else:
                return False
        return True

    def _parsed(self, lines: int) -> dict[str, Any] | None:
        if lines not in self._prefixes:
            try:
                self._prefixes[lines] = tomllib.loads("".join(self._lines[:lines]))
            except tomllib.TOMLDecodeError:
                self._prefixes[lines] = None
        return self._prefixes[lines]
