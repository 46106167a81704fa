"""What may become of a trace, and that each change leaves its event."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlmodel import Session, col, select

from labd.benchmarks import Mode
from labd.errors import ConflictError, NotFoundError
from labd.model import ledger, ledger_measures, ledger_traces
from labd.model.causes import Cause, Ending
from labd.model.database import Database
from labd.model.kept import Kept
from labd.model.migrations import upgrade
from labd.model.states import BoardState, RunState, TraceState
from labd.model.tables import Event, Trace

NOW = datetime(2025, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    url = f"sqlite:///{tmp_path}/labd.db"
    upgrade(url)
    async with Database.open(url) as opened:
        await opened.write(lambda session: ledger.set_board_state(session, "b1", BoardState.ONLINE, "", NOW))
        await opened.write(lambda session: ledger.set_board_state(session, "b2", BoardState.ONLINE, "", NOW))
        yield opened


def add_trace(
    session: Session,
    trace_id: str,
    *,
    minute: int = 0,
    board: str = "b1",
    state: TraceState = TraceState.SEALED,
    labels: dict[str, str] | None = None,
    ending: Ending | None = None,
) -> int:
    """A job with a run and a trace that began at that minute; returns the job's number."""
    at = NOW + timedelta(minutes=minute)
    spec: dict[str, Any] = {"labels": labels or {}}
    job = ledger.submit_job(session, benchmark="digits01", mode=Mode.ENERGY, client="me", spec=spec, now=at)
    assert job.id is not None
    run = ledger.start_run(session, job.id, board, at, 60.0)
    assert run.id is not None
    ledger_measures.start_trace(session, Trace(id=trace_id, run_id=run.id, started_at=at))
    session.flush()
    if state is not TraceState.RECORDING:
        ledger_measures.end_trace(session, trace_id, state, rows=10, size=1000, sha256="ab", now=at)
        ledger.end_run(session, run.id, ending or Ending(), at + timedelta(seconds=30))
    return job.id


async def reasons(database: Database, trace_id: str) -> list[tuple[str, str]]:
    """State and reason of a trace's events, in their order."""
    events = await database.read(
        lambda session: session.exec(select(Event).where(Event.subject == trace_id).order_by(col(Event.id))).all()
    )
    return [(row.state, row.reason) for row in events]


async def test_pages_of_traces_run_from_the_newest_to_the_oldest(database: Database) -> None:
    def fill(session: Session) -> None:
        for minute in range(5):
            add_trace(session, f"t-{minute}", minute=minute, board="b1" if minute % 2 else "b2")
        add_trace(session, "t-twin", minute=4)  # began at the same moment as t-4

    await database.write(fill)

    async def page(**wanted: Any) -> list[str]:
        asked: dict[str, Any] = {"state": None, "board": None, "job": None, "before": None, "limit": 100} | wanted
        found = await database.read(lambda session: ledger_traces.list_traces(session, **asked))
        return [trace.id for trace, _ in found]

    assert await page(limit=2) == ["t-twin", "t-4"]
    assert await page(limit=2, before="t-4") == ["t-3", "t-2"]
    assert await page(before="t-twin", board="b2") == ["t-4", "t-2", "t-0"]
    assert await page(job=3) == ["t-2"]
    assert await page(state=TraceState.RECORDING) == []
    with pytest.raises(NotFoundError, match="no trace 'gone'"):
        await page(before="gone")


async def test_what_decides_about_a_trace_is_read_with_it(database: Database) -> None:
    def fill(session: Session) -> None:
        add_trace(session, "t-1", labels={"keep": "yes"}, ending=Ending(Cause.SCORE_FAILED))
        add_trace(session, "t-2", state=TraceState.RECORDING)
        ledger_traces.pin_trace(session, "t-1", "for the paper", NOW)

    await database.write(fill)
    (only,) = await database.read(ledger_traces.kept_traces)
    assert only == Kept(
        id="t-1",
        bytes=1000,
        ended_at=NOW + timedelta(seconds=30),
        outcome=RunState.FAILED,
        labels={"keep": "yes"},
        pinned=True,
        archived=False,
        local=True,
    )


