"""A disk that fills up in the middle of a capture costs that run, and the lab goes on by itself when there is room.

Only the traces lie on the small disk. That the record can be kept when the database lies there too is tested with the
reserve: here it would give the capture room as well, now and then.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from labd.benchmarks import Mode
from labd.keep.space import SpaceState
from labd.model.causes import Cause
from labd.model.states import JobState, RunStep, TraceState
from labd.mqtt.client import LabClient
from labd.service.messages import ProgressDocument
from labd.service.traces.messages import TraceDetails, TraceRef
from labd.trace.seal import verify
from tests.end_to_end.labs import ENDED_S, Scene, ended, scene, spec
from tests.keep.small_disk import fill_up, small_disk

DISK_BYTES = 320_000_000
"""More than a tenth above the 0.2 GB that the virtual lab wants free."""


async def measuring(client: LabClient, job_id: int) -> None:
    """Wait until a run of the job measures."""
    async with asyncio.timeout(ENDED_S):
        async for news in client.follow(job_id):
            if isinstance(news, ProgressDocument) and news.step is RunStep.MEASURE and news.samples > 0:
                return


async def space_is(one: Scene, state: SpaceState) -> None:
    """Wait until the lab says so in its status."""
    async with asyncio.timeout(ENDED_S):
        while True:
            async with one.client() as client:
                if (await client.status()).space.state is state:
                    return
            await asyncio.sleep(0.2)


async def closed(client: LabClient, trace_id: str) -> TraceState:
    """Wait until a trace is no longer open."""
    async with asyncio.timeout(ENDED_S):
        while (
            state := (await client.request("trace.get", TraceRef(id=trace_id), TraceDetails)).state
        ) is TraceState.RECORDING:
            await asyncio.sleep(0.2)
        return state


async def test_a_disk_that_fills_up_costs_the_run_and_neither_its_samples_nor_the_daemon(tmp_path: Path) -> None:
    async with scene(tmp_path) as one:
        one.lab.traces_dir.mkdir(parents=True)
        with small_disk(one.lab.traces_dir, DISK_BYTES) as disk:
            await one.lab.start_daemon()
            pid = one.lab.daemon_pid
            async with one.client() as client:
                cut_off = (await client.submit(spec(Mode.ENERGY, trials=5, min_window_s=8.0))).job_id
                await measuring(client, cut_off)
                hog = await asyncio.to_thread(fill_up, disk)
                job = await ended(client, cut_off)
                assert job.cause is not None
                assert (job.state, job.cause.kind) == (JobState.FAILED, Cause.DISK_FULL), job.cause
                (trace,) = job.runs[-1].traces

                held = (await client.submit(spec(Mode.ENERGY))).job_id
                goes_on = (await client.submit(spec(Mode.PERFORMANCE))).job_id
                await space_is(one, SpaceState.CRITICAL)
                assert (await ended(client, goes_on)).state is JobState.COMPLETED
                assert (await client.job(held)).state is JobState.QUEUED

                hog.unlink()
                assert (await ended(client, held)).state is JobState.COMPLETED
                assert await closed(client, trace.id) in (TraceState.SEALED, TraceState.SALVAGED)
                seal = await asyncio.to_thread(verify, one.lab.traces_dir / trace.id)
                assert seal.rows > 0
            await space_is(one, SpaceState.ENOUGH)
            assert one.lab.daemon_pid == pid
            await one.lab.stop_daemon()
