from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labd.virtual.n6705c import N6705C
from labd.virtual.n6705c_channel import Questionable
from labd.virtual.scpi_server import Fault
from labd.virtual.world import RackClock
from tests.deadline import HUNG_S
from tests.virtual.conftest import until
from tests.virtual.loads import SquareLoad


class Client:
    """A raw socket and nothing else, as telnet would be."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, *commands: str) -> None:
        self.writer.write("".join(command + "\n" for command in commands).encode())

    async def ask(self, query: str) -> str:
        self.send(query)
        async with asyncio.timeout(HUNG_S):
            return (await self.reader.readline()).decode().strip()

    async def error(self) -> int:
        return int((await self.ask("SYST:ERR?")).split(",")[0])


@contextlib.asynccontextmanager
async def connect(sim: N6705C) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", sim.port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def rack(*, speed: float = 50.0, high_a: float = 0.02) -> AsyncIterator[tuple[N6705C, RackClock]]:
    clock = RackClock(speed)
    loads = {number: SquareLoad(clock, low_a=0.01, high_a=high_a) for number in (1, 2)}
    async with N6705C(clock, loads, seed=5).serve() as sim:
        yield sim, clock


def pulse(sim: N6705C, at_s: float, width_s: float = 10e-6) -> None:
    sim.drive_trigger(0, at_s)
    sim.drive_trigger(1, at_s + width_s)


async def rack_time(clock: RackClock, seconds: float) -> None:
    until = clock.now() + seconds
    while clock.now() < until:
        await asyncio.sleep(clock.host_delay(until))


async def test_it_says_who_it_is_and_what_is_in_it() -> None:
    async with rack() as (sim, _), connect(sim) as client:
        assert (await client.ask("*IDN?")).split(",")[1] == "N6705C"
        assert await client.ask("SYST:CHAN?") == "2"
        assert await client.ask("SYST:CHAN:MOD? (@1,2)") == '"N6781A","N6781A"'


async def test_an_output_feeds_its_load_and_measures_it() -> None:
    async with rack() as (sim, _), connect(sim) as client:
        client.send("VOLT 3,(@1:2)", "CURR:LIM 0.1,(@1:2)", "OUTP ON,(@1)")
        assert await client.ask("OUTP? (@1:2)") == "1,0"
        assert float(await client.ask("MEAS:VOLT? (@1)")) == pytest.approx(3.0, abs=0.005)
        assert 0.009 < float(await client.ask("MEAS:CURR? (@1)")) < 0.021
        assert await client.ask("STAT:OPER:COND? (@1,2)") == "1,4"
        assert await client.error() == 0


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("VOLT 21,(@1)", -222),
        ("VOLT 1,(@3)", -222),
        ("VOLT 1", -109),
        ("SENS:ELOG:PER 1e-5,(@1)", -222),
        ("INIT:ELOG (@1)", -221),
        ("FETC:ELOG? 10,(@1)", -221),
        ("OUTP:PROT:WDOG:DEL 0.5", -222),
        ("OUTP MAYBE,(@1)", -224),
        ("HALLO", -113),
    ],
)
async def test_what_it_refuses_it_refuses_with_the_number_of_the_standard(command: str, code: int) -> None:
    async with rack() as (sim, _), connect(sim) as client:
        client.send(command)
        assert await client.error() == code


async def test_over_voltage_protection_takes_the_power_off_and_clearing_gives_it_back() -> None:
    async with rack() as (sim, _), connect(sim) as client:
        client.send("VOLT:PROT 3.5,(@1)", "VOLT 3,(@1)", "OUTP ON,(@1)", "VOLT 4,(@1)")
        assert await client.ask("STAT:QUES:COND? (@1)") == "1"
        assert not sim.outputs()[1].energized
        assert await client.ask("OUTP? (@1)") == "1"
        client.send("VOLT 3,(@1)", "OUTP:PROT:CLE (@1)")
        assert await client.ask("STAT:QUES:COND? (@1)") == "0"
        assert sim.outputs()[1].energized


async def test_over_current_protection_trips_by_itself() -> None:
    async with rack(high_a=0.5) as (sim, clock), connect(sim) as client:
        client.send("CURR:LIM 0.005,(@1)", "CURR:PROT:STAT ON,(@1)", "VOLT 3,(@1)", "OUTP ON,(@1)")
        assert await client.ask("STAT:OPER:COND? (@1)") == "2"
        async with asyncio.timeout(HUNG_S):
            while sim.outputs()[1].energized:
                await rack_time(clock, 0.1)
        assert sim.outputs()[1].tripped == Questionable.OC


async def test_the_watchdog_takes_all_outputs_off_after_silence_and_not_before() -> None:
    async with rack(speed=20) as (sim, clock), connect(sim) as client:
        client.send("VOLT 3,(@1:2)", "OUTP ON,(@1:2)", "OUTP:PROT:WDOG:DEL 5", "OUTP:PROT:WDOG ON")
        for _ in range(4):
            await rack_time(clock, 2)
            assert await client.ask("OUTP:PROT:WDOG?") == "1"
        assert sim.outputs()[2].energized
        async with asyncio.timeout(HUNG_S):
            while sim.outputs()[2].energized:
                await rack_time(clock, 0.5)
        assert {state.tripped for state in sim.outputs().values()} == {Questionable.PROT}


@pytest.mark.parametrize(
    ("resolution", "asked_s", "found_s"),
    [("RES20", 1e-3, 49 * 20.48e-6), ("RES40", 1e-3, 24 * 40.96e-6), ("RES20", 102.4e-6, 204.8e-6)],
)
async def test_the_log_period_is_rounded_to_its_raster(resolution: str, asked_s: float, found_s: float) -> None:
    async with rack() as (sim, _), connect(sim) as client:
        client.send(f"SENS:SWE:TINT:RES {resolution}", "SENS:ELOG:FUNC:CURR ON,(@1)", "SENS:ELOG:FUNC:VOLT ON,(@1)")
        client.send(f"SENS:ELOG:PER {asked_s},(@1)")
        assert float(await client.ask("SENS:ELOG:PER? (@1)")) == pytest.approx(found_s)


async def test_logs_of_all_channels_share_the_rate_of_the_mainframe() -> None:
    async with rack() as (sim, _), connect(sim) as client:
        client.send("SENS:ELOG:FUNC:CURR ON,(@1:2)", "SENS:ELOG:FUNC:VOLT ON,(@1:2)", "SENS:ELOG:PER 204.8e-6,(@1:2)")
        client.send("INIT:ELOG (@1)")
        assert await client.error() == 0
        client.send("INIT:ELOG (@2)")
        assert await client.error() == -221


async def test_a_log_waits_for_its_trigger_and_then_holds_the_means_of_its_periods() -> None:
    async with rack() as (sim, clock), connect(sim) as client:
        client.send("VOLT 3,(@1)", "OUTP ON,(@1)", "SENS:ELOG:FUNC:CURR ON,(@1)", "SENS:ELOG:PER 0.01024,(@1)")
        client.send("TRIG:ELOG:SOUR BUS,(@1)", "INIT:ELOG (@1)")
        assert await client.ask("FETC:ELOG? 10,(@1)") == ""
        assert await client.ask("MEAS:VOLT? (@1);*OPC?") == "1"
        assert await client.error() == -221
        pulse(sim, clock.now())
        assert await client.ask("FETC:ELOG? 10,(@1)") == ""
        client.send("*TRG")
        await rack_time(clock, 2)
        first = [float(text) for text in (await client.ask("FETC:ELOG? 5,(@1)")).split(",")]
        assert len(first) == 5
        rest = [float(text) for text in (await client.ask("FETC:ELOG? 1000,(@1)")).split(",")]
        assert len(rest) > 150
        assert np.mean(rest) == pytest.approx(0.015, rel=0.05)
        client.send("ABOR:ELOG (@1)")
        assert await client.ask("FETC:ELOG? 5,(@1);*OPC?") == "1"


async def test_minimum_and_maximum_join_the_record_behind_the_mean() -> None:
    async with rack() as (sim, clock), connect(sim) as client:
        client.send("VOLT 3,(@1)", "OUTP ON,(@1)", "SENS:ELOG:FUNC:CURR ON,(@1)", "SENS:ELOG:FUNC:VOLT ON,(@1)")
        client.send(
            "SENS:ELOG:FUNC:CURR:MINM ON,(@1)", "SENS:ELOG:FUNC:VOLT:MINM ON,(@1)", "SENS:ELOG:CURR:RANG 0.1,(@1)"
        )
        assert float(await client.ask("SENS:ELOG:PER? (@1)")) >= 6 * 102.4e-6
        client.send("SENS:SWE:TINT:RES RES40", "SENS:ELOG:PER 0.01024,(@1)", "TRIG:ELOG:SOUR IMM,(@1)")
        client.send("INIT:ELOG (@1)")
        await rack_time(clock, 2)
        answer = await client.ask("FETC:ELOG? 50,(@1)")
        records = np.array([float(text) for text in answer.split(",")]).reshape(-1, 6)
        assert len(records) == 50
        for mean, least, largest in (records[:, :3].T, records[:, 3:].T):
            assert (least < mean).all()
            assert (mean < largest).all()
        # the load switches between 10 and 20 mA every 5 ms, so that each period sees both
        assert records[:, 1] == pytest.approx(0.01, rel=0.05)
        assert records[:, 2] == pytest.approx(0.02, rel=0.05)


async def armed(client: Client) -> None:
    client.send("SENS:ELOG:FUNC:CURR ON,(@1)", "SENS:ELOG:PER 0.01024,(@1)", "TRIG:ELOG:SOUR EXT,(@1)")
    client.send("INIT:ELOG (@1)")
    assert await client.error() == 0


async def logged(client: Client) -> int:
    """How many records have come since the last question."""
    answer = await client.ask("FETC:ELOG? 100000,(@1)")
    return len(answer.split(",")) if answer else 0


@pytest.mark.parametrize(("width_s", "starts"), [(1.9e-6, False), (2e-6, True)])
async def test_a_log_starts_at_the_fall_of_a_low_pulse_of_two_microseconds(width_s: float, starts: bool) -> None:
    async with rack() as (sim, clock), connect(sim) as client:
        await armed(client)
        pulse(sim, clock.now(), width_s)
        await rack_time(clock, 2)
        assert (await logged(client) > 0) is starts


async def test_a_line_that_stays_low_starts_a_log_at_its_fall() -> None:
    async with rack() as (sim, clock), connect(sim) as client:
        await armed(client)
        sim.drive_trigger(0, fell_s := clock.now())
        await rack_time(clock, 3)
        asked_s = clock.now()
        assert await logged(client) >= int((asked_s - fell_s) / 0.01024) - 1


async def test_a_high_pulse_on_a_low_line_starts_a_log_at_its_end() -> None:
    async with rack() as (sim, clock), connect(sim) as client:
        sim.drive_trigger(0, clock.now())
        await armed(client)
        await rack_time(clock, 2)
        assert await logged(client) == 0  # low all the while: no edge, no trigger
        sim.drive_trigger(1, rose_s := clock.now())
        sim.drive_trigger(0, rose_s + 5.0)
        await rack_time(clock, 10)
        told_s = clock.now()
        assert await logged(client) <= int((told_s + 1.0 - rose_s - 5.0) / 0.01024)


async def test_a_line_that_is_low_starts_a_log_at_once_where_the_level_is_the_trigger() -> None:
    async with rack() as (sim, clock), connect(sim) as client:
        sim.faults.add(Fault.LEVEL_TRIGGER)
        sim.drive_trigger(0, clock.now())
        await armed(client)
        await rack_time(clock, 2)
        assert await logged(client) > 0


@pytest.mark.parametrize(("fault", "late_s"), [(None, 0.0), (Fault.LATE_TRIGGER, 10e-3)])
async def test_a_late_trigger_starts_a_log_ten_milliseconds_after_its_pulse(fault: Fault | None, late_s: float) -> None:
    async with rack(speed=1.0) as (sim, clock), connect(sim) as client:
        if fault is not None:
            sim.faults.add(fault)
        await armed(client)
        pulse(sim, fell_s := clock.now())
        log = sim._channels[1]._running
        assert log is not None
        await until(lambda: log.started_s > 0)
        assert log.started_s - fell_s == pytest.approx(late_s, abs=1e-9)


async def test_lost_records_are_not_told_of() -> None:
    async with rack() as (sim, clock), connect(sim) as client:
        sim.faults.add(Fault.LOST_SAMPLES)
        await armed(client)
        pulse(sim, fell_s := clock.now())
        count = 0
        while clock.now() - fell_s < 5.0:
            await rack_time(clock, 0.7)
            asked_s = clock.now()
            count += await logged(client)
        elapsed = int((asked_s - fell_s) / 0.01024)
        assert count == pytest.approx(elapsed - 50, abs=10)  # what the answer took, at 50 times the speed
        assert await client.error() == 0


async def test_a_pulse_before_a_log_was_initiated_does_not_start_it() -> None:
    async with rack() as (sim, clock), connect(sim) as client:
        sim.drive_trigger(0, clock.now())
        sim.drive_trigger(1, clock.now())
        pulse(sim, clock.now())
        await armed(client)
        await rack_time(clock, 2)
        assert await logged(client) == 0


async def test_the_fifo_forgets_what_is_not_fetched_in_20_s() -> None:
    async with rack(speed=200) as (sim, clock), connect(sim) as client:
        client.send("SENS:ELOG:FUNC:CURR ON,(@1)", "SENS:ELOG:PER 0.0512,(@1)", "TRIG:ELOG:SOUR IMM,(@1)")
        client.send("INIT:ELOG (@1)")
        await rack_time(clock, 25)
        assert len((await client.ask("FETC:ELOG? 100000,(@1)")).split(",")) == int(20 / 0.0512)
        assert await client.error() == -230
        await client.ask("FETC:ELOG? 100000,(@1)")
        assert await client.error() == 0


async def test_blocks_are_big_endian_unless_swapped() -> None:
    async with rack() as (sim, clock), connect(sim) as client:
        client.send("VOLT 3,(@1)", "OUTP ON,(@1)", "SENS:ELOG:FUNC:VOLT ON,(@1)", "SENS:ELOG:PER 0.01024,(@1)")
        client.send("TRIG:ELOG:SOUR IMM,(@1)", "INIT:ELOG (@1)", "FORM REAL")
        await rack_time(clock, 2)
        for order, dtype in (("NORM", ">f4"), ("SWAP", "<f4")):
            client.send(f"FORM:BORD {order}", "FETC:ELOG? 10,(@1)")
            async with asyncio.timeout(HUNG_S):
                message = await client.reader.readexactly(4 + 40 + 1)
            assert message[:4] == b"#240"
            np.testing.assert_allclose(np.frombuffer(message[4:44], dtype), 3.0, atol=0.01)


async def test_off_closes_the_port_and_opens_it_again() -> None:
    async with rack() as (sim, _):
        async with connect(sim) as client:
            assert await client.ask("*OPC?") == "1"
            sim.faults.add("off")
            async with asyncio.timeout(HUNG_S):
                with contextlib.suppress(ConnectionError):
                    assert await client.reader.read(1) == b""
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", sim.port)
        sim.faults.discard("off")
        async with asyncio.timeout(HUNG_S):
            while True:
                with contextlib.suppress(ConnectionRefusedError):
                    async with connect(sim) as client:
                        assert await client.ask("*OPC?") == "1"
                        break
                await asyncio.sleep(0)


async def test_an_unknown_fault_is_refused() -> None:
    async with rack() as (sim, _):
        with pytest.raises(ValueError, match="on_fire"):
            sim.faults.add("on_fire")


@settings(max_examples=15, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=5))
def test_random_bytes_never_kill_the_server(chunks: list[bytes]) -> None:
    async def attack() -> None:
        async with rack() as (sim, _):
            async with connect(sim) as client:
                for chunk in chunks:
                    client.writer.write(chunk)
                client.writer.write(b"\n")
                await client.writer.drain()
            async with connect(sim) as client:
                client.send("*CLS")
                assert "N6705C" in await client.ask("*IDN?")

    asyncio.run(attack())


async def test_an_endless_line_is_dropped_with_an_error() -> None:
    async with rack() as (sim, _), connect(sim) as client:
        client.writer.write(b"A" * 200_000)
        client.send("", "*CLS")
        client.writer.write(b"A" * 70_000)
        await client.writer.drain()
        async with asyncio.timeout(HUNG_S):
            while True:
                async with connect(sim) as other:
                    if await other.error() == -363:
                        break
