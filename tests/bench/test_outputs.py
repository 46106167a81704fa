"""Outputs go off whatever else fails: a dead supply, a stuck one, a driver with a bug."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from drivers.api import Capability, ConnectError, DeviceError, Role
from labd.bench.outputs import switch_outputs_off, wired_outputs
from labd.config import LabConfig


class SupplyOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    fault: str = ""


class BenchSupply:
    """Two outputs that start on."""

    def __init__(self, fault: str) -> None:
        self.on = {1, 2}
        self._fault = fault

    async def output_off(self, channel: int) -> None:
        if self._fault == "stuck":
            await asyncio.Event().wait()
        if self._fault == "channel 1" and channel == 1:
            raise DeviceError("output 1: relay fault")
        self.on.discard(channel)


class BenchDriver:
    name = "bench-supply"
    roles = frozenset({Role.SUPPLY})
    options: type[BaseModel] = SupplyOptions

    def __init__(self) -> None:
        self.opened: list[BenchSupply] = []

    def capability(self, options: Any) -> Capability:
        return Capability()

    def open(self, options: SupplyOptions) -> AbstractAsyncContextManager[Any]:
        return self._open(options)

    @asynccontextmanager
    async def _open(self, options: SupplyOptions) -> AsyncIterator[BenchSupply]:
        if options.fault == "dead":
            raise ConnectError("192.0.2.10: no route to host")
        if options.fault == "bug":
            raise ZeroDivisionError("division by zero")
        supply = BenchSupply(options.fault)
        self.opened.append(supply)
        yield supply


def lab(*faults: str) -> LabConfig:
    boards = [(f"psu-{n}", channel) for n in range(len(faults)) for channel in (1, 2)]
    return LabConfig.model_validate(
        {
            "lab": {"name": "bench"},
            "instrument": [
                {"id": f"psu-{n}", "driver": "bench-supply", "fault": fault} for n, fault in enumerate(faults)
            ],
            "board": [
                {
                    "id": f"board-{n}",
                    "limits": {"voltage_max_v": 3.6, "current_max_a": 0.1},
                    "supply": {"instrument": instrument, "channel": channel, "voltage_v": 3.0},
                    "serial": {"port": f"/dev/ttyBench{n}"},
                }
                for n, (instrument, channel) in enumerate(boards)
            ],
        }
    )


async def test_every_wired_output_goes_off() -> None:
    driver = BenchDriver()
    results = await switch_outputs_off(lab("", ""), {"bench-supply": driver}, 5.0)
    assert [(result.instrument, result.channel, result.off) for result in results] == [
        ("psu-0", 1, True),
        ("psu-0", 2, True),
        ("psu-1", 1, True),
        ("psu-1", 2, True),
    ]
    assert [supply.on for supply in driver.opened] == [set(), set()]


@pytest.mark.parametrize(
    ("fault", "words"), [("dead", "no route"), ("bug", "division"), ("stuck", "no answer within 0.2 s")]
)
async def test_a_supply_that_fails_does_not_keep_another_one_on(fault: str, words: str) -> None:
    driver = BenchDriver()
    results = await switch_outputs_off(lab(fault, ""), {"bench-supply": driver}, 0.2)
    assert [result.off for result in results] == [False, False, True, True]
    assert words in results[0].error
    assert driver.opened[-1].on == set()


async def test_a_channel_that_fails_does_not_keep_the_next_one_on() -> None:
    driver = BenchDriver()
    results = await switch_outputs_off(lab("channel 1"), {"bench-supply": driver}, 5.0)
    assert [(result.channel, result.error) for result in results] == [(1, "output 1: relay fault"), (2, "")]
    assert driver.opened[0].on == {1}


def test_a_supply_that_feeds_nothing_is_left_alone() -> None:
    rack = lab("", "")
    spare = rack.model_copy(update={"board": rack.board[:2]})
    assert [(each.instrument.id, each.channels) for each in wired_outputs(spare)] == [("psu-0", (1, 2))]
