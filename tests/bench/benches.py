"""A bench on a virtual rack in this process: real drivers, real board programs, real traces, no daemon."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlmodel import Session

from drivers.api import find_drivers
from labd.bench.devices import Devices
from labd.bench.progress import ProgressFeed
from labd.bench.run import Bench
from labd.benchmarks import Mode
from labd.config import LabConfig, LiveConfig
from labd.config.reading import load
from labd.model import ledger, ledger_queue
from labd.model.causes import Cause, Ending
from labd.model.database import Database
from labd.model.ledger import Begun
from labd.model.ledger_queue import Commission
from labd.model.migrations import upgrade
from labd.model.states import BoardState
from labd.service.messages import JobSpec
from labd.service.queue.work import LabWork
from labd.virtual.config import RackConfig, demo_rack
from labd.virtual.endpoints import lab_toml
from labd.virtual.lab import firmware_toml
from labd.virtual.rack import VirtualRack

MANIFEST = Path(__file__).parent.parent.parent / "build" / "firmware" / "manifest.json"
"""Built by `make firmware`, which `make test` calls."""


@dataclass(frozen=True, slots=True)
class TestBench:
    """A rack, its lab, and what a run needs."""

    __test__ = False

    rack: VirtualRack
    config: LabConfig
    bench: Bench
    database: Database

    async def run(self, mode: Mode, board: str = "board-1", **wishes: object) -> tuple[Ending, int]:
        """Do one job on one board as the dispatcher would; return how it ended and the run's id."""
        spec = JobSpec.model_validate({"benchmark": "digits01", "mode": mode, **wishes}, strict=False)
        now = datetime.now(UTC)

        def begin(session: Session) -> tuple[Commission, Begun]:
            submitted = ledger.submit_job(
                session,
                benchmark=spec.benchmark,
                mode=spec.mode,
                client="test",
                spec=spec.model_dump(mode="json"),
                now=now,
            )
            run = ledger.start_run(session, submitted.id, board, now, 300.0)
            return ledger_queue.commission(session, submitted.id), run

        job, run = await self.database.write(begin)
        run_id = run.id
        ending = Ending(Cause.CANCELLED)
        try:
            ending = await LabWork(LiveConfig(self.config), self.bench).perform(job, run)
        finally:
            await self.database.write(lambda session: self._end(session, run_id, board, ending))
        return ending, run_id

    def _end(self, session: Session, run_id: int, board: str, ending: Ending) -> None:
        """End the run; a board that it made suspect is trusted again, as its check would have it."""
        now = datetime.now(UTC)
        ledger.end_run(session, run_id, ending, now)
        ledger.set_board_state(session, board, BoardState.ONLINE, "", now)


@asynccontextmanager
async def bench_on_rack(
    folder: Path, *, speed: float = 8.0, change: Callable[[RackConfig], RackConfig] = lambda rack: rack
) -> AsyncIterator[TestBench]:
    """The demo's rack, changed, at a speed that keeps tests short."""
    async with VirtualRack(change(demo_rack(folder / "rack", speed=speed))) as rack:
        head = f'[lab]\nname = "test"\ndata_dir = "{folder}/var"\n'
        path = folder / "lab.toml"
        path.write_text("\n".join([head, lab_toml(rack.config, rack.endpoints), firmware_toml(MANIFEST)]))
        config = load(path)
        config.traces_dir.mkdir(parents=True)
        upgrade(config.database_url)
        drivers = find_drivers()
        async with (
            Database.open(config.database_url) as database,
            Devices(config.instrument, drivers, database) as devices,
        ):
            now = datetime.now(UTC)
            for board in config.board:
                await database.write(
                    lambda session, board=board: ledger.set_board_state(session, board.id, BoardState.ONLINE, "", now)
                )
            bench = Bench(devices, drivers, database, ProgressFeed(), config.traces_dir)
            yield TestBench(rack, config, bench, database)
