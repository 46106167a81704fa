"""A lab that is served over a Mosquitto, and `labctl` as its operators run it: a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlmodel import Session
from typer.testing import CliRunner

from labd.bench.progress import ProgressFeed
from labd.cli.operator import app
from labd.config import Keep, LiveConfig
from labd.model import ledger, ledger_measures
from labd.model.causes import Cause, Ending
from labd.model.states import TraceState
from labd.model.tables import Score, Trace
from labd.mqtt.endpoint import Endpoint
from labd.mqtt.session import MqttSession
from labd.service.lab import Lab
from tests.brokers import Mosquitto, mosquitto
from tests.deadline import HUNG_S
from tests.service.labs import NOW, bring_up, open_lab


@dataclass(frozen=True)
class Served:
    """A lab under test."""

    broker: Mosquitto
    lab: Lab
    progress: ProgressFeed
    session: MqttSession

    @property
    def options(self) -> tuple[str, ...]:
        """What tells `labctl` of this lab."""
        return "--broker", str(self.broker.endpoint), "--lab", "bench-1"

    async def online(self) -> None:
        async with asyncio.timeout(HUNG_S):
            await self.session.online.wait()

    async def start_run(self, job_id: int) -> int:
        def work(session: Session) -> int:
            run = ledger.start_run(session, job_id, "b1", NOW, 60.0)
            assert run.id is not None
            return run.id

        return await self.lab.database.write(work)

    async def end_run(self, run_id: int, cause: Cause | None = None, detail: str = "") -> None:
        await self.lab.database.write(lambda session: ledger.end_run(session, run_id, Ending(cause, detail), NOW))

    async def measured(self, run_id: int, trace_id: str, result: dict[str, Any]) -> None:
        """A run that has a sealed trace and a score."""

        def work(session: Session) -> None:
            ledger_measures.start_trace(session, Trace(id=trace_id, run_id=run_id, period_s=204.8e-6, started_at=NOW))
            session.flush()
            ledger_measures.end_trace(
                session, trace_id, TraceState.SEALED, rows=48_828, size=123_456, sha256="0" * 64, now=NOW
            )
            ledger_measures.add_score(session, Score(run_id=run_id, scorer="energy 1", result=result, created_at=NOW))

        await self.lab.database.write(work)


@asynccontextmanager
async def served_lab(
    folder: Path, *, traces_url: str = "http://127.0.0.1:9/v1/traces", keep: Keep | None = None
) -> AsyncIterator[Served]:
    """Boards `b1` and `b2` online, and requests heard."""
    async with mosquitto(folder) as broker, open_lab(folder) as (plain, _):
        config = plain.config.model_copy(update={"keep": keep or Keep()})
        lab = Lab(LiveConfig(config), plain.database, plain.wake, plain.cancel_run, traces_url=traces_url)
        await bring_up(lab)
        progress = ProgressFeed()
        session = MqttSession(lab, broker.endpoint, progress)
        task = asyncio.create_task(session.run(), name="served-lab")
        served = Served(broker, lab, progress, session)
        try:
            await served.online()
            yield served
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@dataclass(frozen=True)
class Ended:
    """What a command left."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


@asynccontextmanager
async def started(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A `labctl` that runs; killed if it still does at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        # Whoever runs the tests in the background may have it ignored, and children inherit that.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from labd.cli.operator import main; main()",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={key: value for key, value in os.environ.items() if not key.startswith("LABCTL_")},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def labctl(*arguments: str) -> Ended:
    """Run `labctl` to its end."""
    async with started(*arguments) as process, asyncio.timeout(HUNG_S):
        return await ended(process)


def labctl_here(*arguments: str) -> Ended:
    """Run a `labctl` that needs no lab in this process, in a test without a loop: nothing is started for it."""
    unset: dict[str, str | None] = {key: None for key in os.environ if key.startswith("LABCTL_")}
    result = CliRunner().invoke(app, arguments, env=unset)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Ended(result.exit_code, result.stdout, result.stderr)


async def ended(process: asyncio.subprocess.Process) -> Ended:
    """Wait for a `labctl` to end."""
    async with asyncio.timeout(HUNG_S):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


def nowhere() -> Endpoint:
    """A broker that is not there."""
    return Endpoint("127.0.0.1", 9)
