"""Edges arrive in order or the watch ends with an error; no loss goes unseen, no wait is for ever."""

from __future__ import annotations

import asyncio
import binascii
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from drivers.api import (
    ConnectError,
    DeviceError,
    DeviceTimeoutError,
    Edge,
    EdgesLostError,
    EdgeSource,
    Instrument,
    Level,
    LineClosedError,
    ProtocolError,
    Role,
)
from drivers.timestamp.labd_timestamper import DRIVER, TimestamperOptions, open_timestamper
from drivers.timestamp.messages import checked_text
from labd.virtual.timestamper import Timestamper as VirtualTimestamper
from labd.virtual.timestamper import TimestamperFault, TimestamperSpec
from labd.virtual.world import RackClock
from tests.deadline import HUNG_S
from tests.drivers.pty_device import PtyDevice


def sealed(text: str) -> bytes:
    return f"{text} *{binascii.crc_hqx(text.encode(), 0xFFFF):04x}\n".encode()


class Device(PtyDevice):
    """A timestamper with a 12 MHz clock; `version` and `mute` (commands it ignores) make it a bad one."""

    def __init__(self) -> None:
        super().__init__()
        self.version = 2
        self.ppm = 20
        self.rests: dict[int, int] = {}
        self.mute: set[str] = set()
        self.mask = 0xFFFF  # an earlier host has left reports on
        self.sequence = 42
        self.dropped = 3
        self.ticks = 0
        self.line = b""

    def hear(self, data: bytes) -> None:
        *lines, self.line = (self.line + data).split(b"\n")
        for line in lines:
            self.obey(line.decode())

    def obey(self, command: str) -> None:
        if command.split(" ", maxsplit=1)[0] in self.mute:
            return
        match command.split(" "):
            case ["id"]:
                self.send(
                    sealed(
                        f"id labd-timestamper {self.version} serial=T1 firmware=0.1 "
                        f"rate_hz=12000000 ppm={self.ppm} pins=16 pulse=14,15"
                    )
                )
            case ["start", mask]:
                self.mask = int(mask, 16)
                self.send(sealed(f"ok start {mask}"))
            case ["idle", pin, level]:
                self.send(sealed(f"ok idle {pin} {level}"))
                if (before := self.rests.get(int(pin))) is not None and before != int(level):
                    self.edge(int(pin), int(level))
                self.rests[int(pin)] = int(level)
            case ["pulse", pin, _] if int(pin) not in self.rests:
                self.send(sealed(f"err idle {pin} was not told how to rest"))
            case ["pulse", pin, "13"]:
                self.send(sealed(f"err width {pin} cannot do 13 us"))
            case ["pulse", pin, width]:
                self.send(sealed(f"ok pulse {pin}"))
                rest = self.rests[int(pin)]
                self.edge(int(pin), 1 - rest)
                self.ticks += 12 * int(width)
                self.edge(int(pin), rest)
            case ["status"]:
                self.send(sealed(f"status seq={self.sequence} dropped={self.dropped} now={self.ticks}"))
            case _:
                self.send(sealed(f"err unknown {command}"))

    def edge(self, pin: int, level: int) -> None:
        if self.mask >> pin & 1:
            self.send(sealed(f"e {self.sequence} {pin} {level} {self.ticks}"))
            self.sequence += 1


@pytest.fixture
async def device() -> AsyncIterator[Device]:
    device = Device()
    yield device
    device.unplug()


def at(device: Device) -> TimestamperOptions:
    return TimestamperOptions(port=device.path)


async def take(edges: AsyncIterator[Edge], count: int) -> list[Edge]:
    async with asyncio.timeout(HUNG_S):
        return [await anext(edges) for _ in range(count)]


def test_what_the_class_guarantees_is_known_without_a_device() -> None:
    edges = DRIVER.capability(TimestamperOptions(port="/dev/none")).edges
    assert DRIVER.roles == {Role.EDGES}
    assert edges is not None
    assert (len(edges.pins), edges.pulse_pins, edges.pulse_min_s, edges.clock_ppm) == (16, (14, 15), 1e-6, 50.0)
    assert edges.width_s == (1e-6, 1.0)


async def test_the_device_declares_itself(device: Device) -> None:
    device.send(b"7 0 1 55 *0000\n")  # the tail of an edge that an earlier host had asked for
    async with DRIVER.open(at(device)) as stamps:
        assert isinstance(stamps, EdgeSource)
        assert isinstance(stamps, Instrument)
        assert (stamps.identity.serial, stamps.tick_rate_hz, stamps.clock_ppm) == ("T1", 12e6, 20.0)
        assert device.mask == 0
        await stamps.check()


