"""Outputs that go off whoever uses them: all of them in an emergency, a board's when its reservation ends."""

from __future__ import annotations

import asyncio

import structlog

from drivers.api import ConnectError
from labd.bench.devices import Devices
from labd.bench.outputs import Outputs, wired_outputs
from labd.config import Board, LiveConfig
from labd.errors import StoreError

OFF_S = 20.0
"""Longest wait for a board's output to go off, s: time for a dead connection to be found and opened anew."""


async def darken(devices: Devices, board: Board) -> bool:
    """Switch a board's output off; False if it is not known to be off, and is tried for again by the devices."""
    try:
        async with asyncio.timeout(OFF_S):
            await devices.switch_off(board.supply.instrument, board.supply.channel)
    except (ConnectError, StoreError, TimeoutError) as error:
        structlog.get_logger().error("output_off_failed", board=board.id, error=str(error))
        return False
    return True


class EmergencyOff:
    """Switches all outputs off when it is told to.

    Args:
        live: The lab, as it is now.
        devices: Its instruments; they try again for an output that stays on.
    """

    def __init__(self, live: LiveConfig, devices: Devices) -> None:
        self._live = live
        self._devices = devices
        self._pulled = asyncio.Event()
        self._log = structlog.get_logger()

    def pull(self) -> None:
        """Have all outputs switched off now."""
        self._pulled.set()

    async def run(self) -> None:
        """Heed `pull`; never returns."""
        while True:
            await self._pulled.wait()
            self._pulled.clear()
            async with asyncio.TaskGroup() as group:
                for outputs in wired_outputs(self._live.now):
                    group.create_task(self._switch_off(outputs), name=f"emergency-off-{outputs.instrument.id}")
            self._log.warning("outputs_switched_off")

    async def _switch_off(self, outputs: Outputs) -> None:
        """Opening, checking and switching have deadlines of the devices' own.

        What the database refuses to note keeps no output on: neither this one nor the others.
        """
        for channel in outputs.channels:
            try:
                await self._devices.switch_off(outputs.instrument.id, channel)
            except (ConnectError, StoreError) as error:
                self._log.error(
                    "output_off_failed", instrument=outputs.instrument.id, channel=channel, error=str(error)
                )
