"""A driver of an N6705C on a simulated one, with loads whose currents are known."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from drivers.analyzers.keysight_n6705c import DRIVER, N6705C
from drivers.api import Block, CaptureRequest, Quantity, SupplyLimits
from labd.virtual import n6705c
from labd.virtual.n6705c_channel import ModuleSpec
from labd.virtual.world import RackClock
from tests.deadline import HUNG_S
from tests.virtual.loads import SquareLoad

BOTH = (Quantity.CURRENT, Quantity.VOLTAGE)
REQUEST = CaptureRequest(BOTH, period_s=None, current_max_a=0.1, voltage_max_v=3.6)
LIMITS = SupplyLimits(voltage_max_v=3.6, current_max_a=0.15)


class Bench:
    """A simulated instrument with an open driver on it."""

    def __init__(self, clock: RackClock, sim: n6705c.N6705C, device: N6705C) -> None:
        self.clock, self.sim, self.device = clock, sim, device

    async def power(self, channel: int, voltage_v: float = 3.0) -> None:
        await self.device.set_limits(channel, LIMITS)
        await self.device.set_voltage(channel, voltage_v)
        await self.device.output_on(channel)

    async def pass_time(self, rack_s: float) -> None:
        until = self.clock.now() + rack_s
        while self.clock.now() < until:
            await asyncio.sleep(self.clock.host_delay(until))

    async def record(self, channel: int, rack_s: float, request: CaptureRequest = REQUEST) -> tuple[int, list[Block]]:
        await self.device.configure(channel, request)
        await self.device.arm(channel)
        blocks: list[Block] = []
        async with asyncio.timeout(HUNG_S), asyncio.TaskGroup() as group:
            stream = group.create_task(self.device.stream(channel, blocks.append))
            await self.pass_time(rack_s)
            await self.device.stop(channel)
        return stream.result(), blocks


@contextlib.asynccontextmanager
async def simulator(
    *, speed: float = 10.0, low_a: float = 0.01, high_a: float = 0.03, spec: ModuleSpec = n6705c.N6781A
) -> AsyncIterator[tuple[RackClock, n6705c.N6705C]]:
    clock = RackClock(speed)
    loads = {channel: SquareLoad(clock, low_a=low_a, high_a=high_a) for channel in (1, 2, 3, 4)}
    async with n6705c.N6705C(clock, loads, spec, seed=11).serve() as sim:
        yield clock, sim


@contextlib.asynccontextmanager
async def bench(
    *, channels: tuple[int, ...] = (1,), speed: float = 10.0, low_a: float = 0.01, high_a: float = 0.03
) -> AsyncIterator[Bench]:
    async with (
        simulator(speed=speed, low_a=low_a, high_a=high_a) as (clock, sim),
        DRIVER.open(options(sim.port, channels)) as device,
    ):
        yield Bench(clock, sim, device)


def options(port: int, channels: tuple[int, ...] = (1,)) -> object:
    return DRIVER.options(resource=f"TCPIP::127.0.0.1::{port}::SOCKET", channels=channels)
