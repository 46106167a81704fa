"""The migrated schema is the tables' schema, and an upgrade happens wholly or not at all."""

import shutil
import sqlite3
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable
from sqlmodel import Session, SQLModel, select

from labd.errors import StoreError
from labd.model import migrations, tables
from labd.model.engine import Access, make_engine
from labd.model.migrations import alembic_config, newest_revision, revision_of, upgrade
from labd.model.states import TraceState


def test_the_tables_and_the_migrated_schema_do_not_differ(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/labd.db"
    assert upgrade(url) == (None, newest_revision())
    engine = make_engine(url, Access.READ)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, SQLModel.metadata) == []
    engine.dispose()


def test_upgrading_twice_changes_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/labd.db"
    upgrade(url)
    assert upgrade(url) == (newest_revision(), newest_revision())


def test_the_lab_can_go_back_to_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/labd.db"
    upgrade(url)
    _migrate(tmp_path, "base")
    assert _tables(tmp_path) - {"sqlite_sequence"} == {"alembic_version"}


def test_a_lab_of_the_first_schema_keeps_its_traces(tmp_path: Path) -> None:
    """Traces recorded before there was any keeping are local and unpinned; not one row is lost on the way."""
    _migrate(tmp_path, "0001")
    with sqlite3.connect(tmp_path / "labd.db") as connection:
        connection.executescript(
            """
            INSERT INTO board VALUES ('b1', 'online', '', '2025-03-01 12:00:00');
            INSERT INTO job (id, benchmark, mode, state, detail, client, spec, submitted_at)
                VALUES (7, 'digits01', 'energy', 'completed', '', 'me', '{"labels": {}}', '2025-03-01 12:00:00');
            INSERT INTO run (id, job_id, attempt, board_id, state, step, detail, firmware_sha256, facts, started_at)
                VALUES (9, 7, 1, 'b1', 'completed', 'release', '', '', '{}', '2025-03-01 12:00:00');
            INSERT INTO trace VALUES ('t-1', 9, 'sealed', 1000, 0.001, 4096, 'ab', '2025-03-01 12:00:01');
            INSERT INTO trace VALUES ('t-2', 9, 'lost', 0, 0.001, 0, '', '2025-03-01 12:00:02');
            """
        )
    connection.close()
    url = f"sqlite:///{tmp_path}/labd.db"
    assert upgrade(url) == ("0001", newest_revision())
    engine = make_engine(url, Access.READ)
    with Session(engine) as session:
        first, second = session.exec(select(tables.Trace).order_by(tables.Trace.id)).all()
        assert (first.id, first.state, first.rows, first.bytes) == ("t-1", TraceState.SEALED, 1000, 4096)
        assert (first.pinned, first.local, first.archived_at, first.removed_at, first.reason) == (
            False,
            True,
            None,
            None,
            "",
        )
        assert (second.id, second.state, second.local) == ("t-2", TraceState.LOST, True)
    engine.dispose()


def test_going_back_to_the_first_schema_calls_removed_traces_lost(tmp_path: Path) -> None:
    """The labd before does not know the word, and would fail to read the row."""
    upgrade(f"sqlite:///{tmp_path}/labd.db")
    with sqlite3.connect(tmp_path / "labd.db") as connection:
        connection.execute(
            "INSERT INTO trace (id, run_id, state, rows, period_s, bytes, sha256, started_at)"
            " VALUES ('t-1', 1, 'removed', 0, 0.001, 0, '', '2025-03-01 12:00:01')"
        )
    connection.close()
    _migrate(tmp_path, "0001")
    with sqlite3.connect(tmp_path / "labd.db") as connection:
        assert connection.execute("SELECT id, state FROM trace").fetchall() == [("t-1", "lost")]
    connection.close()


def test_an_upgrade_that_fails_midway_leaves_nothing_behind(tmp_path: Path) -> None:
    """The last table of the first revision is in the way, so all tables made before it must go again."""
    with sqlite3.connect(tmp_path / "labd.db") as connection:
        connection.execute("CREATE TABLE event (mine TEXT)")
    connection.close()
    with pytest.raises(StoreError, match="already exists"):
        upgrade(f"sqlite:///{tmp_path}/labd.db")
    assert _tables(tmp_path) == {"event"}


def test_a_database_of_a_newer_labd_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/labd.db"
    upgrade(url)
    with sqlite3.connect(tmp_path / "labd.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(StoreError, match="newer"):
        upgrade(url)


def test_a_new_revision_can_be_drafted_from_the_template(tmp_path: Path) -> None:
    """`alembic revision --autogenerate` on an empty database writes a file that makes all tables."""
    home = tmp_path / "migrations"
    shutil.copytree(Path(migrations.__file__).parent, home, ignore=shutil.ignore_patterns("0*", "__pycache__"))
    engine = make_engine(f"sqlite:///{tmp_path}/labd.db", Access.MIGRATE)
    with engine.begin() as connection:
        config = alembic_config()
        config.set_main_option("script_location", str(home))
        config.attributes["connection"] = connection
        command.revision(config, "All of it", autogenerate=True, rev_id="0001")
    engine.dispose()
    drafted = (home / "versions" / "0001_all_of_it.py").read_text()
    compile(drafted, "0001_all_of_it.py", "exec")
    assert "sa.String(32)" in drafted
    assert "labd." not in drafted


def test_every_table_has_a_postgresql_form() -> None:
    for table in SQLModel.metadata.sorted_tables:
        assert "CREATE TABLE" in str(CreateTable(table).compile(dialect=postgresql.dialect()))  # type: ignore[no-untyped-call]
    assert tables.Job.__tablename__ == "job"


def _migrate(folder: Path, revision: str) -> None:
    """Bring the database in `folder` to a revision, from whichever side."""
    engine = make_engine(f"sqlite:///{folder}/labd.db", Access.MIGRATE)
    with engine.begin() as connection:
        config = alembic_config()
        config.attributes["connection"] = connection
        if revision_of(connection) is None:
            command.upgrade(config, revision)
        else:
            command.downgrade(config, revision)
    engine.dispose()


def _tables(folder: Path) -> set[str]:
    with sqlite3.connect(folder / "labd.db") as connection:
        names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    connection.close()
    return names
