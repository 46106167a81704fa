"""How long a client waits for its job to be accepted, which it is once it is on the disk."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path

import aiomqtt

from labd.mqtt.topics import Topics
from tests.benchmarks.figure import Better, Figure
from tests.benchmarks.peers import ECHO_REPLY, ECHO_REQUEST, peer
from tests.brokers import mosquitto

LIMIT = 1.5
RESTED_LIMIT = 2.0
TOPICS = Topics("bench-1")
CLIENT = "bench"
JOB = {"benchmark": "digits01", "mode": "energy", "board": {"tags": ["energy"]}, "trials": 5, "min_window_s": 1.0}
REPLY = b'{"request_id":"r00000001","ok":true,"result":{"job_id":100,"state":"queued"},"error":null}'
ANSWER_S = 10.0
REST_S = 0.02


@dataclass(frozen=True, slots=True)
class Turns:
    """What submits, echoes and commits took in turn, s."""

    labd: list[float] = field(default_factory=list)
    trips: list[float] = field(default_factory=list)
    commits: list[float] = field(default_factory=list)

    def figure(self, name: str, limit: float) -> Figure:
        """Median of the submits over that of the echoes plus that of the commits."""
        labd_s, trip_s, commit_s = map(statistics.median, (self.labd, self.trips, self.commits))
        return Figure(
            name,
            labd_s / (trip_s + commit_s),
            "1",
            limit,
            Better.LOWER,
            f"bare round trip {trip_s * 1e3:.2f} ms and FULL commit {commit_s * 1e3:.2f} ms; "
            f"labd {labd_s * 1e3:.2f} ms, p99 {_p99(self.labd) * 1e3:.2f} ms beside {_p99(self.trips) * 1e3:.2f} and "
            f"{_p99(self.commits) * 1e3:.2f} ms",
        )


async def submit_latency(each: int = 300) -> tuple[Figure, ...]:
    """Submit to accepted reply, p50, over a bare round trip through the same broker plus a bare FULL commit.

    The daemon, the echoing client and the broker are processes of their own. One submit, one echo and one commit take
    turns, `each` times. The echo's payloads have the lengths of request and reply, the row that of the request. labd
    and the echo speak MQTT 5, who asks them 3.1.1. A turn begins when the lab has told all about the job before, also
    how far it has told: then it has nothing left to do.

    A second figure is of turns with rests between them, which all processes spend off the processor: the first job
    after a pause.
    """
    folder = Path(tempfile.mkdtemp(prefix="labd-bench-"))
    requests = (json.dumps({"request_id": f"r{n:08}", "client": CLIENT, "params": JOB}).encode() for n in count())
    try:
        (folder / "lab").mkdir()
        async with (
            mosquitto(folder) as broker,
            peer("serve", broker.endpoint.port, str(folder / "lab")),
            peer("echo", broker.endpoint.port, str(len(REPLY))),
            broker.endpoint.client() as client,
        ):
            for topic in (TOPICS.reply(CLIENT), TOPICS.event, TOPICS.told, ECHO_REPLY):
                await client.subscribe(topic, qos=1)
            with closing(_database(folder / "bare.db")) as database:
                at_once = await _turns(client, database, islice(requests, each), rest_s=0.0)
                rested = await _turns(client, database, islice(requests, each), rest_s=REST_S)
    finally:
        shutil.rmtree(folder)
    return at_once.figure("submit_latency", LIMIT), rested.figure("submit_latency_rested", RESTED_LIMIT)


async def _turns(
    client: aiomqtt.Client, database: sqlite3.Connection, requests: Iterable[bytes], *, rest_s: float
) -> Turns:
    turns = Turns()
    for request in requests:
        took_s, reply = await _round_trip(client, TOPICS.request("job.submit"), request, TOPICS.reply(CLIENT))
        if not json.loads(reply)["ok"]:
            raise RuntimeError(f"the lab refused the job: {reply.decode()}")
        turns.labd.append(took_s)
        await _all_told(client)
        await asyncio.sleep(rest_s)
        turns.trips.append((await _round_trip(client, ECHO_REQUEST, request, ECHO_REPLY))[0])
        turns.commits.append(_commit(database, request))
        await asyncio.sleep(rest_s)
    return turns


def _p99(times_s: list[float]) -> float:
    return statistics.quantiles(times_s, n=100)[98]


async def _round_trip(client: aiomqtt.Client, topic: str, payload: bytes, reply_topic: str) -> tuple[float, bytes]:
    """Publish and wait for the answer; return how long that took, s, and the answer."""
    began = time.perf_counter()
    publishing = asyncio.create_task(client.publish(topic, payload, qos=1))
    answer = await _next(client, reply_topic)
    took_s = time.perf_counter() - began
    await publishing
    return took_s, answer


async def _all_told(client: aiomqtt.Client) -> None:
    """Wait until the lab has told the job's event, and then that it has told everything up to it."""
    event = json.loads(await _next(client, TOPICS.event))
    while json.loads(await _next(client, TOPICS.told))["until"] < event["number"]:
        pass


async def _next(client: aiomqtt.Client, topic: str) -> bytes:
    async with asyncio.timeout(ANSWER_S):
        async for message in client.messages:
            if message.topic.value == topic:
                assert isinstance(message.payload, bytes)
                return message.payload
    raise RuntimeError("the broker has gone")


def _database(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE job (id INTEGER PRIMARY KEY, spec BLOB)")
    return database


def _commit(database: sqlite3.Connection, row: bytes) -> float:
    """Time of one row's insertion and durable commit, s."""
    began = time.perf_counter()
    database.execute("BEGIN IMMEDIATE")
    database.execute("INSERT INTO job (spec) VALUES (?)", (row,))
    database.execute("COMMIT")
    return time.perf_counter() - began
