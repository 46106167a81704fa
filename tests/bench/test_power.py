"""A board is fed within its limits or not at all, and a supply that starves it is named."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from itertools import chain, cycle, repeat
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from drivers.api import Capability, Identity, LimitError, Quantity, Role, SupplyLimits, SupplyMode, SupplyStatus
from labd.bench.devices import Devices
from labd.bench.failure import RunFailedError
from labd.bench.power import discharge, powered
from labd.bench.readback import read_back, read_idle
from labd.config import LabConfig
from labd.dut.errors import DutSilentError
from labd.model.causes import Blame, Cause
from labd.model.database import Database
from labd.model.migrations import upgrade


class NoOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass
class OneOutput:
    """A supply of one output that notes what it is told, in order; it rounds its set-point to `step_v`.

    What it measures is true, or comes from `readings_v` and `readings_a`, one after the other.
    """

    step_v: float = 0.001
    regulates: SupplyMode = SupplyMode.CV
    readings_v: Iterator[float] | None = None
    readings_a: Iterator[float] | None = None
    told: list[str] = field(default_factory=list)
    voltage_v: float = 0.0
    on: bool = False
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
        self.on = True

    async def output_off(self, channel: int) -> None:
        self.told.append("off")
        self.on = False

    async def supply_status(self, channel: int) -> SupplyStatus:
        true_v = self.voltage_v if self.on else 0.0
        volt = true_v if self.readings_v is None else next(self.readings_v)
        ampere = 0.1 if self.readings_a is None else next(self.readings_a)
        return SupplyStatus(self.regulates, volt, ampere)


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


NONE = [9.91e37, -9.91e37, 9.9e37, -9.9e37, math.nan, math.inf, -math.inf]
"""What stands for a reading that there is not."""
QUICK = BOARD.model_copy(update={"supply": BOARD.supply.model_copy(update={"discharge_s": 0.3})})


@pytest.mark.parametrize("none", NONE)
async def test_a_rail_of_which_there_is_no_reading_is_the_supplys_fault_and_never_down(none: float) -> None:
    with pytest.raises(RunFailedError, match=r"psu, channel 1, has no reading of the voltage") as caught:
        await discharge(OneOutput(readings_v=repeat(none)), QUICK)
    assert caught.value.cause.meaning.blame is Blame.INSTRUMENT


@pytest.mark.parametrize("none", NONE)
async def test_a_rail_that_stays_up_is_the_boards_whatever_single_readings_say(none: float) -> None:
    with pytest.raises(RunFailedError, match=r"did not fall below .*: 2\.9 V") as caught:
        await discharge(OneOutput(readings_v=cycle([2.9, 2.9, none])), QUICK)
    assert caught.value.cause is Cause.BOARD_NOT_OFF
    await discharge(OneOutput(readings_v=chain([2.9, none, none, 0.01], repeat(2.9))), QUICK)


async def test_a_supply_that_does_not_answer_while_a_rail_falls_says_nothing_of_the_board() -> None:
    class Hanging(OneOutput):
        async def supply_status(self, channel: int) -> SupplyStatus:
            await asyncio.Event().wait()
            raise AssertionError

    with pytest.raises(RunFailedError, match=r"did not tell its voltage") as caught:
        await discharge(Hanging(), QUICK)
    assert caught.value.cause is Cause.INSTRUMENT_SILENT


@pytest.mark.parametrize("none", NONE)
async def test_an_output_of_which_there_is_no_reading_is_not_taken_for_overloaded(tmp_path: Path, none: float) -> None:
    supply = OneOutput(readings_v=chain([none, none], repeat(3.0)))
    async with devices_of(supply, tmp_path) as devices:
        async with powered(devices, supply, BOARD, 3.0):
            assert (await read_back(supply, BOARD, Quantity.VOLTAGE)).voltage_v == 3.0
        supply.readings_v = repeat(none)
        with pytest.raises(RunFailedError, match="has no reading of the voltage") as caught:
            async with powered(devices, supply, BOARD, 3.0):
                pass
        assert caught.value.cause is Cause.INSTRUMENT_ERROR
        supply.readings_v = repeat(1.2)
        with pytest.raises(RunFailedError, match=r"did not reach 3 V within 2 s: 1\.2 V, 0\.1 A") as caught:
            async with powered(devices, supply, BOARD, 3.0):
                pass
        assert caught.value.cause is Cause.BOARD_OVERLOAD
    assert supply.told[-1] == "off"


@pytest.mark.parametrize("none", NONE)
async def test_a_reading_is_asked_for_again_and_then_the_supply_is_to_blame(none: float) -> None:
    supply = OneOutput(readings_a=chain([none, 1e-3], repeat(none)))
    assert (await read_back(supply, BOARD, Quantity.CURRENT)).current_a == 1e-3
    with pytest.raises(RunFailedError, match=r"psu, channel 1, has no reading of the current") as caught:
        await read_back(supply, BOARD, Quantity.CURRENT)
    assert caught.value.cause is Cause.INSTRUMENT_ERROR


@pytest.mark.parametrize("bad", [*NONE, 2.0, -2.0, 0.0])
async def test_one_bad_reading_of_ten_does_not_show_in_the_idle_current(bad: float) -> None:
    good = [1.00e-3, 1.01e-3, 0.99e-3, 1.00e-3, 1.02e-3, 0.98e-3, 1.00e-3, 1.01e-3, 0.99e-3]
    for place in (0, 4, 9):
        idle = await read_idle(OneOutput(readings_a=iter([*good[:place], bad, *good[place:]])), BOARD)
        assert idle.current_a == pytest.approx(1e-3, rel=1e-3)
        assert (idle.readings, idle.left_out) == (9, 1)
        assert 0 < idle.u_a < 1e-5


@pytest.mark.parametrize("none", NONE)
async def test_an_idle_current_of_too_few_readings_is_none(none: float) -> None:
    with pytest.raises(RunFailedError, match="6 readings of the idle current, asked 10 times") as caught:
        await read_idle(OneOutput(readings_a=cycle([1e-3, none, 1e-3, none, 1e-3])), BOARD)
    assert caught.value.cause is Cause.INSTRUMENT_ERROR
