"""The flasher writes what it is given, tells a different image from a failure, and repeats OpenOCD's own words."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from drivers.api import Capability, ConnectError, DeviceError, DeviceTimeoutError, Flasher, ProtocolError, Role
from drivers.flash.openocd import DRIVER, Deadlines, OpenOcdFlasher, OpenOcdOptions, open_openocd
from labd.virtual.openocd import OpenOcd, OpenOcdFault
from labd.virtual.world import RackClock
from tests.deadline import HUNG_S
from tests.virtual.flash_target import FlashBoard

IMAGE = bytes(range(256)) * 10


@pytest.fixture
def board() -> FlashBoard:
    return FlashBoard()


@pytest.fixture
async def server(board: FlashBoard) -> AsyncIterator[OpenOcd]:
    server = OpenOcd(board, clock=RackClock(speed=1000))
    async with server.serve():
        yield server


@pytest.fixture
async def flasher(server: OpenOcd) -> AsyncIterator[OpenOcdFlasher]:
    options = OpenOcdOptions(address=f"127.0.0.1:{server.port}", target="virtual.cpu")
    async with DRIVER.open(options) as flasher:
        assert isinstance(flasher, Flasher)
        yield flasher


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "kws energy.elf"
    path.write_bytes(IMAGE)
    return path


async def test_an_image_is_written_once_and_then_known(flasher: OpenOcdFlasher, board: FlashBoard, image: Path) -> None:
    assert not await flasher.matches(image)
    assert board.flash == b""
    await flasher.program(image)
    assert board.running == IMAGE
    assert await flasher.matches(image)
    assert board.resets == 3  # after each comparison, too, the board runs


async def test_one_wrong_byte_is_no_match(flasher: OpenOcdFlasher, board: FlashBoard, image: Path) -> None:
    board.flash = IMAGE[:-1] + b"\x00"
    assert not await flasher.matches(image)


async def test_an_unpowered_board_is_a_failure_and_no_mismatch(
    flasher: OpenOcdFlasher, board: FlashBoard, image: Path
) -> None:
    board.supplied = False
    with pytest.raises(DeviceError, match="target voltage may be too low"):
        await flasher.matches(image)
    with pytest.raises(DeviceError, match="Unable to reset target"):
        await flasher.program(image)


async def test_a_missing_image_is_a_failure_and_no_mismatch(flasher: OpenOcdFlasher, tmp_path: Path) -> None:
    missing = tmp_path / "missing.elf"
    with pytest.raises(DeviceError, match=r"couldn't open .*missing\.elf"):
        await flasher.matches(missing)
    with pytest.raises(DeviceError, match="Programming Failed"):
        await flasher.program(missing)


async def test_flash_that_does_not_keep_what_was_written_is_a_failure(
    flasher: OpenOcdFlasher, server: OpenOcd, image: Path
) -> None:
    server.faults.add(OpenOcdFault.VERIFY_FAILS)
    with pytest.raises(DeviceError, match=r"(?s)checksum mismatch.*Verify Failed"):
        await flasher.program(image)
    assert not await flasher.matches(image)


async def test_a_path_that_is_tcl_is_not_sent(flasher: OpenOcdFlasher) -> None:
    with pytest.raises(DeviceError, match="must not have"):
        await flasher.program(Path("/tmp/}; shutdown {"))


async def test_a_target_that_openocd_does_not_have_is_refused(server: OpenOcd) -> None:
    with pytest.raises(ConnectError, match="nobody is unknown"):
        async with open_openocd(f"127.0.0.1:{server.port}", "nobody"):
            pass


async def test_a_server_that_goes_away_is_named(flasher: OpenOcdFlasher, server: OpenOcd, image: Path) -> None:
    server.faults.add(OpenOcdFault.OFF)
    for _ in range(2):
        with pytest.raises(ConnectError, match="connection ended"):
            await flasher.matches(image)
    with pytest.raises(ConnectError):
        async with open_openocd(f"127.0.0.1:{server.port}"):
            pass


async def test_a_slow_write_has_a_deadline_and_ends_the_connection(board: FlashBoard, image: Path) -> None:
    server = OpenOcd(board, clock=RackClock(speed=0.001))
    async with (
        server.serve(),
        open_openocd(f"127.0.0.1:{server.port}", deadlines=Deadlines(program_s=0.05)) as flasher,
    ):
        with pytest.raises(DeviceTimeoutError, match="program"):
            await flasher.program(image)
        with pytest.raises(ConnectError):
            await flasher.matches(image)


async def answer_nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\x1a")
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n\x1a")
    await reader.read()
    writer.close()
    await writer.wait_closed()


async def test_another_server_on_the_port_is_not_taken_for_openocd() -> None:
    async with await asyncio.start_server(answer_nonsense, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ProtocolError, match="HTTP"):
            async with open_openocd(f"127.0.0.1:{port}"):
                pass
    with pytest.raises(ConnectError, match="cannot be reached"):
        async with open_openocd(f"127.0.0.1:{port}"):
            pass


@pytest.mark.parametrize("options", [{"address": "nowhere"}, {"target": "a b"}, {"probe": "1"}])
def test_options_that_cannot_be_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        OpenOcdOptions.model_validate(options)


def test_the_driver_says_what_it_is() -> None:
    assert DRIVER.roles == {Role.FLASH}
    assert DRIVER.capability(OpenOcdOptions()) == Capability()


DUMMY = """
bindto 127.0.0.1
gdb_port disabled
telnet_port disabled
tcl_port {port}
adapter driver dummy
adapter speed 100
transport select jtag
jtag newtap virtual cpu -irlen 4
target create virtual.cpu testee -chain-position virtual.cpu
init
"""


@pytest.fixture
async def real_openocd(tmp_path: Path) -> AsyncIterator[str]:
    """OpenOCD itself, with an adapter and a target that are not there; yields its address."""
    if shutil.which("openocd") is None:
        pytest.skip("openocd is not installed")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    script = tmp_path / "dummy.cfg"
    script.write_text(DUMMY.format(port=port))
    process = await asyncio.create_subprocess_exec("openocd", "-f", script, "-l", tmp_path / "log")
    try:
        async with asyncio.timeout(HUNG_S):
            while not await listens(port):
                await asyncio.sleep(0.02)
        yield f"127.0.0.1:{port}"
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


async def test_the_real_openocd_is_understood(real_openocd: str, image: Path, tmp_path: Path) -> None:
    async with open_openocd(real_openocd, "virtual.cpu") as flasher:
        with pytest.raises(DeviceError, match="couldn't open"):
            await flasher.matches(tmp_path / "missing.elf")
        with pytest.raises(DeviceError, match=r"(?s)Programming Started.*Programming Failed"):
            await flasher.program(image)
    with pytest.raises(ConnectError, match="nobody is unknown"):
        async with open_openocd(real_openocd, "nobody"):
            pass
