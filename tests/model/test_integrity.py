"""A large database is looked through while others work in it, and what is damaged is told."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from labd.errors import StoreError
from labd.model import integrity
from labd.model.integrity import find_damage, looked_through_at_start
from labd.model.migrations import upgrade


@pytest.fixture
def path(tmp_path: Path) -> Path:
    upgrade(f"sqlite:///{tmp_path}/labd.db")
    path = tmp_path / "labd.db"
    with sqlite3.connect(path) as connection:
        connection.executemany(
            "INSERT INTO event (at, kind, subject, state, reason, actor)"
            " VALUES ('2026-01-01', 'job', ?, 'queued', ?, 'a')",
            [(str(number), "x" * 200) for number in range(20_000)],
        )
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return path


async def test_a_whole_database_is_found_whole(path: Path) -> None:
    assert await find_damage(f"sqlite:///{path}") is None


def spoil(path: Path) -> None:
    """Write over a page in the middle."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2 // 4096 * 4096)
        file.write(b"\xff" * 4096)


async def test_damage_in_the_middle_is_found_and_told(path: Path) -> None:
    spoil(path)
    damage = await find_damage(f"sqlite:///{path}")
    assert damage is not None
    assert damage != "ok"


async def test_a_stop_ends_the_search_and_its_thread(path: Path) -> None:
    searching = asyncio.create_task(find_damage(f"sqlite:///{path}"))
    await asyncio.sleep(0)
    searching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await searching
    assert "database-check" not in {thread.name for thread in threading.enumerate()}


async def test_what_is_no_database_any_more_is_told(tmp_path: Path) -> None:
    (tmp_path / "labd.db").write_bytes(b"no database at all" * 1000)
    assert await find_damage(f"sqlite:///{tmp_path}/labd.db") == "file is not a database"


async def test_a_database_that_somebody_keeps_locked_is_no_damage(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreError, match="locked"):
            await find_damage(f"sqlite:///{path}", busy_s=0.05)


def test_only_a_small_file_is_looked_through_before_the_lab_begins(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/labd.db"
    assert looked_through_at_start(url)
    with (tmp_path / "labd.db").open("wb") as file:
        file.truncate(integrity.AT_START_BYTES + 1)
    assert not looked_through_at_start(url)
    assert not looked_through_at_start("postgresql+psycopg://localhost/labd")
