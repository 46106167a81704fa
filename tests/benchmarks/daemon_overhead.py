"""How much longer a job takes than its board needs for it."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from contextlib import aclosing
from pathlib import Path

from labd.benchmarks import Mode
from labd.model.states import JobState
from labd.mqtt.client import LabClient, connect
from labd.service.messages import JobDocument, JobSpec
from labd.virtual.control import BoardState
from labd.virtual.lab import LAB, VirtualLab, virtual_lab
from tests.benchmarks.figure import Better, Figure
from tests.brokers import mosquitto

LIMIT = 0.05
FIRMWARE = Path(__file__).parent.parent.parent / "build" / "firmware" / "manifest.json"
RACK = """
[rack]
dir = "rack"
seed = 20

[[analyzer]]
id = "psu-1"

[[timestamper]]
id = "stamps-1"
triggers = ["psu-1"]

[[board]]
id = "board-1"
supply = { analyzer = "psu-1", channel = 1 }
timing = { timestamper = "stamps-1", pin = 0 }
"""
ANSWER_S = 30.0
JOB_S = 120.0
REST_S = 30.0
LOOK_S = 0.1


async def daemon_overhead(min_window_s: float = 1.2, jobs: int = 3) -> tuple[Figure, ...]:
    """Share of a job's wall time in which its board was not needed; mean over `jobs` energy jobs of five trials.

    Everything is as in life: Mosquitto, the daemon and a rack at speed 1 are processes of their own. The wall time runs
    from the client's submit to the client's hearing that the job has completed. The board is needed while it boots,
    works or empties its rail, and while a byte is on its serial line in either direction; the rack adds that up as one
    union. Nothing else counts as need: what the instruments take to answer, to flash, to settle or to hand over the
    last samples is charged to the daemon, and so is all that comes after the output went off for the last time, when
    the rail empties but nobody waits for it.

    A first job, not counted, puts the image in place.
    """
    walls: list[float] = []
    needs: list[float] = []
    folder = Path(tempfile.mkdtemp(prefix="labd-bench-"))
    try:
        async with mosquitto(folder) as broker, virtual_lab(folder / "lab", rack_toml=RACK, speed=1.0) as lab:
            lab.write_lab(str(broker.endpoint), FIRMWARE)
            await lab.start_daemon()
            async with connect(broker.endpoint, LAB, timeout_s=ANSWER_S) as client:
                await _job(client, min_window_s=0.1, trials=1)
                for _ in range(jobs):
                    before = await _at_rest(lab)
                    began = time.perf_counter()
                    await _job(client, min_window_s=min_window_s, trials=5)
                    walls.append(time.perf_counter() - began)
                    after = await _board(lab)
                    off_s = (await lab.control.switchings())[-1].at_s
                    needs.append(after.busy_s - before.busy_s - (after.now_s - off_s))
    finally:
        shutil.rmtree(folder)
    wall_s, need_s = sum(walls) / jobs, sum(needs) / jobs
    return (
        Figure(
            "daemon_overhead",
            1.0 - need_s / wall_s,
            "1",
            LIMIT,
            Better.LOWER,
            f"wall time of a job, {wall_s:.2f} s; its board was needed for {need_s:.2f} s of it",
        ),
    )


async def _job(client: LabClient, *, min_window_s: float, trials: int) -> None:
    """Submit an energy job and hear of its completion."""
    accepted = await client.submit(
        JobSpec(benchmark="digits01", mode=Mode.ENERGY, min_window_s=min_window_s, trials=trials)
    )
    async with asyncio.timeout(JOB_S), aclosing(client.follow(accepted.job_id)) as updates:
        async for update in updates:
            if isinstance(update, JobDocument) and update.state.ended:
                if update.state is not JobState.COMPLETED:
                    raise RuntimeError(f"the job ended as {update.state}: {update.cause}")
                return


async def _board(lab: VirtualLab) -> BoardState:
    (board,) = await lab.control.boards()
    return board


async def _at_rest(lab: VirtualLab) -> BoardState:
    """Wait until the rail is empty, so that no job begins with what another has left."""
    async with asyncio.timeout(REST_S):
        board = await _board(lab)
        while True:
            await asyncio.sleep(LOOK_S)
            before, board = board, await _board(lab)
            if board.busy_s == before.busy_s and not board.powered:
                return board
