"""What a supply says of a board, and whether it says anything.

An instrument that has no reading says so by NaN or by a code (SCPI's 9.91E37), and a driver is anybody's code. So no
decision over a board is taken from a number that is none: it is asked for again, and then the supply is to blame.
"""

from __future__ import annotations

import asyncio

from drivers.api import PowerSupply, Quantity, SupplyStatus
from labd.bench.failure import RunFailedError
from labd.bench.idle import READINGS, READINGS_MIN, Idle, idle_of, is_reading
from labd.config import Board
from labd.model.causes import Cause

TRIES = 2
IDLE_SETTLE_S = 0.2
"""Wait from the last word of the board to the first reading of its idle current, s."""
IDLE_PAUSE_S = 0.02
"""Pause between two readings of the idle current, s."""


def _reading(status: SupplyStatus, quantity: Quantity) -> float:
    return status.voltage_v if quantity is Quantity.VOLTAGE else status.current_a


async def read_back(supply: PowerSupply, board: Board, quantity: Quantity) -> SupplyStatus:
    """The state of the board's output, with a reading of its voltage or current.

    Raises:
        RunFailedError: the supply has none, asked twice (`instrument_error`).
        DriverError: the supply cannot be asked.
    """
    for _ in range(TRIES):
        status = await supply.supply_status(board.supply.channel)
        if is_reading(_reading(status, quantity)):
            return status
    raise RunFailedError(Cause.INSTRUMENT_ERROR, f"{_place(board)} has no reading of the {quantity}")


async def read_idle(supply: PowerSupply, board: Board) -> Idle:
    """What the waiting board draws, of ten readings.

    Raises:
        RunFailedError: too few of them are readings (`instrument_error`).
        DriverError: the supply cannot be asked.
    """
    readings_a: list[float] = []
    await asyncio.sleep(IDLE_SETTLE_S)
    while len(readings_a) < READINGS:
        readings_a.append((await supply.supply_status(board.supply.channel)).current_a)
        await asyncio.sleep(IDLE_PAUSE_S)
    idle = idle_of(readings_a)
    if idle is None:
        known = sum(map(is_reading, readings_a))
        raise RunFailedError(
            Cause.INSTRUMENT_ERROR,
            f"{_place(board)} had {known} readings of the idle current, asked {READINGS} times; "
            f"{READINGS_MIN} are needed",
        )
    return idle


class VoltageWait:
    """What was read of a board's voltage while it was waited for, and so who is to blame if it does not come.

    Args:
        board: The board that is fed.
    """

    def __init__(self, board: Board) -> None:
        self._board = board
        self._asked = self._read = 0
        self._last: SupplyStatus | None = None

    def note(self, status: SupplyStatus) -> SupplyStatus:
        """Take the next look at the output; returned as it came."""
        self._asked += 1
        if is_reading(status.voltage_v):
            self._read += 1
            self._last = status
        return status

    def failure(self, cause: Cause, waited_s: float, what: str) -> RunFailedError:
        """The failure when the wait is over: the supply's, if it did not answer or mostly had no reading.

        Args:
            cause: If the board is to blame.
            waited_s: How long was waited, s.
            what: What did not happen, for people.
        """
        if not self._asked:
            message = f"{_place(self._board)} did not tell its voltage in {waited_s:g} s"
            return RunFailedError(Cause.INSTRUMENT_SILENT, message)
        if self._last is None or 2 * self._read < self._asked:
            message = f"{_place(self._board)} has no reading of the voltage, {self._asked - self._read} times"
            return RunFailedError(Cause.INSTRUMENT_ERROR, f"{message} of {self._asked} in {waited_s:g} s")
        current = f", {self._last.current_a:.3g} A" if is_reading(self._last.current_a) else ""
        return RunFailedError(cause, f"{what} within {waited_s:g} s: {self._last.voltage_v:.3g} V{current}")


def _place(board: Board) -> str:
    return f"{board.supply.instrument}, channel {board.supply.channel},"
