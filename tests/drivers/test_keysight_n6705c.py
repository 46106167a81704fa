from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from drivers.analyzers.keysight_n6705c import DRIVER
from drivers.analyzers.n6781a import NOISE_ASSUMED
from drivers.api import (
    Block,
    ConnectError,
    DeviceError,
    DeviceTimeoutError,
    DriverError,
    Instrument,
    IntervalKind,
    LimitError,
    PowerAnalyzer,
    PowerSupply,
    ProtocolError,
    Quantity,
    SupplyLimits,
    SupplyMode,
    TriggerSource,
)
from drivers.scpi import session
from labd.virtual import n6705c
from labd.virtual.n6705c_channel import Questionable
from labd.virtual.scpi import Args, ScpiDevice
from labd.virtual.scpi_server import ScpiServer
from tests.deadline import HUNG_S
from tests.drivers.n6705c_bench import LIMITS, REQUEST, Bench, bench, options, simulator


@pytest.mark.parametrize(
    "keys",
    [
        {"resource": "GPIB::5::INSTR"},
        {"resource": "TCPIP::h::5025::SOCKET", "channels": [5]},
        {"resource": "TCPIP::h::5025::SOCKET", "channels": [1, 1]},
        {"resource": "TCPIP::h::5025::SOCKET", "channels": []},
        {"resource": "TCPIP::h::5025::SOCKET", "speed": 1},
        {},
    ],
)
def test_options_that_cannot_work_are_refused(keys: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        DRIVER.options.model_validate(keys)


def test_capability_follows_from_the_channels_that_record_at_once() -> None:
    one = DRIVER.capability(options(1, (2,))).analyzer
    four = DRIVER.capability(options(1, (1, 2, 3, 4))).analyzer
    assert one is not None
    assert four is not None
    assert one.period_min_s == pytest.approx(204.8e-6)
    assert four.period_min_s == pytest.approx(942.08e-6)  # eight parameters, and one for a watch of peaks
    assert one.channels == (2,)


def test_driver_and_simulator_know_the_same_data_sheet() -> None:
    analyzer = DRIVER.capability(options(1, (1,))).analyzer
    assert analyzer is not None
    for quantity, ranges in ((Quantity.CURRENT, n6705c.N6781A.current), (Quantity.VOLTAGE, n6705c.N6781A.voltage)):
        for declared, simulated in zip(analyzer.ranges[quantity], ranges, strict=True):
            assert replace(declared, noise_rms=0.0) == replace(simulated, noise_rms=0.0)
            # The noise of the currents is assumed, and larger than that of the simulated module; see n6781a.py.
            times = NOISE_ASSUMED if quantity is Quantity.CURRENT else 1.0
            assert declared.noise_rms == pytest.approx(times * simulated.noise_rms, rel=0.1)
    assert analyzer.clock_ppm == n6705c.N6781A.clock_ppm


async def test_it_serves_its_roles_and_knows_who_answers() -> None:
    async with bench(channels=(1, 2)) as rack:
        for role in (Instrument, PowerSupply, PowerAnalyzer):
            assert isinstance(rack.device, role)
        assert rack.device.identity.model == "N6705C"
        assert rack.device.identity.options[1:] == ("1:N6781A:0", "2:N6781A:0")
        await rack.device.check()


async def test_another_module_is_refused_when_it_is_opened() -> None:
    with pytest.raises(ConnectError, match="N6731B"):
        async with simulator(spec=replace(n6705c.N6781A, model="N6731B")) as (_, sim), DRIVER.open(options(sim.port)):
            pass


async def test_a_closed_port_is_found_out() -> None:
    async with bench() as rack:
        rack.sim.faults.add("off")
        with pytest.raises(ConnectError):
            async with DRIVER.open(options(rack.sim.port)):
                pass


async def test_nothing_goes_on_before_limits_and_nothing_beyond_them() -> None:
    async with bench() as rack:
        with pytest.raises(LimitError):
            await rack.device.output_on(1)
        with pytest.raises(LimitError):
            await rack.device.set_voltage(1, 1.0)
        with pytest.raises(LimitError):
            await rack.device.set_limits(1, SupplyLimits(voltage_max_v=30.0, current_max_a=0.1))
        with pytest.raises(LimitError):
            await rack.device.set_limits(2, LIMITS)
        assert await rack.device.set_limits(1, LIMITS) == LIMITS
        for beyond in (3.7, -1.0, float("nan")):
            with pytest.raises(LimitError):
                await rack.device.set_voltage(1, beyond)
        assert not any(state.programmed_on for state in rack.sim.outputs().values())


async def test_the_output_follows_and_its_status_tells() -> None:
    async with bench() as rack:
        assert (await rack.device.supply_status(1)).mode is SupplyMode.OFF
        await rack.power(1)
        status = await rack.device.supply_status(1)
        assert status.mode is SupplyMode.CV
        assert status.voltage_v == pytest.approx(3.0, abs=0.005)
        assert rack.sim.outputs()[1].energized
        await rack.device.output_off(1)
        assert (await rack.device.supply_status(1)).mode is SupplyMode.OFF
        assert not rack.sim.outputs()[1].energized


async def test_a_board_that_draws_too_much_is_switched_off_and_named() -> None:
    async with bench(low_a=0.5, high_a=0.6) as rack:
        await rack.power(1)
        async with asyncio.timeout(HUNG_S):
            while (status := await rack.device.supply_status(1)).mode is not SupplyMode.PROTECTED:
                assert status.mode is SupplyMode.CC
        assert status.tripped == ("over_current",)
        await rack.device.output_off(1)
        assert (await rack.device.supply_status(1)).tripped == ()
        assert not rack.sim.outputs()[1].energized


async def test_the_watchdog_acts_only_when_the_driver_is_gone() -> None:
    async with simulator(speed=1.0) as (clock, sim):
        async with DRIVER.open(options(sim.port)) as device:
            rack = Bench(clock, sim, device)
            with pytest.raises(LimitError):
                await device.arm_watchdog(0.5)
            await rack.power(1)
            await device.arm_watchdog(1.0)
            await rack.pass_time(1.5)
            assert sim.outputs()[1].energized
        async with asyncio.timeout(HUNG_S):
            while sim.outputs()[1].energized:
                await asyncio.sleep(0.02)
        assert sim.outputs()[1].tripped == Questionable.PROT
        async with DRIVER.open(options(sim.port)) as device:
            assert (await device.supply_status(1)).mode is SupplyMode.PROTECTED
            await device.output_off(1)
            assert (await device.supply_status(1)).mode is SupplyMode.OFF


async def test_the_watchdog_is_disarmed_when_all_is_off() -> None:
    async with simulator(speed=20.0) as (clock, sim):
        async with DRIVER.open(options(sim.port)) as device:
            await device.arm_watchdog(60.0)
        until = clock.now() + 70.0
        while clock.now() < until:
            await asyncio.sleep(clock.host_delay(until))
        assert {state.tripped for state in sim.outputs().values()} == {Questionable(0)}


async def test_what_is_recorded_is_what_the_load_draws() -> None:
    async with bench() as rack:
        await rack.power(1)
        begun = rack.clock.now()
        count, blocks = await rack.record(1, 10.0)
        took = rack.clock.now() - begun
        assert 10.0 / 204.8e-6 * 0.99 < count < took / 204.8e-6
        assert count == sum(len(block) for block in blocks)
        assert [block.first for block in blocks] == list(np.cumsum([0] + [len(block) for block in blocks[:-1]]))
        assert not any(block.intervals for block in blocks)
        current = np.concatenate([block.columns[Quantity.CURRENT] for block in blocks])
        voltage = np.concatenate([block.columns[Quantity.VOLTAGE] for block in blocks])
        assert current.mean() == pytest.approx(0.02, rel=0.002)
        assert voltage.mean() == pytest.approx(3.0, abs=0.002)
        assert (current < 0.012).mean() == pytest.approx(0.5, abs=0.03)


async def test_four_channels_stream_at_once_without_loss() -> None:
    channels = (1, 2, 3, 4)
    async with bench(channels=channels) as rack:
        for channel in channels:
            await rack.power(channel)
        begun = rack.clock.now()
        async with asyncio.TaskGroup() as group:
            recordings = [group.create_task(rack.record(channel, 10.0)) for channel in channels]
        took = rack.clock.now() - begun
        for recording in recordings:
            count, blocks = recording.result()
            assert 10.0 / 942.08e-6 * 0.99 < count < took / 942.08e-6
            assert not any(block.intervals for block in blocks)
            assert blocks[-1].first + len(blocks[-1]) == count


async def test_the_period_is_what_the_instrument_says() -> None:
    async with bench() as rack:
        setup = await rack.device.configure(1, replace(REQUEST, period_s=1e-3))
        assert setup.period_s == pytest.approx(49 * 20.48e-6)
        shortest = await rack.device.configure(1, replace(REQUEST, quantities=(Quantity.CURRENT,), period_s=1e-6))
        assert shortest.period_s == pytest.approx(102.4e-6)
        assert [column.quantity for column in shortest.columns] == [Quantity.CURRENT]
        assert shortest.columns[0].accuracy.range_max == 0.1


async def test_what_no_range_can_record_is_refused() -> None:
    async with bench() as rack:
        for request in (replace(REQUEST, current_max_a=5.0), replace(REQUEST, quantities=(Quantity.POWER,))):
            with pytest.raises(LimitError):
                await rack.device.configure(1, request)
        with pytest.raises(DeviceError, match="no capture"):
            await rack.device.arm(1)


async def test_an_armed_capture_waits_for_the_trigger() -> None:
    async with bench() as rack:
        await rack.power(1)
        await rack.device.configure(1, replace(REQUEST, trigger=TriggerSource.EXTERNAL))
        await rack.device.arm(1)
        blocks: list[Block] = []
        async with asyncio.timeout(HUNG_S), asyncio.TaskGroup() as group:
            stream = group.create_task(rack.device.stream(1, blocks.append))
            await rack.pass_time(3.0)
            assert not blocks
            pulse_s = rack.clock.now()
            rack.sim.drive_trigger(0, pulse_s)
            rack.sim.drive_trigger(1, pulse_s + 10e-6)
            await rack.pass_time(2.0)
            await rack.device.stop(1)
        since_s = rack.clock.now() - pulse_s
        assert 1.9 / 204.8e-6 < stream.result() < since_s / 204.8e-6


async def test_the_status_can_be_asked_while_it_records() -> None:
    async with bench() as rack:
        await rack.power(1)
        await rack.device.configure(1, REQUEST)
        await rack.device.arm(1)
        assert np.isnan((await rack.device.supply_status(1)).voltage_v)
        came = asyncio.Event()
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(HUNG_S), asyncio.TaskGroup() as group:
            group.create_task(rack.device.stream(1, lambda block: loop.call_soon_threadsafe(came.set)))
            await came.wait()
            status = await rack.device.supply_status(1)
            await rack.device.stop(1)
        assert status.mode is SupplyMode.CV
        assert status.voltage_v == pytest.approx(3.0, abs=0.01)


async def test_readings_at_the_end_of_the_range_are_marked() -> None:
    async with bench(low_a=0.0, high_a=0.01) as rack:
        await rack.power(1)
        _, blocks = await rack.record(1, 2.0, replace(REQUEST, current_max_a=1e-3))
        marks = [interval for block in blocks for interval in block.intervals]
        assert {mark.kind for mark in marks} == {IntervalKind.CLIPPED}
        count = blocks[-1].first + len(blocks[-1])
        assert sum(mark.stop - mark.start for mark in marks) == pytest.approx(count / 2, rel=0.1)


async def test_records_without_a_reading_are_marked_and_not_numbers() -> None:
    async with bench() as rack:
        await rack.power(1)
        rack.sim.faults.add("no_reading")
        count, blocks = await rack.record(1, 1.0)
        assert count > 0
        for block in blocks:
            last = block.first + len(block) - 1
            assert {(mark.kind, mark.start, mark.stop) for mark in block.intervals} == {
                (IntervalKind.NO_READING, last, last + 1)
            }
            for values in block.columns.values():
                assert np.isnan(values).tolist() == [False] * (len(block) - 1) + [True]


async def test_a_status_without_readings_still_tells_what_regulates_and_what_has_tripped() -> None:
    async with bench() as rack:
        await rack.power(1)
        rack.sim.faults.add("no_reading")
        status = await rack.device.supply_status(1)
        assert status.mode is SupplyMode.CV
        assert np.isnan([status.voltage_v, status.current_a]).all()
        await rack.device.set_limits(1, replace(LIMITS, current_max_a=0.005))
        async with asyncio.timeout(10):
            while (await rack.device.supply_status(1)).mode is not SupplyMode.PROTECTED:
                await rack.pass_time(0.05)
        rack.sim.faults.discard("no_reading")
        assert (await rack.device.supply_status(1)).voltage_v == pytest.approx(0.0, abs=0.01)


async def test_samples_that_waited_too_long_are_marked_as_overflow() -> None:
    async with bench(speed=100.0) as rack:
        await rack.power(1)
        await rack.device.configure(1, replace(REQUEST, period_s=5e-3))
        await rack.device.arm(1)
        await rack.pass_time(25.0)
        blocks: list[Block] = []
        async with asyncio.timeout(HUNG_S), asyncio.TaskGroup() as group:
            group.create_task(rack.device.stream(1, blocks.append))
            await rack.pass_time(10.0)
            await rack.device.stop(1)
        assert len(blocks) > 1
        for block in blocks:
            (mark,) = block.intervals
            assert (mark.kind, mark.start, mark.stop) == (IntervalKind.OVERFLOW, block.first, block.first + len(block))


async def test_an_overflow_in_the_middle_marks_what_follows() -> None:
    async with bench() as rack:
        await rack.power(1)
        await rack.device.configure(1, REQUEST)
        await rack.device.arm(1)
        blocks: list[Block] = []
        async with asyncio.timeout(HUNG_S), asyncio.TaskGroup() as group:
            group.create_task(rack.device.stream(1, blocks.append))
            await rack.pass_time(3.0)
            before = len(blocks)
            rack.sim.faults.add("fifo_overflow")
            await rack.pass_time(5.0)
            rack.sim.faults.discard("fifo_overflow")
            await rack.pass_time(5.0)
            await rack.device.stop(1)
        assert before > 1
        assert not any(block.intervals for block in blocks[: before - 1])
        assert [mark.kind for mark in blocks[-1].intervals] == [IntervalKind.OVERFLOW]


@pytest.mark.parametrize(
    ("fault", "error"),
    [("silent", DeviceTimeoutError), ("nonsense", ProtocolError), ("off", ConnectError)],
)
async def test_an_instrument_that_fails_is_named_in_time_and_used_again_after(
    fault: str, error: type[DriverError]
) -> None:
    async with bench() as rack:
        await rack.power(1)
        rack.sim.faults.add(fault)
        async with asyncio.timeout(HUNG_S):
            with pytest.raises(error):
                await rack.device.supply_status(1)
        rack.sim.faults.discard(fault)
        async with asyncio.timeout(HUNG_S):
            while True:
                with contextlib.suppress(ConnectError):
                    await rack.device.check()
                    break
        assert (await rack.device.supply_status(1)).mode is SupplyMode.CV


@pytest.mark.parametrize(
    ("fault", "error"),
    [("stall_mid_block", DeviceTimeoutError), ("nonsense", ProtocolError), ("off", ConnectError)],
)
async def test_a_stream_that_fails_ends_with_its_error_and_the_next_one_works(
    fault: str, error: type[DriverError]
) -> None:
    async with bench(channels=(1, 2)) as rack:
        await rack.power(1)
        await rack.device.configure(1, REQUEST)
        await rack.device.arm(1)
        blocks: list[Block] = []
        stream = asyncio.create_task(rack.device.stream(1, blocks.append))
        async with asyncio.timeout(HUNG_S):
            while not blocks:
                await rack.pass_time(0.1)
            rack.sim.faults.add(fault)
            with pytest.raises(error):
                await stream
        rack.sim.faults.discard(fault)
        async with asyncio.timeout(HUNG_S):
            while True:
                with contextlib.suppress(ConnectError):
                    await rack.device.stop(1)
                    break
        count, _ = await rack.record(1, 2.0)
        assert count > 0


def never_give_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """No question ends by itself any more, so what ends it is what the test does."""
    monkeypatch.setattr(session, "SILENCE_S", 10 * HUNG_S)
    monkeypatch.setitem(session.ScpiSession.run.__kwdefaults__, "deadline_s", 10 * HUNG_S)


async def test_a_peer_that_hangs_up_does_not_keep_the_processor_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    never_give_up(monkeypatch)
    async with bench() as rack, asyncio.timeout(HUNG_S):
        rack.sim.faults.add("silent")
        asked = asyncio.create_task(rack.device.check())
        await asyncio.sleep(0.1)
        busy = time.process_time()
        rack.sim.faults.add("off")
        with pytest.raises(ConnectError):
            await asked
        assert time.process_time() - busy < 1.0


async def test_a_cancelled_question_frees_the_instrument_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    never_give_up(monkeypatch)
    async with bench() as rack, asyncio.timeout(HUNG_S):
        rack.sim.faults.add("silent")
        asked = asyncio.create_task(rack.device.check())
        await asyncio.sleep(0.1)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        rack.sim.faults.discard("silent")
        await rack.device.check()


async def test_what_the_sink_raises_ends_the_stream_and_not_the_connection() -> None:
    class DiskFullError(Exception):
        pass

    def full(block: Block) -> None:
        raise DiskFullError

    async with bench() as rack:
        await rack.power(1)
        await rack.device.configure(1, REQUEST)
        await rack.device.arm(1)
        async with asyncio.timeout(HUNG_S):
            with pytest.raises(DiskFullError):
                await rack.device.stream(1, full)
        await rack.device.stop(1)
        assert (await rack.record(1, 1.0))[0] > 0


async def test_protections_that_read_back_looser_are_refused() -> None:
    def silently(args: Args) -> None:
        assert args

    stubborn = ScpiDevice("Keysight Technologies,N6705C,1,2", reset=lambda: None, trigger=lambda: None)
    stubborn.add("SYSTem:CHANnel:MODel", on_query=lambda args: '"N6781A"')
    stubborn.add("SYSTem:CHANnel:OPTion", on_query=lambda args: '"0"')
    for header in ("VOLTage:PROTection", "CURRent:LIMit", "CURRent:PROTection:STATe", "ABORt:ELOG", "FORMat"):
        stubborn.add(header, on_set=silently, on_query=lambda args: "4")
    stubborn.add("FORMat:BORDer", on_set=silently)
    server = ScpiServer(stubborn, heard=lambda: None, seed=1)
    async with server.serve(), DRIVER.open(options(server.port)) as device:
        with pytest.raises(DeviceError, match="looser"):
            await device.set_limits(1, LIMITS)
        with pytest.raises(LimitError):
            await device.output_on(1)
