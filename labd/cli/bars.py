"""How far something is, on standard error, for as long as it lasts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from labd.cli.table import remarks

BytesDone = Callable[[str, int, int], None]
"""Told the name of what is worked on, the bytes that are done, and the bytes that there are."""


@contextmanager
def byte_bar(what: str) -> Iterator[BytesDone]:
    """Show a bar with bytes and speed while the context lasts."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=remarks(), transient=True) as bars:
        task = bars.add_task(what)

        def told(name: str, done: int, whole: int) -> None:
            bars.update(task, description=name, completed=done, total=whole)

        yield told
