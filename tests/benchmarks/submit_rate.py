"""How many jobs a second a lab accepts, each on the disk before its reply, from a client that keeps on asking."""

from __future__ import annotations

import asyncio
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import aiomqtt

from labd.mqtt.topics import Topics
from tests.benchmarks.figure import Better, Figure
from tests.benchmarks.peers import peer
from tests.brokers import mosquitto

LIMIT = 0.3
TOPICS = Topics("bench-1")
CLIENT = "bench"
BARE = "bare/publish"
JOB = {"benchmark": "digits01", "mode": "energy", "board": {"tags": ["energy"]}, "trials": 5, "min_window_s": 1.0}
UNDER_WAY = 100
"""Requests, or bare publishes, that are under way at once."""
DONE_S = 120.0


async def submit_rate(rounds: int = 5, each: int = 800) -> tuple[Figure, ...]:
    """Accepted submits a second over bare QoS 1 publishes a second, in turns, through the same broker.

    The daemon and the broker are processes of their own. A bare publish is one that the bare client library sends and
    gets back as a subscriber; a submit is one whose reply has come. Both have the same payloads, and as many of them
    are under way. What the lab tells of the jobs goes on meanwhile.
    """
    folder = Path(tempfile.mkdtemp(prefix="labd-bench-"))
    submits: list[float] = []
    publishes: list[float] = []
    try:
        (folder / "lab").mkdir()
        async with (
            mosquitto(folder) as broker,
            peer("serve", broker.endpoint.port, str(folder / "lab")),
            broker.endpoint.client() as client,
        ):
            await client.subscribe(TOPICS.reply(CLIENT), qos=1)
            for number in range(rounds):
                requests = [
                    json.dumps({"request_id": f"r{number}-{one:06}", "client": CLIENT, "params": JOB})
                    for one in range(each)
                ]
                await client.subscribe(BARE, qos=1)
                publishes.append(await _rate_hz(client, BARE, requests, json.loads))
                await client.unsubscribe(BARE)
                submits.append(await _rate_hz(client, TOPICS.request("job.submit"), requests, _accepted))
    finally:
        shutil.rmtree(folder)
    submits_hz, publishes_hz = statistics.median(submits), statistics.median(publishes)
    return (
        Figure(
            "submit_rate",
            submits_hz / publishes_hz,
            "1",
            LIMIT,
            Better.HIGHER,
            f"bare QoS 1 publishes {publishes_hz:.0f} /s; labd {submits_hz:.0f} submits/s",
        ),
    )


async def _rate_hz(client: aiomqtt.Client, topic: str, payloads: list[str], taken: Callable[[bytes], None]) -> float:
    """Publish so many at once, one more for each message that comes back; return how many a second came back.

    Args:
        client: Subscribed to what comes back, and to nothing else.
        topic: Where to publish.
        payloads: What to publish.
        taken: Looks at each message that comes back.
    """
    room = asyncio.Semaphore(UNDER_WAY)

    async def send(payload: str) -> None:
        await room.acquire()
        await client.publish(topic, payload, qos=1)

    async def take() -> None:
        left = len(payloads)
        async for message in client.messages:
            assert isinstance(message.payload, bytes)
            taken(message.payload)
            room.release()
            left -= 1
            if not left:
                return

    began = time.perf_counter()
    async with asyncio.timeout(DONE_S), asyncio.TaskGroup() as group:
        group.create_task(take())
        for payload in payloads:
            group.create_task(send(payload))
    return len(payloads) / (time.perf_counter() - began)


def _accepted(payload: bytes) -> None:
    reply = json.loads(payload)
    if not reply["ok"]:
        raise RuntimeError(f"the lab refused a job: {reply['error']}")
