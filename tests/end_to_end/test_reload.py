"""Another `lab.toml` for a daemon at work: what runs is not touched, what is wrong is refused whole."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from labd.benchmarks import Mode
from labd.errors import RequestError
from labd.model.states import BoardState, JobState, RunStep
from labd.mqtt.client import LabClient
from labd.service.lab_messages import LabReload, ReloadDocument
from labd.service.messages import BoardDocument, ProgressDocument
from tests.end_to_end.labs import ANSWER_S, Scene, ended, scene, spec


class File:
    """The `lab.toml` of a scene, section by section."""

    def __init__(self, here: Scene) -> None:
        self.path = here.lab.lab_toml
        self.text = self.path.read_text()

    def write(self, text: str) -> None:
        self.path.write_text(text)

    def without_board(self, board: str) -> str:
        sections = re.split(r"(?m)^(?=\[)", self.text)
        return "".join(each for each in sections if f'id = "{board}"' not in each)


async def reload(client: LabClient) -> ReloadDocument:
    return await client.request("lab.reload", LabReload(), ReloadDocument)


async def board(client: LabClient, board_id: str) -> BoardDocument | None:
    return next((each for each in (await client.boards()).boards if each.id == board_id), None)


async def online(client: LabClient, board_id: str) -> None:
    async with asyncio.timeout(ANSWER_S):
        while (found := await board(client, board_id)) is None or found.state is not BoardState.ONLINE:
            await asyncio.sleep(0.05)


async def measuring(here: Scene, job_id: int) -> None:
    async with here.client() as client, asyncio.timeout(ANSWER_S):
        async for update in client.follow(job_id):
            if isinstance(update, ProgressDocument) and update.step is RunStep.MEASURE and update.trial > 0:
                return


def events(here: Scene) -> list[tuple[str, str, str, str]]:
    with closing(sqlite3.connect(here.lab.data_dir / "labd.db")) as database:
        return database.execute("SELECT kind, subject, state, reason FROM event ORDER BY id").fetchall()


async def test_boards_come_and_go_while_others_run(tmp_path: Path) -> None:
    async with scene(tmp_path, boards=2) as here:
        file = File(here)
        file.write(file.without_board("board-2"))
        await here.lab.start_daemon()
        async with here.client() as client:
            running = (await client.submit(spec(Mode.ENERGY, board=1, trials=3))).job_id
            await measuring(here, running)

            file.write(file.text)
            told = await reload(client)
            assert (told.boards.added, told.boards.removed, told.boards.changed) == (("board-2",), (), ())
            await online(client, "board-2")
            second = (await client.submit(spec(Mode.PERFORMANCE, board=2))).job_id

            file.write(file.without_board("board-1"))
            told = await reload(client)
            assert told.boards.removed == ("board-1",)
            with pytest.raises(RequestError, match="no board can serve"):
                await client.submit(spec(Mode.PERFORMANCE, board=1))
            first, other = await ended(client, running), await ended(client, second)
        assert [(job.state, len(job.runs)) for job in (first, other)] == [(JobState.COMPLETED, 1)] * 2
        async with asyncio.timeout(ANSWER_S):
            while ("board", "board-1", "offline", "removed from lab.toml") not in await asyncio.to_thread(events, here):
                await asyncio.sleep(0.05)


async def test_a_file_with_faults_is_refused_whole_and_a_restart_is_asked_for_where_it_takes_one(
    tmp_path: Path,
) -> None:
    async with scene(tmp_path) as here:
        file = File(here)
        await here.lab.start_daemon()
        async with here.client() as client:
            file.write(file.without_board("board-1").replace("[mqtt]", "[mqqt]") + "\n[queue]\nageing_s = 0\n")
            with pytest.raises(RequestError) as refused:
                await reload(client)
            assert "2 faults" in str(refused.value)
            assert all(words in str(refused.value) for words in ("did you mean 'mqtt'", "queue.ageing_s", "line "))
            file.write("[lab\n")
            with pytest.raises(RequestError, match=r"lab\.toml cannot be used"):
                await reload(client)
            file.write(file.text.replace('name = "demo"', 'name = "other"'))
            with pytest.raises(RequestError, match=r"only a restart can change lab\.name"):
                await reload(client)
            assert (await board(client, "board-1")) is not None
            job = await ended(client, (await client.submit(spec(Mode.PERFORMANCE))).job_id)
        assert job.state is JobState.COMPLETED


async def test_sighup_reloads_and_an_instrument_with_another_address_is_reopened_after_its_run(
    tmp_path: Path,
) -> None:
    async with scene(tmp_path) as here:
        file = File(here)
        await here.lab.start_daemon()
        async with here.client() as client:
            running = (await client.submit(spec(Mode.ENERGY, trials=3))).job_id
            await measuring(here, running)
            # the same rack by another name: what was open has to be left first
            moved = file.text.replace("TCPIP::127.0.0.1::", "TCPIP::localhost::")
            assert moved != file.text
            file.write(moved)
            assert here.lab.daemon_pid is not None
            os.kill(here.lab.daemon_pid, signal.SIGHUP)
            async with asyncio.timeout(ANSWER_S):
                while not any(event[2] == "reloaded" for event in await asyncio.to_thread(events, here)):
                    await asyncio.sleep(0.05)
            after = (await client.submit(spec(Mode.ENERGY))).job_id
            first, second = await ended(client, running), await ended(client, after)
        assert [(job.state, len(job.runs)) for job in (first, second)] == [(JobState.COMPLETED, 1)] * 2
        told = [
            (kind, state) for kind, subject, state, _ in await asyncio.to_thread(events, here) if subject != "stamps-1"
        ]
        order = [each for each in told if each[0] in ("trace", "instrument") or each[1] == "reloaded"]
        assert order == [
            ("instrument", "online"),
            ("trace", "recording"),
            ("lab", "reloaded"),
            ("trace", "sealed"),
            ("instrument", "online"),
            ("trace", "recording"),
            ("trace", "sealed"),
        ], "the first run had the instrument until its trace was sealed, the second has it anew"
        assert here.log().count('"event": "instrument_taken_over"') == 1

        file.write("[lab")
        os.kill(here.lab.daemon_pid, signal.SIGHUP)
        async with asyncio.timeout(ANSWER_S):
            while not any(event[2] == "reload_refused" for event in await asyncio.to_thread(events, here)):
                await asyncio.sleep(0.05)
        assert here.lab.daemon_pid is not None
        await here.lab.kill_daemon()
        file.write(file.without_board("board-1"))
        await here.lab.start_daemon()
        async with here.client() as client:
            assert (await client.boards()).boards == (), "a start reads the file as it is"


async def test_a_reload_that_is_asked_for_while_the_daemon_starts_is_done_once_it_has_started(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        starting = asyncio.create_task(here.lab.start_daemon(), name="start-daemon")
        async with asyncio.timeout(ANSWER_S):
            while here.lab.daemon_pid is None or "daemon_started" not in here.log():
                await asyncio.sleep(0.002)
        os.kill(here.lab.daemon_pid, signal.SIGHUP)
        await starting
        async with asyncio.timeout(ANSWER_S):
            while not any(event[2] == "reloaded" for event in await asyncio.to_thread(events, here)):
                await asyncio.sleep(0.05)
