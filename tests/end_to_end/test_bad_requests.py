"""Whatever is sent to a daemon: it answers with the field and the kind of the fault, queues nothing and goes on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiomqtt

from labd.service.messages import JobQuery
from labd.virtual.lab import LAB
from tests.end_to_end.labs import ANSWER_S, Scene, scene

ROOT = f"labd/v1/{LAB}"
JOB = {"benchmark": "digits01", "mode": "energy"}


def request(request_id: str, params: Any) -> dict[str, Any]:
    return {"request_id": request_id, "client": "tester", "params": params}


def job(request_id: str, **wrong: Any) -> bytes:
    return json.dumps(request(request_id, {**JOB, **wrong})).encode()


BAD: dict[str, tuple[str, bytes, str, str]] = {
    # request id: verb, payload, kind and field of the answer
    "benchmark": ("job.submit", job("benchmark", benchmark="kws99"), "unknown_benchmark", "params.benchmark"),
    "board": ("job.submit", job("board", board={"id": "board-9"}), "unmatchable", "params.board.id"),
    "tags": ("job.submit", job("tags", board={"tags": ["cortex-m85"]}), "unmatchable", "params.board.tags"),
    "volts": ("job.submit", job("volts", voltage_v=12.0), "unmatchable", "params.voltage_v"),
    "mode": ("job.submit", job("mode", mode="speed"), "bad_request", "params.mode"),
    "type": ("job.submit", job("type", trials="5"), "bad_request", "params.trials"),
    "key": ("job.submit", job("key", trails=5), "bad_request", "params.trails"),
    "list": ("job.submit", json.dumps(request("list", [1, 2])).encode(), "bad_request", "params"),
    "torn": ("job.submit", job("torn")[:-5], "malformed_json", ""),
    "utf8": ("job.submit", job("utf8").replace(b"digits01", b"\xff\xfe"), "malformed_json", ""),
    "large": ("job.submit", job("large", labels={"x": "y" * 10_000_000}), "too_large", ""),
    "verb": ("job.explode", job("verb"), "unknown_request", "topic"),
    "missing": ("job.get", json.dumps(request("missing", {"id": 4711})).encode(), "not_found", "params.id"),
}


class Voice:
    """A client that sends bytes and hears replies, with no mind of its own."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self._client = client

    async def say(self, verb: str, payload: bytes, *, retain: bool = False) -> None:
        await self._client.publish(f"{ROOT}/request/{verb}", payload, qos=1, retain=retain)

    async def hear(self) -> dict[str, Any]:
        async with asyncio.timeout(ANSWER_S):
            message = await anext(self._client.messages)
        assert isinstance(message.payload, bytes)
        reply: dict[str, Any] = json.loads(message.payload)
        return reply

    async def ask(self, verb: str, payload: bytes) -> dict[str, Any]:
        await self.say(verb, payload)
        return await self.hear()


@asynccontextmanager
async def voice(here: Scene) -> AsyncIterator[Voice]:
    async with here.client():
        pass  # the lab hears from here on
    async with here.broker.endpoint.client(identifier="tester") as client:
        await client.subscribe(f"{ROOT}/reply/tester", qos=1)
        yield Voice(client)


async def queued(here: Scene) -> int:
    async with here.client() as client:
        return len((await client.jobs(JobQuery())).jobs)


async def test_every_bad_request_is_answered_with_its_kind_and_field_and_nothing_is_queued(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        await here.lab.start_daemon()
        process = here.lab.daemon_pid
        async with voice(here) as tester:
            for name, (verb, payload, kind, field) in BAD.items():
                reply = await tester.ask(verb, payload)
                assert (reply["request_id"], reply["ok"]) == (name, False), name
                assert (reply["error"]["kind"], reply["error"]["field"]) == (kind, field), name
                assert reply["error"]["message"], name
        assert await queued(here) == 0
        assert here.lab.daemon_pid == process
        assert await here.lab.stop_daemon() == 0
        refused = [line for line in map(json.loads, here.log().splitlines()) if line["event"] == "request_refused"]
        assert {line["request_id"]: (line["kind"], line["field"]) for line in refused} == {
            name: (kind, field) for name, (_, _, kind, field) in BAD.items()
        }


async def test_a_retained_request_is_refused_and_taken_off_the_broker(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        async with here.broker.endpoint.client() as early:
            await early.publish(f"{ROOT}/request/job.submit", job("kept"), qos=1, retain=True)
        async with here.broker.endpoint.client(identifier="tester") as client:
            await client.subscribe(f"{ROOT}/reply/tester", qos=1)
            await here.lab.start_daemon()
            reply = await Voice(client).hear()
            assert (reply["error"]["kind"], reply["error"]["field"]) == ("retained_request", "retain")
        assert await queued(here) == 0
        await here.lab.kill_daemon()
        async with here.broker.endpoint.client(identifier="tester") as client:
            await client.subscribe(f"{ROOT}/reply/tester", qos=1)
            await here.lab.start_daemon()
            listed = json.dumps(request("list", {})).encode()
            async with here.client():
                pass
            reply = await Voice(client).ask("job.list", listed)
            assert (reply["request_id"], reply["result"]["jobs"]) == ("list", [])


async def test_the_same_request_id_gives_the_same_reply_also_after_the_daemon_was_killed(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        await here.lab.start_daemon()
        async with voice(here) as tester:
            first = await tester.ask("job.submit", job("once"))
            assert first["ok"] is True
            assert await tester.ask("job.submit", job("once")) == first
            other = await tester.ask("job.submit", job("once", trials=3))
            assert (other["error"]["kind"], other["error"]["field"]) == ("request_id_reused", "request_id")
        await here.lab.kill_daemon()
        await here.lab.start_daemon()
        async with voice(here) as tester:
            assert await tester.ask("job.submit", job("once")) == first
        assert await queued(here) == 1
