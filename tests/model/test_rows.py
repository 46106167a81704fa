"""Rows that are changed without objects, in a session in which somebody else has objects of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy.exc import NoResultFound
from sqlmodel import Session, SQLModel, create_engine

from labd.model.rows import Rows
from labd.model.states import BoardState
from labd.model.tables import Board

NOW = datetime(2025, 3, 1, 12, 0, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Standing:
    """What these tests know of a board."""

    state: BoardState
    strikes: int
    changed_at: datetime
    well_at: datetime | None


BOARDS = Rows(Board, Standing)


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    engine = create_engine(f"sqlite:///{tmp_path}/x.db")
    SQLModel.metadata.create_all(engine)
    with Session(engine, expire_on_commit=False) as session:
        session.add(Board(id="b1", changed_at=NOW))
        session.commit()
        yield session
    engine.dispose()


def test_a_row_is_known_in_the_types_of_its_model_and_changes_in_what_is_said(session: Session) -> None:
    assert BOARDS.get(session, "b1") == Standing(BoardState.OFFLINE, 0, NOW, None)
    later = NOW + timedelta(hours=1)
    assert BOARDS.change(session, "b1", state=BoardState.ONLINE, well_at=later)
    assert BOARDS.get_one(session, "b1") == Standing(BoardState.ONLINE, 0, NOW, later)


def test_a_row_that_is_not_there_is_told(session: Session) -> None:
    assert BOARDS.get(session, "b2") is None
    assert not BOARDS.change(session, "b2", strikes=1)
    with pytest.raises(NoResultFound, match="no board b2"):
        BOARDS.get_one(session, "b2")


def test_an_object_of_a_row_shows_its_change_and_travels(session: Session) -> None:
    board = session.get_one(Board, "b1")
    BOARDS.change(session, "b1", state=BoardState.ONLINE, reason="so")
    board.strikes = 2
    session.commit()
    session.close()
    assert (board.state, board.reason, board.strikes) == (BoardState.ONLINE, "so", 2)


def test_what_was_changed_of_an_object_is_known_and_stays(session: Session) -> None:
    board = session.get_one(Board, "b1")
    board.strikes = 3
    session.add(Board(id="b2", changed_at=NOW, strikes=1))
    assert [BOARDS.get_one(session, key).strikes for key in ("b1", "b2")] == [3, 1]
    board.reason = "said meanwhile"
    BOARDS.change(session, "b1", state=BoardState.ONLINE)
    assert (board.state, board.reason, board.strikes) == (BoardState.ONLINE, "said meanwhile", 3)
