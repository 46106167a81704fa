"""A rack that looks after itself: cables and instruments that go and come back, and the jobs that wait meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from labd.benchmarks import Mode
from labd.model.states import BoardState, InstrumentState
from labd.mqtt.client import LabClient
from labd.service.health.messages import BoardDetail, BoardRef, BoardWithdrawal, InstrumentPage, InstrumentQuery
from labd.service.messages import BoardDocument
from tests.deadline import HUNG_S
from tests.end_to_end.labs import Scene, ended, scene, spec

BOARD = "board-1"


def quick_health(lab: Scene) -> None:
    """Have quarantine come after two failures, with short pauses."""
    lab_toml = lab.lab.lab_toml
    lab_toml.write_text(lab_toml.read_text() + "\n[health]\nquarantine_after = 2\nretry_s = 4.0\n")


async def board(client: LabClient) -> BoardDocument:
    """The board as the lab tells it."""
    return (await client.boards()).boards[0]


async def becomes(client: LabClient, is_so: Callable[[BoardDocument], bool]) -> BoardDocument:
    """Wait for the board."""
    async with asyncio.timeout(HUNG_S):
        while not is_so(seen := await board(client)):
            await asyncio.sleep(0.1)
        return seen


async def test_an_unplugged_serial_adapter_costs_no_job_and_comes_back_by_itself(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        quick_health(here)
        await here.lab.start_daemon()
        port = here.lab.endpoints.boards[BOARD].serial
        behind = await asyncio.to_thread(port.readlink)
        async with here.client() as client:
            assert (await ended(client, (await client.submit(spec(Mode.ENERGY))).job_id)).state == "completed"
            await asyncio.to_thread(port.unlink)
            gone = await becomes(client, lambda seen: seen.state is BoardState.QUARANTINED)
            assert "port" in gone.reason
            assert gone.strikes >= 2
            waiting = await client.submit(spec(Mode.ENERGY))
            await asyncio.to_thread(port.symlink_to, behind)
            assert (await ended(client, waiting.job_id)).state == "completed"
            detail = await client.request("board.get", BoardRef(id=BOARD), BoardDetail)
            assert detail.checks[0].passed
            assert any(not check.passed for check in detail.checks)
            assert {change.state for change in detail.changes} >= {"suspect", "quarantined", "online"}


async def test_an_analyzer_that_goes_makes_its_boards_wait_and_go_on_when_it_is_back(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        quick_health(here)
        await here.lab.start_daemon()
        async with here.client() as client:
            await becomes(client, lambda seen: seen.state is BoardState.ONLINE)
            await here.lab.control.set_fault("psu-1", "off")
            page = await client.request("instrument.list", InstrumentQuery(), InstrumentPage)
            async with asyncio.timeout(HUNG_S):
                while all(each.state is not InstrumentState.OFFLINE for each in page.instruments):
                    await asyncio.sleep(0.2)
                    page = await client.request("instrument.list", InstrumentQuery(), InstrumentPage)
            away = await becomes(client, lambda seen: seen.state is BoardState.SUSPECT)
            assert away.strikes == 0, "an instrument's fault is no strike of the board's"
            assert "psu-1" in away.reason
            waiting = await client.submit(spec(Mode.ENERGY))
            await here.lab.control.clear_fault("psu-1", "off")
            job = await ended(client, waiting.job_id)
            assert (job.state, len(job.runs)) == ("completed", 1)


async def test_maintenance_outlives_the_run_the_check_and_the_daemon(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        quick_health(here)
        await here.lab.start_daemon()
        async with here.client() as client:
            job = await client.submit(spec(Mode.ENERGY, min_window_s=4.0))
            await becomes(client, lambda seen: seen.run_id is not None)
            wish = BoardWithdrawal(id=BOARD, reason="new probe")
            told = await client.request("board.maintain", wish, BoardDocument)
            assert told.state is BoardState.MAINTENANCE
            assert told.run_id is not None
        await here.lab.kill_daemon()
        await here.lab.start_daemon()
        async with here.client() as client:
            seen = await board(client)
            assert (seen.state, seen.run_id) == (BoardState.MAINTENANCE, None)
            assert seen.reason.startswith("new probe")
            await client.request("board.return", BoardRef(id=BOARD), BoardDocument)
            assert (await ended(client, job.job_id)).state == "completed"
            detail = await client.request("board.get", BoardRef(id=BOARD), BoardDetail)
            assert [check.trigger for check in detail.checks] == ["return"]
