"""A raw-socket SCPI server on loopback that can also fail: refuse, hang, babble or stop in the middle of a block."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, MutableSet
from enum import StrEnum
from typing import Any

import numpy as np

from labd.virtual.scpi import ScpiDevice

LINE_LIMIT = 65536
_READ_SIZE = 65536


class Fault(StrEnum):
    """How a simulated instrument can go wrong; members compare equal to their names."""

    OFF = "off"
    NONSENSE = "nonsense"
    STALL_MID_BLOCK = "stall_mid_block"
    FIFO_OVERFLOW = "fifo_overflow"
    SILENT = "silent"
    LATE_TRIGGER = "late_trigger"  # a log starts 10 ms after the pulse on the trigger input
    LOST_SAMPLES = "lost_samples"  # each log drops 50 records once, half a second after its start, and does not say so
    LEVEL_TRIGGER = "level_trigger"  # a trigger input that is low already starts a log as soon as it is initiated
    NO_READING = "no_reading"


class FaultSet(MutableSet[Fault]):
    """The faults in force: a set that anybody may change at any time, and that tells who must act on it.

    Args:
        changed: Called after each change. Names that are no fault raise `ValueError`.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self._faults: set[Fault] = set()
        self._changed = changed

    def __contains__(self, fault: object) -> bool:
        return fault in self._faults

    def __iter__(self) -> Iterator[Fault]:
        return iter(frozenset(self._faults))

    def __len__(self) -> int:
        return len(self._faults)

    def add(self, value: Fault | str) -> None:
        """Switch a fault on, by member or name."""
        self._faults.add(Fault(value))
        self._changed()

    def discard(self, value: Fault | str) -> None:
        """Switch a fault off; harmless if it is."""
        self._faults.discard(Fault(value))
        self._changed()


@contextlib.asynccontextmanager
async def background(work: Coroutine[Any, Any, None], name: str) -> AsyncIterator[None]:
    """Run `work` beside the context and end it with it; what it raised by itself is raised at the end."""
    task = asyncio.create_task(work, name=name)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()


class ScpiServer:
    """Serves one `ScpiDevice` to any number of connections, one message at a time each.

    Args:
        device: Who answers.
        heard: Called for each program message, before it is executed.
        seed: For the garbage of the fault `nonsense`.
    """

    def __init__(self, device: ScpiDevice, *, heard: Callable[[], None], seed: int) -> None:
        self.device = device
        self.faults = FaultSet(self._faults_changed)
        self.port = 0
        self._heard = heard
        self._rng = np.random.default_rng(seed)
        self._host = ""
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._switched = asyncio.Event()

    @contextlib.asynccontextmanager
    async def serve(self, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[None]:
        """Listen until the context ends; `port` tells where. With the fault `off`, nobody listens there."""
        self._host, self.port = host, port
        with socket.create_server((host, port)) as probe:
            self.port = probe.getsockname()[1]
        listening = asyncio.Event()
        async with background(self._listen(listening), f"scpi:{self.port}"):
            await listening.wait()
            yield

    async def _listen(self, listening: asyncio.Event) -> None:
        """Keep the port open or closed, as the fault `off` says."""
        while True:
            self._switched.clear()
            if Fault.OFF in self.faults:
                listening.set()
                await self._switched.wait()
                continue
            server = await asyncio.start_server(self._converse, self._host, self.port, limit=LINE_LIMIT)
            listening.set()
            try:
                while Fault.OFF not in self.faults:
                    self._switched.clear()
                    await self._switched.wait()
            finally:
                server.close()
                for writer in self._connections.values():
                    writer.transport.abort()
                if self._connections:
                    await asyncio.wait(self._connections)
                await server.wait_closed()

    def _faults_changed(self) -> None:
        self._switched.set()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = writer
        try:
            await self._exchange(reader, writer)
        except ConnectionError:
            pass  # the client left, as clients do
        finally:
            del self._connections[task]
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pending = bytearray()
        while received := await reader.read(_READ_SIZE):
            pending += received
            while (end := pending.find(b"\n")) >= 0:
                message = bytes(pending[:end]).rstrip(b"\r")
                del pending[: end + 1]
                if not await self._answer(message, writer):
                    await self._ignore(reader)
                    return
            if len(pending) > LINE_LIMIT:
                pending.clear()
                self.device.push_error(-363)
        if pending:
            self.device.push_error(-420)

    async def _ignore(self, reader: asyncio.StreamReader) -> None:
        while await reader.read(_READ_SIZE):
            pass

    async def _answer(self, message: bytes, writer: asyncio.StreamWriter) -> bool:
        """Answer one message; return whether the instrument still listens on this connection."""
        self._heard()
        if Fault.SILENT in self.faults:
            return True
        reply = self.device.execute(message)
        if reply and Fault.NONSENSE in self.faults:
            garbage = self._rng.integers(128, 256, size=24, dtype=np.uint8).tobytes()
            reply = b"\x00" + garbage + b"\n"
        if Fault.STALL_MID_BLOCK in self.faults and reply.startswith(b"#") and len(reply) > 32:
            writer.write(reply[: len(reply) // 2])
            await writer.drain()
            return False
        writer.write(reply)
        await writer.drain()
        return True
