"""How much of the time the boards of a full rack are busy while there is work for them."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import sys
import tempfile
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.benchmarks.figure import Better, Figure
from tests.fast_clock import Anchor
from tests.light.caller import Caller, calling
from tests.light.faults import RackTold
from tests.light.lab import LAB, LightLab, light_lab
from tests.light.vitals import Vitals

LIMIT = 0.95
SPEED = 2.0
JOB = {"benchmark": "digits01", "mode": "performance", "trials": 1, "min_window_s": 11.5}
"""15 s on a light board: it boots, finds its speed in one window and is measured in another."""
CLIENTS = 32
"""Submits under way at once."""
LOOK_S = 0.5


@dataclass(frozen=True, slots=True)
class Held:
    """What the record has of the boards' time, s of the rack's.

    Args:
        span_s: From when there were as many jobs as boards until the last one was started.
        held_s: Of that, summed over the boards, how much they were held for runs.
        lease_s: Mean length of a lease.
        completed: Jobs that have completed.
    """

    span_s: float
    held_s: float
    lease_s: float
    completed: int


async def utilisation(
    boards: int = 200, jobs: int = 10_000, speed: float = SPEED, profile: Path | None = None
) -> tuple[Figure, ...]:
    """Share of the boards' time in which they are held for runs, while there is work for all of them.

    Broker, daemon and rack are processes of their own; the boards need 15 s of rack time for a job, and the rack runs
    `speed` times as fast as the host. The time that counts is from when as many jobs as boards were queued until the
    last job was started. Strictly, only what the board itself needed counts as busy: what the daemon takes before and
    after is lost then too.

    Args:
        boards: Boards of the rack.
        jobs: Jobs of 15 s, queued as fast as the daemon takes them.
        speed: Rack seconds in one of the host's.
        profile: Where to write the profile of the daemon's event loop.
    """
    folder = Path(tempfile.mkdtemp(prefix="light-"))
    try:
        async with light_lab(folder, boards=boards, speed=speed) as lab:
            await lab.start_daemon(Anchor.here(datetime(2026, 3, 2, tzinfo=UTC), speed), profile=profile)
            async with calling(lab.broker.endpoint, LAB) as caller:
                await _submit(caller, jobs)
                await _all_ended(lab, jobs)
            told = await lab.rack()
            await lab.stop_daemon()
            held = _held(lab.database, boards)
            return _figures(held, told, lab.vitals, boards, speed)
    finally:
        shutil.rmtree(folder)


def _figures(held: Held, told: RackTold, vitals: list[Vitals], boards: int, speed: float) -> tuple[Figure, ...]:
    share = held.held_s / (held.span_s * boards)
    worked_s = sum(board.worked_s for board in told.boards.values())
    strict = share * worked_s / held.completed / held.lease_s
    first, last = vitals[0], vitals[-1]
    threads = ", ".join(
        f"{name} {1e3 * (used_s - first.threads.get(name, 0.0)) / held.completed:.1f} ms"
        for name, used_s in sorted(last.threads.items(), key=lambda entry: -entry[1])
        if used_s > 0.02 * last.cpu_s
    )
    wall_s = held.span_s / speed
    return (
        Figure(
            "utilisation",
            share,
            "1",
            LIMIT,
            Better.HIGHER,
            f"the time of {boards} boards while work waits, {held.completed} jobs of {worked_s / held.completed:.1f} s "
            f"at {speed:g} times the host's speed; strictly, by the boards' own need, {strict:.3f}; "
            f"{held.completed / (last.at_s - first.at_s):.1f} jobs/s over {wall_s:.0f} s; a job: "
            f"{(last.commits - first.commits) / held.completed:.1f} commits, "
            f"{1e3 * (last.cpu_s - first.cpu_s) / held.completed:.1f} ms CPU of the daemon ({threads}), "
            f"{1e3 * told.cpu_s / held.completed:.1f} ms of the rack",
        ),
    )


async def _submit(caller: Caller, jobs: int) -> None:
    """Queue so many jobs, of four requesters."""
    left = iter(range(jobs))

    async def client() -> None:
        for number in left:
            await caller.ask("job.submit", JOB, requester=f"requester-{number % 4}")

    async with asyncio.TaskGroup() as group:
        for _ in range(CLIENTS):
            group.create_task(client())


async def _all_ended(lab: LightLab, jobs: int) -> None:
    """Wait until no job waits or runs; what becomes of the daemon is noticed."""
    ended = 0
    while ended < jobs:
        assert lab.daemon is not None
        if lab.daemon.returncode is not None:
            raise RuntimeError(f"the daemon has ended: {lab.log.read_text()[-4000:]}")
        await asyncio.sleep(LOOK_S)
        ended = await asyncio.to_thread(_ended, lab.database)
        print(f"\r{ended} of {jobs} jobs have ended", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)


def _ended(path: Path) -> int:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        (ended,) = database.execute("SELECT count(*) FROM job WHERE ended_at IS NOT NULL").fetchone()
    return int(ended)


def _held(path: Path, boards: int) -> Held:
    """Read the leases."""
    with closing(sqlite3.connect(path)) as database:
        leases = [
            (_seconds(granted), _seconds(released))
            for granted, released in database.execute("SELECT granted_at, released_at FROM lease WHERE run_id NOTNULL")
        ]
        (queued,) = database.execute(
            "SELECT submitted_at FROM job ORDER BY id LIMIT 1 OFFSET ?", (boards - 1,)
        ).fetchone()
        (completed,) = database.execute("SELECT count(*) FROM job WHERE state = 'completed'").fetchone()
    begin_s, end_s = _seconds(queued), max(granted for granted, _ in leases)
    return Held(
        span_s=end_s - begin_s,
        held_s=sum(max(0.0, min(released, end_s) - max(granted, begin_s)) for granted, released in leases),
        lease_s=sum(released - granted for granted, released in leases) / len(leases),
        completed=completed,
    )


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--boards", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--speed", type=float, default=SPEED)
    parser.add_argument("--profile", type=Path)
    arguments = parser.parse_args()
    for each in asyncio.run(utilisation(arguments.boards, arguments.jobs, arguments.speed, arguments.profile)):
        print(f"{each.name} {each.value:.4f}: {each.against}")
