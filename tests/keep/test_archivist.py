"""Sealed traces find their way into the archive: at a start, at each seal, over outages and kills."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from obstore.store import MemoryStore
from sqlmodel import Session, select
from structlog.testing import capture_logs

from labd.benchmarks import Mode
from labd.keep.archive import Archive
from labd.keep.archivist import Archivist
from labd.keep.store import TraceStore
from labd.model import ledger, ledger_measures, ledger_traces
from labd.model.causes import Ending
from labd.model.database import Database
from labd.model.migrations import upgrade
from labd.model.states import BoardState, TraceState
from labd.model.tables import Event, Trace
from tests.deadline import HUNG_S
from tests.keep.sealed import arbitrary_trace, contents, damaged
from tests.s3_server import ONCE, S3Server, proxy, s3

__all__ = ["s3"]

NOW = datetime(2025, 3, 1, 12, 0, tzinfo=UTC)


@dataclass
class Scene:
    """A lab's database and folder, with a run under way, and an archive."""

    database: Database
    traces: TraceStore
    archive: Archive
    run_id: int

    async def sealed(self, trace_id: str, *, seed: int = 1) -> Path:
        """A trace that is recorded, sealed and noted."""
        folder = arbitrary_trace(self.traces.local, trace_id, seed=seed)

        def note(session: Session) -> None:
            ledger_measures.start_trace(session, Trace(id=trace_id, run_id=self.run_id, started_at=NOW))
            session.flush()
            ledger_measures.end_trace(session, trace_id, TraceState.SEALED, rows=1, size=1, sha256="0" * 64, now=NOW)

        await self.database.write(note)
        return folder

    async def end_run(self) -> None:
        await self.database.write(lambda session: ledger.end_run(session, self.run_id, Ending(), NOW))

    async def row(self, trace_id: str) -> Trace:
        return await self.database.read(lambda session: ledger_traces.get_trace(session, trace_id))

    async def until(self, holds: Callable[[], bool] | None = None, *, archived: str = "") -> None:
        """Wait until something holds, or a trace counts as archived."""
        async with asyncio.timeout(HUNG_S):
            while not (holds() if holds is not None else (await self.row(archived)).archived_at is not None):
                await asyncio.sleep(0.01)

    @asynccontextmanager
    async def at_work(self, keep_local: timedelta | None = None) -> AsyncIterator[Archivist]:
        archivist = Archivist(
            "bench-1",
            self.database,
            self.traces,
            self.archive,
            keep_local=keep_local,
            again_s=(0.02, 0.1),
            now=lambda: NOW + timedelta(days=1),
        )
        task = asyncio.create_task(archivist.run(), name="archivist")
        try:
            yield archivist
            assert not task.done(), task.exception()
        finally:
            task.cancel()
            await asyncio.wait({task})


@asynccontextmanager
async def scene_with(folder: Path, archive: Archive) -> AsyncIterator[Scene]:
    url = f"sqlite:///{folder}/labd.db"
    upgrade(url)
    (folder / "traces").mkdir()

    def begin(session: Session) -> int:
        ledger.set_board_state(session, "b1", BoardState.ONLINE, "", NOW)
        job = ledger.submit_job(session, benchmark="digits01", mode=Mode.ENERGY, client="c", spec={}, now=NOW)
        assert job.id is not None
        run = ledger.start_run(session, job.id, "b1", NOW, 60.0)
        assert run.id is not None
        return run.id

    async with Database.open(url) as database:
        run_id = await database.write(begin)
        yield Scene(database, TraceStore(folder / "traces", archive), archive, run_id)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with scene_with(tmp_path, Archive(MemoryStore(), "memory://")) as scene:
        yield scene


async def test_what_was_sealed_before_the_start_and_after_it_is_archived(scene: Scene) -> None:
    before = await scene.sealed("t1")
    async with scene.at_work():
        await scene.until(archived="t1")
        await scene.sealed("t2", seed=2)
        await scene.until(archived="t2")
    assert await scene.archive.ids() == ["t1", "t2"]
    assert before.exists()
    assert (await scene.row("t1")).local


async def test_a_trace_counts_only_when_the_archive_holds_all_of_it(scene: Scene) -> None:
    await scene.sealed("t1")
    async with scene.at_work():
        await scene.until(archived="t1")
        await scene.archive.verify("t1")


async def test_an_upload_whose_commit_was_lost_is_found_done(scene: Scene) -> None:
    folder = await scene.sealed("t1")
    await scene.archive.put(folder)
    async with scene.at_work():
        await scene.until(archived="t1")


