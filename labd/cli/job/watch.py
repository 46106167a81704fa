"""Follows a job to its end, over lost brokers and restarted daemons, and shows how far it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from typing import Protocol

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from labd.cli.connection import Connection, OverdueError
from labd.cli.table import print_json, quantity, remarks
from labd.errors import UnreachableError
from labd.mqtt.client import Update
from labd.service.messages import JobDocument, LabState, LabStatus, Offline, ProgressDocument

PATIENCE_S = 60.0
"""How long the broker may be away while a job is watched, s."""
AGAIN_S = 1.0
"""Pause between two attempts to reach it, s."""


class Show(Protocol):
    """Where news of a job goes."""

    def __call__(self, update: Update) -> None:
        """Show one piece of news."""
        ...


async def watch_job(connection: Connection, job_id: int, limit_s: float | None, *, lines: bool) -> JobDocument:
    """The job as it ended.

    Args:
        connection: The lab.
        job_id: The job's number.
        limit_s: Longest wait, s; None to wait as long as it takes.
        lines: Print every news as a line of JSON on standard output; else show progress on standard error.

    Raises:
        RefusedError: there is no such job.
        UnreachableError: the broker was away for longer than `PATIENCE_S`, or is not there from the start.
        OverdueError: the limit has passed.
    """
    try:
        async with asyncio.timeout(limit_s):
            async with aclosing(_news(connection, job_id)) as news:
                with _json_lines() if lines else _live() as show:
                    async for update in news:
                        show(update)
                        if isinstance(update, JobDocument) and update.state.ended:
                            return update
    except TimeoutError as error:
        message = f"job {job_id} has not ended within {limit_s:g} s"
        raise OverdueError(message, remedy="it goes on; watch it again, or cancel it") from error
    raise AssertionError("news of a job end with the job")


async def _news(connection: Connection, job_id: int) -> AsyncGenerator[Update, None]:
    """News from one connection after another."""
    async with connection.client() as lab:
        yield await lab.job(job_id)
    last_contact = time.monotonic()
    while True:
        try:
            async with connection.client() as lab, aclosing(lab.follow(job_id)) as updates:
                async for update in updates:
                    last_contact = time.monotonic()
                    yield update
        except UnreachableError:
            if time.monotonic() - last_contact > PATIENCE_S:
                raise
            await asyncio.sleep(AGAIN_S)


@contextmanager
def _json_lines() -> Iterator[Show]:
    def show(update: Update) -> None:
        kind = {JobDocument: "job", ProgressDocument: "progress"}.get(type(update), "status")
        print_json({"kind": kind, kind: update.model_dump(mode="json")})

    yield show


@contextmanager
def _live() -> Iterator[Show]:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[detail]}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=remarks(), transient=True) as bar:
        task = bar.add_task("job", total=1.0, detail="")

        def show(update: Update) -> None:
            match update:
                case JobDocument():
                    bar.update(task, description=f"job {update.id} {update.state}")
                case ProgressDocument():
                    detail = f"{update.board_id}: {update.step}, trial {update.trial} of {update.trials}"
                    if update.rate_hz:
                        detail += f", {update.samples} samples at {quantity(update.rate_hz, 'S/s')}"
                    bar.update(task, completed=update.share, detail=detail)
                case LabStatus(state=LabState.ONLINE):
                    bar.update(task, detail="")
                case LabStatus() | Offline():
                    bar.update(task, detail="the lab is offline; the job goes on when it is back")

        yield show
