"""A watch of peaks sees what the means of samples hide, beside the captures of other channels."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from drivers.api import Block, DeviceError, LimitError, PeakMeter, Peaks, Quantity
from tests.drivers.n6705c_bench import REQUEST, Bench, bench


async def watched(rack: Bench, channel: int, rack_s: float, current_max_a: float = 0.1) -> Peaks:
    await rack.device.configure_peaks(channel, replace(REQUEST, current_max_a=current_max_a))
    await rack.device.arm(channel)
    blocks: list[Block] = []
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(rack.device.stream(channel, blocks.append))
        await rack.pass_time(rack_s)
        await rack.device.stop(channel)
    assert not blocks
    return rack.device.peaks(channel)


async def test_peaks_are_those_of_the_converter_and_not_of_the_means() -> None:
    async with bench(low_a=0.01, high_a=0.03) as rack:
        assert isinstance(rack.device, PeakMeter)
        with pytest.raises(DeviceError, match="no watch"):
            rack.device.peaks(1)
        await rack.power(1)
        current, voltage = (await watched(rack, 1, 2.0)).found
        assert current.largest == pytest.approx(0.03, rel=0.01)
        assert (voltage.largest, voltage.range_max) == (pytest.approx(3.0, abs=0.03), 20.0)
        assert not current.beyond
        count, blocks = await rack.record(1, 1.0)  # a capture after it logs means alone
        assert count == sum(len(block) for block in blocks) > 0.9 / 204.8e-6


async def test_a_peak_beyond_the_range_says_so_until_the_range_holds_it() -> None:
    async with bench(low_a=0.01, high_a=0.03) as rack:
        await rack.power(1)
        assert (await watched(rack, 1, 1.0, current_max_a=1e-3)).found[0].beyond
        (current, _) = (await watched(rack, 1, 1.0, current_max_a=1.001e-3)).found
        assert (current.beyond, current.range_max) == (False, 0.1)
        with pytest.raises(LimitError, match="no range"):
            await rack.device.configure_peaks(1, replace(REQUEST, current_max_a=3.003))


async def test_one_channel_may_watch_while_the_others_record() -> None:
    channels = (1, 2, 3, 4)
    async with bench(channels=channels) as rack:
        for channel in channels:
            await rack.power(channel)
        async with asyncio.TaskGroup() as group:
            recordings = [group.create_task(rack.record(channel, 4.0)) for channel in channels[1:]]
            (current,) = (await watched(rack, 1, 2.0)).found  # the current alone: nine parameters in all
        assert current.quantity is Quantity.CURRENT
        for recording in recordings:
            assert not any(block.intervals for block in recording.result()[1])
