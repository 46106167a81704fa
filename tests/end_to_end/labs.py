"""A whole lab for a test: Mosquitto, the virtual rack and the daemon, each a process of its own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from labd.benchmarks import Mode
from labd.errors import UnreachableError
from labd.mqtt.client import LabClient, connect
from labd.service.messages import BoardChoice, JobDocument, JobSpec
from labd.virtual.lab import LAB, VirtualLab, virtual_lab
from tests.brokers import Mosquitto, mosquitto
from tests.deadline import HUNG_S

ROOT = Path(__file__).parents[2]
MANIFEST = ROOT / "build" / "firmware" / "manifest.json"
ANSWER_S = HUNG_S
"""Longest wait for an answer of the daemon, s."""
ENDED_S = 2 * HUNG_S
"""Longest wait for a job to end, s."""


def rack_toml(boards: int) -> str:
    """A rack of so many boards, each as it comes out of the box."""
    head = '[rack]\ndir = "rack"\nseed = 20\n[[analyzer]]\nid = "psu-1"\n'
    head += '[[timestamper]]\nid = "stamps-1"\ntriggers = ["psu-1"]\n'
    return head + "".join(
        f'[[board]]\nid = "board-{number}"\ntags = ["native"]\nsupply = {{ analyzer = "psu-1", channel = {number} }}\n'
        f'timing = {{ timestamper = "stamps-1", pin = {number - 1} }}\n'
        for number in range(1, boards + 1)
    )


@dataclass(frozen=True)
class Scene:
    """A lab under test and its broker; no daemon runs yet."""

    broker: Mosquitto
    lab: VirtualLab

    @asynccontextmanager
    async def client(self) -> AsyncIterator[LabClient]:
        """A connected client of the lab, once the lab has said that it hears."""
        async with asyncio.timeout(ANSWER_S):
            await self._online()
        async with connect(self.broker.endpoint, LAB, timeout_s=ANSWER_S) as client:
            yield client

    async def _online(self) -> None:
        while True:
            async with connect(self.broker.endpoint, LAB, timeout_s=ANSWER_S) as client:
                try:
                    await client.status()
                except UnreachableError:
                    await asyncio.sleep(0.05)
                else:
                    return

    def log(self) -> str:
        """What all daemons of this lab have logged."""
        return (self.lab.folder / "daemon.log").read_text()


@asynccontextmanager
async def scene(folder: Path, *, boards: int = 1, speed: float = 8.0) -> AsyncIterator[Scene]:
    """A rack and a broker that run, and the `lab.toml` between them.

    Args:
        folder: Where all of it lies; made if it is not there.
        boards: Boards of the rack, at most four.
        speed: Rack seconds per host second.
    """
    assert MANIFEST.exists(), "the firmware is not built: run make firmware"
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    async with (
        mosquitto(folder) as broker,
        virtual_lab(folder / "lab", rack_toml=rack_toml(boards), speed=speed) as lab,
    ):
        lab.write_lab(str(broker.endpoint), MANIFEST)
        yield Scene(broker, lab)


def spec(mode: Mode, board: int = 1, *, trials: int = 2, min_window_s: float = 1.0) -> JobSpec:
    """A short job for one board."""
    return JobSpec(
        benchmark="digits01",
        mode=mode,
        board=BoardChoice(id=f"board-{board}"),
        trials=trials,
        min_window_s=min_window_s,
    )


async def ended(client: LabClient, job_id: int) -> JobDocument:
    """Wait until a job has ended."""
    async with asyncio.timeout(ENDED_S):
        while not (job := await client.job(job_id)).state.ended:
            await asyncio.sleep(0.2)
        return job


@dataclass(frozen=True)
class Ran:
    """What a command left."""

    status: int
    out: str
    err: str


async def labd(*arguments: str, deadline_s: float = HUNG_S) -> Ran:
    """Run `labd` to its end, as an operator does."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "labd", *arguments),
        cwd=ROOT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(deadline_s):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return Ran(process.returncode, out.decode(), err.decode())
