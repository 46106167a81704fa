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
from sqlmodel import SQLModel

from labd.errors import StoreError
from labd.model import migrations, tables
from labd.model.engine import Access, make_engine
from labd.model.migrations import alembic_config, newest_revision, upgrade


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
    engine = make_engine(url, Access.MIGRATE)
    with engine.begin() as connection:
        config = alembic_config()
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    engine.dispose()
    assert _tables(tmp_path) - {"sqlite_sequence"} == {"alembic_version"}


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
    shutil.copytree(Path(migrations.__file__).parent, home, ignore=shutil.ignore_patterns("0001*", "__pycache__"))
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


def _tables(folder: Path) -> set[str]:
    with sqlite3.connect(folder / "labd.db") as connection:
        names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    connection.close()
    return names