async def test_edges_of_watched_pins_come_in_order(device: Device) -> None:
    async with DRIVER.open(at(device)) as stamps:
        async with stamps.watch(frozenset({0, 3})) as edges:
            for level in (1, 0):
                device.edge(0, level)
                device.edge(1, level)
                device.edge(3, level)
            seen = await take(edges, 4)
        assert [(edge.pin, edge.level) for edge in seen] == [(0, 1), (3, 1), (0, 0), (3, 0)]
        assert [edge.sequence for edge in seen] == [42, 43, 44, 45]
        await stamps.check()
        assert device.mask == 0


async def test_two_watches_share_the_device(device: Device) -> None:
    async with DRIVER.open(at(device)) as stamps, stamps.watch(frozenset({0})) as first:
        async with stamps.watch(frozenset({5, 6})) as second:
            assert device.mask == 0b1100001
            for pin in (5, 0, 6):
                device.edge(pin, 1)
            assert [edge.pin for edge in await take(second, 2)] == [5, 6]
        assert device.mask == 1
        device.edge(0, 0)
        assert [edge.level for edge in await take(first, 2)] == [1, 0]


async def test_a_pin_has_one_watch_and_must_exist(device: Device) -> None:
    async with DRIVER.open(at(device)) as stamps, stamps.watch(frozenset({0})):
        for pins in (frozenset({0, 1}), frozenset({16}), frozenset()):
            with pytest.raises(DeviceError):
                async with stamps.watch(pins):
                    pass


async def test_a_pulse_is_reported_with_both_its_edges(device: Device) -> None:
    async with DRIVER.open(at(device)) as stamps, stamps.watch(frozenset({15})) as edges:
        await stamps.pulse(15, 10e-6)
        rise, fall = await take(edges, 2)
        assert (rise.level, fall.level, fall.ticks - rise.ticks) == (1, 0, 120)
        with pytest.raises(DeviceError, match="pin 3"):
            await stamps.pulse(3, 1e-6)


async def test_a_pin_that_rests_high_pulses_low_and_leads_with_its_fall(device: Device) -> None:
    async with DRIVER.open(at(device)) as stamps, stamps.watch(frozenset({14, 15})) as edges:
        await stamps.idle(15, Level.HIGH)
        await stamps.pulse(15, 10e-6, Level.LOW)
        await stamps.pulse(14, 5e-3)  # never told how to rest: a high pulse rests low
        assert [(edge.pin, edge.level) for edge in await take(edges, 4)] == [(15, 0), (15, 1), (14, 1), (14, 0)]
        assert device.rests == {14: 0, 15: 1}
        await stamps.idle(15, Level.HIGH)
        await stamps.pulse(15, 10e-6, Level.LOW)
        assert [edge.level for edge in await take(edges, 2)] == [0, 1]  # resting where it rests is no edge


async def test_a_pulse_that_is_none_never_gets_out(device: Device) -> None:
    async with DRIVER.open(at(device)) as stamps:
        await stamps.idle(15, Level.HIGH)
        with pytest.raises(DeviceError, match="rests high, so a high pulse is none"):
            await stamps.pulse(15, 10e-6)
        for width_s in (0.0, 0.4e-6, 1.1):
            with pytest.raises(DeviceError, match="not between 1e-06 and 1 s"):
                await stamps.pulse(15, width_s, Level.LOW)
        with pytest.raises(DeviceError, match="pin 3"):
            await stamps.idle(3, Level.LOW)
        assert b"pulse" not in device.heard


async def test_a_refusal_carries_the_devices_words(device: Device) -> None:
    async with DRIVER.open(at(device)) as stamps:
        with pytest.raises(DeviceError, match="cannot do 13 us"):
            await stamps.pulse(15, 13e-6)
        await stamps.check()


async def test_a_hole_in_the_numbers_ends_every_watch(device: Device) -> None:
    async with (
        DRIVER.open(at(device)) as stamps,
        stamps.watch(frozenset({0})) as first,
        stamps.watch(frozenset({1})) as second,
    ):
        device.edge(0, 1)
        device.sequence += 1
        device.edge(0, 0)
        await take(first, 1)
        for edges in (first, second, first):
            with pytest.raises(EdgesLostError, match="44 came where 43 was due"):
                await take(edges, 1)


async def test_settling_brings_in_all_that_was_seen_and_finds_a_lost_last_edge(device: Device) -> None:
    async with DRIVER.open(at(device)) as stamps, stamps.watch(frozenset({0})) as edges:
        device.edge(0, 1)
        await stamps.settle()
        assert len(await take(edges, 1)) == 1
        device.sequence += 1
        with pytest.raises(EdgesLostError, match="1 edges that it saw never came"):
            await stamps.settle()
        async with stamps.watch(frozenset({1})) as later:
            device.edge(1, 1)
            assert [edge.sequence for edge in await take(later, 1)] == [44]
        with pytest.raises(EdgesLostError):
            await take(edges, 1)


