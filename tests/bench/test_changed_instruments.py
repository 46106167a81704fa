"""Instruments whose `lab.toml` changes while runs use them: nobody is cut off, and nothing is opened twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict
from sqlmodel import Session

from drivers.api import Capability, ConnectError, Identity, Role
from labd.bench.devices import Devices
from labd.config import Instrument
from labd.model import ledger_health
from labd.model.database import Database
from labd.model.migrations import upgrade
from labd.model.states import InstrumentState
from labd.model.tables import Instrument as Row
from tests.deadline import HUNG_S

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class AddressOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    resource: str


@dataclass
class Supply:
    """A supply that knows which of its outputs are on."""

    resource: str
    on: set[int] = field(default_factory=set)
    closed: bool = False
    identity: Identity = field(default_factory=lambda: Identity("labd", "supply", "1", "1"))

    async def check(self) -> None:
        assert not self.closed, "a closed device is asked"

    async def output_off(self, channel: int) -> None:
        self.on.discard(channel)


@dataclass
class SupplyDriver:
    """Opens supplies, of which only one may be open at an address."""

    name: str = "supply"
    roles: frozenset[Role] = frozenset({Role.SUPPLY})
    options: type[BaseModel] = AddressOptions
    opened: list[Supply] = field(default_factory=list)

    def capability(self, options: Any) -> Capability:
        return Capability()

    @asynccontextmanager
    async def open(self, options: AddressOptions) -> AsyncIterator[Supply]:
        assert all(supply.closed for supply in self.opened), "two connections at once"
        supply = Supply(options.resource, {1, 2})
        self.opened.append(supply)
        try:
            yield supply
        finally:
            supply.closed = True


def instrument(resource: str, name: str = "psu") -> Instrument:
    return Instrument.model_validate({"id": name, "driver": "supply", "resource": resource})


@asynccontextmanager
async def rack(folder: Path) -> AsyncIterator[tuple[Devices, SupplyDriver, Database]]:
    url = f"sqlite:///{folder}/labd.db"
    upgrade(url)
    driver = SupplyDriver()
    async with (
        Database.open(url) as database,
        Devices((instrument("here"),), {"supply": driver}, database) as devices,
    ):
        taking = asyncio.create_task(devices.take_over(), name="take-over")
        try:
            yield devices, driver, database
        finally:
            taking.cancel()
            await asyncio.wait({taking})


async def opened(driver: SupplyDriver, count: int) -> None:
    async with asyncio.timeout(HUNG_S):
        while len(driver.opened) < count:
            await asyncio.sleep(0.005)


async def test_an_unused_instrument_is_reopened_at_its_new_address_at_once(tmp_path: Path) -> None:
    async with rack(tmp_path) as (devices, driver, _):
        await devices.instrument("psu")
        devices.reconfigure([instrument("there")], {"psu": frozenset({1})})
        await opened(driver, 2)
        assert [supply.resource for supply in driver.opened] == ["here", "there"]
        assert driver.opened[0].on == {2}, "what fed boards is off before it is let go of"
        assert devices.settings("psu").options == {"resource": "there"}


async def test_a_run_keeps_the_instrument_that_it_began_with_and_the_next_one_gets_the_new(tmp_path: Path) -> None:
    async with rack(tmp_path) as (devices, driver, _):
        begun, go = asyncio.Event(), asyncio.Event()
        seen: list[str] = []

        async def run() -> None:
            async with devices.in_use(["psu"], HUNG_S):
                await devices.instrument("psu")
                begun.set()
                await go.wait()
                await devices.instrument("psu")
                seen.append(driver.opened[-1].resource)

        first = asyncio.create_task(run())
        await begun.wait()
        devices.reconfigure([instrument("there")])
        second = asyncio.create_task(run())
        await devices.survey()
        assert (len(driver.opened), second.done()) == (1, False), "nobody is cut off"
        go.set()
        async with asyncio.timeout(HUNG_S):
            await asyncio.gather(first, second)
        assert seen == ["here", "there"]


async def test_a_change_that_is_taken_back_costs_nothing(tmp_path: Path) -> None:
    async with rack(tmp_path) as (devices, driver, _):
        async with devices.in_use(["psu"], HUNG_S):
            await devices.instrument("psu")
            devices.reconfigure([instrument("there")])
            devices.reconfigure([instrument("here")])
        async with devices.in_use(["psu"], HUNG_S):
            await devices.instrument("psu")
        assert len(driver.opened) == 1


async def test_a_removed_instrument_goes_dark_when_its_run_has_ended(tmp_path: Path) -> None:
    async with rack(tmp_path) as (devices, driver, database):
        async with devices.in_use(["psu"], HUNG_S):
            await devices.instrument("psu")
            devices.reconfigure([], {"psu": frozenset({1, 2})})
            await devices.instrument("psu")
            assert not driver.opened[0].closed
        async with asyncio.timeout(HUNG_S):
            while not driver.opened[0].closed:
                await asyncio.sleep(0.005)
            while (row := await database.read(lambda session: session.get_one(Row, "psu"))).reason == "":
                await asyncio.sleep(0.005)
        assert driver.opened[0].on == set()
        assert (row.state, row.reason) == (InstrumentState.OFFLINE, "removed from lab.toml")
        with pytest.raises(ConnectError, match="no instrument psu"):
            await devices.instrument("psu")
        await devices.survey()


async def test_an_instrument_that_others_do_not_let_go_of_is_named(tmp_path: Path) -> None:
    async with rack(tmp_path) as (devices, _, _), devices.in_use(["psu"], HUNG_S):
        devices.reconfigure([instrument("there")])
        with pytest.raises(ConnectError, match="psu is still in use"):
            async with devices.in_use(["psu"], 0.02):
                pass


async def test_an_added_instrument_can_be_used(tmp_path: Path) -> None:
    async with rack(tmp_path) as (devices, driver, _):
        devices.reconfigure([instrument("here"), instrument("second", "psu-2")])
        await devices.instrument("psu-2")
        assert driver.opened[-1].resource == "second"


async def test_an_instrument_given_back_before_it_was_let_go_of_is_online_again(tmp_path: Path) -> None:
    async with rack(tmp_path) as (devices, driver, database):
        await devices.survey()

        def taken_and_given_back(session: Session) -> None:
            ledger_health.maintain_instrument(session, "psu", "new fuse", NOW)
            ledger_health.return_instrument(session, "psu", "returned", NOW)

        await database.write(taken_and_given_back)
        await devices.survey()
        states = await database.read(ledger_health.instrument_states)
        assert (states, len(driver.opened)) == ({"psu": InstrumentState.ONLINE}, 1)
