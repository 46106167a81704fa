"""The real firmware on a bench: a board with its supply in the test's hand."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
import serial

from labd.virtual.activity import PowerProfile
from labd.virtual.board import Board, BoardEdge
from labd.virtual.world import RackClock
from tests.deadline import HUNG_S

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The native images of `digits01` by mode."""
    out = tmp_path_factory.mktemp("firmware")
    subprocess.run([sys.executable, ROOT / "firmware" / "build.py", "--out", out], check=True, capture_output=True)
    return {mode: (out / "native" / f"digits01-{mode}.elf").read_bytes() for mode in ("performance", "energy")}


async def until(condition: Callable[[], object], deadline_s: float = HUNG_S) -> None:
    """Wait for a condition."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        await asyncio.sleep(0.002)


class Host:
    """The host's end of a serial port, as pyserial opens it."""

    def __init__(self, port: Path, baud: int) -> None:
        self.line = serial.Serial(str(port), baud, timeout=0)

    async def read_until(self, end: bytes, deadline_s: float = HUNG_S) -> bytes:
        """Everything up to and with `end`."""
        seen = bytearray()
        limit = time.monotonic() + deadline_s
        while end not in seen:
            assert time.monotonic() < limit, f"no {end!r} in {bytes(seen)!r}"
            seen += self.line.read(1)
            if not self.line.in_waiting:
                await asyncio.sleep(0.001)
        return bytes(seen)

    async def ask(self, command: bytes) -> bytes:
        """Send a command and return all up to the next `m-ready`."""
        self.line.write(command + b"%")
        return await self.read_until(b"m-ready\r\n")

    async def infer(self, inferences: int) -> bytes:
        """Load an empty image and run the model on it."""
        await self.ask(b"db load 64")
        for _ in range(4):
            await self.ask(b"db " + b"00" * 16)
        return await self.ask(b"infer %d 0" % inferences)

    async def silence(self, host_s: float) -> bytes:
        """What comes within a while in which nothing should."""
        await asyncio.sleep(host_s)
        return self.line.read(4096)


class Bench:
    """One board, its supply and what its pins did."""

    def __init__(self, directory: Path, *, speed: float, crystal_ppm: float, profile: PowerProfile, seed: int) -> None:
        self.clock = RackClock(speed)
        self.edges: list[BoardEdge] = []
        self.board = Board(
            self.clock,
            name="board-1",
            directory=directory,
            profile=profile,
            crystal_ppm=crystal_ppm,
            rng=np.random.default_rng(seed),
            on_edge=self.edges.append,
        )

    def power(self, voltage_v: float, limit_a: float = 0.15) -> float:
        """Set the supply now; return when that was."""
        at_s = self.clock.now()
        self.board.supply(at_s, voltage_v, limit_a)
        return at_s

    async def boot(self, image: bytes, baud: int) -> Host:
        """Flash, switch on, and wait until the board is ready."""
        self.board.load_image(image)
        host = Host(self.board.port, baud)
        self.power(3.0)
        await host.read_until(b"m-ready\r\n")
        return host

    def falls(self) -> list[float]:
        """Rack times of the falling edges that the board made."""
        return [edge.at_s for edge in self.edges if edge.level == 0 and edge.real]

    async def pass_time(self, rack_s: float) -> None:
        """Let rack time pass."""
        end_s = self.clock.now() + rack_s
        await until(lambda: self.clock.now() > end_s)


@pytest.fixture
def bench_of(tmp_path: Path) -> Callable[..., object]:
    """Open benches; see `Bench`."""

    @asynccontextmanager
    async def open_bench(
        *, speed: float = 10.0, crystal_ppm: float = 0.0, profile: PowerProfile | None = None, seed: int = 1
    ) -> AsyncIterator[Bench]:
        bench = Bench(tmp_path, speed=speed, crystal_ppm=crystal_ppm, profile=profile or PowerProfile(), seed=seed)
        try:
            yield bench
        finally:
            bench.board.close()

    return open_bench
