"""The housekeeper beside a lab: it sees the disk, tells, makes room, and seals what could not be sealed before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sqlmodel import Session, col, select

from labd.config import Keep
from labd.errors import StoreError
from labd.keep.collect import Collector
from labd.keep.housekeeper import Housekeeper
from labd.keep.reserve import NAME, Reserve
from labd.keep.space import GB, SpaceState, SpaceWatch
from labd.keep.store import TraceStore
from labd.model.database import Database
from labd.model.states import TraceState
from labd.model.tables import Event, Trace
from tests.deadline import HUNG_S
from tests.keep.traces import NOW, add_trace, lay_down, record


@dataclass
class Disk:
    """A disk as full as the test says; every trace that is there takes a share of it."""

    free_gb: float = 50.0
    broken: bool = False
    trace_gb: float = 0.0
    folder: Path = Path()

    def measure(self) -> int:
        if self.broken:
            raise StoreError("its free space cannot be told")
        traces = len(list(self.folder.iterdir()))
        return int((self.free_gb - traces * self.trace_gb) * GB)


@dataclass
class House:
    """A lab whose house is kept."""

    database: Database
    disk: Disk
    watch: SpaceWatch
    housekeeper: Housekeeper
    folder: Path
    changes: list[SpaceState] = field(default_factory=list)
    salvaged: int = 0

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(HUNG_S):
            while not condition():
                await asyncio.sleep(0.005)

    async def told(self) -> list[tuple[str, str]]:
        events = await self.database.read(
            lambda session: session.exec(select(Event).where(Event.kind == "lab").order_by(col(Event.id))).all()
        )
        return [(event.state, event.subject) for event in events]


@asynccontextmanager
async def house(
    folder: Path, keep: Keep, disk: Disk, fill: Callable[[Session], None] = lambda _: None, *, look_s: float = 0.01
) -> AsyncIterator[House]:
    async with record(folder) as database:
        await database.write(fill)
        for name in await database.read(lambda session: session.exec(select(Trace.id)).all()):
            lay_down(folder / "traces", name)
        disk.folder = folder / "traces"
        watch = SpaceWatch(keep, disk.measure)
        kept: House

        async def salvage() -> None:
            kept.salvaged += 1

        housekeeper = Housekeeper(
            "bench-1",
            database,
            watch,
            Collector(database, TraceStore(folder / "traces"), keep),
            Reserve(folder, 100_000),
            salvage=salvage,
            space_changed=lambda: kept.changes.append(watch.seen.state),
            look_s=look_s,
            now=lambda: NOW,
        )
        kept = House(database, disk, watch, housekeeper, folder)
        await housekeeper.begin()
        task = asyncio.create_task(housekeeper.run(), name="housekeeper")
        try:
            yield kept
        finally:
            task.cancel()
            await asyncio.wait({task})


async def test_a_disk_that_fills_and_empties_is_told_once_each_way(tmp_path: Path) -> None:
    async with house(tmp_path, Keep(), Disk()) as kept:
        await kept.until(lambda: kept.salvaged == 1)
        assert (tmp_path / NAME).stat().st_size == 100_000
        kept.disk.free_gb = 3
        await kept.until(lambda: not kept.watch.captures_start)
        kept.disk.free_gb = 9
        await kept.until(lambda: kept.watch.captures_start)
        await kept.until(lambda: kept.salvaged == 2)  # what could not be sealed on the full disk
        assert kept.changes == [SpaceState.LOW, SpaceState.ENOUGH]
        assert await kept.told() == [("low", "bench-1"), ("enough", "bench-1")]


async def test_a_lab_that_starts_on_a_full_disk_knows_it_before_anything_starts(tmp_path: Path) -> None:
    async with house(tmp_path, Keep(), Disk(free_gb=1)) as kept:
        assert kept.watch.seen.state is SpaceState.CRITICAL
        assert kept.salvaged == 0


async def test_who_asks_for_room_hears_of_the_disk_as_it_is_now(tmp_path: Path) -> None:
    async with house(tmp_path, Keep(), Disk(), look_s=60) as kept:
        assert await kept.housekeeper.captures_start()
        kept.disk.free_gb = 1
        assert not any(await asyncio.gather(*(kept.housekeeper.captures_start() for _ in range(5))))
        assert kept.changes == [SpaceState.CRITICAL]


async def test_a_critical_disk_makes_room_until_captures_may_start_again(tmp_path: Path) -> None:
    def fill(session: Session) -> None:
        for number in range(6):
            add_trace(session, f"t{number}", days=10 - number)

    async with house(tmp_path, Keep(reclaim=True, low_gb=2.5e-6, critical_gb=2e-6), Disk(), fill) as kept:
        kept.disk.trace_gb = 1e-6  # as the record says
        kept.disk.free_gb = 7.2e-6  # of which the six traces take six
        await kept.until(lambda: kept.changes[-1:] == [SpaceState.ENOUGH])
        assert sorted(path.name for path in (tmp_path / "traces").iterdir()) == ["t2", "t3", "t4", "t5"]


async def test_without_leave_a_critical_disk_keeps_every_trace(tmp_path: Path) -> None:
    async with house(tmp_path, Keep(), Disk(free_gb=1), lambda session: add_trace(session, "t0", days=400)) as kept:
        kept.housekeeper.wake()
        kept.disk.free_gb = 3
        await kept.until(lambda: kept.watch.seen.state is SpaceState.LOW)
        rows = await kept.database.read(lambda session: session.exec(select(Trace.state)).all())
        assert list(rows) == [TraceState.SEALED]
        assert (tmp_path / "traces" / "t0").is_dir()


async def test_a_disk_that_cannot_be_asked_costs_nothing_but_a_line_in_the_log(tmp_path: Path) -> None:
    async with house(tmp_path, Keep(), Disk(broken=True)) as kept:
        kept.disk.broken = False
        kept.disk.free_gb = 1
        await kept.until(lambda: kept.changes == [SpaceState.CRITICAL])


async def test_room_that_was_made_since_the_last_look_is_not_made_again(tmp_path: Path) -> None:
    def fill(session: Session) -> None:
        for number in range(6):
            add_trace(session, f"t{number}", days=10 - number)

    async with house(tmp_path, Keep(reclaim=True), Disk(free_gb=1e-6), fill, look_s=60) as kept:
        assert kept.watch.seen.state is SpaceState.CRITICAL
        kept.disk.free_gb = 50
        await kept.until(lambda: kept.salvaged >= 1)
        assert len(list((tmp_path / "traces").iterdir())) == 6