async def test_a_damaged_trace_is_said_and_keeps_no_other_back(scene: Scene) -> None:
    bad = await scene.sealed("t1")
    with damaged(bad / "samples.parquet"), capture_logs() as logs:
        async with scene.at_work():
            await scene.sealed("t2", seed=2)
            await scene.until(archived="t2")
            await scene.sealed("t3", seed=3)
            await scene.until(archived="t3")
    told = [entry for entry in logs if entry["event"] == "trace_not_archived"]
    assert [(entry["trace"], "samples.parquet" in entry["error"]) for entry in told] == [("t1", True)]
    assert (await scene.row("t1")).archived_at is None
    async with scene.at_work():
        await scene.until(archived="t1")


async def test_an_outage_is_told_once_and_then_everything_goes_on(s3: S3Server, tmp_path: Path) -> None:
    bucket = f"b-{uuid4()}"
    s3.make_bucket(bucket)
    with proxy(s3.endpoint) as between:
        between.refuses = lambda method, path: True
        archive = Archive(s3.store(bucket, endpoint=between.endpoint, retry=ONCE), f"s3://{bucket}")
        with capture_logs() as logs:
            async with scene_with(tmp_path, archive) as scene, scene.at_work() as archivist:
                folder = await scene.sealed("t1")
                await scene.until(lambda: len(between.requests) > 4)
                assert "503" in archivist.notice
                await scene.sealed("t2", seed=2)
                between.refuses = lambda method, path: False
                await scene.until(archived="t1")
                await scene.until(archived="t2")
                assert archivist.notice == ""
                events = await scene.database.read(lambda s: list(s.exec(select(Event).where(Event.kind == "lab"))))
                assert [event.state for event in events] == ["archive_failed", "archive_recovered"]
                assert "503" in events[0].reason
                assert folder.exists()
    told = [entry["event"] for entry in logs]
    assert (told.count("archive_failed"), told.count("archive_recovered")) == (1, 1)


async def test_a_local_copy_goes_when_its_run_has_ended_and_not_before(scene: Scene) -> None:
    folder = await scene.sealed("t1")
    expected = contents(folder)["samples.parquet"]
    async with scene.at_work(timedelta(0)):
        await scene.until(archived="t1")
        assert folder.exists()
        assert (await scene.row("t1")).local
        await scene.end_run()
        await scene.until(lambda: not folder.exists())
    assert not (await scene.row("t1")).local
    files = scene.traces.files("t1")
    assert await asyncio.to_thread(files.read, "samples.parquet") == expected


async def test_a_local_copy_stays_as_long_as_is_said_and_a_pinned_one_for_ever(scene: Scene) -> None:
    await scene.sealed("t1")
    await scene.sealed("t2", seed=2)
    await scene.end_run()
    await scene.database.write(lambda session: ledger_traces.pin_trace(session, "t2", "", NOW))
    long_ago = NOW - timedelta(days=10)
    await scene.archive.put(scene.traces.folder("t2"))
    await scene.database.write(lambda session: ledger_traces.archive_trace(session, "t2", long_ago))
    await scene.sealed("t3", seed=3)
    await scene.archive.put(scene.traces.folder("t3"))
    await scene.database.write(lambda session: ledger_traces.archive_trace(session, "t3", long_ago))
    async with scene.at_work(timedelta(days=5)):
        await scene.until(archived="t1")
        await scene.until(lambda: not scene.traces.folder("t3").exists())
    assert scene.traces.local_ids() == ["t1", "t2"]


async def test_a_trace_that_was_removed_while_it_was_under_way_is_taken_back(s3: S3Server, tmp_path: Path) -> None:
    bucket = f"b-{uuid4()}"
    s3.make_bucket(bucket)
    with proxy(s3.endpoint) as between:
        archive = Archive(s3.store(bucket, endpoint=between.endpoint), f"s3://{bucket}")
        async with scene_with(tmp_path, archive) as scene:
            folder = await scene.sealed("t1")
            loop = asyncio.get_running_loop()

            def remove_meanwhile(method: str, path: str) -> bool:
                if method == "PUT" and path.endswith("journal.jsonl"):
                    removed = scene.database.write(
                        lambda session: ledger_traces.remove_trace(session, "t1", "by test", NOW)
                    )
                    asyncio.run_coroutine_threadsafe(removed, loop).result(HUNG_S)
                    shutil.rmtree(folder)
                return False

            between.refuses = remove_meanwhile
            with capture_logs() as logs:
                async with scene.at_work():
                    await scene.until(lambda: any(entry["event"] == "removed_trace_taken_back" for entry in logs))
            assert await archive.sizes("t1") == {}


async def test_a_database_that_fails_ends_neither_uploads_nor_drops(tmp_path: Path) -> None:
    async with scene_with(tmp_path, Archive(MemoryStore(), "memory://")) as scene:
        pass  # closed: it refuses every read
    async with scene.at_work(keep_local=timedelta(0)) as archivist:
        await scene.until(lambda: archivist.outage is not None)
