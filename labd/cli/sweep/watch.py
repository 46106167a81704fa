"""Follows a night of a sweep to its end, over lost brokers and restarted daemons."""

from __future__ import annotations

import asyncio
import time

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from labd.cli.connection import Connection, OverdueError
from labd.cli.table import remarks
from labd.errors import UnreachableError
from labd.model.states import JobState, NightState
from labd.service.sweeps.messages import NightDocument, SweepDocument, SweepRef

PATIENCE_S = 60.0
"""How long broker or lab may be away, s."""
AGAIN_S = 1.0
"""Pause between two questions, s: a night's document is told when the night changes, not with each of its jobs."""


async def watch_night(connection: Connection, name: str, night_id: int, limit_s: float | None) -> NightDocument:
    """The night as it ended; progress goes to standard error.

    Args:
        connection: The lab.
        name: The sweep.
        night_id: The night's number.
        limit_s: Longest wait, s; None to wait as long as it takes.

    Raises:
        RefusedError: the sweep was removed.
        UnreachableError: the lab was away for longer than `PATIENCE_S`.
        OverdueError: the limit has passed.
    """
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    try:
        async with asyncio.timeout(limit_s):
            with Progress(*columns, console=remarks(), transient=True) as bar:
                task = bar.add_task(f"night {night_id}", total=None)
                last_contact = time.monotonic()
                while True:
                    try:
                        night = await _night(connection, name, night_id)
                        last_contact = time.monotonic()
                        left = sum(night.counts.get(state, 0) for state in (JobState.QUEUED, JobState.RUNNING))
                        told = f"night {night_id} is {night.state}, {left} jobs to do"
                        bar.update(
                            task, description=told, total=night.jobs or None, completed=max(0, night.jobs - left)
                        )
                        if night.state in (NightState.ENDED, NightState.SKIPPED):
                            return night
                    except UnreachableError:
                        if time.monotonic() - last_contact > PATIENCE_S:
                            raise
                    await asyncio.sleep(AGAIN_S)
    except TimeoutError as error:
        message = f"night {night_id} has not ended within {limit_s:g} s"
        raise OverdueError(message, remedy=f"it goes on; see labctl sweep show {name}") from error


async def _night(connection: Connection, name: str, night_id: int) -> NightDocument:
    async with connection.client() as lab:
        sweep = await lab.request("sweep.get", SweepRef(name=name), SweepDocument)
    return next(night for night in sweep.nights if night.id == night_id)
