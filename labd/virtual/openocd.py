"""OpenOCD's Tcl port for one virtual board: the commands that a flasher sends, with OpenOCD's own words when they fail.

Every command ends in 0x1A, and so does every answer. An answer is a command's result and does not say whether it is an
error; what goes to the log is only had through `capture` (OpenOCD User's Guide 0.12, "Tcl RPC server", "capture").
Words, numbers and which of the two ways they take were compared with OpenOCD 0.12.0 on its dummy adapter.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from enum import StrEnum
from pathlib import Path

from labd.virtual.tcl import Interpreter, TclError
from labd.virtual.world import FlashTarget, RackClock

FLASH_BASE = 0x0800_0000
WRITE_BYTES_PER_S = 20_000
READ_BYTES_PER_S = 200_000
SETUP_S = 0.3

_END = b"\x1a"
_LINE_LIMIT = 65536
_DIFFS = 128
_ERASED = 0xFF
_FAIL = -4
_CANNOT_OPEN = -1202


class OpenOcdFault(StrEnum):
    """What can be made to go wrong."""

    OFF = "off"  # the server is not there: connections end at once
    VERIFY_FAILS = "verify_fails"  # the first byte of the flash reads wrong


class OpenOcd:
    """One OpenOCD server with one board on its probe.

    Args:
        target: The board.
        clock: The rack's time: reading and writing flash takes some of it.
    """

    def __init__(self, target: FlashTarget, *, clock: RackClock) -> None:
        self.faults: set[OpenOcdFault] = set()
        self.port = 0
        self._target = target
        self._clock = clock
        self._turn = asyncio.Lock()
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    @contextlib.asynccontextmanager
    async def serve(self, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[None]:
        """Listen until the context ends; `port` tells where."""
        server = await asyncio.start_server(self._converse, host, port, limit=_LINE_LIMIT)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            for task, writer in self._connections.items():
                writer.transport.abort()
                task.cancel()
            if self._connections:
                await asyncio.wait(self._connections)
            await server.wait_closed()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = writer
        session = _Session(self._target, self._clock, self.faults)
        try:
            while OpenOcdFault.OFF not in self.faults:
                line = await reader.readuntil(_END)
                if OpenOcdFault.OFF in self.faults:
                    return
                async with self._turn:  # the real server is one thread
                    answer = await session.answer(line.removesuffix(_END).decode())
                writer.write(answer.encode() + _END)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the client left, or sent more than the server takes
        finally:
            del self._connections[task]
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


class _Session:
    """The commands of one connection."""

    def __init__(self, target: FlashTarget, clock: RackClock, faults: set[OpenOcdFault]) -> None:
        self._target = target
        self._clock = clock
        self._faults = faults
        self._logged: list[str] = []
        self._tcl = Interpreter(
            {
                "capture": self._capture,
                "version": self._version,
                "targets": self._targets,
                "init": self._init,
                "reset": self._reset,
                "verify_image": self._verify_image,
                "program": self._program,
            }
        )

    async def answer(self, line: str) -> str:
        """Return the result of one line, be it an error's or not."""
        self._logged = []
        try:
            return await self._tcl.run(line)
        except TclError as error:
            return str(error)

    def _log(self, line: str) -> None:
        self._logged.append(line)

    async def _spend(self, rack_s: float) -> None:
        await asyncio.sleep(self._clock.host_delay(self._clock.now() + rack_s))

    async def _capture(self, arguments: tuple[str, ...]) -> str:
        outer, self._logged = self._logged, []
        try:
            result = await self._tcl.run(arguments[0])
        except TclError as error:
            raise TclError("\n".join(self._logged) or str(error), error.code) from error
        else:
            return "\n".join(self._logged) or result
        finally:
            self._logged = outer + self._logged

    async def _version(self, arguments: tuple[str, ...]) -> str:
        return "Open On-Chip Debugger 0.12.0"

    async def _init(self, arguments: tuple[str, ...]) -> str:
        return ""

    async def _targets(self, arguments: tuple[str, ...]) -> str:
        if arguments not in {(), ("virtual.cpu",)}:
            self._log("Invalid command argument")
            raise TclError(f"Target: {arguments[0]} is unknown, try one of:\nvirtual.cpu", _FAIL)
        return ""

    async def _reset(self, arguments: tuple[str, ...]) -> str:
        if not self._target.powered():
            self._log("target voltage may be too low for reliable debugging")
            self._log("Error connecting DP: cannot read IDR")
            raise TclError("", _FAIL)
        if arguments == ("run",):
            self._target.reset()
        return ""

    async def _verify_image(self, arguments: tuple[str, ...]) -> str:
        image = self._open(arguments[0])
        await self._spend(len(image) / READ_BYTES_PER_S)
        if not self._target.powered():
            self._log(f"Failed to read memory at 0x{FLASH_BASE:08x}")
            raise TclError("", _FAIL)
        held = self._target.flash_read()[: len(image)].ljust(len(image), bytes([_ERASED]))
        if OpenOcdFault.VERIFY_FAILS in self._faults:
            held = bytes([held[0] ^ 0xFF]) + held[1:]
        different = [place for place in range(len(image)) if held[place] != image[place]]
        if different:
            self._log("checksum mismatch - attempting binary compare")
            raise TclError("\n".join(_differences(held, image, different)), _FAIL)
        return f"verified {len(image)} bytes in {len(image) / READ_BYTES_PER_S:f}s"

    async def _program(self, arguments: tuple[str, ...]) -> str:
        filename, *wishes = arguments
        if await self._fails("reset", "init"):
            raise TclError("** Unable to reset target **")
        self._log("** Programming Started **")
        try:
            await self._write(filename)
        except TclError as error:
            raise TclError("** Programming Failed **") from error
        self._log("** Programming Finished **")
        if "verify" in wishes:
            self._log("** Verify Started **")
            if await self._fails("verify_image", filename):
                raise TclError("** Verify Failed **")
            self._log("** Verified OK **")
        if "reset" in wishes:
            self._log("** Resetting Target **")
            await self._tcl.call("reset", "run")
        return ""

    async def _write(self, filename: str) -> None:
        image = self._open(filename)
        await self._spend(SETUP_S + len(image) / WRITE_BYTES_PER_S)
        if not self._target.powered():
            self._log("failed erasing sectors 0 to 0")
            raise TclError("", _FAIL)
        self._target.flash_write(image)

    async def _fails(self, name: str, *arguments: str) -> bool:
        try:
            await self._tcl.call(name, *arguments)
        except TclError:
            return True
        return False

    def _open(self, filename: str) -> bytes:
        try:
            return Path(filename).read_bytes()
        except OSError as error:
            self._log(f"couldn't open {filename}")
            raise TclError("", _CANNOT_OPEN) from error


def _differences(held: bytes, image: bytes, places: list[int]) -> Iterator[str]:
    for number, place in enumerate(places[:_DIFFS]):
        address, was, wanted = FLASH_BASE + place, held[place], image[place]
        yield f"diff {number} address 0x{address:08x}. Was 0x{was:02x} instead of 0x{wanted:02x}"
    if len(places) > _DIFFS:
        yield "More than 128 errors, the rest are not printed."
