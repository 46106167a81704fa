"""Flashes boards through a running OpenOCD server, over its Tcl port.

OpenOCD User's Guide, release 0.12.0: section "Tcl Scripting API", "Tcl RPC server" (commands and answers end in 0x1A);
"General Commands" (`targets`, `reset`, `verify_image`); "Flash Programming" (`program`). OpenOCD says what went wrong
partly in a command's result and partly in its log, which `capture` gives. An answer does not tell success from failure,
so every command is run inside Tcl's `catch`, whose code is 0, or another number for an error.

Images are ELF, Intel hex or S-record files, which carry their own addresses, at a path that the server can read.

Never tried on hardware: only against OpenOCD 0.12.0 with its dummy adapter, and against this project's simulator.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from drivers.api import Capability, ConnectError, DeviceError, DeviceTimeoutError, ProtocolError, Role

_END = b"\x1a"
_FIELD = "\x1f"
_ANSWER_LIMIT = 1 << 20

_CODE = re.compile(r"-?[0-9]+")
_WORDS = 12

# A byte that differs, as `verify_image` prints it. "checksum mismatch" alone is no verdict: the comparison follows.
_DIFFERENCE = re.compile(r"^diff \d+ address 0x", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long OpenOCD may take: to be connected, for a reset, to compare and to write an image, s."""

    connect_s: float = 5.0
    reset_s: float = 10.0
    verify_s: float = 60.0
    program_s: float = 180.0


