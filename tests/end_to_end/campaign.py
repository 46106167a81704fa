"""`python -m tests.end_to_end.campaign`: twelve jobs on four boards, and a daemon that is killed 20 times meanwhile.

The daemon is killed with SIGKILL at moments that a seed draws, and started again each time. Exit 1 if a job is lost or
done twice, a lease or a half-made trace is left, a trace does not verify, or the rack saw an output go on after a
restart before all had gone off.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random

from labd.benchmarks import Mode
from labd.config.reading import load
from labd.errors import UnreachableError
from labd.model.states import JobState
from labd.mqtt.client import LabClient
from labd.service.messages import JobQuery
from labd.virtual.lab import VirtualLab
from tests.end_to_end.inspection import Output, Record, inspect_record, outputs_broken
from tests.end_to_end.labs import Scene, scene, spec
from tests.end_to_end.moments import Kind, Moment, Standing, moments, standing

POLL_S = 0.005
"""Pause between two looks at the database: the shortest steps last a few milliseconds."""
AT_WORK_S = 4.0
"""Longest stretch in which a moment of `Kind.TIME` lies, s."""
JUST_AFTER_S = 0.01
"""Longest time from what a moment waits for to the kill, s."""
PATIENCE_S = 30.0
"""Longest wait for a step that may never come again, s."""
LAST_JOB_S = 2.0
"""The same while one job is left: it must not be over before the kill."""
CAMPAIGN_S = 3000.0
"""Longest time for it all, s."""
WINDOW_S = 4.0
"""Shortest window of the jobs, s of the rack: long enough that kills find runs under way."""
ALL_QUEUED = 0.95
"""Share of the kills after which the last job is queued: so there is work left for the last kills too."""

ORDERS = (
    (Mode.ENERGY, Mode.PERFORMANCE, Mode.ACCURACY),
    (Mode.PERFORMANCE, Mode.ACCURACY, Mode.ENERGY),
    (Mode.ACCURACY, Mode.ENERGY, Mode.PERFORMANCE),
    (Mode.PERFORMANCE, Mode.ENERGY, Mode.ACCURACY),
)
"""Jobs of each board, so that boards are in different modes at the same time."""


@dataclass(frozen=True, slots=True)
class Kill:
    """One death of the daemon: which moment was wanted, whether it was ready, and what it was doing."""

    moment: str
    ready: bool
    completed: int
    steps: tuple[str, ...]
    uptime_s: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a campaign; `broken` says what is wrong."""

    seed: int
    jobs: int
    kills: tuple[Kill, ...]
    restarts: int
    restarts_all_off: int
    released: int
    record: Record
    broken: tuple[str, ...]
    seconds: float


