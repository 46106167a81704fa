"""A lab's record and its trace folders, as far as keeping them is concerned."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlmodel import Session

from labd.benchmarks import Mode
from labd.model import ledger, ledger_measures, ledger_traces
from labd.model.causes import Cause, Ending
from labd.model.database import Database
from labd.model.migrations import upgrade
from labd.model.states import BoardState, TraceState
from labd.model.tables import Trace

NOW = datetime(2025, 3, 1, 12, 0, tzinfo=UTC)
SIZE = 1000
"""Bytes of a trace's folder as the record says."""


@asynccontextmanager
async def record(folder: Path) -> AsyncIterator[Database]:
    """The database of a lab with a board, in a folder that may hold what an earlier one left."""
    url = f"sqlite:///{folder}/labd.db"
    upgrade(url)
    (folder / "traces").mkdir(exist_ok=True)
    async with Database.open(url) as database:
        await database.write(lambda session: ledger.set_board_state(session, "b1", BoardState.ONLINE, "", NOW))
        yield database


def lay_down(traces_dir: Path, name: str) -> Path:
    """A folder that looks like a sealed trace's."""
    folder = traces_dir / name
    folder.mkdir(parents=True)
    for file in ("meta.json", "journal.jsonl", "samples.parquet", "seal.json"):
        (folder / file).write_text("x" * (SIZE // 4))
    return folder


def add_trace(
    session: Session,
    trace_id: str,
    *,
    days: float = 0.0,
    labels: dict[str, str] | None = None,
    cause: Cause | None = None,
    state: TraceState = TraceState.SEALED,
    archived: bool = False,
) -> None:
    """The record of a trace whose run ended so many days before `NOW`; one that is recording has its run go on."""
    at = NOW - timedelta(days=days)
    spec = {"labels": labels or {}}
    job = ledger.submit_job(session, benchmark="digits01", mode=Mode.ENERGY, client="me", spec=spec, now=at)
    assert job.id is not None
    run = ledger.start_run(session, job.id, "b1", at, 60.0)
    assert run.id is not None
    ledger_measures.start_trace(session, Trace(id=trace_id, run_id=run.id, started_at=at))
    session.flush()
    if state is TraceState.RECORDING:
        return
    ledger_measures.end_trace(session, trace_id, state, rows=10, size=SIZE, sha256="ab", now=at)
    ledger.end_run(session, run.id, Ending(cause), at)
    ledger.set_board_state(session, "b1", BoardState.ONLINE, "", at)  # whatever the run made of it
    if archived:
        ledger_traces.archive_trace(session, trace_id, at)
