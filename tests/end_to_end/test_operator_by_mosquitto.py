"""Everything an operator can do is done with `mosquitto_pub` and `mosquitto_sub` alone, in the README's own lines."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from labd.service.requests import VERBS
from labd.service.sessions.inbox import put_into_inbox
from labd.trace.sessions.folders import find_sessions
from tests.brokers import program
from tests.end_to_end.labs import ENDED_S, Scene
from tests.end_to_end.operator_days import RefusalError, days, lab, overheard
from tests.end_to_end.test_mosquitto_alone import README, bash


@dataclass(frozen=True)
class ByMosquitto:
    """The lines that ask for a job, with another verb and other parameters."""

    here: Scene
    folder: Path
    settings: str
    line: str
    me: str = "alice"

    async def ask(self, verb: str, params: dict[str, Any]) -> dict[str, Any]:
        # a shell takes no single quote within single quotes; JSON has another way to write it
        text = json.dumps(params).replace("'", "\\u0027")
        line = re.sub(r'"params": \{.*?\}', lambda _: f'"params": {text}', self.line.replace("job.submit", verb))
        reply = json.loads(await bash(self.settings + line, self.folder))
        if not reply["ok"]:
            raise RefusalError(verb, params, reply["error"])
        return dict(reply["result"])

    async def import_session(self, folder: Path) -> list[int]:
        (session,) = find_sessions(folder)
        digest = await asyncio.to_thread(put_into_inbox, session, self.here.lab.data_dir)
        return list((await self.ask("trace.import", {"session": digest}))["jobs"])

    async def kept(self, below: str) -> dict[str, Any]:
        """What the broker keeps below a topic of the lab, by topic."""
        root = "labd/v1/$lab/"
        told = await bash(
            f"{self.settings}mosquitto_sub -h $host -p $port -v -t '{root.replace('$lab', 'demo')}{below}' "
            "--retained-only -W 2 || test $? = 27",
            self.folder,
        )
        lines = (line.partition(" ") for line in told.splitlines())
        return {topic.removeprefix("labd/v1/demo/"): json.loads(payload) for topic, _, payload in lines}


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_an_operators_days_with_mosquittos_clients_alone(tmp_path: Path) -> None:
    program("mosquitto_pub")
    by_hand = README.read_text().split("### By hand")[1].split("\n## ")[0]
    settings, ask, *_ = re.findall(r"^```sh\n(.*?)^```$", by_hand, re.DOTALL | re.MULTILINE)
    async with asyncio.timeout(6 * ENDED_S), lab(tmp_path) as here:
        ours = settings.replace("1883", str(here.broker.endpoint.port)).replace("bench-1", "demo")
        face = ByMosquitto(here, tmp_path, ours, ask.split("job=$(")[0])
        async with overheard(here, "request") as requests, overheard(here, "event") as events:
            before = await face.kept("#")
            await days(face, here, tmp_path)
            told = [json.loads(payload) for _, payload in events]
        after = await face.kept("#")

    assert {verb for verb, _ in requests} == set(VERBS), "every verb was asked, and no other"

    assert before["status"]["state"] == "online"
    assert {"board/board-1", "board/board-2"} <= set(before)
    assert {"board/board-1", "board/board-2", "instrument/psu-1"} <= set(after)
    assert after["board/board-1"]["state"] == "online"
    jobs = {name: document for name, document in after.items() if name.startswith("job/")}
    states_of_jobs = {document["state"] for document in jobs.values()}
    assert states_of_jobs >= {"completed", "cancelled"}
    assert not states_of_jobs & {"queued", "running", "parked"}
    assert not any(name.startswith(("sweep/", "reservation/")) for name in after), "what is over is cleared"

    numbers = [event["number"] for event in told]
    assert sorted(set(numbers)) == list(range(min(numbers), max(numbers) + 1)), "no event is missing"
    states = {(event["kind"], event["state"]) for event in told}
    assert states >= {
        ("job", "parked"),
        ("run", "interrupted"),
        ("trace", "sealed"),
        ("sweep", "paused"),
        ("reservation", "active"),
        ("reservation", "ended"),
        ("board", "quarantined"),
        ("instrument", "maintenance"),
        ("lab", "stopped"),
    }
    assert ("reservation", "warned") in {(event["kind"], event["reason"]) for event in told}
    assert {event["actor"] for event in told} == {"alice", "labd"}
