"""How the daemon begins and ends: told to stop in mid-run, started twice, or started where something is not right."""

from __future__ import annotations

import asyncio
import json
import socket
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from labd.benchmarks import Mode
from labd.errors import UnreachableError
from labd.model.causes import Cause
from labd.model.migrations import upgrade
from labd.model.states import JobState, RunState, RunStep
from labd.mqtt.client import connect
from labd.service.messages import ProgressDocument
from labd.virtual.lab import LAB
from tests.brokers import free_port
from tests.end_to_end.labs import ANSWER_S, Scene, ended, labd, scene, spec


async def running_job(here: Scene, mode: Mode) -> int:
    """Submit a job and wait until it measures."""
    async with here.client() as client:
        job_id = (await client.submit(spec(mode, trials=3))).job_id
        async with asyncio.timeout(ANSWER_S):
            async for update in client.follow(job_id):
                if isinstance(update, ProgressDocument) and update.step is RunStep.MEASURE and update.trial > 0:
                    return job_id
    raise AssertionError("following ended by itself")


async def test_sigterm_in_a_run_ends_it_as_interrupted_switches_off_and_the_next_daemon_does_it_again(
    tmp_path: Path,
) -> None:
    async with scene(tmp_path) as here:
        await here.lab.start_daemon()
        job_id = await running_job(here, Mode.ENERGY)
        assert any(output.energized for output in await here.lab.control.outputs())
        assert await here.lab.stop_daemon() == 0
        assert not any(output.energized for output in await here.lab.control.outputs())
        async with connect(here.broker.endpoint, LAB, timeout_s=ANSWER_S) as client:
            with pytest.raises(UnreachableError, match="offline"):
                await client.status()
        await here.lab.start_daemon()
        async with here.client() as client:
            job = await ended(client, job_id)
        assert job.state is JobState.COMPLETED
        first, second = job.runs
        assert (first.state, second.state) == (RunState.INTERRUPTED, RunState.COMPLETED)
        assert first.cause is not None
        assert first.cause.kind is Cause.DAEMON_STOPPED


async def test_a_second_daemon_on_the_same_data_is_refused_and_the_first_ones_run_goes_on(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        await here.lab.start_daemon()
        job_id = await running_job(here, Mode.PERFORMANCE)
        second = await labd("run", str(here.lab.lab_toml))
        assert second.status == 1
        assert f"another daemon, process {here.lab.daemon_pid}, runs on this data directory" in second.err
        assert str(here.lab.data_dir) in second.err
        assert "Traceback" not in second.err
        async with here.client() as client:
            job = await ended(client, job_id)
        assert (job.state, len(job.runs)) == (JobState.COMPLETED, 1)


async def test_a_daemon_whose_broker_is_away_starts_and_connects_when_it_comes(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        await here.broker.kill()
        await here.lab.start_daemon()
        await here.broker.start()
        async with here.client() as client:
            assert (await client.status()).queue_length == 0
        assert await here.lab.stop_daemon() == 0


@pytest.mark.slow
async def test_a_database_that_cannot_be_written_ends_the_daemon_in_plain_words_and_loses_no_job(
    tmp_path: Path,
) -> None:
    async with scene(tmp_path) as here:
        await here.lab.start_daemon()
        job_id = await running_job(here, Mode.PERFORMANCE)
        with closing(sqlite3.connect(here.lab.data_dir / "labd.db", isolation_level=None)) as another:
            another.execute("BEGIN IMMEDIATE")
            async with asyncio.timeout(ANSWER_S):
                while here.lab.daemon_pid is not None:
                    await asyncio.sleep(0.05)
        assert not any(output.energized for output in await here.lab.control.outputs())
        assert await here.lab.stop_daemon() == 1
        assert "is locked by another process; stop the other labd or tool" in here.log().splitlines()[-1]
        assert "Traceback" not in here.log()
        await here.lab.start_daemon()
        async with here.client() as client:
            job = await ended(client, job_id)
        assert (job.state, len(job.runs)) == (JobState.COMPLETED, 2)


def bare_lab(folder: Path, *, http: str = "127.0.0.1:0") -> Path:
    """The `lab.toml` of a lab that has nothing, with a broker that is not there."""
    path = folder / "lab.toml"
    path.write_text(
        f'[lab]\nname = "bare"\ndata_dir = {json.dumps(str(folder / "var"))}\n'
        f'[mqtt]\nurl = "mqtt://127.0.0.1:{free_port()}"\n[http]\nlisten = "{http}"\n'
    )
    return path


async def refused(path: Path, status: int, *words: str) -> None:
    """A daemon that cannot start says so in plain words."""
    ran = await labd("run", str(path))
    assert ran.status == status, ran.err
    for word in words:
        assert word in ran.err
    assert "Traceback" not in ran.err


async def test_a_port_that_is_taken_is_named_with_its_key(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        await refused(bare_lab(tmp_path, http=address), 2, "http.listen", address, "in use")


async def test_a_database_of_a_newer_labd_is_left_alone(tmp_path: Path) -> None:
    path, database = bare_lab(tmp_path), tmp_path / "var" / "labd.db"
    database.parent.mkdir()
    upgrade(f"sqlite:///{database}")
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    await refused(path, 1, "labd.db", "9999", "run the labd that wrote it, or a newer one")


async def test_a_damaged_database_is_named_with_what_can_be_done(tmp_path: Path) -> None:
    path, database = bare_lab(tmp_path), tmp_path / "var" / "labd.db"
    database.parent.mkdir()
    database.write_bytes(b"this was a database once" * 1000)
    await refused(path, 1, "labd.db", "is damaged", "restore it from a backup")


async def test_a_data_directory_that_cannot_be_locked_is_named(tmp_path: Path) -> None:
    path, lock = bare_lab(tmp_path), tmp_path / "var" / "labd.lock"
    lock.mkdir(parents=True)
    await refused(path, 1, str(lock), "cannot be used")
