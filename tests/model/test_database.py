"""The database keeps what it promised, whoever fails, cancels or kills."""

import asyncio
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlmodel import Session, select

from labd.benchmarks import Mode
from labd.errors import NotFoundError, StoreError
from labd.model import ledger
from labd.model.database import Database
from labd.model.migrations import upgrade
from labd.model.states import JobState
from labd.model.tables import Event, Job

NOW = datetime(2025, 3, 1, 12, 0, tzinfo=UTC)


def submit(session: Session, client: str = "ada") -> Job:
    job = ledger.submit_job(session, benchmark="digits01", mode=Mode.ENERGY, client=client, spec={}, now=NOW)
    return ledger.job_row(session, job.id)


def clients(session: Session) -> list[str]:
    return [job.client for job in session.exec(select(Job))]


class Gate:
    """Keeps the writer busy with a write of its own, so that what is written meanwhile waits for one transaction."""

    def __init__(self, database: Database) -> None:
        self._loop = asyncio.get_running_loop()
        self._entered = asyncio.Event()
        self._open = threading.Event()
        self._write = asyncio.ensure_future(database.write(self._hold))

    def _hold(self, _session: Session) -> None:
        self._loop.call_soon_threadsafe(self._entered.set)
        assert self._open.wait(10)

    async def __aenter__(self) -> "Gate":
        await self._entered.wait()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await asyncio.sleep(0)  # what was begun inside gets into the queue
        self._open.set()
        await self._write


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path}/labd.db"
    upgrade(url)
    return url


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    async with Database.open(url) as database:
        yield database


async def test_a_written_row_travels_and_is_read_back_with_its_zone_and_enums(database: Database) -> None:
    job = await database.write(submit)
    assert (job.id, job.state, job.submitted_at) == (1, JobState.QUEUED, NOW)
    read = await database.read(lambda session: session.get_one(Job, 1))
    assert (read.mode, read.state, read.submitted_at) == (Mode.ENERGY, JobState.QUEUED, NOW)
    stored = await database.read(lambda session: session.connection().scalar(text("SELECT state FROM job")))
    assert stored == "queued"


async def test_a_failing_write_undoes_only_itself(database: Database) -> None:
    def fail(session: Session) -> None:
        submit(session, "lost")
        raise NotFoundError("no such thing")

    outcomes = await asyncio.gather(
        database.write(lambda session: submit(session, "first")),
        database.write(fail),
        database.write(lambda session: submit(session, "second")),
        return_exceptions=True,
    )
    assert isinstance(outcomes[1], NotFoundError)
    assert await database.read(clients) == ["first", "second"]
    assert len(await database.read(lambda session: session.exec(select(Event)).all())) == 2


async def test_waiting_writes_share_one_commit(database: Database) -> None:
    """A write that is in the transaction sees those before it, and readers see all of them or none."""
    async with Gate(database):
        seen = [asyncio.ensure_future(database.write(lambda session: (submit(session), len(clients(session)))[1]))]
        seen += [asyncio.ensure_future(database.write(lambda session: len(clients(session)))) for _ in range(3)]
        assert await database.read(clients) == []
    assert await asyncio.gather(*seen) == [1, 1, 1, 1]


async def test_a_failing_commit_fails_every_write_of_it(database: Database) -> None:
    def break_reference_at_commit(session: Session) -> None:
        connection = session.connection()
        connection.execute(text("PRAGMA defer_foreign_keys=ON"))
        connection.execute(
            text(
                "INSERT INTO score (run_id, scorer, inputs, result, created_at)"
                " VALUES (99, 's', '{}', '{}', '2025-01-01')"
            )
        )

    async with Gate(database):
        doomed = [
            asyncio.ensure_future(database.write(submit)),
            asyncio.ensure_future(database.write(break_reference_at_commit)),
        ]
    outcomes = await asyncio.gather(*doomed, return_exceptions=True)
    assert all(isinstance(outcome, StoreError) for outcome in outcomes)
    assert await database.read(clients) == []
    assert (await database.write(submit)).client == "ada"


async def test_a_cancelled_caller_still_gets_its_write_done(database: Database) -> None:
    async with Gate(database):
        cancelled = asyncio.ensure_future(database.write(submit))
        await asyncio.sleep(0)
        cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    assert await database.write(clients) == ["ada"]


async def test_reads_cannot_write(database: Database) -> None:
    with pytest.raises(StoreError, match="readonly"):
        await database.read(lambda session: (submit(session), session.flush()))


async def test_closing_finishes_what_was_accepted_and_leaves_no_thread(url: str) -> None:
    before = set(threading.enumerate())
    async with Database.open(url) as database:
        writes = [asyncio.ensure_future(database.write(submit)) for _ in range(20)]
        await asyncio.sleep(0)
    assert sorted(job.id or 0 for job in await asyncio.gather(*writes)) == list(range(1, 21))
    assert set(threading.enumerate()) == before
    with pytest.raises(StoreError, match="closed"):
        await database.write(submit)
    with pytest.raises(StoreError, match="closed"):
        await database.read(clients)


async def test_commits_are_durable_and_references_checked(database: Database) -> None:
    values = await database.write(
        lambda session: [
            session.connection().scalar(text(f"PRAGMA {name}"))
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        ]
    )
    assert values == ["wal", 2, 1, 5000]


async def test_a_database_without_schema_asks_for_the_upgrade(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="labd db upgrade"):
        async with Database.open(f"sqlite:///{tmp_path}/new.db"):
            pass


async def test_a_damaged_file_is_refused_with_a_remedy(url: str, tmp_path: Path) -> None:
    async with Database.open(url) as database:
        await asyncio.gather(*(database.write(submit) for _ in range(200)))
    path = tmp_path / "labd.db"
    content = bytearray(path.read_bytes())
    content[4096 * 2 : -4096] = b"\x5a" * (len(content) - 4096 * 3)
    path.write_bytes(content)
    with pytest.raises(StoreError, match="damaged") as caught:
        async with Database.open(url):
            pass
    assert "backup" in caught.value.remedy


async def test_a_file_that_is_no_database_is_refused_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "labd.db").write_text("not a database at all, only text" * 100)
    with pytest.raises(StoreError, match="damaged"):
        async with Database.open(f"sqlite:///{tmp_path}/labd.db"):
            pass


@pytest.mark.parametrize("bad", ["nonsense", "sqlite://", "sqlite:////does/not/exist/labd.db", "nodatabase://x/y"])
async def test_a_url_that_cannot_work_says_what_to_do(bad: str) -> None:
    with pytest.raises(StoreError) as caught:
        async with Database.open(bad):
            pass
    assert caught.value.remedy


def test_every_announced_commit_survives_a_kill(url: str, tmp_path: Path) -> None:
    program = Path(__file__).with_name("killed_writer.py")
    with subprocess.Popen([sys.executable, str(program), url], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        announced = [int(process.stdout.readline()) for _ in range(100)]
        process.send_signal(signal.SIGKILL)
        announced += [int(line) for line in process.stdout.read().splitlines() if line]
    with sqlite3.connect(tmp_path / "labd.db") as connection:
        kept = {row[0] for row in connection.execute("SELECT id FROM job")}
        events = {int(row[0]) for row in connection.execute("SELECT subject FROM event")}
    connection.close()
    assert len(announced) >= 100
    assert set(announced) <= kept
    assert events == kept