@dataclass(slots=True)
class _Campaign:
    scene: Scene
    orders: Sequence[Sequence[Mode]]
    planned: Sequence[Moment]
    start_s: float = 3.0
    """How long the last whole start took, s."""
    accepted: int = 0
    kills: list[Kill] = field(default_factory=list)
    restarts: int = 0
    restarts_all_off: int = 0
    released: int = 0
    """Jobs that were cut off so often that the lab parked them."""
    broken: list[str] = field(default_factory=list)

    @property
    def lab(self) -> VirtualLab:
        return self.scene.lab

    @property
    def jobs(self) -> int:
        return sum(map(len, self.orders))

    def standing(self) -> Standing:
        return standing(self.lab.data_dir / "labd.db")

    async def run(self) -> None:
        """Kill at every moment, then let the campaign end."""
        wired = frozenset((board.supply.analyzer, board.supply.channel) for board in self.lab.config.board)
        for moment in (*self.planned, None):
            left_on = {(o.analyzer, o.channel) for o in await self.lab.control.outputs() if o.energized}
            begun_s = (await self.lab.control.boards())[0].now_s
            ready = await self._live(moment)
            status = await self.lab.stop_daemon()
            if status != (0 if moment is None else -signal.SIGKILL):
                self.broken.append(f"the daemon ended by itself with status {status}")
            await self._judge_outputs(left_on, wired, begun_s, ready=ready)

    async def _live(self, moment: Moment | None) -> bool:
        """One life of the daemon, to the kill or to the campaign's end; return whether it was ready."""
        log_from = self._log_size()
        begun = time.monotonic()
        starting = asyncio.create_task(self.lab.start_daemon(), name="daemon-starting")
        try:
            if moment is not None and moment.kind in (Kind.START, Kind.RECOVERY):
                await self._in_start(starting, moment, log_from)
            else:
                await starting
                self.start_s = time.monotonic() - begun
                async with self.scene.client() as client:
                    await self._release(client)
                    await self._submit(client)
                if moment is None:
                    await self._end()
                    return True
                await self._at_work(moment)
            ready = starting.done() and starting.exception() is None
            seen = self.standing()
            self.kills.append(Kill(str(moment), ready, seen.completed, seen.steps, time.monotonic() - begun))
            print(f"kill {len(self.kills):>2} at {moment!s:<10} {seen.completed} done, {seen.steps}", file=sys.stderr)
            return ready
        finally:
            await self.lab.kill_daemon()
            with suppress(UnreachableError):
                await starting

    async def _in_start(self, starting: asyncio.Task[None], moment: Moment, log_from: int) -> None:
        while self.lab.daemon_pid is None and not starting.done():
            await asyncio.sleep(0)
        if moment.kind is Kind.START:
            await asyncio.sleep(moment.share * self.start_s)
            return
        while not starting.done() and b'"run_interrupted"' not in self._log_since(log_from):
            await asyncio.sleep(POLL_S)
        await asyncio.sleep(moment.share * JUST_AFTER_S)

    async def _at_work(self, moment: Moment) -> None:
        while self.standing().completed < min(moment.after_jobs, self.accepted - 1):
            await asyncio.sleep(0.1)
        if moment.kind is Kind.TIME:
            await asyncio.sleep(moment.share * AT_WORK_S)
            return
        begun = time.monotonic()
        while moment.step not in (seen := self.standing()).steps:
            patience_s = PATIENCE_S if seen.completed < self.accepted - 1 else LAST_JOB_S
            if time.monotonic() - begun > patience_s:
                break
            await asyncio.sleep(POLL_S)
        await asyncio.sleep(moment.share * JUST_AFTER_S)

    async def _release(self, client: LabClient) -> None:
        """Queue again what was cut off so often that the lab parked it: an operator knows that it is not to blame."""
        for job in (await client.jobs(JobQuery(state=JobState.PARKED, limit=500))).jobs:
            await client.release(job.id)
            self.released += 1

    async def _submit(self, client: LabClient) -> None:
        """Queue the jobs that are due: one a board and one to wait at first, the others by and by."""
        boards = len(self.orders)
        share = min(1.0, len(self.kills) / (ALL_QUEUED * max(1, len(self.planned))))
        due = min(self.jobs, boards + 1 + int((self.jobs - boards) * share))
        for number in range(self.accepted, due):
            board, turn = number % boards, number // boards
            await client.submit(spec(self.orders[board][turn], board + 1, trials=5, min_window_s=WINDOW_S))
            self.accepted += 1

    async def _end(self) -> None:
        while self.standing().completed < self.jobs:
            await asyncio.sleep(0.1)
        async with self.scene.client() as client:
            page = await client.jobs(JobQuery(limit=500))
            if Counter(job.state for job in page.jobs) != {JobState.COMPLETED: self.jobs}:
                self.broken.append(f"the lab says {Counter(job.state.value for job in page.jobs)}")
        await self.lab.stop_daemon()
        if on := [o.channel for o in await self.lab.control.outputs() if o.energized]:
            self.broken.append(f"outputs {on} are on after the daemon has stopped")

    async def _judge_outputs(
        self, left_on: set[Output], wired: frozenset[Output], begun_s: float, *, ready: bool
    ) -> None:
        seen = [each for each in await self.lab.control.switchings() if each.at_s >= begun_s]
        broken = list(outputs_broken(left_on, wired, seen, ready=ready))
        self.broken += broken
        if ready:
            self.restarts += 1
            self.restarts_all_off += not broken

    def _log_size(self) -> int:
        log = self.lab.folder / "daemon.log"
        return log.stat().st_size if log.exists() else 0

    def _log_since(self, start: int) -> bytes:
        log = self.lab.folder / "daemon.log"
        if not log.exists():
            return b""
        with log.open("rb") as file:
            file.seek(start)
            return file.read()


