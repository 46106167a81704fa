"""Bring a database to the schema of this labd, all or nothing.

All pending revisions run in one transaction: an upgrade that fails leaves the database as it was.
"""

from __future__ import annotations

from functools import cache

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Connection
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from labd.errors import StoreError
from labd.model.engine import Access, make_engine, store_error


def upgrade(url: str) -> tuple[str | None, str]:
    """Run all pending revisions on the database at `url`; it is created if there is none.

    Blocking: called before the event loop runs, or in a thread.

    Returns:
        The revision found (None for a new database) and the one it has now.

    Raises:
        StoreError: the database cannot be opened, or a revision failed and nothing was changed.
    """
    engine = make_engine(url, Access.MIGRATE)
    try:
        with engine.begin() as connection:
            found = revision_of(connection)
            if found == newest_revision():
                return found, found
            config = alembic_config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            _check_references(connection)
            return found, newest_revision()
    except DBAPIError as error:
        raise store_error(error, url) from error
    except CommandError as error:
        raise StoreError(
            f"cannot be upgraded: {error}",
            where=make_url(url).render_as_string(),
            remedy="run the labd that wrote it, or a newer one",
        ) from error
    finally:
        engine.dispose()


def revision_of(connection: Connection) -> str | None:
    """The revision that the database says it has; None if it has no schema yet."""
    return MigrationContext.configure(connection).get_current_revision()


@cache
def newest_revision() -> str:
    """The revision that this labd works with."""
    head = ScriptDirectory.from_config(alembic_config()).get_current_head()
    if head is None:
        raise StoreError("labd's own migrations are missing", remedy="install labd again")
    return head


def alembic_config() -> Config:
    """Alembic's settings: only where the revisions lie."""
    config = Config()
    config.set_main_option("script_location", "labd.model:migrations")
    return config


def _check_references(connection: Connection) -> None:
    """Foreign keys are off while tables are rebuilt, so SQLite is asked afterwards; others never switched them off."""
    if connection.dialect.name != "sqlite":
        return
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
    if broken:
        raise StoreError(
            f"{len(broken)} rows would point to rows that do not exist, first in table {broken[0][0]}",
            remedy="report this with the database's revision; nothing was changed",
        )
