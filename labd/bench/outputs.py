"""All outputs off: before anything else when the daemon starts, and after its end, however it ended.

Nothing that fails here may keep another output from being switched off: each supply has its own task and deadline, and
every channel its own verdict.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from drivers.api import Driver, DriverError, PowerSupply
from labd import config


@dataclass(frozen=True, slots=True)
class Outputs:
    """Channels of one supply."""

    instrument: config.Instrument
    channels: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class OutputResult:
    """What became of one output: `error` is empty if the supply has confirmed that it is off."""

    instrument: str
    channel: int
    error: str = ""

    @property
    def off(self) -> bool:
        """Whether the output is known to be off."""
        return not self.error


def wired_outputs(lab: config.LabConfig) -> list[Outputs]:
    """Every channel that feeds a board, by supply."""
    return [
        Outputs(instrument, channels)
        for instrument in lab.instrument
        if (channels := tuple(sorted({b.supply.channel for b in lab.board if b.supply.instrument == instrument.id})))
    ]


async def switch_outputs_off(
    lab: config.LabConfig, drivers: Mapping[str, Driver], deadline_s: float
) -> list[OutputResult]:
    """Switch off every channel that feeds a board.

    Args:
        lab: The lab.
        drivers: The drivers of its instruments by name.
        deadline_s: How long one supply may take, opening and closing included; all work at the same time.

    Returns:
        One result a channel, in the order of the file. Nothing is raised: a supply that cannot be reached is a result.
    """
    return await switch_off(wired_outputs(lab), drivers, deadline_s)


async def switch_off(
    outputs: Iterable[Outputs], drivers: Mapping[str, Driver], deadline_s: float
) -> list[OutputResult]:
    """Switch off these channels, as `switch_outputs_off` does."""
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(
                _switch_off_one(each, drivers[each.instrument.driver], deadline_s),
                name=f"outputs-off-{each.instrument.id}",
            )
            for each in outputs
        ]
    return [result for task in tasks for result in task.result()]


async def _switch_off_one(outputs: Outputs, driver: Driver, deadline_s: float) -> list[OutputResult]:
    errors: dict[int, str] = {}
    reason = ""
    try:
        async with asyncio.timeout(deadline_s):
            options = driver.options.model_validate(outputs.instrument.options)
            async with driver.open(options) as supply:
                for channel in outputs.channels:
                    errors[channel] = await _switch_off_channel(supply, channel)
    except TimeoutError:
        reason = f"no answer within {deadline_s:g} s"
    except Exception as error:  # whatever a driver raises, the other supplies are still to be switched off
        reason = str(error) or type(error).__name__
    return [OutputResult(outputs.instrument.id, channel, errors.get(channel, reason)) for channel in outputs.channels]


async def _switch_off_channel(supply: PowerSupply, channel: int) -> str:
    try:
        await supply.output_off(channel)
    except DriverError as error:
        return str(error) or type(error).__name__
    return ""
