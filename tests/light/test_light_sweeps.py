"""A night of a sweep on the real daemon, which is killed while it adds the jobs and again while they run."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path

import aiomqtt
import pytest
from sqlmodel import Session, col, create_engine, select

from labd.model.states import JobState, NightState
from labd.model.tables import Job, Night
from labd.service.reports.messages import RETAINED_MAX_BYTES, read_report
from tests.deadline import HUNG_S
from tests.light.caller import calling
from tests.light.lab import LAB, LightLab, light_lab
from tests.light.test_light_boards import folder

__all__ = ["folder"]

NIGHT_S = 4 * HUNG_S
REPETITIONS = 75
SWEEP = {
    "name": "nightly",
    "axes": {"board": [{"tags": ["light"]}]},
    "repetitions": REPETITIONS,
    "job": {"benchmark": "digits01", "mode": "performance", "trials": 1, "min_window_s": 11.5},
}


def nights(lab: LightLab) -> list[tuple[Night, Counter[int | None], Counter[JobState]]]:
    """What stands in the record of each night: itself, how often each cell is there, and the jobs' states."""
    engine = create_engine(f"sqlite:///{lab.database}")
    try:
        with Session(engine) as session:
            found = []
            for night in session.exec(select(Night).order_by(col(Night.id))):
                jobs = session.exec(select(Job.cell, Job.state).where(Job.night_id == night.id)).all()
                found.append((night, Counter(cell for cell, _ in jobs), Counter(JobState(state) for _, state in jobs)))
            return found
    finally:
        engine.dispose()


async def reaches(lab: LightLab, jobs: int, done: int) -> None:
    """Wait until the first night has so many jobs, and so many of them are completed."""
    async with asyncio.timeout(NIGHT_S):
        while True:
            here = await asyncio.to_thread(nights, lab)
            if here and here[0][1].total() >= jobs and here[0][2][JobState.COMPLETED] >= done:
                return
            await asyncio.sleep(0.02)


async def ended(lab: LightLab) -> tuple[Night, Counter[int | None], Counter[JobState]]:
    async with asyncio.timeout(NIGHT_S):
        while (await asyncio.to_thread(nights, lab))[-1][0].state is not NightState.ENDED:
            await asyncio.sleep(0.2)
    return nights(lab)[-1]


async def retained(lab: LightLab, topic: str) -> bytes:
    """What the broker keeps there."""
    endpoint = lab.broker.endpoint
    async with aiomqtt.Client(endpoint.host, endpoint.port) as client:
        await client.subscribe(f"labd/v1/{LAB}/{topic}")
        async with asyncio.timeout(HUNG_S):
            async for message in client.messages:
                assert isinstance(message.payload, bytes)
                if json.loads(message.payload).get("headline"):
                    return message.payload
    raise AssertionError("the subscription ended")


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_a_night_survives_two_kills_with_each_cell_once_and_its_report_everywhere(folder: Path) -> None:
    async with light_lab(folder, boards=8, speed=240.0) as lab:
        await lab.start_daemon()
        async with calling(lab.broker.endpoint, LAB) as caller:
            await caller.ask("sweep.create", SWEEP)
            assert (await caller.ask("sweep.run", {"name": "nightly"}))["state"] == "expanding"
        await reaches(lab, 1, 0)
        await lab.kill_daemon()
        await lab.start_daemon()
        await reaches(lab, 8 * REPETITIONS, 40)
        await lab.kill_daemon()
        await lab.start_daemon()
        night, cells, states = await ended(lab)
        assert cells == Counter(range(8 * REPETITIONS))
        assert states == {JobState.COMPLETED: 8 * REPETITIONS}
        kept = await retained(lab, "sweep/nightly/report")
        assert len(kept) <= RETAINED_MAX_BYTES
        report = read_report(json.loads(kept))
        assert (report.night, report.counts.done) == (night.id, 8 * REPETITIONS)
        assert report.retried > 0, "the kill cost some their first attempt"
        async with asyncio.timeout(NIGHT_S):  # they follow the night's end
            while len(list((folder / "var" / "reports").glob("nightly/[!.]*"))) < 3:
                await asyncio.sleep(0.1)


@pytest.mark.timeout(1800)
async def test_a_night_ends_without_the_board_that_a_reload_has_taken_away(folder: Path) -> None:
    async with light_lab(folder, boards=3, speed=240.0) as lab:
        await lab.start_daemon()
        async with calling(lab.broker.endpoint, LAB) as caller:
            await caller.ask("sweep.create", {**SWEEP, "repetitions": 20})
            await caller.ask("sweep.run", {"name": "nightly"})
            await reaches(lab, 60, 5)
            lab.write_lab(lab.boards[:2])
            lab.reload()
            await caller.ask("sweep.remove", {"name": "nightly"})
            night, _, states = await ended(lab)
        assert states[JobState.COMPLETED] >= 40
        assert states[JobState.QUEUED] == 60 - states[JobState.COMPLETED] > 0
        assert night.report is not None
        assert read_report(night.report).counts.left_over == states[JobState.QUEUED]
