"""Outputs go off in an emergency also while the database takes nothing: no board stays on for want of a record."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict
from sqlalchemy import text
from sqlmodel import Session

from drivers.api import Capability, ConnectError, Identity, Role
from labd.bench.devices import Devices
from labd.bench.emergency import EmergencyOff, darken
from labd.config import LabConfig, LiveConfig
from labd.model.database import Database
from labd.model.migrations import upgrade
from tests.deadline import HUNG_S


class NameOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    resource: str


@dataclass
class Supply:
    """A supply with both outputs on, which may not be reached at first."""

    unreachable: int = 0
    """So many tries to open it fail."""
    on: set[int] = field(default_factory=lambda: {1, 2})
    identity: Identity = field(default_factory=lambda: Identity("labd", "supply", "1", "1"))

    async def check(self) -> None:
        return

    async def output_off(self, channel: int) -> None:
        self.on.discard(channel)

    async def output_on(self, channel: int) -> None:
        self.on.add(channel)

    async def set_limits(self, channel: int, limits: Any) -> Any:
        return limits

    async def set_voltage(self, channel: int, voltage_v: float) -> float:
        return voltage_v

    async def arm_watchdog(self, delay_s: float) -> None:
        return

    async def supply_status(self, channel: int) -> Any:
        raise AssertionError("an emergency asks for no status")


class Supplies:
    """Opens the supplies of a rack by their names."""

    name = "supply"
    roles = frozenset({Role.SUPPLY})
    options: type[BaseModel] = NameOptions

    def __init__(self, **supplies: Supply) -> None:
        self._supplies = supplies

    def capability(self, options: Any) -> Capability:
        return Capability()

    @asynccontextmanager
    async def open(self, options: NameOptions) -> AsyncIterator[Supply]:
        supply = self._supplies[options.resource]
        if supply.unreachable:
            supply.unreachable -= 1
            raise ConnectError("no route to host")
        yield supply


def board(number: int, supply: str, channel: int) -> dict[str, Any]:
    return {
        "id": f"board-{number}",
        "limits": {"voltage_max_v": 3.3, "current_max_a": 0.1},
        "supply": {"instrument": supply, "channel": channel, "voltage_v": 3.0},
        "serial": {"port": f"/dev/ttyBoard{number}"},
    }


LAB = LabConfig.model_validate(
    {
        "lab": {"name": "rack"},
        "instrument": [
            {"id": "psu-1", "driver": "supply", "resource": "one"},
            {"id": "psu-2", "driver": "supply", "resource": "two"},
        ],
        "board": [board(1, "psu-1", 1), board(2, "psu-1", 2), board(3, "psu-2", 1), board(4, "psu-2", 2)],
    }
)


@asynccontextmanager
async def refusing_lab(folder: Path, supplies: Supplies) -> AsyncIterator[Devices]:
    """The rack's instruments, whose database takes no word on any of them."""
    url = f"sqlite:///{folder}/labd.db"
    upgrade(url)
    async with Database.open(url) as database:

        def refuse(session: Session) -> None:
            for what in ("INSERT", "UPDATE"):
                session.execute(
                    text(
                        f"CREATE TRIGGER refuse_{what} BEFORE {what} ON instrument "
                        "BEGIN SELECT RAISE(ABORT, 'disk I/O error'); END"
                    )
                )

        await database.write(refuse)
        async with Devices(LAB.instrument, {"supply": supplies}, database) as devices:
            yield devices


async def dark(*supplies: Supply) -> None:
    async with asyncio.timeout(HUNG_S):
        while any(supply.on for supply in supplies):
            await asyncio.sleep(0.01)


async def test_all_outputs_go_off_while_the_database_takes_nothing(tmp_path: Path) -> None:
    one, two = Supply(), Supply(unreachable=2)
    async with refusing_lab(tmp_path, Supplies(one=one, two=two)) as devices:
        emergency = EmergencyOff(LiveConfig(LAB), devices)
        heeding = asyncio.create_task(emergency.run(), name="emergency-off")
        try:
            emergency.pull()
            await dark(one, two)
            one.on, two.on = {1, 2}, {1, 2}
            emergency.pull()
            await dark(one, two)
            assert not heeding.done(), "the next emergency is heeded too"
        finally:
            heeding.cancel()
            await asyncio.wait({heeding})


async def test_the_output_of_a_board_whose_reservation_ends_goes_off_all_the_same(tmp_path: Path) -> None:
    one, two = Supply(unreachable=1), Supply()
    async with refusing_lab(tmp_path, Supplies(one=one, two=two)) as devices:
        (first, *_) = LAB.board
        assert await darken(devices, first) is False, "it could not be reached"
        async with asyncio.timeout(HUNG_S):
            while 1 in one.on:
                await asyncio.sleep(0.01)
    assert one.on == {2}, "only its own"
