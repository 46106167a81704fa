"""What was decided to go is gone, what was not is there, and a lab that is killed in between puts it right."""

from __future__ import annotations

from pathlib import Path

import pytest
from obstore.store import MemoryStore
from sqlmodel import Session, col, select

from labd.config import Keep, KeepRule
from labd.keep.archive import Archive
from labd.keep.collect import Collector
from labd.keep.store import TraceStore
from labd.model import ledger_traces
from labd.model.causes import Cause
from labd.model.database import Database
from labd.model.states import TraceState
from labd.model.tables import Trace
from labd.trace.layout import locked
from labd.trace.object_files import PlaceUnreachableError
from tests.keep.traces import NOW, SIZE, add_trace, lay_down, record

KEEP = Keep(max_age_days=30, rule=(KeepRule(label={"campaign": "paper"}, keep=True),))


async def states(database: Database) -> dict[str, TraceState]:
    rows = await database.read(lambda session: session.exec(select(Trace.id, Trace.state).order_by(col(Trace.id))))
    return dict(map(tuple, rows))


def here(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "traces").iterdir())


async def test_old_traces_go_and_the_record_says_why(tmp_path: Path) -> None:
    async with record(tmp_path) as database:

        def fill(session: Session) -> None:
            add_trace(session, "old", days=40)
            add_trace(session, "paper", days=40, labels={"campaign": "paper"})
            add_trace(session, "pinned", days=40, cause=Cause.BOARD_SILENT)
            ledger_traces.pin_trace(session, "pinned", "odd spike", NOW)
            add_trace(session, "young", days=20)
            add_trace(session, "now", days=40, state=TraceState.RECORDING)

        await database.write(fill)
        for name in ("old", "paper", "pinned", "young", "now"):
            lay_down(tmp_path / "traces", name)
        collector = Collector(database, TraceStore(tmp_path / "traces"), KEEP)
        (gone,) = await collector.collect(NOW)
        assert (gone.trace.id, gone.frees, gone.reason) == ("old", SIZE, "it ended 40 days ago, more than 30")
        assert here(tmp_path) == ["now", "paper", "pinned", "young"]
        row = await database.read(lambda session: ledger_traces.get_trace(session, "old"))
        assert (row.state, row.local, row.removed_at) == (TraceState.REMOVED, False, NOW)
        assert row.reason == gone.reason
        assert await collector.collect(NOW) == []


async def test_a_trace_in_the_archive_goes_there_too_when_it_goes_for_good(tmp_path: Path) -> None:
    bucket = MemoryStore()
    for name in ("old", "other"):
        for file in ("samples.parquet", "seal.json"):
            await bucket.put_async(f"{name}/{file}", b"x")
    async with record(tmp_path) as database:
        await database.write(lambda session: add_trace(session, "old", days=40, archived=True))
        lay_down(tmp_path / "traces", "old")
        store = TraceStore(tmp_path / "traces", Archive(bucket, "memory://"))
        await Collector(database, store, KEEP).collect(NOW)
        assert here(tmp_path) == []
        left = [entry["path"] for batch in bucket.list() for entry in batch]
        assert sorted(left) == ["other/samples.parquet", "other/seal.json"]


class MoodyArchive(Archive):
    """An archive that may be silent, or busy with a trace."""

    def __init__(self) -> None:
        super().__init__(MemoryStore(), "memory://")
        self.silent = True
        self.busy_with = ""
        self.asked: list[str] = []

    async def delete(self, trace_id: str) -> None:
        self.asked.append(trace_id)
        if self.silent:
            raise PlaceUnreachableError("it does not answer", where=self.where)
        await super().delete(trace_id)

    def is_uploading(self, trace_id: str) -> bool:
        return trace_id == self.busy_with


async def test_a_silent_archive_costs_one_wait_a_round_and_keeps_nothing_here(tmp_path: Path) -> None:
    async with record(tmp_path) as database:

        def fill(session: Session) -> None:
            for name in "abcd":
                add_trace(session, name, days=40, archived=True)

        await database.write(fill)
        for name in "abcd":
            lay_down(tmp_path / "traces", name)
        archive = MoodyArchive()
        collector = Collector(database, TraceStore(tmp_path / "traces", archive), KEEP)
        assert len(await collector.collect(NOW)) == 4
        assert here(tmp_path) == []
        assert len(archive.asked) == 1
        await collector.finish_here()  # what a start waits for
        assert len(archive.asked) == 1
        archive.silent = False
        await collector.collect(NOW)
        assert sorted(archive.asked[1:]) == ["a", "b", "c", "d"]
        assert await database.read(ledger_traces.doomed) == []


