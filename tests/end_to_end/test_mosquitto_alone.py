"""The README's own shell lines, and nothing else, take a job from its request to its result, and ask for its trace."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from pathlib import Path
from typing import Any

from labd.virtual.lab import LAB
from tests.brokers import program
from tests.deadline import HUNG_S
from tests.end_to_end.labs import ENDED_S, ROOT, scene

README = ROOT / "README.md"


async def bash(script: str, folder: Path) -> str:
    process = await asyncio.create_subprocess_exec(
        *("bash", "-euo", "pipefail", "-c", script), cwd=folder, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(HUNG_S):
        out, _ = await process.communicate()
    assert process.returncode == 0, script
    return out.decode()


async def followed(settings: str, command: str) -> list[str]:
    """Topics of what a following client prints until the job has ended; then it is told Ctrl-C."""
    process = await asyncio.create_subprocess_exec(
        *("bash", "-euc", f"{settings}exec {command}"), stdout=asyncio.subprocess.PIPE, limit=1 << 20
    )
    assert process.stdout is not None
    topics = []
    try:
        async with asyncio.timeout(ENDED_S):
            async for line in process.stdout:
                topic, _, payload = line.decode().partition(" ")
                topics.append(topic)
                if "state" in (told := json.loads(payload)) and told["state"] not in ("queued", "running"):
                    break
    finally:
        process.send_signal(signal.SIGINT)
        await process.communicate()
    return topics


async def test_the_lines_of_the_readme_submit_a_job_and_follow_it_to_its_result(tmp_path: Path) -> None:
    program("mosquitto_pub")
    by_hand = README.read_text().split("### By hand")[1].split("\n## ")[0]
    settings, ask, follow, result = re.findall(r"^```sh\n(.*?)^```$", by_hand, re.DOTALL | re.MULTILINE)
    assert settings.startswith("host=127.0.0.1 port=1883 lab=bench-1 ")
    async with scene(tmp_path) as here:
        await here.lab.start_daemon()
        async with here.client():
            pass  # the lab hears from here on
        ours = settings.replace("1883", str(here.broker.endpoint.port)).replace("bench-1", LAB)
        reply = json.loads(await bash(ours + ask, tmp_path))
        assert reply["ok"] is True
        job = f"job={reply['result']['job_id']}\n"
        topics = await followed(ours + job, follow)
        document = json.loads(await bash(ours + job + result, tmp_path))
        traces = await traces_asked_for(ours, ask, tmp_path)
    root = f"labd/v1/{LAB}/job/{reply['result']['job_id']}"
    assert set(topics) == {root, f"{root}/progress"}
    assert document["state"] == "completed"
    score = document["runs"][-1]["scores"][-1]["result"]
    assert score["energy_j_per_inference"]["value"] > 0
    assert traces == [trace["id"] for trace in document["runs"][-1]["traces"]]


async def traces_asked_for(ours: str, ask: str, folder: Path) -> list[str]:
    """List, look at, pin and let go of the lab's traces with the lines that ask for a job; return the ids listed."""

    async def asked(verb: str, params: dict[str, object]) -> Any:
        line = re.sub(r'"params": \{.*?\}', f'"params": {json.dumps(params)}', ask.replace("job.submit", verb))
        assert verb in line
        reply = json.loads(await bash(ours + line.split("job=$(")[0], folder))
        assert reply["ok"] is True, reply
        return reply["result"]

    ids = [trace["id"] for trace in (await asked("trace.list", {"state": "sealed"}))["traces"]]
    named: dict[str, object] = {"id": ids[0]}
    assert (await asked("trace.get", named))["scores"][-1]["scorer"].startswith("labd-energy/")
    assert (await asked("trace.pin", {**named, "reason": "odd spike"}))["pinned"] is True
    assert (await asked("trace.gc", {"dry_run": True}))["count"] == 0
    assert (await asked("trace.gc", {}))["dry_run"] is False
    assert (await asked("trace.unpin", named))["pinned"] is False
    return ids