async def play(folder: Path, *, kills: int, seed: int, speed: float, orders: Sequence[Sequence[Mode]]) -> Outcome:
    """Play one campaign.

    Args:
        folder: Where the lab lies.
        kills: How often the daemon is killed.
        seed: Of the moments.
        speed: Rack seconds per host second.
        orders: For each board, the modes of its jobs; all of one length.
    """
    begun = time.monotonic()
    async with scene(folder, boards=len(orders), speed=speed) as here, asyncio.timeout(CAMPAIGN_S):
        jobs = sum(map(len, orders))
        campaign = _Campaign(here, orders, moments(Random(seed), kills, jobs))
        await campaign.run()
        config = load(here.lab.lab_toml)
        record = inspect_record(config.database_url, config.traces_dir, jobs)
    return Outcome(
        seed=seed,
        jobs=jobs,
        kills=tuple(campaign.kills),
        restarts=campaign.restarts,
        restarts_all_off=campaign.restarts_all_off,
        released=campaign.released,
        record=record,
        broken=(*campaign.broken, *record.broken),
        seconds=time.monotonic() - begun,
    )


def table(outcome: Outcome) -> str:
    """The outcome for people."""
    record = outcome.record
    steps = Counter(step for kill in outcome.kills for step in kill.steps)
    wanted = Counter(kill.moment for kill in outcome.kills)
    rows = (
        ("kills", f"{len(outcome.kills)} (seed {outcome.seed}, {outcome.seconds:.0f} s)"),
        ("  at moments", ", ".join(f"{moment} {count}" for moment, count in wanted.most_common())),
        ("  before the daemon was ready", str(sum(not kill.ready for kill in outcome.kills))),
        ("  steps of the runs cut off", ", ".join(f"{step} {count}" for step, count in steps.most_common())),
        (
            "jobs completed",
            f"{record.completed} of {outcome.jobs}; {record.runs} runs, {record.interrupted} cut off",
        ),
        ("jobs parked and released", str(outcome.released)),
        ("leases left", str(record.leases_left)),
        (
            "traces verified",
            f"{record.verified} of {record.sealed} sealed and {record.salvaged} salvaged; {record.lost} empty",
        ),
        ("starts with all outputs off", f"{outcome.restarts_all_off} of {outcome.restarts} that came to be ready"),
        ("promises broken", str(len(outcome.broken))),
    )
    return "\n".join(f"{name:<32}{value}" for name, value in rows)


def main() -> int:
    """Play, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m tests.end_to_end.campaign", description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="how often the daemon is killed (20)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the moments (1)")
    parser.add_argument("--speed", type=float, default=4.0, help="rack seconds per host second (4)")
    parser.add_argument("--keep", type=Path, help="keep the lab in this folder")
    parser.add_argument("--json", action="store_true", help="print all as JSON, not a table")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="labd-kills-") as scratch:
        folder = arguments.keep or Path(scratch)
        outcome = asyncio.run(
            play(folder, kills=arguments.kills, seed=arguments.seed, speed=arguments.speed, orders=ORDERS)
        )
    print(json.dumps({"ok": not outcome.broken, **asdict(outcome)}, indent=1) if arguments.json else table(outcome))
    for sentence in outcome.broken:
        print(sentence, file=sys.stderr)
    return 1 if outcome.broken else 0


if __name__ == "__main__":
    sys.exit(main())
