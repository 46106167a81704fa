"""The two processes that answer over the broker: labd itself, and one that only sends back.

Both print a line when they listen, and run until terminated.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import structlog

from labd.bench.progress import ProgressFeed
from labd.clock import WALL
from labd.config import Board, LiveConfig, ReservationRules
from labd.config.derived import lab_facts
from labd.model import ledger_lab
from labd.model.database import Database
from labd.model.migrations import upgrade
from labd.mqtt.endpoint import Endpoint
from labd.mqtt.session import MqttSession
from labd.schedule.reservations import Granting, Warden
from labd.service.exchange import nothing
from labd.service.lab import Lab
from tests.schedule.rack import rack
from tests.service.labs import open_lab

ECHO_REQUEST = "echo/request"
ECHO_REPLY = "echo/reply"
IDLE = 197
"""Boards of the lab of reservations that nobody asks for."""


@asynccontextmanager
async def peer(kind: str, port: int, *more: str) -> AsyncIterator[None]:
    """Run one of them as a child process, from when it listens; what it logs goes nowhere, but is written.

    Args:
        kind: `serve` for labd and `reserve` for one that grants reservations, with the folder of its database as one
            more argument; `echo` for the one that only sends back, with the length of its answers in bytes.
        port: The broker's.
        more: Further arguments.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", __name__, kind, str(port), *more),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            if not await process.stdout.readline():
                raise RuntimeError(f"the {kind} process did not start")
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def serve(endpoint: Endpoint, folder: Path) -> None:
    """A lab on MQTT, with nothing that would run its jobs; its log is filtered as a daemon's is, at info."""
    async with open_lab(folder) as (lab, _):
        session = MqttSession(lab, endpoint, ProgressFeed())
        async with asyncio.TaskGroup() as group:
            group.create_task(session.run())
            await session.online.wait()
            print("online", flush=True)


async def reserve(endpoint: Endpoint, folder: Path) -> None:
    """A lab on MQTT of 200 boards that can be reserved, nearly all of them idle; switching one off takes no time."""
    url = f"sqlite:///{folder}/labd.db"
    upgrade(url)
    rules = ReservationRules(max_per_owner=1_000_000)
    three = rack(folder)
    idle = tuple(_idle(three.board[2], number) for number in range(IDLE))
    live = LiveConfig(three.model_copy(update={"reservation": rules, "board": (*three.board, *idle)}))

    async def darken(board: Board) -> bool:
        return True

    async with Database.open(url) as database:
        granting = Granting(lambda config: lab_facts(config, {}))
        warden = Warden(live, database, granting, darken=darken, wake=nothing, clock=WALL)
        lab = Lab(live, database, nothing, lambda _: None, granting=granting, reservations_changed=warden.wake)
        for board in live.now.board:
            await database.write(partial(ledger_lab.bring_up, board_id=board.id, now=WALL.now()))
        await warden.begin()
        session = MqttSession(lab, endpoint, ProgressFeed())
        async with asyncio.TaskGroup() as group:
            group.create_task(session.run())
            group.create_task(warden.run())
            await session.online.wait()
            print("online", flush=True)


def _idle(like: Board, number: int) -> Board:
    supply = like.supply.model_copy(update={"channel": 10 + number})
    serial = like.serial.model_copy(update={"port": f"/dev/ttyN{number}"})
    return like.model_copy(update={"id": f"idle-{number}", "tags": ("idle",), "supply": supply, "serial": serial})


async def echo(endpoint: Endpoint, answer_bytes: int) -> None:
    """Answer every message with one of a given length, as the bare client library does it, in the MQTT of the lab."""
    answer = b"x" * answer_bytes
    async with endpoint.client(protocol=endpoint.speaks) as client:
        await client.subscribe(ECHO_REQUEST, qos=1)
        print("online", flush=True)
        async for _ in client.messages:
            await client.publish(ECHO_REPLY, answer, qos=1)


async def _until_terminated(kind: str, endpoint: Endpoint, more: list[str]) -> None:
    kinds = {
        "serve": lambda: serve(endpoint, Path(more[0])),
        "reserve": lambda: reserve(endpoint, Path(more[0])),
        "echo": lambda: echo(endpoint, int(more[0])),
    }
    work = asyncio.create_task(kinds[kind]())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
    await asyncio.wait([work])
    if not work.cancelled():
        work.result()


def main() -> None:
    """Be one of the two."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["serve", "reserve", "echo"])
    parser.add_argument("port", type=int)
    parser.add_argument("more", nargs="*")
    arguments = parser.parse_args()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        processors=[structlog.processors.JSONRenderer()],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    asyncio.run(_until_terminated(arguments.kind, Endpoint("127.0.0.1", arguments.port), arguments.more))


if __name__ == "__main__":
    main()
