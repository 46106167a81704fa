"""A whole lab with an archive: measured, sealed, brought to a real S3 server, dropped here, and pulled from there."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from labd.benchmarks import Mode
from labd.keep.archive import Archive
from labd.model.states import JobState
from labd.trace.seal import verify
from tests.deadline import HUNG_S
from tests.end_to_end.labs import Scene, ended, scene, spec
from tests.s3_server import KEY, SECRET, S3Server, proxy, s3

__all__ = ["s3"]


async def pulled(broker: str, job_id: int, out: Path) -> str:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from labd.cli.operator import main; main()", "--broker", broker, "--lab", "demo"),
        *("trace", "pull", str(job_id), "--out", str(out), "--json"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={key: value for key, value in os.environ.items() if not key.startswith("LABCTL_")},
    )
    async with asyncio.timeout(HUNG_S):
        told, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return str(json.loads(told)["traces"][0]["id"])


async def archive_notice(lab: Scene) -> str:
    async with lab.client() as client:
        return (await client.status()).archive


async def test_a_run_is_measured_while_the_archive_is_down_and_pulled_from_it_later(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    s3.make_bucket("whole-lab")
    with proxy(s3.endpoint) as between:
        between.refuses = lambda method, path: True
        async with scene(tmp_path) as lab:
            head = f'[store]\narchive_url = "s3://whole-lab/demo"\nendpoint = "{between.endpoint}"\n'
            toml = lab.lab.lab_toml
            toml.write_text(f"{head}allow_http = true\nkeep_local = false\n\n{toml.read_text()}")
            await lab.lab.start_daemon()
            async with lab.client() as client:
                job = await ended(client, (await client.submit(spec(Mode.ENERGY))).job_id)
                assert job.state is JobState.COMPLETED, job.cause
            async with asyncio.timeout(HUNG_S):
                while "503" not in await archive_notice(lab):
                    await asyncio.sleep(0.1)
            # A run that was tried again on a busy host has left a trace too, an older one.
            folder = max(path for path in lab.lab.traces_dir.iterdir() if not path.name.startswith("."))
            assert await lab.lab.stop_daemon() == 0
            between.refuses = lambda method, path: False
            await lab.lab.start_daemon()
            async with asyncio.timeout(HUNG_S):
                while folder.exists():
                    await asyncio.sleep(0.05)
            await Archive(s3.store("whole-lab", prefix="demo"), "s3://whole-lab/demo").verify(folder.name)
            assert await pulled(str(lab.broker.endpoint), job.id, tmp_path / "out") == folder.name
            verify(tmp_path / "out" / folder.name)
            assert await lab.lab.stop_daemon() == 0
            assert SECRET not in lab.log()
