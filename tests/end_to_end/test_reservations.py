"""A person's hold on a board in a whole lab: jobs wait for it, kills do not shake it, and its end is dark."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

from labd.benchmarks import Mode
from labd.model.states import BoardState, JobState, ReservationState
from labd.service.messages import BoardChoice
from labd.service.reservations.messages import ReservationDocument, ReservationRequest
from tests.cli.served import labctl
from tests.end_to_end.labs import ANSWER_S, Scene, ended, scene, spec
from tests.end_to_end.test_reload import board, measuring


def options(here: Scene) -> tuple[str, ...]:
    return "--broker", str(here.broker.endpoint), "--lab", "demo"


async def reservation(here: Scene, number: int, state: ReservationState) -> dict[str, object]:
    async with asyncio.timeout(ANSWER_S):
        while True:
            shown = await labctl(*options(here), "reservation", "show", str(number), "--json")
            if shown.status == 0 and shown.document["state"] == state:
                return dict(shown.document)
            await asyncio.sleep(0.1)


async def test_a_reservation_waits_for_the_run_then_jobs_wait_for_it_also_over_a_kill(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        await here.lab.start_daemon()
        async with here.client() as client:
            running = (await client.submit(spec(Mode.ENERGY, trials=5))).job_id
            await measuring(here, running)
            wish = ReservationRequest(board=BoardChoice(id="board-1"), purpose="solder a wire", duration_s=3600.0)
            asked = await client.request("board.reserve", wish, ReservationDocument)
            assert asked.state is ReservationState.WAITING, "a run is never cut off"
            number = asked.id
            behind = (await client.submit(spec(Mode.PERFORMANCE))).job_id
            held = await reservation(here, number, ReservationState.ACTIVE)
            assert held["board_id"] == "board-1"
            assert (await client.job(running)).state is JobState.COMPLETED

            await here.lab.kill_daemon()
            await here.lab.start_daemon()
        async with here.client() as client:
            again = await reservation(here, number, ReservationState.ACTIVE)
            assert again["ends_at"] == held["ends_at"]
            found = await board(client, "board-1")
            assert found is not None
            assert (found.state, "solder a wire" in found.reason) == (BoardState.BUSY, True)
            assert (await client.job(behind)).state is JobState.QUEUED

            longer = await labctl(*options(here), "reservation", "extend", str(number), "--for", "30m")
            assert longer.status == 0, longer.err
            given = await labctl(*options(here), "reservation", "hand-over", str(number), "bob", "--json")
            assert given.document["owner"] == "bob"
            assert not any(output.energized for output in await here.lab.control.outputs())
            back = await labctl(*options(here), "reservation", "release", str(number))
            assert back.status == 0, back.err
            over = await reservation(here, number, ReservationState.ENDED)
            assert str(over["reason"]).startswith("released by ")
            assert (await ended(client, behind)).state is JobState.COMPLETED
            assert not any(output.energized for output in await here.lab.control.outputs())


async def test_a_reservation_that_ends_while_the_daemon_is_dead_has_ended_after_its_start(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        await here.lab.start_daemon()
        async with here.client():
            asked = await labctl(*options(here), "reserve", "--tag", "native", "--for", "3s", "--wait", "--json")
        assert asked.document["board_id"] == "board-1"
        await here.lab.kill_daemon()
        async with asyncio.timeout(ANSWER_S):
            while datetime.now(UTC) < datetime.fromisoformat(asked.document["ends_at"]):
                await asyncio.sleep(0.1)
        await here.lab.start_daemon()
        over = await reservation(here, asked.document["id"], ReservationState.ENDED)
        assert over["reason"] == "its time was up"
        async with here.client() as client:
            assert (await ended(client, (await client.submit(spec(Mode.PERFORMANCE))).job_id)).state is (
                JobState.COMPLETED
            )
