"""The virtual OpenOCD answers as the real Tcl port does, errors included."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labd.virtual.openocd import OpenOcd, OpenOcdFault
from labd.virtual.tcl import Interpreter, TclError
from labd.virtual.world import RackClock
from tests.virtual.flash_target import FlashBoard


@pytest.fixture
def board() -> FlashBoard:
    return FlashBoard()


@pytest.fixture
async def server(board: FlashBoard) -> AsyncIterator[OpenOcd]:
    server = OpenOcd(board, clock=RackClock(speed=1000))
    async with server.serve():
        yield server


async def ask(server: OpenOcd, *lines: str) -> list[str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    answers = []
    try:
        for line in lines:
            writer.write(line.encode() + b"\x1a")
            answers.append((await reader.readuntil(b"\x1a")).decode().removesuffix("\x1a"))
    finally:
        writer.close()
        await writer.wait_closed()
    return answers


async def test_results_are_answered_and_the_log_is_had_through_capture(server: OpenOcd) -> None:
    assert await ask(server, "version", "capture version", "capture {set x 5}") == [
        "Open On-Chip Debugger 0.12.0",
        "Open On-Chip Debugger 0.12.0",
        "5",
    ]
    said = "Target: nobody is unknown, try one of:\nvirtual.cpu"
    assert await ask(server, "targets nobody", "capture {targets nobody}", "catch {targets nobody} why") == [
        said,
        "Invalid command argument",
        "-4",
    ]


async def test_an_unknown_command_is_named(server: OpenOcd) -> None:
    assert await ask(server, "flahs", "catch flahs why", "set why") == [
        'invalid command name "flahs"',
        "1",
        'invalid command name "flahs"',
    ]


async def test_programming_verifies_and_resets(server: OpenOcd, board: FlashBoard, tmp_path: Path) -> None:
    image = tmp_path / "an image.elf"
    image.write_bytes(bytes(range(256)))
    (said,) = await ask(server, f"capture {{program {{{image}}} verify reset}}")
    assert said.splitlines()[0] == "** Programming Started **"
    assert "** Verified OK **" in said
    assert board.running == image.read_bytes()


async def test_a_different_image_is_told_byte_by_byte(server: OpenOcd, board: FlashBoard, tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"\x01\x02\x03")
    board.flash = b"\x01\x00"
    code, said, logged = await ask(
        server, f"catch {{verify_image {image}}} said", "set said", f"capture {{verify_image {image}}}"
    )
    assert code == "-4"
    assert logged == "checksum mismatch - attempting binary compare"
    assert said.splitlines() == [
        "diff 0 address 0x08000001. Was 0x00 instead of 0x02",
        "diff 1 address 0x08000002. Was 0xff instead of 0x03",
    ]


async def test_failures_have_openocds_words(server: OpenOcd, board: FlashBoard, tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(300))
    missing = tmp_path / "missing"
    board.flash = b"old"
    said = await ask(server, f"capture {{verify_image {missing}}}", f"program {missing}")
    assert said == [f"couldn't open {missing}", "** Programming Failed **"]
    server.faults.add(OpenOcdFault.VERIFY_FAILS)
    assert await ask(server, f"program {image} verify") == ["** Verify Failed **"]
    board.supplied = False
    assert await ask(server, f"program {image}") == ["** Unable to reset target **"]


async def test_a_server_that_is_off_ends_connections(server: OpenOcd) -> None:
    server.faults.add(OpenOcdFault.OFF)
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await ask(server, "version")


async def test_programming_takes_the_racks_time(board: FlashBoard, tmp_path: Path) -> None:
    clock = RackClock(speed=100)
    image = tmp_path / "image"
    image.write_bytes(bytes(20_000))
    server = OpenOcd(board, clock=clock)
    async with server.serve():
        before_s = clock.now()
        await ask(server, f"program {image}")
        assert clock.now() - before_s >= 1.3


async def test_words_are_taken_as_tcl_takes_them() -> None:
    tcl = Interpreter({})
    assert await tcl.run('set a {x [no] $b}; set b "<$a>\\x41\\n"; set c [set a]-$b') == "x [no] $b-<x [no] $b>A\n"
    for wrong in ("set a {", 'set a "x', "set a [set b", "set $nobody"):
        with pytest.raises(TclError):
            await tcl.run(wrong)


@given(st.text(st.characters(exclude_characters="{}\\", exclude_categories=["Cs"])))
async def test_braces_keep_any_text(text: str) -> None:
    assert await Interpreter({}).run(f"set kept {{{text}}}") == text
