"""A lab that is killed while it lets traces go, at any line: nothing is half, and nothing that stays is touched."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sqlmodel import Session, select

from labd.config import Keep
from labd.keep.collect import Collector
from labd.keep.store import TraceStore
from labd.model import ledger_traces
from labd.model.database import Database
from labd.model.states import TraceState
from labd.model.tables import Trace
from tests.deadline import HUNG_S
from tests.keep.killed_collector import let_go
from tests.keep.traces import NOW, add_trace, lay_down, record

GOES, STAYS, FOREIGN = ("old-1", "old-2", "old-3"), ("pinned", "young"), "somebody-elses"
FILES = ["journal.jsonl", "meta.json", "samples.parquet", "seal.json"]


async def lay_out(folder: Path) -> None:
    """Three traces that are too old, two that stay, and a folder that is none of the lab's."""
    (folder / "traces").mkdir(parents=True)

    def fill(session: Session) -> None:
        for number, name in enumerate(GOES):
            add_trace(session, name, days=100 - number)
        for name in STAYS:
            add_trace(session, name, days=50 if name == "pinned" else 1)
        ledger_traces.pin_trace(session, "pinned", "", NOW)

    async with record(folder) as database:
        await database.write(fill)
    for name in (*GOES, *STAYS, FOREIGN):
        lay_down(folder / "traces", name)


def run(folder: Path, line: int) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-m", "tests.keep.killed_collector", str(folder), str(line)]
    return subprocess.run(
        arguments, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=HUNG_S, check=False
    )


async def rows(database: Database) -> dict[str, Trace]:
    return {trace.id: trace for trace in await database.read(lambda session: session.exec(select(Trace)).all())}


async def nothing_is_half(folder: Path) -> None:
    """Whatever the record calls kept is there whole; what it knows nothing of is as it was."""
    async with record(folder) as database:
        for name, row in (await rows(database)).items():
            if row.state is not TraceState.REMOVED:
                assert sorted(path.name for path in (folder / "traces" / name).iterdir()) == FILES
    assert len(list((folder / "traces" / FOREIGN).iterdir())) == len(FILES)


async def the_next_start_ends_it(folder: Path) -> None:
    TraceStore(folder / "traces").clear_up()
    await let_go(folder)
    async with record(folder) as database:
        found = await rows(database)
        assert {name for name, row in found.items() if row.state is TraceState.REMOVED} == set(GOES)
        assert not any(found[name].local for name in GOES)
        assert await database.read(ledger_traces.doomed) == []
        collector = Collector(database, TraceStore(folder / "traces"), Keep())
        assert await collector.foreign() == [FOREIGN]
    assert sorted(path.name for path in (folder / "traces").iterdir()) == sorted((*STAYS, FOREIGN))


async def killed_at(folder: Path, share: float, lines: int) -> None:
    await lay_out(folder)
    died = run(folder, max(1, int(lines * share)))
    assert died.returncode == -signal.SIGKILL, died.stderr
    await nothing_is_half(folder)
    await the_next_start_ends_it(folder)


async def count_lines(folder: Path) -> int:
    await lay_out(folder)
    lived = run(folder, 0)
    assert lived.returncode == 0, lived.stderr
    await the_next_start_ends_it(folder)
    return int(lived.stdout.splitlines()[-1])


async def test_a_kill_while_traces_go_leaves_nothing_half(tmp_path: Path) -> None:
    lines = await count_lines(tmp_path / "whole")
    assert lines > 300
    for percent in (35, 60, 75, 90):
        await killed_at(tmp_path / str(percent), percent / 100, lines)


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_a_kill_at_any_of_95_lines_leaves_nothing_half(tmp_path: Path) -> None:
    lines = await count_lines(tmp_path / "whole")
    for percent in range(1, 96):
        await killed_at(tmp_path / str(percent), percent / 100, lines)
