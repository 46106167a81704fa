"""A capture that a sync pulse starts lies where its leading edge says; a driver that takes the wrong level does not.

What the load does is known in rack time, the edge is read from the timestamper's clock, and the samples come through
the analyzer's driver: the three meet nowhere but here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from drivers.analyzers import n6705c_analyzer
from drivers.analyzers.keysight_n6705c import DRIVER
from drivers.analyzers.n6705c_mainframe import TRIGGER_INPUT, N6705COptions
from drivers.api import Block, CaptureRequest, Level, PowerAnalyzer, Quantity, SupplyLimits, TriggerSource
from drivers.timestamp.labd_timestamper import Timestamper, open_timestamper
from labd.virtual.n6705c import N6705C
from labd.virtual.scpi_server import Fault
from labd.virtual.timestamper import Timestamper as VirtualTimestamper
from labd.virtual.timestamper import TimestamperFault, TimestamperSpec
from labd.virtual.world import RackClock
from tests.virtual.loads import SquareLoad

WIDTH_S = 0.02
"""Of the sync pulse: long, so that its two edges are far apart in samples, s."""
SQUARE_S = 1.0
PERIOD_S = 204.8e-6
WITHIN_S = 50e-6 + PERIOD_S


@dataclass(frozen=True)
class Bench:
    """An analyzer and a timestamper with the wire between them, and what only the rack knows."""

    clock: RackClock
    sim: N6705C
    stamper: VirtualTimestamper
    analyzer: PowerAnalyzer
    stamps: Timestamper

    async def stray_s(self) -> float:
        """Capture as labd does; return how far the load's steps lie from where the leading edge puts them, s."""
        request = CaptureRequest((Quantity.CURRENT, Quantity.VOLTAGE), None, 0.1, 3.6, trigger=TriggerSource.EXTERNAL)
        setup = await self.analyzer.configure(1, request)
        taken = setup.trigger_input
        assert taken is not None
        await self.stamps.idle(15, taken.active.opposite)
        await self.analyzer.arm(1)
        blocks: list[Block] = []
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            group.create_task(self.analyzer.stream(1, blocks.append))
            await asyncio.sleep(self.clock.host_delay(self.clock.now() + 0.3))
            async with self.stamps.watch(frozenset({15})) as edges:
                await self.stamps.pulse(15, WIDTH_S, taken.active)
                leading = await anext(edges)
            assert leading.level == taken.active
            await asyncio.sleep(self.clock.host_delay(self.clock.now() + 3.0 * SQUARE_S))
            await self.analyzer.stop(1)
        current = np.concatenate([block.columns[Quantity.CURRENT] for block in blocks])
        rises = np.flatnonzero(np.diff((current > 0.02).astype(np.int8)) > 0) + 1
        assert len(rises) >= 2
        begun_s = (leading.ticks - self.stamper.ticks(0.0)) / (25e6 * (1 + 1e-6 * self.stamper.ppm))
        strays_s = (begun_s + rises * setup.period_s + 0.5 * SQUARE_S) % SQUARE_S - 0.5 * SQUARE_S
        return float(np.median(strays_s))


@asynccontextmanager
async def bench(folder: Path) -> AsyncIterator[Bench]:
    clock = RackClock(speed=2.0)
    load = SquareLoad(clock, low_a=0.01, high_a=0.03, period_s=SQUARE_S)
    sim = N6705C(clock, {1: load}, seed=3)

    def on_level(pin: int, level: int, at_s: float) -> None:
        if pin == 15:
            sim.drive_trigger(level, at_s)

    stamper = VirtualTimestamper(
        clock, folder / "stamps", name="s", spec=TimestamperSpec(), rng=np.random.default_rng(4), on_level=on_level
    )
    try:
        async with sim.serve():
            options = N6705COptions(resource=f"TCPIP::127.0.0.1::{sim.port}::SOCKET", channels=(1,))
            async with DRIVER.open(options) as analyzer, open_timestamper(str(stamper.port.link)) as stamps:
                await analyzer.set_limits(1, SupplyLimits(voltage_max_v=3.6, current_max_a=0.1))
                await analyzer.set_voltage(1, 3.0)
                await analyzer.output_on(1)
                yield Bench(clock, sim, stamper, analyzer, stamps)
    finally:
        stamper.close()


async def test_a_low_pulse_starts_the_capture_at_its_fall(tmp_path: Path) -> None:
    async with bench(tmp_path) as rack:
        assert abs(await rack.stray_s()) < WITHIN_S


async def test_a_driver_that_takes_the_pulse_for_a_high_one_starts_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(n6705c_analyzer, "TRIGGER_INPUT", replace(TRIGGER_INPUT, active=Level.HIGH))
    async with bench(tmp_path) as rack:
        # It starts at the fall, the end of a high pulse: the trace says that things came earlier than they did.
        assert await rack.stray_s() == pytest.approx(-WIDTH_S, abs=WITHIN_S)


async def test_a_driver_that_takes_the_pulse_for_a_high_one_starts_early_where_the_level_is_the_trigger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(n6705c_analyzer, "TRIGGER_INPUT", replace(TRIGGER_INPUT, active=Level.HIGH))
    async with bench(tmp_path) as rack:
        rack.sim.faults.add(Fault.LEVEL_TRIGGER)
        assert await rack.stray_s() > 0.25  # started when it was initiated, well before the pulse


async def test_an_inverting_buffer_in_the_wire_starts_the_capture_late(tmp_path: Path) -> None:
    async with bench(tmp_path) as rack:
        rack.stamper.faults.add(TimestamperFault.INVERTED)
        assert await rack.stray_s() == pytest.approx(-WIDTH_S, abs=WITHIN_S)
