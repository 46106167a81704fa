"""What the tab key offers: ids and names, asked from the lab that the command line means.

A shell waits while this is done, and shows what is printed meanwhile in the middle of the line being typed. So a lab
that is not there, or does not answer within a second, offers nothing, and says nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace

import typer
from pydantic import ValidationError

from labd.benchmarks import BENCHMARKS
from labd.cli.connection import chosen
from labd.errors import LabError
from labd.model.states import JobState, ReservationState
from labd.mqtt.client import LabClient
from labd.service.messages import JobQuery, JobSummary

DEADLINE_S = 1.0
"""Longest that a shell waits for the lab, s."""
MOST = 30
"""Most numbers of jobs, and most traces, that are offered: the newest."""

Item = tuple[str, str]
"""What is offered, and a word on it for shells that show one."""


def complete_board(context: typer.Context, incomplete: str) -> list[Item]:
    """Boards of the lab."""

    async def work(lab: LabClient) -> Iterable[Item]:
        return [(board.id, str(board.state)) for board in (await lab.boards()).boards]

    return _offered(context, incomplete, work)


def complete_tag(context: typer.Context, incomplete: str) -> list[Item]:
    """Tags that boards of the lab have."""

    async def work(lab: LabClient) -> Iterable[Item]:
        boards = (await lab.boards()).boards
        return [(tag, "") for tag in sorted({tag for board in boards for tag in board.tags})]

    return _offered(context, incomplete, work)


def complete_instrument(context: typer.Context, incomplete: str) -> list[Item]:
    """Instruments of the lab."""
    from labd.service.health.messages import InstrumentPage, InstrumentQuery

    async def work(lab: LabClient) -> Iterable[Item]:
        page = await lab.request("instrument.list", InstrumentQuery(), InstrumentPage)
        return [(each.id, f"{each.driver}, {each.state}") for each in page.instruments]

    return _offered(context, incomplete, work)


def complete_sweep(context: typer.Context, incomplete: str) -> list[Item]:
    """Sweeps of the lab."""
    from labd.service.sweeps.messages import SweepPage, SweepQuery

    async def work(lab: LabClient) -> Iterable[Item]:
        page = await lab.request("sweep.list", SweepQuery(), SweepPage)
        return [(sweep.name, str(sweep.state)) for sweep in page.sweeps]

    return _offered(context, incomplete, work)


def complete_job(context: typer.Context, incomplete: str) -> list[Item]:
    """The newest jobs, whatever has become of them."""
    return _jobs(context, incomplete, None)


def complete_live_job(context: typer.Context, incomplete: str) -> list[Item]:
    """The newest jobs that have not ended: those that run first."""
    return _jobs(context, incomplete, JobState.RUNNING, JobState.QUEUED, JobState.PARKED)


def complete_parked_job(context: typer.Context, incomplete: str) -> list[Item]:
    """The newest parked jobs."""
    return _jobs(context, incomplete, JobState.PARKED)


def complete_reservation(context: typer.Context, incomplete: str) -> list[Item]:
    """Reservations that have not ended."""
    from labd.service.reservations.messages import ReservationPage, ReservationQuery

    async def work(lab: LabClient) -> Iterable[Item]:
        page = await lab.request("reservation.list", ReservationQuery(limit=MOST), ReservationPage)
        live = [each for each in page.reservations if each.state is not ReservationState.ENDED]
        return [(str(each.id), f"{each.owner}, {each.board_id or each.state}") for each in live]

    return _offered(context, incomplete, work)


def complete_trace(context: typer.Context, incomplete: str) -> list[Item]:
    """The newest traces; where none begins like that, shells offer folders."""
    from labd.service.traces.messages import TracePage, TraceQuery

    async def work(lab: LabClient) -> Iterable[Item]:
        page = await lab.request("trace.list", TraceQuery(limit=MOST), TracePage)
        return [(trace.id, f"job {trace.job_id}, {trace.board_id}") for trace in page.traces]

    return _offered(context, incomplete, work)


def complete_benchmark(incomplete: str) -> list[Item]:
    """Benchmarks that this version knows."""
    return [(name, "") for name in BENCHMARKS if name.startswith(incomplete)]


def complete_verb(incomplete: str) -> list[Item]:
    """What a lab of this version can be asked."""
    from labd.service.requests import VERBS

    return [(verb, "") for verb in VERBS if verb.startswith(incomplete)]


def _jobs(context: typer.Context, incomplete: str, *states: JobState | None) -> list[Item]:
    async def work(lab: LabClient) -> Iterable[Item]:
        jobs: list[JobSummary] = []
        for state in states:
            if len(jobs) < MOST:
                jobs += (await lab.jobs(JobQuery(state=state, limit=MOST))).jobs
        return [(str(job.id), f"{job.benchmark} {job.mode}, {job.state}") for job in jobs[:MOST]]

    return _offered(context, incomplete, work)


def _offered(
    context: typer.Context, incomplete: str, work: Callable[[LabClient], Awaitable[Iterable[Item]]]
) -> list[Item]:
    """What `work` finds in the lab that the options and the environment name, as far as it begins like that."""

    async def asked() -> Iterable[Item]:
        connection = replace(chosen(context.find_root().params).connection(), timeout_s=DEADLINE_S)
        async with asyncio.timeout(DEADLINE_S), connection.client() as lab:
            return await work(lab)

    try:
        items = asyncio.run(asked())
    except (LabError, ValidationError, TimeoutError):
        return []
    return [item for item in items if item[0].startswith(incomplete)]
