"""Brokers for tests: Mosquitto as a child process that can be killed and come back on its port."""

import asyncio
import os
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from labd.mqtt.endpoint import Endpoint
from tests.deadline import HUNG_S

SEARCHED = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
"""Debian puts the broker where only root's path looks."""


def program(name: str) -> str:
    """Path of one of Mosquitto's programs; the test that needs it is skipped where it is not installed."""
    found = shutil.which(name, path=SEARCHED)
    if found is None:
        pytest.skip(f"{name} is not installed: apt-get install mosquitto mosquitto-clients")
    return found


def free_port() -> int:
    """A port of loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Mosquitto:
    """A Mosquitto on loopback that keeps nothing over a restart."""

    def __init__(self, folder: Path) -> None:
        self.endpoint = Endpoint("127.0.0.1", free_port())
        self._config = folder / "mosquitto.conf"
        self._config.write_text(
            f"listener {self.endpoint.port} 127.0.0.1\nallow_anonymous true\npersistence false\n"
            "max_queued_messages 0\nset_tcp_nodelay true\nlog_type error\n"
        )
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start, and wait until it takes connections."""
        self._process = await asyncio.create_subprocess_exec(program("mosquitto"), "-c", str(self._config))
        async with asyncio.timeout(HUNG_S):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.endpoint.port)
                except ConnectionRefusedError:
                    await asyncio.sleep(0.01)
                    continue
                writer.close()
                await writer.wait_closed()
                return

    async def kill(self) -> None:
        """End it without warning."""
        if self._process is not None:
            self._process.kill()
            await self._process.wait()
            self._process = None


@asynccontextmanager
async def mosquitto(folder: Path) -> AsyncIterator[Mosquitto]:
    """A running Mosquitto."""
    broker = Mosquitto(folder)
    try:
        await broker.start()
        yield broker
    finally:
        await broker.kill()
