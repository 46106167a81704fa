"""A small lab for tests: two boards, a database on disk, and a note of what the service moved."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from sqlmodel import Session

from labd.benchmarks import Mode
from labd.config import Board, Firmware, Instrument, Lab, LabConfig, Limits, LiveConfig, Measure, Serial, Supply, Timing
from labd.model import ledger
from labd.model.database import Database
from labd.model.migrations import upgrade
from labd.model.states import BoardState, InstrumentState
from labd.service.lab import Lab as ServedLab

NOW = datetime(2025, 3, 1, 12, 0, tzinfo=UTC)
SUPPLY = Supply(instrument="psu", channel=1, voltage_v=3.0)
LIMITS = Limits(voltage_max_v=3.6, current_max_a=0.15)


def config(folder: Path) -> LabConfig:
    """Board `b1` can do everything, `b2` has no analyzer."""
    return LabConfig(
        lab=Lab(name="bench-1", data_dir=folder),
        instrument=(Instrument(id="psu", driver="keysight-n6705c"),),
        board=(
            Board(
                id="b1",
                tags=("cortex-m4f", "energy"),
                limits=LIMITS,
                supply=SUPPLY,
                measure=Measure(instrument="psu", channel=1),
                timing=Timing(instrument="stamps", pin=0),
                serial=Serial(port="/dev/null"),
            ),
            Board(id="b2", tags=("cortex-m4f",), limits=LIMITS, supply=SUPPLY, serial=Serial(port="/dev/null")),
        ),
        firmware=(
            Firmware(
                name="digits-native",
                benchmark="digits01",
                target="native",
                images={Mode.ENERGY: folder / "energy.elf", Mode.PERFORMANCE: folder / "performance.elf"},
            ),
        ),
    )


@dataclass
class Moves:
    """What the service asked of the dispatcher."""

    wakes: int = 0
    cancelled: list[int] = field(default_factory=list)

    def wake(self) -> None:
        self.wakes += 1


@asynccontextmanager
async def open_lab(folder: Path) -> AsyncIterator[tuple[ServedLab, Moves]]:
    """A lab on the database in `folder`, which may hold what an earlier lab left."""
    url = f"sqlite:///{folder}/labd.db"
    upgrade(url)
    moves = Moves()
    async with Database.open(url) as database:
        yield ServedLab(LiveConfig(config(folder)), database, moves.wake, moves.cancelled.append), moves


async def bring_up(lab: ServedLab) -> None:
    """All boards and one instrument online."""

    def online(session: Session) -> None:
        for board in lab.config.board:
            ledger.set_board_state(session, board.id, BoardState.ONLINE, "", NOW)
        ledger.set_instrument_state(session, "psu", "keysight-n6705c", InstrumentState.ONLINE, NOW)

    await lab.database.write(online)
