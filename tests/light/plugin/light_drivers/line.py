"""The serial line of a light board: a Unix socket, opened for each run as a port is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from pydantic import BaseModel, ConfigDict

from drivers.api import Capability, ConnectError, LineClosedError, Role


class LineOptions(BaseModel):
    """Keys of a serial line in `lab.toml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    port: str
    baud: int = 115_200


class LightLine(asyncio.Protocol):
    """One open line.

    Args:
        port: Path of its socket, for messages.
    """

    def __init__(self, port: str) -> None:
        self._port = port
        self._received = bytearray()
        self._news = asyncio.Event()
        self._lost = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Keep what came for the reader."""
        self._received += data
        self._news.set()

    def connection_lost(self, error: Exception | None) -> None:
        """Wake the reader: the port is gone."""
        self._lost = True
        self._news.set()

    async def write(self, data: bytes) -> None:
        """Send all of `data`. Raises `LineClosedError`."""
        if self._lost or self._transport is None:
            raise LineClosedError(f"{self._port}: the port is gone")
        self._transport.write(data)  # a command of at most 80 bytes

    async def read(self) -> bytes:
        """Return what came in, at least one byte. Raises `LineClosedError`."""
        while not self._received:
            if self._lost:
                raise LineClosedError(f"{self._port}: the port is gone")
            self._news.clear()
            await self._news.wait()
        data = bytes(self._received)
        self._received.clear()
        return data

    def close(self) -> None:
        """Close the port; harmless when it is gone."""
        if self._transport is not None:
            self._transport.abort()


class LightLineDriver:
    """Opens the line of a light board."""

    name = "light-line"
    roles = frozenset({Role.SERIAL})
    options: type[BaseModel] = LineOptions

    def capability(self, options: LineOptions) -> Capability:
        """A line has no capability that a wiring is checked against."""
        return Capability()

    def open(self, options: LineOptions) -> AbstractAsyncContextManager[LightLine]:
        """Open the port. Raises `ConnectError`."""
        return _opened(options.port)


@asynccontextmanager
async def _opened(port: str) -> AsyncIterator[LightLine]:
    try:
        _, line = await asyncio.get_running_loop().create_unix_connection(lambda: LightLine(port), port)
    except OSError as error:
        raise ConnectError(f"{port}: {error.strerror or error}") from error
    try:
        yield line
    finally:
        line.close()


DRIVER = LightLineDriver()
