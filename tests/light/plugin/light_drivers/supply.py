"""The supply of light boards: lines of text over a Unix socket, answered in the order in which they were sent."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from pydantic import BaseModel, ConfigDict, Field

from drivers.api import (
    Capability,
    ConnectError,
    DeviceError,
    DeviceTimeoutError,
    Identity,
    LimitError,
    Role,
    SupplyCapability,
    SupplyLimits,
    SupplyMode,
    SupplyStatus,
)

ANSWER_S = 5.0
"""Longest wait for an answer, s."""


class SupplyOptions(BaseModel):
    """Keys of a light supply in `lab.toml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    socket: str
    channels: int = Field(default=8, ge=1, le=256)


class LightSupply(asyncio.Protocol):
    """A connected supply. It is a `PowerSupply` and an `Instrument`.

    Args:
        where: Path of its socket, for messages.
    """

    def __init__(self, where: str) -> None:
        self.identity = Identity("labd", "light supply", where.rpartition("/")[2], "1")
        self._where = where
        self._asked: deque[asyncio.Future[str]] = deque()
        self._pending = b""
        self._transport: asyncio.Transport | None = None
        self._lost = False
        self._limits: dict[int, SupplyLimits] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Hand each line to the oldest question."""
        *lines, self._pending = (self._pending + data).split(b"\n")
        for line in lines:
            if self._asked and not (asked := self._asked.popleft()).done():
                asked.set_result(line.decode("ascii"))

    def connection_lost(self, error: Exception | None) -> None:
        """Tell all who wait."""
        self._lost = True
        for asked in self._asked:
            if not asked.done():
                asked.set_exception(DeviceTimeoutError(f"{self._where}: the supply is gone"))
        self._asked.clear()

    async def check(self) -> None:
        """Ask for its state. Raises `DeviceTimeoutError`, `DeviceError`."""
        await self._ask("check")

    async def set_limits(self, channel: int, limits: SupplyLimits) -> SupplyLimits:
        """Set the limits of a channel and return them."""
        await self._ask(f"limits {channel} {limits.voltage_max_v} {limits.current_max_a}")
        self._limits[channel] = limits
        return limits

    async def set_voltage(self, channel: int, voltage_v: float) -> float:
        """Set the voltage and return it as read back, V."""
        if voltage_v > self._limit(channel).voltage_max_v:
            raise LimitError(f"{self._where}: {voltage_v:g} V is above the limit of channel {channel}")
        return float(await self._ask(f"voltage {channel} {voltage_v}"))

    async def output_on(self, channel: int) -> None:
        """Switch the output on."""
        self._limit(channel)
        await self._ask(f"on {channel}")

    async def output_off(self, channel: int) -> None:
        """Switch the output off."""
        await self._ask(f"off {channel}")

    async def arm_watchdog(self, delay_s: float) -> None:
        """Have the outputs go off by themselves so long after the last command."""
        await self._ask(f"watchdog {delay_s}")

    async def supply_status(self, channel: int) -> SupplyStatus:
        """Measure one output."""
        mode, voltage_v, current_a = (await self._ask(f"status {channel}")).split()
        return SupplyStatus(SupplyMode(mode), float(voltage_v), float(current_a))

    def close(self) -> None:
        """Close the connection; harmless when it is gone."""
        if self._transport is not None:
            self._transport.abort()

    def _limit(self, channel: int) -> SupplyLimits:
        if channel not in self._limits:
            raise LimitError(f"{self._where}: channel {channel} has no limits yet")
        return self._limits[channel]

    async def _ask(self, command: str) -> str:
        if self._lost or self._transport is None:
            raise DeviceTimeoutError(f"{self._where}: the supply is gone")
        asked: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._asked.append(asked)
        self._transport.write(command.encode("ascii") + b"\n")
        try:
            async with asyncio.timeout(ANSWER_S):
                answer = await asked
        except TimeoutError as error:
            self.close()
            raise DeviceTimeoutError(f"{self._where}: no answer to {command!r} within {ANSWER_S:g} s") from error
        verdict, _, value = answer.partition(" ")
        if verdict != "ok":
            raise DeviceError(f"{self._where}: {command!r}: {value}")
        return value


class LightSupplyDriver:
    """Connects to a supply of light boards."""

    name = "light-supply"
    roles = frozenset({Role.SUPPLY})
    options: type[BaseModel] = SupplyOptions

    def capability(self, options: SupplyOptions) -> Capability:
        """What its channels put out."""
        return Capability(
            supply=SupplyCapability(
                channels=tuple(range(1, options.channels + 1)),
                voltage_max_v=6.0,
                current_max_a=1.0,
                watchdog_s=(1.0, 3600.0),
                source="tests/light/supply.py",
            )
        )

    def open(self, options: SupplyOptions) -> AbstractAsyncContextManager[LightSupply]:
        """Connect. Raises `ConnectError`."""
        return _opened(options.socket)


@asynccontextmanager
async def _opened(where: str) -> AsyncIterator[LightSupply]:
    try:
        _, supply = await asyncio.get_running_loop().create_unix_connection(lambda: LightSupply(where), where)
    except OSError as error:
        raise ConnectError(f"{where}: {error.strerror or error}") from error
    try:
        yield supply
    finally:
        supply.close()


DRIVER = LightSupplyDriver()
