"""The far end of a serial line: a device on a pseudo-terminal."""

from __future__ import annotations

import asyncio
import os
import tty

from tests.deadline import HUNG_S


class PtyDevice:
    """Holds the device's side of a pty; `path` is the port that a driver opens.

    Subclasses see what the host sent in `hear`.
    """

    def __init__(self) -> None:
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.path = os.ttyname(self._slave)
        self.heard = bytearray()
        self._news = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._master, self._read)

    def _read(self) -> None:
        data = os.read(self._master, 4096)
        self.heard += data
        self._news.set()
        self.hear(data)

    def hear(self, data: bytes) -> None:
        """React to what the host sent."""

    def send(self, data: bytes) -> None:
        assert os.write(self._master, data) == len(data)

    async def heard_bytes(self, count: int) -> bytes:
        async with asyncio.timeout(HUNG_S):
            while len(self.heard) < count:
                self._news.clear()
                await self._news.wait()
        return bytes(self.heard)

    def unplug(self) -> None:
        if self._master >= 0:
            asyncio.get_running_loop().remove_reader(self._master)
            os.close(self._master)
            os.close(self._slave)
            self._master = -1