async def test_pulse_pins_that_the_lab_counts_on_are_declared_or_the_device_is_refused(device: Device) -> None:
    options = TimestamperOptions(port=device.path, pulse_pins=(13, 14, 15))
    able = DRIVER.capability(options).edges
    assert able is not None
    assert able.pulse_pins == (13, 14, 15)
    with pytest.raises(ConnectError, match=r"pins \[13\] put out no pulses, \[14, 15\] do: correct pulse_pins"):
        async with DRIVER.open(options):
            pass


async def test_settling_tells_the_clock_of_the_device_at_its_answer(device: Device) -> None:
    async with DRIVER.open(at(device)) as stamps, stamps.watch(frozenset({0})) as edges:
        device.ticks = 5_000_000_000
        device.edge(0, 1)
        device.ticks += 7
        assert await stamps.settle() == 5_000_000_007
        assert (await take(edges, 1))[0].ticks == 5_000_000_000


async def test_a_damaged_line_ends_every_watch_but_not_the_device(device: Device) -> None:
    async with DRIVER.open(at(device)) as stamps:
        async with stamps.watch(frozenset({0})) as edges:
            device.send(sealed("e 42 0 1 1000").replace(b"1000", b"1001"))
            device.sequence += 1
            with pytest.raises(EdgesLostError, match="damaged"):
                await take(edges, 1)
        async with stamps.watch(frozenset({0})) as edges:
            device.edge(0, 1)
            assert len(await take(edges, 1)) == 1


async def test_edges_that_the_device_dropped_are_noticed(device: Device) -> None:
    async with DRIVER.open(at(device)) as stamps, stamps.watch(frozenset({0})) as edges:
        device.dropped += 2
        with pytest.raises(EdgesLostError, match="dropped 2"):
            await stamps.check()
        with pytest.raises(EdgesLostError):
            await take(edges, 1)
        await stamps.check()


async def test_a_reader_who_never_comes_costs_bounded_memory(device: Device) -> None:
    async with open_timestamper(device.path, queue_limit=4) as stamps, stamps.watch(frozenset({0})) as edges:
        for level in (1, 0, 1, 0, 1):
            device.edge(0, level)
        await stamps.check()  # answered after the edges
        await take(edges, 4)
        with pytest.raises(EdgesLostError, match="waiting"):
            await take(edges, 1)


async def test_unplugging_ends_watches_and_commands(device: Device) -> None:
    async with DRIVER.open(at(device)) as stamps:
        async with stamps.watch(frozenset({0})) as edges:
            device.edge(0, 1)
            assert len(await take(edges, 1)) == 1
            device.unplug()
            with pytest.raises(LineClosedError):
                await take(edges, 1)
            with pytest.raises(LineClosedError):
                await stamps.pulse(15, 1e-6)
        with pytest.raises(LineClosedError):
            await stamps.check()


async def test_a_mute_device_is_given_up(device: Device) -> None:
    async with open_timestamper(device.path, answer_s=0.2) as stamps:
        async with stamps.watch(frozenset({0})) as edges:
            device.mute = {"status"}
            with pytest.raises(DeviceTimeoutError, match="status"):
                await stamps.check()
            with pytest.raises(DeviceTimeoutError):
                await take(edges, 1)
        device.mute = set()
        with pytest.raises(DeviceTimeoutError):
            await stamps.check()


async def test_a_command_that_was_cancelled_does_not_put_answers_out_of_step(device: Device) -> None:
    async with DRIVER.open(at(device)) as stamps:
        device.mute = {"status"}
        given_up = asyncio.create_task(stamps.check())
        await device.heard_bytes(len(device.heard) + len("status\n"))
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        device.mute = set()
        device.obey("status")
        await stamps.pulse(15, 1e-6)
        await stamps.check()


async def test_nonsense_is_an_error(device: Device) -> None:
    async with DRIVER.open(at(device)) as stamps, stamps.watch(frozenset({0})) as edges:
        device.send(sealed("good morning"))
        with pytest.raises(ProtocolError, match="good morning"):
            await take(edges, 1)


async def test_bytes_without_end_are_an_error(device: Device) -> None:
    async with DRIVER.open(at(device)) as stamps, stamps.watch(frozenset({0})) as edges:
        device.send(b"x" * 1000)
        with pytest.raises(ProtocolError, match="without a line end"):
            await take(edges, 1)


