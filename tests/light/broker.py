"""A Mosquitto that is stopped and started again as in a lab: what it holds for clients that are away is kept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.brokers import Mosquitto


class KeepingMosquitto(Mosquitto):
    """One whose sessions and retained messages outlive it, in `folder`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        text = self._config.read_text().replace("persistence false", "persistence true")
        # As root it would become another user, who may not write here.
        self._config.write_text(f"{text}persistence_location {folder}/\nuser root\n")

    async def stop(self) -> None:
        """End it as a service manager does: it writes down what it holds."""
        if self._process is not None:
            self._process.terminate()
            await self._process.wait()
            self._process = None


@asynccontextmanager
async def keeping_mosquitto(folder: Path) -> AsyncIterator[KeepingMosquitto]:
    """A running one."""
    broker = KeepingMosquitto(folder)
    try:
        await broker.start()
        yield broker
    finally:
        await broker.kill()