async def test_a_pinned_trace_cannot_be_removed_until_it_is_unpinned(database: Database) -> None:
    await database.write(lambda session: add_trace(session, "t-1"))
    await database.write(lambda session: ledger_traces.pin_trace(session, "t-1", "for the paper", NOW))
    await database.write(lambda session: ledger_traces.pin_trace(session, "t-1", "for the paper", NOW))
    assert not await database.write(lambda session: ledger_traces.remove_trace(session, "t-1", "too old", NOW))
    await database.write(lambda session: ledger_traces.unpin_trace(session, "t-1", NOW))
    assert await database.write(lambda session: ledger_traces.remove_trace(session, "t-1", "too old", NOW))
    assert (await reasons(database, "t-1"))[2:] == [
        ("sealed", "pinned: for the paper"),
        ("sealed", "unpinned"),
        ("removed", "too old"),
    ]
    row = await database.read(lambda session: ledger_traces.get_trace(session, "t-1"))
    assert (row.state, row.removed_at, row.reason) == (TraceState.REMOVED, NOW, "too old")


async def test_what_is_recorded_or_gone_is_neither_removed_nor_pinned(database: Database) -> None:
    def fill(session: Session) -> None:
        add_trace(session, "now", state=TraceState.RECORDING)
        add_trace(session, "lost", state=TraceState.LOST, board="b2")

    await database.write(fill)
    for trace_id in ("now", "lost"):
        with pytest.raises(ConflictError, match="not sealed"):
            await database.write(lambda session, i=trace_id: ledger_traces.remove_trace(session, i, "x", NOW))  # type: ignore[misc]
    with pytest.raises(ConflictError, match="is lost"):
        await database.write(lambda session: ledger_traces.pin_trace(session, "lost", "", NOW))
    pinned = await database.write(lambda session: ledger_traces.pin_trace(session, "now", "", NOW))
    assert pinned.pinned


async def test_a_removed_trace_is_doomed_until_its_files_are_gone_here_and_there(database: Database) -> None:
    def fill(session: Session) -> None:
        add_trace(session, "here", minute=0)
        add_trace(session, "there", minute=1)
        ledger_traces.archive_trace(session, "there", NOW)
        ledger_traces.drop_local(session, "there", "room was needed", NOW)
        for trace_id in ("here", "there"):
            ledger_traces.remove_trace(session, trace_id, "too old", NOW)

    await database.write(fill)
    assert [trace.id for trace in await database.read(ledger_traces.doomed)] == ["here", "there"]
    for trace_id in ("here", "there"):
        await database.write(lambda session, i=trace_id: ledger_traces.note_files_gone(session, i))  # type: ignore[misc]
    assert await database.read(ledger_traces.doomed) == []


async def test_the_local_copy_goes_only_when_the_archive_has_one(database: Database) -> None:
    await database.write(lambda session: add_trace(session, "t-1"))
    with pytest.raises(ConflictError, match="in no archive"):
        await database.write(lambda session: ledger_traces.drop_local(session, "t-1", "room", NOW))
    waiting = await database.read(lambda session: ledger_traces.traces_to_archive(session, 10))
    assert [trace.id for trace in waiting] == ["t-1"]
    assert await database.write(lambda session: ledger_traces.archive_trace(session, "t-1", NOW))
    assert await database.read(lambda session: ledger_traces.traces_to_archive(session, 10)) == []
    assert await database.write(lambda session: ledger_traces.drop_local(session, "t-1", "room", NOW))
    assert not await database.write(lambda session: ledger_traces.drop_local(session, "t-1", "room", NOW))


async def test_a_trace_that_was_removed_while_it_was_uploaded_is_not_archived(database: Database) -> None:
    await database.write(lambda session: add_trace(session, "t-1"))
    await database.write(lambda session: ledger_traces.remove_trace(session, "t-1", "too old", NOW))
    assert not await database.write(lambda session: ledger_traces.archive_trace(session, "t-1", NOW))


async def test_the_queries_of_a_big_lab_use_their_indexes(database: Database) -> None:
    """A hundred thousand traces must not be walked through for a page, for what waits, or for what is doomed."""

    def plans(session: Session) -> str:
        connection = session.connection()
        seen: list[str] = []

        def explain(_c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> None:
            if not statement.startswith("EXPLAIN"):
                rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
                seen.extend(str(row[3]) for row in rows)

        event.listen(connection, "before_cursor_execute", explain)
        ledger_traces.list_traces(session, state=None, board=None, job=None, before=None, limit=10)
        ledger_traces.doomed(session)
        ledger_traces.traces_to_archive(session, 10)
        return "\n".join(seen)

    plan = await database.read(plans)
    assert "USING INDEX trace_by_age" in plan
    assert plan.count("USING INDEX trace_by_place (state=? AND local=?") == 3
    assert "SEARCH trace USING INDEX trace_by_place (state=? AND local=? AND archived_at>?)" in plan
