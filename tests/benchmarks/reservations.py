"""How long a reservation takes with few and with many others outstanding, beside labgrid's coordinator."""

from __future__ import annotations

import asyncio
import json
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiomqtt

from labd.mqtt.topics import Topics
from tests.benchmarks.figure import Better, Figure
from tests.benchmarks.peers import peer
from tests.brokers import mosquitto

ROOT = Path(__file__).parents[2]
LABGRID = ROOT / "build" / "labgrid-venv"
"""An environment of its own: labgrid brings a serial library that would take the place of ours."""
FLAT_LIMIT = 1.5
LABGRID_LIMIT = 1.0
TOPICS = Topics("paper")
CLIENT = "bench"
ANSWER_S = 30.0
INSTALL_S = 600.0
LABGRID_S = 600.0


async def reservations(each: int = 100, outstanding: tuple[int, ...] = (1, 100, 1000)) -> tuple[Figure, ...]:
    """A free board is reserved, had and given back, `each` times, while so many others wait for another board.

    Both have a rack of 200 boards. The latency of a reservation is from the asking until the answer says that it has
    its board. A pair is that and the giving back, each begun when the answer to the one before is there. labd is asked
    over Mosquitto, and every step is committed with synchronous=FULL before it is answered. labgrid is asked over its
    own gRPC: a reservation is created and polled until it is allocated, a pair is acquire and release of a place; it
    keeps what it knows in memory.
    """
    ours = await labd_times(each, outstanding)
    most, least = max(outstanding), min(outstanding)
    flat = ours[most].granted_s / ours[least].granted_s
    shown = ", ".join(f"{number:,}: {took.granted_s * 1e3:.2f} ms" for number, took in ours.items())
    figures = [
        Figure("reservation_flat", flat, "1", FLAT_LIMIT, Better.LOWER, f"labd granted with others waiting {shown}")
    ]
    theirs = await _labgrid(each, outstanding)
    if theirs is None:
        print("reservation_labgrid is left out: labgrid cannot be installed here", file=sys.stderr)
        return tuple(figures)
    granted = ", ".join(
        f"{number:,}: {ours[number].granted_s * 1e3:.2f} to {theirs[number].granted_s * 1e3:.2f} ms"
        for number in outstanding
    )
    pairs = ", ".join(
        f"{number:,}: {1 / ours[number].pair_s:.0f} to {1 / theirs[number].pair_s:.0f}" for number in ours
    )
    ratio = ours[most].granted_s / theirs[most].granted_s
    told = f"labd to labgrid, granted {granted}; pairs a second {pairs}"
    pair_ratio = ours[most].pair_s / theirs[most].pair_s
    return (
        *figures,
        Figure("reservation_labgrid", ratio, "1", LABGRID_LIMIT, Better.LOWER, told),
        Figure("reservation_pairs_labgrid", pair_ratio, "1", LABGRID_LIMIT, Better.LOWER, "time of a pair, as above"),
    )


@dataclass(frozen=True, slots=True)
class Times:
    """Medians, s: until a reservation has its board, and for having a board and giving it back."""

    granted_s: float
    pair_s: float


async def labd_times(each: int, outstanding: tuple[int, ...]) -> dict[int, Times]:
    """The times of labd, by how many others wait."""
    folder = Path(tempfile.mkdtemp(prefix="labd-bench-"))
    took: dict[int, Times] = {}
    try:
        async with (
            mosquitto(folder) as broker,
            peer("reserve", broker.endpoint.port, str(folder)),
            broker.endpoint.client() as client,
        ):
            await client.subscribe(TOPICS.reply(CLIENT), qos=1)
            asker = _Asker(client)
            waiting = -1  # the first of them has the board, all others wait for it
            for wanted in outstanding:
                while waiting < wanted:
                    await asker.ask("board.reserve", board={"tags": ["m7"]}, duration_s=80_000)
                    waiting += 1
                took[wanted] = Times(
                    statistics.median([await asker.granted() for _ in range(each)]),
                    statistics.median([await asker.pair() for _ in range(each)]),
                )
    finally:
        shutil.rmtree(folder)
    return took


class _Asker:
    def __init__(self, client: aiomqtt.Client) -> None:
        self._client = client
        self._number = 0

    async def granted(self) -> float:
        """Reserve a board in a lab in which nothing else happens, and give it back."""
        began = time.perf_counter()
        had = await self.ask("board.reserve", board={"tags": ["m4"]}, duration_s=60)
        took_s = time.perf_counter() - began
        assert had["state"] == "active", "both boards are free"
        await self.ask("board.release", id=had["id"])
        while had["state"] != "ended":
            had = await self.ask("reservation.get", id=had["id"])
        return took_s

    async def pair(self) -> float:
        """Reserve one of two boards and give it back: while one goes dark, the other is had."""
        began = time.perf_counter()
        had = await self.ask("board.reserve", board={"tags": ["m4"]}, duration_s=60)
        while had["state"] == "waiting":  # both are going dark: what that takes counts
            had = await self.ask("reservation.get", id=had["id"])
        await self.ask("board.release", id=had["id"])
        return time.perf_counter() - began

    async def ask(self, verb: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        request = {"request_id": f"r{self._number:08}", "client": CLIENT, "params": params}
        publishing = asyncio.create_task(self._client.publish(TOPICS.request(verb), json.dumps(request), qos=1))
        async with asyncio.timeout(ANSWER_S):
            async for message in self._client.messages:
                assert isinstance(message.payload, bytes)
                reply: dict[str, Any] = json.loads(message.payload)
                if reply["request_id"] == request["request_id"]:
                    break
        await publishing
        if not reply["ok"]:
            raise RuntimeError(f"the lab refused: {reply['error']}")
        result: dict[str, Any] = reply["result"]
        return result


async def _labgrid(each: int, outstanding: tuple[int, ...]) -> dict[int, Times] | None:
    """The same of labgrid; None if it cannot be had."""
    python = LABGRID / "bin" / "python"
    if not (LABGRID / "bin" / "labgrid-coordinator").exists():
        made = await _run(INSTALL_S, sys.executable, "-m", "venv", str(LABGRID))
        if made is None or await _run(INSTALL_S, str(python), "-m", "pip", "install", "-q", "labgrid") is None:
            return None
    side = Path(__file__).with_name("labgrid_side.py")
    said = await _run(LABGRID_S, str(python), str(side), str(each), *map(str, outstanding))
    if said is None:
        raise RuntimeError("labgrid is installed, but did not do its part")
    return {int(number): Times(**took) for number, took in json.loads(said).items()}


async def _run(deadline_s: float, *command: str) -> bytes | None:
    """What a command printed; None if it failed."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(deadline_s):
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return out if process.returncode == 0 else None
