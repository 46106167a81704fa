"""A serial port as a `SerialLine`, over pyserial-asyncio.

Bytes are taken in `data_received` and kept here, because pyserial-asyncio's stream reader loses lines that had arrived
whole when the port is unplugged.

Opening does not reset the board. Linux raises DTR and RTS when a port is opened, and by default drops them when it is
closed; boards with an auto-reset circuit reset on that edge. So both are asked for as the kernel sets them anyway,
which makes no edge, and dropping them at close is switched off (`HUPCL`): they stay up from one opening to the next.
"""

from __future__ import annotations

import asyncio
import termios
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import serial
import serial_asyncio
from pydantic import BaseModel, ConfigDict, Field

from drivers.api import Capability, ConnectError, LineClosedError, ProtocolError, Role

RECEIVE_LIMIT = 1 << 20
"""Bytes kept for a reader who does not come; a minute and a half at 115200 baud."""

_CLOSE_S = 2.0

# termios.error is no OSError, and pyserial lets both through.
_PORT_ERRORS = (serial.SerialException, OSError, termios.error, ValueError)


class SerialOptions(BaseModel):
    """Keys of a serial line in `lab.toml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    port: str = Field(min_length=1)
    baud: int = Field(default=115200, ge=300, le=12_000_000)


class SerialPort(asyncio.Protocol):
    """One open port; made by `open_port`.

    Args:
        name: Path of the port, for messages.
        receive_limit: Bytes kept for the reader.
    """

    def __init__(self, name: str, receive_limit: int = RECEIVE_LIMIT) -> None:
        self._name = name
        self._limit = receive_limit
        self._received = bytearray()
        self._dropped = 0
        self._lost: str | None = None
        self._news = asyncio.Event()
        self._written = asyncio.Event()
        self._written.set()
        self._closed = asyncio.Event()
        self._transport: serial_asyncio.SerialTransport | None = None

    # --- called by the transport ------------------------------------------------------------------------------

    def connection_made(self, transport: serial_asyncio.SerialTransport) -> None:
        """Keep the transport and have it say when all is written."""
        transport.set_write_buffer_limits(high=0)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Keep what came in; beyond the limit count what was dropped."""
        room = self._limit - len(self._received) if not self._dropped else 0
        self._received += data[:room]
        self._dropped += max(0, len(data) - room)
        self._news.set()

    def pause_writing(self) -> None:
        """Something waits to be written."""
        self._written.clear()

    def resume_writing(self) -> None:
        """All is written."""
        self._written.set()

    def connection_lost(self, error: Exception | None) -> None:
        """Wake everybody: the port is gone or was closed."""
        self._lost = str(error) if error else "closed"
        self._news.set()
        self._written.set()
        self._closed.set()

    @property
    def waiting(self) -> int:
        """Bytes that came in and were not read yet."""
        return len(self._received)

    # --- SerialLine -------------------------------------------------------------------------------------------

    async def write(self, data: bytes) -> None:
        """Send all of `data`; returns when the kernel has it. Raises `LineClosedError`."""
        self._open_transport().write(data)
        await self._written.wait()
        if self._lost is not None:
            raise self._gone()

    async def read(self) -> bytes:
        """Return what came in, at least one byte.

        Raises:
            LineClosedError: the port is gone, and all that had arrived was delivered.
            ProtocolError: more came in than is kept for a reader; the bytes before the loss were delivered.
        """
        while not self._received and not self._dropped and self._lost is None:
            self._news.clear()
            await self._news.wait()
        if self._received:
            data = bytes(self._received)
            self._received.clear()
            return data
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            raise ProtocolError(f"{self._name}: {dropped} bytes were lost, over {self._limit} were waiting to be read")
        raise self._gone()

    async def close(self) -> None:
        """Close the port; what was not written yet is dropped. Harmless when it is gone already."""
        if self._transport is not None and self._lost is None:
            self._transport.abort()
        async with asyncio.timeout(_CLOSE_S):
            await self._closed.wait()

    def _open_transport(self) -> serial_asyncio.SerialTransport:
        if self._transport is None or self._lost is not None:
            raise self._gone()
        return self._transport

    def _gone(self) -> LineClosedError:
        return LineClosedError(f"{self._name}: {self._lost or 'not open'}")


@asynccontextmanager
async def open_port(port: str, baud: int, *, receive_limit: int = RECEIVE_LIMIT) -> AsyncIterator[SerialPort]:
    """Open a serial port for this process alone.

    Args:
        port: Path of the device.
        baud: Rate, bit/s; 8 data bits, no parity, 1 stop bit.
        receive_limit: Bytes kept for a reader who does not come.

    Raises:
        ConnectError: it does not exist, may not be opened, or another process has it.
    """
    device = serial.Serial(port=None, baudrate=baud, exclusive=True)
    device.port = port
    device.dtr = device.rts = True  # as the kernel leaves them on opening: no edge
    try:
        device.open()
        _keep_lines_up_at_close(device.fileno())
    except _PORT_ERRORS as error:
        device.close()
        raise ConnectError(f"{port}: {error}") from error
    loop = asyncio.get_running_loop()
    _, line = await serial_asyncio.connection_for_serial(loop, lambda: SerialPort(port, receive_limit), device)
    await asyncio.sleep(0)  # the transport announces itself in the loop's next turn
    try:
        yield line
    finally:
        await asyncio.shield(line.close())


def _keep_lines_up_at_close(descriptor: int) -> None:
    attributes = termios.tcgetattr(descriptor)
    attributes[2] &= ~termios.HUPCL
    termios.tcsetattr(descriptor, termios.TCSANOW, attributes)


class SerialDriver:
    """Opens a serial port as a line to a board."""

    name = "serial"
    roles = frozenset({Role.SERIAL})
    options: type[BaseModel] = SerialOptions

    def capability(self, options: SerialOptions) -> Capability:
        """Return the empty capability: a line has none that a wiring is checked against."""
        return Capability()

    def open(self, options: SerialOptions) -> AbstractAsyncContextManager[SerialPort]:
        """Open the port. Raises `ConnectError`."""
        return open_port(options.port, options.baud)


DRIVER = SerialDriver()