class OpenOcdOptions(BaseModel):
    """Keys of an OpenOCD flasher in `lab.toml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: str = Field(default="127.0.0.1:6666", pattern=r"^[^\s:]+:[0-9]{1,5}$")
    """Host and Tcl port of the server that has the board's probe."""
    target: str | None = Field(default=None, pattern=r"^[\w.\-]+$")
    """The target's name in OpenOCD (`stm32l4x.cpu`); None if the server has only one."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of one script."""

    failed: bool
    log: str
    result: str

    @property
    def words(self) -> str:
        """What OpenOCD said, each line once: the first of the log, where the cause is, and the result."""
        lines = list(dict.fromkeys(line.strip() for line in self.log.splitlines() if line.strip()))
        if len(lines) > _WORDS:
            lines[_WORDS // 2 : -_WORDS // 2] = ["..."]
        return "\n".join([*lines, *self.result.strip().splitlines()[:_WORDS]])


class OpenOcdFlasher:
    """One connection to OpenOCD; made by `open_openocd`. Serves `Flasher`.

    Args:
        reader: From the server.
        writer: To the server.
        where: The server's address, for messages.
        target: The target's name in OpenOCD, or None.
        deadlines: How long OpenOCD may take.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        where: str,
        *,
        target: str | None,
        deadlines: Deadlines,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._where = where
        self._target = target
        self._deadlines = deadlines
        self._turn = asyncio.Lock()

    async def handshake(self) -> None:
        """See that OpenOCD answers, and choose the target.

        Raises:
            ConnectError: something else answers, or OpenOCD has no such target.
        """
        version = await self._run("version", self._deadlines.connect_s)
        if version.failed or "On-Chip Debugger" not in version.words:
            raise ConnectError(f"{self._where}: is no OpenOCD, it answered {version.words[:80]!r}")
        if self._target is not None:
            chosen = await self._run(f"targets {self._target}", self._deadlines.connect_s)
            if chosen.failed:
                raise ConnectError(f"{self._where}: has no target {self._target!r}: {chosen.words}")

    async def matches(self, image: Path) -> bool:
        """Compare the board's flash with the image; the board is reset and runs afterwards.

        Args:
            image: File that the server can read, too.

        Raises:
            DeviceError: OpenOCD could not compare; its own words.
            DeviceTimeoutError: OpenOCD did not answer.
        """
        name = _quoted(image)
        await self._demand("reset init", self._deadlines.reset_s)
        verified = await self._run(f"verify_image {name}", self._deadlines.verify_s)
        if verified.failed and not _DIFFERENCE.search(verified.result):
            raise DeviceError(f"{self._where}: cannot compare {image}: {verified.words}")
        await self._demand("reset run", self._deadlines.reset_s)
        return not verified.failed

    async def program(self, image: Path) -> None:
        """Write and verify the image, then reset the board into it.

        Args:
            image: File that the server can read, too.

        Raises:
            DeviceError: OpenOCD could not write or verify; its own words.
            DeviceTimeoutError: OpenOCD did not answer.
        """
        await self._demand(f"program {_quoted(image)} verify reset", self._deadlines.program_s)

    async def _demand(self, script: str, deadline_s: float) -> None:
        outcome = await self._run(script, deadline_s)
        if outcome.failed:
            raise DeviceError(f"{self._where}: {script!r} failed: {outcome.words}")

    async def _run(self, script: str, deadline_s: float) -> _Outcome:
        """Run a script and return whether it failed and all that OpenOCD said about it."""
        wrapped = (
            f"set labd_log [capture {{set labd_code [catch {{{script}}} labd_result]}}]; "
            f'set labd_answer "$labd_code\\x1f$labd_result\\x1f$labd_log"'
        )
        answer = await self._exchange(wrapped, script, deadline_s)
        match answer.split(_FIELD, maxsplit=2):
            case [code, result, log] if _CODE.fullmatch(code):
                # With nothing logged, `capture` gives the script's own result: the code once more.
                return _Outcome(code != "0", "" if log == code else log, result)
            case _:
                raise ProtocolError(f"{self._where}: answered {answer[:80]!r} to {script!r}")

    async def _exchange(self, line: str, script: str, deadline_s: float) -> str:
        """Send one line and return the answer; after an error the connection is closed, for it is out of step."""
        async with self._turn:
            try:
                async with asyncio.timeout(deadline_s):
                    self._writer.write(line.encode() + _END)
                    await self._writer.drain()
                    answer = await self._reader.readuntil(_END)
            except TimeoutError as error:
                self._writer.close()
                raise DeviceTimeoutError(f"{self._where}: no answer to {script!r} within {deadline_s} s") from error
            except asyncio.LimitOverrunError as error:
                self._writer.close()
                raise ProtocolError(f"{self._where}: over {_ANSWER_LIMIT} bytes in answer to {script!r}") from error
            except (OSError, asyncio.IncompleteReadError) as error:
                self._writer.close()
                raise ConnectError(f"{self._where}: the connection ended at {script!r}") from error
            except asyncio.CancelledError:
                self._writer.close()
                raise
        return answer.removesuffix(_END).decode(errors="replace")


def _quoted(image: Path) -> str:
    """Return the path as one Tcl word. Raises `DeviceError` for one that Tcl would take apart."""
    path = str(image.absolute())
    if set(path) & set('{}[]$"\\\x1a\x1f\n'):
        raise DeviceError(f"{path!r}: a path for OpenOCD must not have brackets, quotes, dollars or backslashes")
    return f"{{{path}}}"


@asynccontextmanager
async def open_openocd(
    address: str, target: str | None = None, *, deadlines: Deadlines | None = None
) -> AsyncIterator[OpenOcdFlasher]:
    """Connect to an OpenOCD server.

    Args:
        address: Host and Tcl port, `host:port`.
        target: The target's name in OpenOCD; None if the server has only one.
        deadlines: How long OpenOCD may take.

    Raises:
        ConnectError: no OpenOCD answers there, or it has no such target.
    """
    allowed = deadlines or Deadlines()
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(allowed.connect_s):
            reader, writer = await asyncio.open_connection(host, int(port), limit=_ANSWER_LIMIT)
    except (OSError, TimeoutError, OverflowError) as error:
        raise ConnectError(f"{address}: OpenOCD cannot be reached: {error}") from error
    try:
        flasher = OpenOcdFlasher(reader, writer, address, target=target, deadlines=allowed)
        await flasher.handshake()
        yield flasher
    finally:
        writer.close()
        with contextlib.suppress(OSError):  # the connection is over either way
            await writer.wait_closed()


class OpenOcdDriver:
    """Flashes through OpenOCD."""

    name = "openocd"
    roles = frozenset({Role.FLASH})
    options: type[BaseModel] = OpenOcdOptions

    def capability(self, options: OpenOcdOptions) -> Capability:
        """Return the empty capability: a flasher has none that a wiring is checked against."""
        return Capability()

    def open(self, options: OpenOcdOptions) -> AbstractAsyncContextManager[OpenOcdFlasher]:
        """Connect. Raises `ConnectError`."""
        return open_openocd(options.address, options.target)


DRIVER = OpenOcdDriver()