async def test_a_removed_trace_is_not_forgotten_while_it_is_still_uploaded(tmp_path: Path) -> None:
    """A kill right then would leave a copy in the archive that nobody knows of."""
    async with record(tmp_path) as database:
        await database.write(lambda session: add_trace(session, "old", days=40))
        lay_down(tmp_path / "traces", "old")
        archive = MoodyArchive()
        archive.silent, archive.busy_with = False, "old"
        collector = Collector(database, TraceStore(tmp_path / "traces", archive), KEEP)
        await collector.collect(NOW)
        assert [trace.id for trace in await database.read(ledger_traces.doomed)] == ["old"]
        archive.busy_with = ""
        await collector.collect(NOW)
        assert await database.read(ledger_traces.doomed) == []


async def test_a_copy_in_an_archive_that_the_lab_no_longer_has_is_not_forgotten(tmp_path: Path) -> None:
    bucket = MemoryStore()
    await bucket.put_async("old/seal.json", b"x")
    async with record(tmp_path) as database:
        await database.write(lambda session: add_trace(session, "old", days=40, archived=True))
        lay_down(tmp_path / "traces", "old")
        await Collector(database, TraceStore(tmp_path / "traces"), KEEP).collect(NOW)
        assert here(tmp_path) == []
        again = TraceStore(tmp_path / "traces", Archive(bucket, "memory://"))
        await Collector(database, again, KEEP).collect(NOW)
        assert not list(bucket.list())
        assert await database.read(ledger_traces.doomed) == []


async def test_want_of_room_takes_the_local_copies_of_archived_traces(tmp_path: Path) -> None:
    async with record(tmp_path) as database:

        def fill(session: Session) -> None:
            add_trace(session, "a", days=3, archived=True)
            add_trace(session, "b", days=2, archived=True)
            add_trace(session, "c", days=1)

        await database.write(fill)
        for name in "abc":
            lay_down(tmp_path / "traces", name)
        store = TraceStore(tmp_path / "traces", Archive(MemoryStore(), "memory://"))
        gone = await Collector(database, store, Keep()).collect(NOW, missing_bytes=SIZE)
        assert [each.trace.id for each in gone] == ["a"]
        assert here(tmp_path) == ["b", "c"]
        assert set((await states(database)).values()) == {TraceState.SEALED}


async def test_a_trace_that_somebody_works_on_goes_when_he_is_done(tmp_path: Path) -> None:
    async with record(tmp_path) as database:
        await database.write(lambda session: add_trace(session, "old", days=40))
        folder = lay_down(tmp_path / "traces", "old")
        collector = Collector(database, TraceStore(tmp_path / "traces"), KEEP)
        with locked(folder):
            await collector.collect(NOW)
            assert here(tmp_path) == ["old"]
            assert [trace.id for trace in await database.read(ledger_traces.doomed)] == ["old"]
        await collector.finish_here()
        assert here(tmp_path) == []
        assert await collector.collect(NOW) == []
        assert await database.read(ledger_traces.doomed) == []


async def test_what_no_row_knows_is_told_and_never_deleted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with record(tmp_path) as database:
        await database.write(lambda session: add_trace(session, "mine", days=40))
        for name in ("mine", "theirs", "not a trace at all"):
            lay_down(tmp_path / "traces", name)
        (tmp_path / "traces" / "theirs" / "meta.json").unlink()
        collector = Collector(database, TraceStore(tmp_path / "traces"), KEEP)
        await collector.collect(NOW)
        await collector.finish_here()
        for _ in range(2):
            assert await collector.foreign() == ["not a trace at all", "theirs"]
        assert capsys.readouterr().out.count("foreign_folder_found") == 2
        assert here(tmp_path) == ["not a trace at all", "theirs"]


async def test_the_leftovers_of_a_deletion_are_finished_and_nothing_else(tmp_path: Path) -> None:
    """Killed after the commit and before the deletion, of a removal and of a local copy."""
    async with record(tmp_path) as database:

        def fill(session: Session) -> None:
            add_trace(session, "removed", days=40)
            ledger_traces.remove_trace(session, "removed", "too old", NOW)
            add_trace(session, "archived", days=1, archived=True)
            ledger_traces.drop_local(session, "archived", "room", NOW)
            add_trace(session, "kept")

        await database.write(fill)
        for name in ("removed", "archived", "kept"):
            lay_down(tmp_path / "traces", name)
        await Collector(database, TraceStore(tmp_path / "traces"), Keep()).finish_here()
        assert here(tmp_path) == ["kept"]
