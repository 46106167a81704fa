"""The record goes on when the disk is full, because something gives way."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from sqlmodel import Session

from labd.errors import StoreFullError
from labd.keep.reserve import LEAST_BYTES, NAME, Reserve
from labd.model import ledger
from labd.model.database import Database
from labd.model.migrations import upgrade
from labd.model.states import BoardState
from tests.keep.small_disk import fill_up, small_disk

NOW = datetime(2025, 3, 1, 12, 0, tzinfo=UTC)


BOARDS = 40


async def write_much(database: Database) -> None:
    """More than the room that the write-ahead log has already."""

    def one(session: Session, number: int) -> None:
        ledger.set_board_state(session, f"b{number}", BoardState.ONLINE, "x" * 2000, NOW)

    for number in range(BOARDS):
        await database.write(partial(one, number=number))


def test_the_reserve_gives_half_of_what_is_left_until_it_is_not_worth_it(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path, 4 * LEAST_BYTES)
    assert reserve.fill()
    given = 0
    while reserve.give():
        given += 1
    assert given == 3
    assert reserve.fill()
    assert (tmp_path / NAME).stat().st_size == 4 * LEAST_BYTES


def test_a_reserve_that_was_never_filled_gives_nothing(tmp_path: Path) -> None:
    assert not Reserve(tmp_path).give()


async def test_what_a_full_disk_refuses_is_committed_once_the_reserve_gave_way(tmp_path: Path) -> None:
    """All of it: the first write finds the disk full, the others that wait with it lose nothing either."""
    with small_disk(tmp_path / "disk", 12_000_000) as disk:
        url = f"sqlite:///{disk}/labd.db"
        upgrade(url)
        reserve = Reserve(disk, 8_000_000)
        assert reserve.fill()
        async with Database.open(url, make_room=reserve.give) as database:
            fill_up(disk)
            assert not Reserve(disk, 9_000_000).fill()
            await write_much(database)
            assert (disk / NAME).stat().st_size < 8_000_000
        with sqlite3.connect(f"file:{disk}/labd.db?mode=ro", uri=True) as connection:
            assert connection.execute("SELECT count(*) FROM board").fetchone() == (BOARDS,)
        connection.close()


async def test_without_a_reserve_a_full_disk_is_told_as_such(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 2_000_000) as disk:
        url = f"sqlite:///{disk}/labd.db"
        upgrade(url)
        async with Database.open(url) as database:
            fill_up(disk)
            with pytest.raises(StoreFullError, match="make room"):
                await write_much(database)
            (disk / "hog").unlink()
            await database.write(lambda session: ledger.set_board_state(session, "b1", BoardState.ONLINE, "", NOW))
