"""The emergency stop: all goes dark at once, and stays so over a crash, until somebody lets the lab go on."""

from __future__ import annotations

import asyncio
from pathlib import Path

from labd.benchmarks import Mode
from labd.model.causes import Cause
from labd.model.states import JobState
from tests.cli.served import labctl
from tests.end_to_end.labs import ANSWER_S, Scene, ended, scene, spec
from tests.end_to_end.test_reload import measuring


def options(here: Scene) -> tuple[str, ...]:
    return "--broker", str(here.broker.endpoint), "--lab", "demo"


async def dark(here: Scene) -> None:
    async with asyncio.timeout(ANSWER_S):
        while any(output.energized for output in await here.lab.control.outputs()):
            await asyncio.sleep(0.02)


async def test_a_stop_goes_dark_at_once_stands_over_a_kill_and_ends_only_by_a_resume(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        await here.lab.start_daemon()
        async with here.client() as client:
            running = (await client.submit(spec(Mode.ENERGY, trials=3))).job_id
            await measuring(here, running)
            assert any(output.energized for output in await here.lab.control.outputs())

            stopped = await labctl(*options(here), "lab", "stop", "smoke in the rack")
            assert (stopped.status, "smoke in the rack" in stopped.out) == (0, True), stopped.err
            await dark(here)
            taken = (await client.submit(spec(Mode.PERFORMANCE))).job_id
            async with asyncio.timeout(ANSWER_S):
                while (job := await client.job(running)).state is not JobState.QUEUED:
                    await asyncio.sleep(0.05)
            assert [run.cause.kind for run in job.runs if run.cause is not None] == [Cause.LAB_STOPPED]

            await here.lab.kill_daemon()
            await here.lab.start_daemon()
        async with here.client() as client:
            status = await client.status()
            assert status.stopped is not None
            assert (status.stopped.reason, status.queue_length, status.running) == ("smoke in the rack", 2, 0)
            shown = await labctl(*options(here), "lab", "status")
            assert "smoke in the rack" in shown.out
            assert [(await client.job(job)).state for job in (running, taken)] == [JobState.QUEUED] * 2

            resumed = await labctl(*options(here), "lab", "resume")
            assert (resumed.status, resumed.out.strip()) == (0, "the lab goes on")
            for job_id in (running, taken):
                assert (await ended(client, job_id)).state is JobState.COMPLETED
            again = await labctl(*options(here), "lab", "resume")
            assert (again.status, "is not stopped" in again.err) == (3, True)
