"""Rows that are read and changed without objects: loading, changing and flushing one takes ten times as long.

A session may hold objects all the same, of rows that somebody else has read. What was changed of them is written before
a row is read or changed here, and that of a row that is changed here is read anew: neither side sees the other's past.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sqlalchemy import bindparam, inspect, select, update
from sqlalchemy.exc import NoResultFound
from sqlmodel import Session, SQLModel

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Known = TypeVar("Known", bound="DataclassInstance")


class Rows(Generic[Known]):
    """Rows of one table, by their keys; its statements are put into words once.

    Args:
        kind: The table's model; its key is one column.
        known: What is read of a row: a dataclass whose fields are columns.
    """

    def __init__(self, kind: type[SQLModel], known: type[Known]) -> None:
        self._mapper = inspect(kind)
        self._known = known
        table = self._mapper.local_table
        (key,) = self._mapper.primary_key
        columns = select(*(table.c[field.name] for field in fields(known)))
        self._select = columns.where(key == bindparam("key"))
        self._select_all = columns.where(key.in_(bindparam("keys", expanding=True)))
        self._update = update(table).where(key == bindparam("key"))

    def get(self, session: Session, key: int | str) -> Known | None:
        """What is known of a row; None if there is none."""
        session.flush()
        row = session.connection().execute(self._select, {"key": key}).first()
        return None if row is None else self._known(*row)

    def get_one(self, session: Session, key: int | str) -> Known:
        """What is known of a row that must be there. Raises SQLAlchemy's `NoResultFound` if it is not."""
        known = self.get(session, key)
        if known is None:
            raise NoResultFound(f"there is no {self._mapper.local_table.name} {key}")
        return known

    def among(self, session: Session, keys: Sequence[int | str]) -> list[Known]:
        """What is known of some rows; those that are not there are left out."""
        session.flush()
        return [self._known(*row) for row in session.connection().execute(self._select_all, {"keys": keys})]

    def change(self, session: Session, key: int | str, **values: Any) -> bool:
        """Give some columns of a row new values; False if there is no such row."""
        session.flush()
        changed = session.connection().execute(self._update, {"key": key, **values}).rowcount == 1
        held = session.identity_map.get(self._mapper.identity_key_from_primary_key((key,)))
        if held is not None:
            session.refresh(held)
        return changed
