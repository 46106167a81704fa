"""A board's power: truly off before, within its limits while on, and off afterwards whatever happened."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from drivers.api import DriverError, LimitError, PowerSupply, SupplyLimits, SupplyMode, SupplyStatus
from labd.bench.devices import Devices
from labd.bench.failure import RunFailedError
from labd.bench.idle import is_reading
from labd.bench.readback import VoltageWait
from labd.bench.shield import shielded
from labd.config import Board
from labd.errors import DutError
from labd.model.causes import Cause

POLL_S = 0.02
"""Pause between two looks at a supply, s."""
SETTLE_S = 2.0
"""Longest wait for an output to reach its voltage, s."""
SETTLED = 0.05
"""Share of the set-point that a settled output may be away from it: a gross check, not a measurement."""
ROUNDED = 1e-3
"""Share by which a set-point that is read back may lie above the board's limit: a supply's resolution."""
GUARD_S = 1.0
"""Pause between two looks at the protections of a board that is on, s."""
OFF_S = 20.0
"""Longest wait for an output to go off in clean-up, s: time for a dead connection to be found and opened anew."""
WATCHDOG_S = 60.0
"""The supply's own watchdog: outputs go off this long after the daemon's last message, s."""


async def discharge(supply: PowerSupply, board: Board) -> None:
    """Switch the board off and wait until its rail is down, so that every run starts from the same state.

    Raises:
        RunFailedError: the rail stayed up (`board_not_off`), or the supply does not tell whether it has
            (`instrument_error`, `instrument_silent`).
    """
    channel, limit_v = board.supply.channel, board.supply.off_below_v
    await supply.output_off(channel)
    seen = VoltageWait(board)
    try:
        async with asyncio.timeout(board.supply.discharge_s):
            while True:
                status = seen.note(await supply.supply_status(channel))
                if is_reading(status.voltage_v) and status.voltage_v < limit_v:
                    return
                await asyncio.sleep(POLL_S)
    except TimeoutError as error:
        what = f"the rail did not fall below {limit_v:g} V with the output off"
        raise seen.failure(Cause.BOARD_NOT_OFF, board.supply.discharge_s, what) from error


@asynccontextmanager
async def powered(devices: Devices, supply: PowerSupply, board: Board, voltage_v: float) -> AsyncIterator[float]:
    """Feed the board inside the block; the output goes off at its end, also when the block is cancelled.

    Yields:
        The voltage that the supply is set to, as it reads it back, V.

    Raises:
        LimitError: the voltage asked for is above the board's limit.
        RunFailedError: the supply reads back another voltage, or does not tell it (`instrument_error`), the output did
            not reach it, or the block failed because the supply's limit or protection starved the board
            (`board_overload`).
    """
    channel = board.supply.channel
    limits = SupplyLimits(board.limits.voltage_max_v, board.limits.current_max_a)
    if voltage_v > limits.voltage_max_v:
        raise LimitError(f"{board.id}: {voltage_v:g} V is above its limit of {limits.voltage_max_v:g} V")
    try:
        await supply.set_limits(channel, limits)
        set_v = await supply.set_voltage(channel, voltage_v)
        if not (abs(set_v - voltage_v) <= SETTLED * voltage_v and set_v <= limits.voltage_max_v * (1 + ROUNDED)):
            raise RunFailedError(Cause.INSTRUMENT_ERROR, f"the supply was set to {voltage_v:g} V, it says {set_v:g} V")
        await supply.arm_watchdog(WATCHDOG_S)
        await supply.output_on(channel)
        await _settle(supply, board, voltage_v)
        async with _guarded(supply, board):
            yield set_v
    finally:
        await shielded(_off(devices, board), f"output-off-{board.id}")


@asynccontextmanager
async def _guarded(supply: PowerSupply, board: Board) -> AsyncIterator[None]:
    """End the block as soon as a protection has switched the board off: it would only wait for a board that is dark."""
    reason = ""

    async def watch() -> None:
        nonlocal reason
        while not reason:
            await asyncio.sleep(GUARD_S)
            reason = await _tripped(supply, board)
        guard.reschedule(asyncio.get_running_loop().time())

    try:
        async with asyncio.timeout(None) as guard:
            watcher = asyncio.create_task(watch(), name=f"guard-{board.id}")
            try:
                yield
            finally:
                watcher.cancel()
                await asyncio.wait({watcher})
    except (DutError, RunFailedError, TimeoutError) as error:
        # A board that a protection has switched off is silent too: the supply knows better.
        if reason := reason or await _starved(supply, board):
            raise RunFailedError(Cause.BOARD_OVERLOAD, reason) from error
        raise


async def _tripped(supply: PowerSupply, board: Board) -> str:
    """What protection has switched the board off, in words; empty if none has, or the supply does not say."""
    status = await _status(supply, board)
    return "" if status is None else _protection(status)


async def _starved(supply: PowerSupply, board: Board) -> str:
    """Why the board has too little power: a protection, or a current limit that regulates; else empty."""
    status = await _status(supply, board)
    if status is None:
        return ""
    if status.mode is SupplyMode.CC:
        return f"the supply limits the current to {board.limits.current_max_a:g} A, the board asks for more"
    return _protection(status)


async def _status(supply: PowerSupply, board: Board) -> SupplyStatus | None:
    try:
        return await supply.supply_status(board.supply.channel)
    except DriverError:
        return None


def _protection(status: SupplyStatus) -> str:
    if status.mode is SupplyMode.PROTECTED or status.tripped:
        return f"protection tripped: {', '.join(status.tripped) or 'unnamed'}"
    return ""


async def _settle(supply: PowerSupply, board: Board, voltage_v: float) -> None:
    seen = VoltageWait(board)
    try:
        async with asyncio.timeout(SETTLE_S):
            while True:
                status = seen.note(await supply.supply_status(board.supply.channel))
                if tripped := _protection(status):
                    raise RunFailedError(Cause.BOARD_OVERLOAD, tripped)
                if abs(status.voltage_v - voltage_v) <= SETTLED * voltage_v:
                    return
                await asyncio.sleep(POLL_S)
    except TimeoutError as error:
        raise seen.failure(Cause.BOARD_OVERLOAD, SETTLE_S, f"the output did not reach {voltage_v:g} V") from error


async def _off(devices: Devices, board: Board) -> None:
    """Switch the board off by whatever connection there is now: the one that the run began with may be gone."""
    log = structlog.get_logger()
    try:
        async with asyncio.timeout(OFF_S):
            await devices.switch_off(board.supply.instrument, board.supply.channel)
    except (DriverError, TimeoutError) as error:
        # Nobody can be told by an exception here: the run already has its own end, and it is tried for again.
        log.error("output_off_failed", board=board.id, error=str(error), watchdog_s=WATCHDOG_S)
