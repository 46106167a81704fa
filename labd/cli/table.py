"""How the command lines speak: tables for people, JSON for scripts, and figures that never lack unit or uncertainty.

Results go to standard output and everything else to standard error, so that a pipe gets results only.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from rich.table import Table

_UNBOUNDED = 10_000
_PREFIXES = ((1e-12, "p"), (1e-9, "n"), (1e-6, "µ"), (1e-3, "m"), (1.0, ""), (1e3, "k"), (1e6, "M"), (1e9, "G"))


class Exit(IntEnum):
    """How a command ended, for scripts."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3
    UNREACHABLE = 4
    TIMED_OUT = 5


def results() -> Console:
    """Standard output as it is now."""
    return Console(soft_wrap=True, highlight=False)


def remarks() -> Console:
    """Standard error as it is now."""
    return Console(stderr=True, soft_wrap=True, highlight=False)


def print_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, console: Console | None = None
) -> None:
    """Print a table whose words are taken as they are: no markup, and nothing cut off.

    Args:
        title: What stands above it; empty for nothing.
        columns: Heads of the columns.
        rows: A text a column.
        console: Where to; None for standard output.
    """
    from rich import box
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(_printable(cell)) for cell in row))
    console = console or Console(highlight=False)
    width = Console(width=_UNBOUNDED).measure(table).maximum
    if not console.is_terminal:
        # a pipe has no width: a row is left on one line there, so that grep and awk can work on it
        console = Console(file=console.file, highlight=False, width=width)
    elif width > console.width:
        _narrow(table, width - console.width)
    console.print(table)


def _narrow(table: Table, letters: int) -> None:
    """Give each column a width of its own, so that the table is so many letters narrower than its longest lines."""
    texts = [[str(text) for text in (column.header, *column.cells)] for column in table.columns]
    words = [max(cell_len(word) for text in column for word in (*text.split(), "-")) for column in texts]
    lines = [max(cell_len(line) for text in column for line in (*text.splitlines(), "-")) for column in texts]
    for column, width in zip(table.columns, shared_width(words, lines, sum(lines) - letters), strict=True):
        column.width = width


def shared_width(words: Sequence[int], lines: Sequence[int], width: int) -> list[int]:
    """How wide each column is: lines are broken between words, and only the longest words if there is no room for all.

    Args:
        words: Letters of each column's longest word, at least 1.
        lines: Letters of its longest line, no fewer.
        width: What all columns may take together, letters.
    """
    longest = max(words)
    while longest > 1 and sum(min(word, longest) for word in words) > width:
        longest -= 1
    widths = [min(word, longest) for word in words]
    taken = min(width, sum(lines))
    while sum(widths) < taken:
        for index, line in enumerate(lines):
            if widths[index] < line and sum(widths) < taken:
                widths[index] += 1
    return widths


def _printable(text: str) -> str:
    """The text without what would command the terminal: boards and people say what they like."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "�" for letter in text)


def print_json(document: Mapping[str, Any]) -> None:
    """Print one document, a line of its own."""
    results().out(json.dumps(document, ensure_ascii=False, allow_nan=False), highlight=False)


def quantity(value: float, unit: str, digits: int = 4) -> str:
    """A figure with the prefix that suits it: `204.8 µs`."""
    scale, prefix = _prefix(value)
    return f"{value / scale:.{digits}g} {prefix}{unit}"


def counted(number: int, noun: str) -> str:
    """How many there are: `1 trace`, `2,000 traces`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def local_time(moment: datetime | None) -> str:
    """A time on the reader's clock, to the second; a dash for none."""
    return "-" if moment is None else f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"


def short_time(moment: datetime | None) -> str:
    """A time on the reader's clock, to the minute and without its year, for tables of many columns."""
    return "-" if moment is None else f"{moment.astimezone():%m-%d %H:%M}"


def _prefix(value: float) -> tuple[float, str]:
    for scale, prefix in reversed(_PREFIXES):
        if abs(value) >= scale:
            return scale, prefix
    return 1.0, ""
