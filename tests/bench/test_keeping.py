"""Traces that a dead daemon left open: sealed at the next start, and given up only if there is nothing in them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlmodel import Session, select

from labd.bench.keeping import salvage_left
from labd.benchmarks import Mode
from labd.model import ledger, ledger_measures
from labd.model.database import Database
from labd.model.migrations import upgrade
from labd.model.states import BoardState, TraceState
from labd.model.tables import Trace
from labd.trace.layout import HOT
from labd.trace.seal import SealState, verify
from labd.trace.writer import BUFFER, TraceWriter
from tests.trace.recording import WHEN, cut, make_meta, make_signal

ROWS = BUFFER
"""A full buffer is written at once."""


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """A database with a run that a dead daemon left, whose trace "t1" was begun."""
    url = f"sqlite:///{tmp_path}/labd.db"
    upgrade(url)

    def begin(session: Session) -> None:
        ledger.set_board_state(session, "b1", BoardState.ONLINE, "", WHEN)
        job = ledger.submit_job(session, benchmark="digits01", mode=Mode.ENERGY, client="test", spec={}, now=WHEN)
        assert job.id is not None
        run = ledger.start_run(session, job.id, "b1", WHEN, 300.0)
        assert run.id is not None
        ledger_measures.start_trace(session, Trace(id="t1", run_id=run.id, period_s=204.8e-6, started_at=WHEN))
        ledger.interrupt_runs(session, WHEN)

    async with Database.open(url) as opened:
        await opened.write(begin)
        yield opened


def cut_off(traces: Path) -> Path:
    """A trace whose writer died: some samples are in its hot file, and no end."""
    signal = make_signal(ROWS)
    writer = TraceWriter.create(traces, make_meta(quantities=signal))
    for block in cut(signal, [1000]):
        writer.write(block)
    left = {name: (writer.folder / name).read_bytes() for name in HOT}
    folder = writer.close().folder
    for name, data in left.items():
        (folder / name).write_bytes(data)
    return folder


async def row_of(database: Database) -> Trace:
    return await database.read(lambda session: session.exec(select(Trace)).one())


async def test_what_a_dead_daemon_recorded_is_sealed_and_noted(database: Database, tmp_path: Path) -> None:
    folder = cut_off(tmp_path)
    await salvage_left(database, tmp_path)
    seal = verify(folder)
    assert (seal.state, seal.rows) == (SealState.SALVAGED, ROWS)
    row = await row_of(database)
    assert (row.state, row.rows) == (TraceState.SALVAGED, ROWS)


async def test_a_trace_that_cannot_be_sealed_now_is_not_given_up(database: Database, tmp_path: Path) -> None:
    folder = cut_off(tmp_path)
    obstacle = folder / "samples.parquet.part"
    obstacle.mkdir()
    await salvage_left(database, tmp_path)
    assert (await row_of(database)).state is TraceState.RECORDING
    obstacle.rmdir()
    await salvage_left(database, tmp_path)
    assert verify(folder).rows == ROWS
    assert (await row_of(database)).state is TraceState.SALVAGED


async def test_a_trace_that_holds_nothing_is_noted_as_lost(database: Database, tmp_path: Path) -> None:
    (tmp_path / "t1").mkdir()
    (tmp_path / "t1" / "meta.json").write_text("{")
    await salvage_left(database, tmp_path)
    assert (await row_of(database)).state is TraceState.LOST


async def test_a_trace_that_a_run_is_just_beginning_is_left_alone(database: Database, tmp_path: Path) -> None:
    """Its row is there before its folder: to those who look for what was left open it must not seem lost."""

    def begin(session: Session) -> None:
        run = ledger.start_run(session, 1, "b1", WHEN, 300.0)
        assert run.id is not None
        ledger_measures.start_trace(session, Trace(id="t2", run_id=run.id, period_s=204.8e-6, started_at=WHEN))

    await database.write(begin)
    await salvage_left(database, tmp_path)
    states = await database.read(lambda session: session.exec(select(Trace.id, Trace.state)).all())
    assert dict(map(tuple, states)) == {"t1": TraceState.LOST, "t2": TraceState.RECORDING}
