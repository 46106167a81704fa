"""SQLAlchemy engines set up for durability: the only place that knows one database's dialect from another's.

SQLite runs in WAL with synchronous=FULL, so a commit that returned survives a kill and a power cut. The sqlite3
module's own transaction handling is switched off: it leaves DDL and SAVEPOINT outside transactions.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any

from pydantic_core import to_json
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from labd.errors import StoreError, StoreFullError

BUSY_TIMEOUT_S = 5.0
"""Longest wait for another process's write lock, s."""


class Access(Enum):
    """What an engine is for."""

    WRITE = "write"
    READ = "read"
    MIGRATE = "migrate"  # foreign keys are checked at the end: altering a table may rebuild it


def make_engine(url: str, access: Access, *, connections: int = 1) -> Engine:
    """Return an engine whose connections are durable, checked and limited to `access`.

    Args:
        url: A database URL, `sqlite:///relative`, `sqlite:////absolute` or `postgresql+...://`.
        access: What its connections may do.
        connections: Most connections open at once.

    Raises:
        StoreError: the URL cannot be used.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise StoreError(
            "is not a database URL", where=url, remedy="write sqlite:///path/to/labd.db or postgresql+psycopg://..."
        ) from error
    options: dict[str, Any] = {"pool_size": connections, "max_overflow": 0, "json_serializer": _as_json}
    if parsed.get_backend_name() == "sqlite":
        return _sqlite_engine(parsed, access, options)
    if access is Access.READ:
        options["isolation_level"] = "REPEATABLE READ"  # one snapshot a read, as SQLite gives
        options["execution_options"] = {"postgresql_readonly": True}
    try:
        return create_engine(parsed, pool_pre_ping=True, **options)
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise StoreError(
            f"has no driver here: {error}", where=parsed.render_as_string(), remedy="install the database's driver"
        ) from error


@contextmanager
def carried_out(
    connection: Connection, sql: str, values: tuple[Any, ...] | dict[str, Any] = ()
) -> Iterator[DBAPICursor]:
    """Carry out a statement in the database's own words, and lend the driver's cursor that did.

    SQLAlchemy's own way to do so watches over more, and takes longer than SQLite takes for a row.

    Raises:
        DBAPIError: the database refused it, or what was asked of the cursor.
    """
    cursor, refused = connection.connection.cursor(), connection.dialect.loaded_dbapi.Error
    try:
        cursor.execute(sql, values)
        yield cursor
    except refused as error:
        raise DBAPIError.instance(sql, values, error, refused, dialect=connection.dialect) from error
    finally:
        cursor.close()


def lasts(engine: Engine) -> bool:
    """Whether a connection of `engine` that was good stays good: one to a file does, a server may cut its own."""
    return engine.dialect.name == "sqlite"


def store_error(error: DBAPIError, url: str) -> StoreError:
    """Tell a database's own error as one that says what to do."""
    where = make_url(url).render_as_string()
    text = str(error.orig)
    if "locked" in text:
        return StoreError(
            "is locked by another process", where=where, remedy="stop the other labd or tool that has it open"
        )
    if "unable to open" in text or "readonly" in text or "read-only" in text:
        return StoreError(
            f"cannot be opened: {text}", where=where, remedy="check that its folder exists and its rights"
        )
    if "malformed" in text or "not a database" in text:
        return damaged(where, text)
    if "disk is full" in text:
        return StoreFullError(f"cannot be written: {text}", where=where, remedy="make room on its disk")
    if "disk I/O" in text:
        return StoreError(f"cannot be written: {text}", where=where, remedy="check the disk and its free space")
    return StoreError(f"failed: {text}", where=where, remedy="read the database's own words")


def damaged(where: str, text: str) -> StoreError:
    """The error of a database file that fails its check."""
    return StoreError(
        f"is damaged: {text}",
        where=where,
        remedy="restore it from a backup, or move it away and save what is left with `sqlite3 FILE .recover`",
    )


def _as_json(document: Any) -> str:
    """JSON that a database can look into: what is no number is null, since neither it nor JSON knows NaN."""
    return to_json(document, inf_nan_mode="null").decode()


def _sqlite_engine(url: URL, access: Access, options: dict[str, Any]) -> Engine:
    if url.database in (None, "", ":memory:"):
        raise StoreError(
            "a database in memory forgets its jobs", where=str(url), remedy="write sqlite:///path/to/labd.db"
        )
    engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False}, **options)

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        try:
            mode = cursor.execute("PRAGMA journal_mode=WAL").fetchone()[0]
            if mode != "wal":
                raise StoreError(
                    "cannot keep a write-ahead log", where=str(url), remedy="put the database on a local disk"
                )
            cursor.execute("PRAGMA synchronous=FULL")
            cursor.execute(f"PRAGMA foreign_keys={'OFF' if access is Access.MIGRATE else 'ON'}")
            if access is Access.READ:
                cursor.execute("PRAGMA query_only=ON")
        finally:
            cursor.close()

    # IMMEDIATE takes the write lock at once: a deferred transaction that turns into a writer cannot wait for it.
    begin_sql = "BEGIN" if access is Access.READ else "BEGIN IMMEDIATE"

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        with carried_out(connection, begin_sql):
            pass

    return engine
