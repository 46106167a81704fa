"""Statements that are put into words once, and carried out by the database's own driver.

A client waits while its job is written; wording, checking and watching over a statement takes SQLAlchemy longer than
carrying it out takes SQLite.

They take part in the transaction that the connection has begun; there has to be one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Dialect, Select, bindparam, insert, literal_column, select
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlmodel import SQLModel

from labd.model.engine import carried_out


@dataclass(frozen=True, slots=True)
class _Worded:
    """A statement in the words of one database: its SQL, and each parameter with what makes it the driver's own."""

    sql: str
    parameters: tuple[tuple[str, Callable[[Any], Any] | None], ...]
    positional: bool

    def bound(self, row: Mapping[str, Any]) -> tuple[Any, ...] | dict[str, Any]:
        values = [row[name] if turn is None else turn(row[name]) for name, turn in self.parameters]
        if self.positional:
            return tuple(values)
        return {name: value for (name, _), value in zip(self.parameters, values, strict=True)}


class _Statement:
    """A statement that is put into the words of a database when that is first asked.

    Args:
        word: Puts it into words.
    """

    def __init__(self, word: Callable[[Dialect], _Worded]) -> None:
        self._word = word
        self._worded: dict[str, _Worded] = {}

    def carried_out(self, connection: Connection, row: Mapping[str, Any]) -> AbstractContextManager[DBAPICursor]:
        """The cursor that has carried it out with the values of `row`. Raises `DBAPIError`."""
        worded = self._worded.get(connection.dialect.name)
        if worded is None:
            worded = self._worded[connection.dialect.name] = self._word(connection.dialect)
        return carried_out(connection, worded.sql, worded.bound(row))


class Presence:
    """Tells whether a table has a row of a key that is a text.

    Args:
        table: Name of the table.
        key: Name of the column.
    """

    def __init__(self, table: str, key: str) -> None:
        self._query: Select[Any] = select(literal_column("1")).where(
            SQLModel.metadata.tables[table].c[key] == bindparam("key")
        )
        self._statement = _Statement(self._word)

    def holds(self, connection: Connection, key: str) -> bool:
        """Whether there is such a row."""
        with self._statement.carried_out(connection, {"key": key}) as cursor:
            return cursor.fetchone() is not None

    def _word(self, dialect: Dialect) -> _Worded:
        compiled = self._query.compile(dialect=dialect)
        return _Worded(str(compiled), (("key", None),), compiled.positional)


class Insertion:
    """Inserts rows into one table. Defaults of the model play no part: a row says all but a number that is counted.

    Args:
        table: Name of the table.
        usual: What a row says, by column, that does not say otherwise.
    """

    def __init__(self, table: str, **usual: Any) -> None:
        self._table = SQLModel.metadata.tables[table]
        self._usual = usual
        self._statement = _Statement(self._word)

    def add(self, connection: Connection, row: Mapping[str, Any]) -> None:
        """Insert one row, by the names of its columns."""
        with self._statement.carried_out(connection, {**self._usual, **row}):
            pass

    def number(self, connection: Connection, row: Mapping[str, Any]) -> int:
        """Insert one row into a table that counts its rows; return its number."""
        with self._statement.carried_out(connection, {**self._usual, **row}) as cursor:
            returned = cursor.fetchone() if cursor.description else None
            return int(returned[0] if returned else cursor.lastrowid)

    def _word(self, dialect: Dialect) -> _Worded:
        columns = [column for column in self._table.columns if column is not self._table.autoincrement_column]
        compiled = insert(self._table).compile(dialect=dialect, column_keys=[column.name for column in columns])
        turns = {column.name: column.type.dialect_impl(dialect).bind_processor(dialect) for column in columns}
        names = (compiled.positiontup if compiled.positional else None) or list(turns)
        return _Worded(str(compiled), tuple((name, turns[name]) for name in names), compiled.positional)