async def test_another_version_is_refused(device: Device) -> None:
    device.version = 1
    with pytest.raises(ConnectError, match=r"version 1 .* update its firmware"):
        async with DRIVER.open(at(device)):
            pass


async def test_a_device_worse_than_its_class_is_refused(device: Device) -> None:
    device.ppm = 100  # the configuration was checked against 50
    with pytest.raises(ConnectError, match="ppm=100"):
        async with DRIVER.open(at(device)):
            pass


async def test_a_port_where_nobody_answers_is_refused(device: Device) -> None:
    device.mute = {"id"}
    with pytest.raises(ConnectError, match="no answer to 'id'"):
        async with open_timestamper(device.path, answer_s=0.02):
            pass


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60), st.data())
def test_one_changed_byte_is_always_found(text: str, data: st.DataObject) -> None:
    line = sealed(text).rstrip(b"\n")
    assert checked_text(line) == text
    place = data.draw(st.integers(0, len(line) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value not in (line[place], 10, 13)))
    assert checked_text(line[:place] + bytes([byte]) + line[place + 1 :]) is None


@given(st.binary(max_size=80))
def test_any_bytes_can_be_checked(line: bytes) -> None:
    assert checked_text(line) is None or line.isascii()


async def test_the_racks_own_timestamper_is_understood(tmp_path: Path) -> None:
    levels: list[tuple[int, int, float]] = []
    clock = RackClock()
    virtual = VirtualTimestamper(
        clock,
        tmp_path / "stamps",
        name="virtual-1",
        spec=TimestamperSpec(jitter_s=0.0),
        rng=np.random.default_rng(1),
        on_level=lambda *level: levels.append(level),
    )
    try:
        async with open_timestamper(str(virtual.port.link)) as stamps:
            assert (stamps.identity.serial, stamps.tick_rate_hz, stamps.clock_ppm) == ("virtual-1", 25e6, 50.0)
            async with stamps.watch(frozenset({2})) as edges:
                for at_s, level in ((1.0, 0), (2.0, 1)):
                    virtual.edge(2, level, at_s)
                await stamps.settle()
                fall, rise = await take(edges, 2)
            assert (rise.ticks - fall.ticks) / stamps.tick_rate_hz == pytest.approx(1.0, abs=60e-6)
            await stamps.idle(15, Level.HIGH)
            await stamps.pulse(15, 10e-6, Level.LOW)
            assert [(pin, level) for pin, level, _ in levels] == [(15, 1), (15, 0), (15, 1)]
            assert levels[2][2] - levels[1][2] == pytest.approx(10e-6, rel=1e-6)
            virtual.faults.add(TimestamperFault.LOST_LINE)
            async with stamps.watch(frozenset({2})) as edges:
                for level in (0, 1) * 3:
                    virtual.edge(2, level, 3.0)
                with pytest.raises(EdgesLostError):
                    await take(edges, 6)
    finally:
        virtual.close()


async def test_the_end_of_a_long_pulse_is_reported_when_it_comes(tmp_path: Path) -> None:
    levels: list[tuple[int, int, float]] = []
    clock = RackClock()
    virtual = VirtualTimestamper(
        clock,
        tmp_path / "stamps",
        name="virtual-1",
        spec=TimestamperSpec(jitter_s=0.0),
        rng=np.random.default_rng(1),
        on_level=lambda *level: levels.append(level),
    )
    try:
        async with (
            open_timestamper(str(virtual.port.link)) as stamps,
            stamps.watch(frozenset({14})) as edges,
        ):
            await stamps.pulse(14, 0.1)
            (rise,) = await take(edges, 1)
            await stamps.settle()
            assert [level for _, level, _ in levels] == [0, 1]
            assert virtual.known_s(14) == pytest.approx(levels[1][2] + 0.1)
            for command in (stamps.pulse(14, 1e-3), stamps.idle(14, Level.HIGH)):
                with pytest.raises(DeviceError, match="a pulse is out"):
                    await command
            (fall,) = await take(edges, 1)
            assert clock.now() >= levels[-1][2]
        assert (rise.level, fall.level) == (1, 0)
        assert (fall.ticks - rise.ticks) / stamps.tick_rate_hz == pytest.approx(0.1, rel=60e-6)
    finally:
        virtual.close()


@pytest.mark.parametrize(
    ("pins", "said"), [([14, 99], "no board has the pins 99"), ([-1], "no board has the pins -1"), ([14, 14], "twice")]
)
def test_pulse_pins_that_no_board_has_are_refused(pins: list[int], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        TimestamperOptions.model_validate({"port": "/dev/ttyACM0", "pulse_pins": pins})
