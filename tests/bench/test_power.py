"""A board is fed within its limits or not at all, and a supply that starves it is named."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from drivers.api import Capability, Identity, LimitError, Role, SupplyLimits, SupplyMode, SupplyStatus
from labd.bench.devices import Devices
from labd.bench.failure import RunFailedError
from labd.bench.power import powered
from labd.config import LabConfig
from labd.dut.errors import DutSilentError
from labd.model.causes import Cause
from labd.model.database import Database
from labd.model.migrations import upgrade


class NoOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass
class OneOutput:
    """A supply of one output that notes what it is told, in order; it rounds its set-point to `step_v`."""

    step_v: float = 0.001
    regulates: SupplyMode = SupplyMode.CV
    told: list[str] = field(default_factory=list)
    voltage_v: float = 0.0
    identity: Identity = field(default_factory=lambda: Identity("labd", "one-output", "1", "1"))

    async def check(self) -> None:
        return

    async def set_limits(self, channel: int, limits: SupplyLimits) -> SupplyLimits:
        self.told.append("limits")
        return limits

    async def set_voltage(self, channel: int, voltage_v: float) -> float:
        self.told.append("voltage")
        self.voltage_v = math.ceil(voltage_v / self.step_v) * self.step_v
        return self.voltage_v

    async def arm_watchdog(self, delay_s: float) -> None:
        self.told.append("watchdog")

    async def output_on(self, channel: int) -> None:
        self.told.append("on")

    async def output_off(self, channel: int) -> None:
        self.told.append("off")

    async def supply_status(self, channel: int) -> SupplyStatus:
        return SupplyStatus(self.regulates, self.voltage_v, 0.1)


class OneOutputDriver:
    name = "one-output"
    roles = frozenset({Role.SUPPLY})
    options: type[BaseModel] = NoOptions

    def __init__(self, supply: OneOutput) -> None:
        self._supply = supply

    def capability(self, options: Any) -> Capability:
        return Capability()

    def open(self, options: Any) -> AbstractAsyncContextManager[Any]:
        return self._open()

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[OneOutput]:
        yield self._supply


LAB = LabConfig.model_validate(
    {
        "lab": {"name": "bench"},
        "instrument": [{"id": "psu", "driver": "one-output"}],
        "board": [
            {
                "id": "board",
                "limits": {"voltage_max_v": 3.3, "current_max_a": 0.1},
                "supply": {"instrument": "psu", "channel": 1, "voltage_v": 3.0},
                "serial": {"port": "/dev/ttyBench"},
            }
        ],
    }
)
(BOARD,) = LAB.board


@asynccontextmanager
async def devices_of(supply: OneOutput, folder: Path) -> AsyncIterator[Devices]:
    url = f"sqlite:///{folder}/labd.db"
    upgrade(url)
    async with (
        Database.open(url) as database,
        Devices(LAB.instrument, {"one-output": OneOutputDriver(supply)}, database) as devices,
    ):
        yield devices


async def test_limits_voltage_and_watchdog_are_set_before_the_output_goes_on(tmp_path: Path) -> None:
    supply = OneOutput()
    async with devices_of(supply, tmp_path) as devices, powered(devices, supply, BOARD, 2.9995) as set_v:
        assert set_v == pytest.approx(3.0)
        assert supply.told == ["limits", "voltage", "watchdog", "on"]
    assert supply.told[-1] == "off"


async def test_a_supply_that_sets_more_than_the_limit_is_not_switched_on(tmp_path: Path) -> None:
    supply = OneOutput(step_v=0.35)
    async with devices_of(supply, tmp_path) as devices:
        with pytest.raises(RunFailedError, match=r"set to 3\.25 V, it says 3\.5 V") as caught:
            async with powered(devices, supply, BOARD, 3.25):
                pass
        assert caught.value.cause is Cause.INSTRUMENT_ERROR
        with pytest.raises(LimitError, match=r"above its limit of 3\.3 V"):
            async with powered(devices, supply, BOARD, 3.4):
                pass
    assert "on" not in supply.told


async def silent(devices: Devices, supply: OneOutput, regulates: SupplyMode) -> None:
    """A board that does not answer, while the supply is in this state."""
    async with powered(devices, supply, BOARD, 3.0):
        supply.regulates = regulates
        raise DutSilentError("no 'm-ready' in time")


async def test_a_board_that_is_silent_because_its_current_is_limited_ends_as_overload(tmp_path: Path) -> None:
    supply = OneOutput()
    async with devices_of(supply, tmp_path) as devices:
        with pytest.raises(RunFailedError, match=r"limits the current to 0\.1 A") as caught:
            await silent(devices, supply, SupplyMode.CC)
        assert caught.value.cause is Cause.BOARD_OVERLOAD
        with pytest.raises(DutSilentError):
            await silent(devices, supply, SupplyMode.CV)
    assert supply.told[-1] == "off"
