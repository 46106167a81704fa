"""A serial line delivers all that arrived, says when it is gone, and does not disturb who is at the other end."""

from __future__ import annotations

import asyncio
import os
import termios
from collections.abc import AsyncIterator

import pytest
from pydantic import ValidationError

from drivers.api import Capability, ConnectError, LineClosedError, ProtocolError, Role, SerialLine
from drivers.serial.line import DRIVER, SerialOptions, SerialPort, open_port
from tests.deadline import HUNG_S
from tests.drivers.pty_device import PtyDevice


@pytest.fixture
async def device() -> AsyncIterator[PtyDevice]:
    device = PtyDevice()
    yield device
    device.unplug()


async def read_all(line: SerialLine, size: int) -> bytes:
    data = b""
    async with asyncio.timeout(HUNG_S):
        while len(data) < size:
            data += await line.read()
    return data


async def something_waits(line: SerialPort) -> None:
    for _ in range(100_000):
        if line.waiting:
            return
        await asyncio.sleep(0)
    pytest.fail("nothing arrived")


async def test_bytes_go_both_ways(device: PtyDevice) -> None:
    async with DRIVER.open(SerialOptions(port=device.path)) as line:
        assert isinstance(line, SerialLine)
        every = bytes(range(256))
        await line.write(every)
        assert await device.heard_bytes(256) == every
        device.send(every)
        assert await read_all(line, 256) == every


async def test_a_reader_waits_until_something_comes(device: PtyDevice) -> None:
    async with open_port(device.path, 9600) as line:
        reader = asyncio.create_task(line.read())
        await asyncio.sleep(0)
        assert not reader.done()
        device.send(b"x")
        assert await asyncio.wait_for(reader, 5) == b"x"


async def test_unplugging_is_told_after_what_had_arrived(device: PtyDevice) -> None:
    async with open_port(device.path, 9600) as line, asyncio.timeout(HUNG_S):
        device.send(b"first")
        assert await read_all(line, 5) == b"first"
        device.send(b"last words\r\n")
        await something_waits(line)
        device.unplug()
        with pytest.raises(LineClosedError):
            await line.write(b"?" * 10_000_000)
        assert await read_all(line, 12) == b"last words\r\n"
        with pytest.raises(LineClosedError, match=device.path):
            await line.read()
        with pytest.raises(LineClosedError):
            await line.write(b"?")


async def test_a_closed_line_says_so(device: PtyDevice) -> None:
    async with open_port(device.path, 9600) as line:
        pass
    with pytest.raises(LineClosedError):
        await line.read()


async def test_a_port_is_for_one_alone(device: PtyDevice) -> None:
    async with open_port(device.path, 9600):
        with pytest.raises(ConnectError, match="lock"):
            async with open_port(device.path, 9600):
                pass


async def test_a_port_can_be_opened_again(device: PtyDevice) -> None:
    for _ in range(3):
        async with open_port(device.path, 9600) as line:
            await line.write(b".")
    assert await device.heard_bytes(3) == b"..."


async def test_a_port_that_is_not_there_is_named() -> None:
    with pytest.raises(ConnectError, match="/dev/no-such-port"):
        async with open_port("/dev/no-such-port", 9600):
            pass


async def test_closing_leaves_the_modem_lines_up_for_the_next_opening(device: PtyDevice) -> None:
    async with open_port(device.path, 9600):
        pass
    descriptor = os.open(device.path, os.O_RDWR | os.O_NOCTTY)
    try:
        assert not termios.tcgetattr(descriptor)[2] & termios.HUPCL
    finally:
        os.close(descriptor)


async def test_too_much_for_an_absent_reader_is_an_error_after_the_bytes_before_it(device: PtyDevice) -> None:
    async with open_port(device.path, 9600, receive_limit=10) as line, asyncio.timeout(HUNG_S):
        device.send(b"0123456789abcdef")
        await something_waits(line)
        assert await line.read() == b"0123456789"
        with pytest.raises(ProtocolError, match="6 bytes"):
            await line.read()
        device.send(b"again")
        assert await read_all(line, 5) == b"again"


async def test_a_cancelled_read_loses_nothing(device: PtyDevice) -> None:
    async with open_port(device.path, 9600) as line:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await line.read()
        device.send(b"late")
        assert await read_all(line, 4) == b"late"


def test_the_driver_says_what_it_is() -> None:
    options = SerialOptions(port="/dev/ttyACM0", baud=9600)
    assert DRIVER.roles == {Role.SERIAL}
    assert DRIVER.capability(options) == Capability()
    with pytest.raises(ValidationError):
        SerialOptions.model_validate({"port": "/dev/ttyACM0", "speed": 1})
