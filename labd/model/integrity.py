"""Looks through a whole SQLite file for damage while the lab is at work, one table at a time.

At a start only a small file is looked through: a large one takes minutes, in which no board would work. Damage that a
statement meets is told by that statement anyway; this finds what none has met yet, so that a backup is still near.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

from sqlalchemy.engine import make_url

from labd.errors import StoreError

AT_START_BYTES = 64_000_000
"""A file up to this size is looked through before the lab begins: that takes a fraction of a second."""
BUSY_S = 5.0
"""Longest wait for a lock, s."""


def file_of(url: str) -> Path | None:
    """Where a SQLite database lies; None for another database, whose server looks after its files itself."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        return None
    return Path(parsed.database)


def looked_through_at_start(url: str) -> bool:
    """Whether the database is small enough to be looked through before anything else."""
    path = file_of(url)
    return path is not None and (not path.exists() or path.stat().st_size <= AT_START_BYTES)


async def find_damage(url: str, *, busy_s: float = BUSY_S) -> str | None:
    """Look through the database in a thread of its own; what is damaged, in SQLite's words, or None.

    A cancel ends the thread, too. Each table is a read transaction of its own, so that the log in front of the file
    does not grow for minutes.

    Args:
        url: The database.
        busy_s: Longest wait for a lock, s.

    Raises:
        StoreError: it cannot be read, though there is nothing to be said of damage.
    """
    path = file_of(url)
    if path is None:
        return None
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    found: list[str | None] = []
    broken: list[sqlite3.OperationalError] = []
    stopping = threading.Event()
    connection = sqlite3.connect(path, timeout=busy_s, check_same_thread=False, isolation_level=None)

    def look() -> None:
        try:
            found.append(_damage(connection, stopping.is_set))
        except sqlite3.OperationalError as error:
            broken.append(error)
        except sqlite3.DatabaseError as error:  # so badly damaged that not even the check can go on
            found.append(str(error))
        finally:
            loop.call_soon_threadsafe(done.set)

    thread = threading.Thread(target=look, name="database-check")
    thread.start()
    try:
        await done.wait()
    finally:
        stopping.set()
        connection.interrupt()
        thread.join()
        connection.close()
    if broken:
        raise StoreError(f"cannot be looked through: {broken[0]}", where=url) from broken[0]
    return found[0]


def _damage(connection: sqlite3.Connection, stopped: Callable[[], bool]) -> str | None:
    connection.execute("PRAGMA query_only=ON")
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    for table in tables:
        if stopped():
            return None
        quoted = table.replace('"', '""')
        verdict = str(connection.execute(f'PRAGMA quick_check("{quoted}")').fetchone()[0])
        if verdict != "ok":
            return verdict.splitlines()[0]
    return None
