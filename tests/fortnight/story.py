"""What happens in the fortnight: sweeps by night, people by day, and everything that goes wrong."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.deadline import HUNG_S
from tests.fast_clock import Anchor, FastClock
from tests.fortnight.calendar import BERLIN, DAYS, START, SWEEPS, berlin, cron_line
from tests.light.books import Books
from tests.light.caller import Caller, RefusalError
from tests.light.faults import Faults
from tests.light.lab import LightLab

BOARDS = 9
SILENT, UNPLUGGED, DRIFTING, ADDED, RESERVED = "light-008", "light-007", "light-006", "light-009", "light-001"
JOB = {"benchmark": "digits01", "mode": "performance", "trials": 2, "min_window_s": 5.0}
LAB_KEYS = "[queue]\nflaky_retries = 1\n"
BOARD_KEYS = "idle_current_a = [0.005, 0.02]\n"
PEOPLE = ("alice", "bob", "carol")
JOBS_A_DAY = 24
CANCELLED = 0.1
LOOK_S = 0.02
"""Pause between two looks at the clock, s of the host: under a minute of the fortnight."""
STUCK_S = 3 * HUNG_S
"""With nothing ending for so long, s of the host, what is left is not waited for any more."""
OPEN_WORK = (
    "SELECT (SELECT count(*) FROM job WHERE state IN ('queued', 'running')) + "
    "(SELECT count(*) FROM night WHERE state IN ('expanding', 'running')) + "
    "(SELECT count(*) FROM reservation WHERE state != 'ended') + "
    "(SELECT count(*) FROM lease WHERE released_at IS NULL AND purpose != 'check')"
)


@dataclass(slots=True)
class Seen:
    """What the people of the fortnight know.

    Args:
        accepted: Jobs that they were told are queued.
        cancels: How many they asked to cancel.
        crashes: How often the daemon was killed.
        reservation: Number of the reservation that was held over a restart.
        still_reserved: Whether it was still held after the restart.
        added: Whether the board that was added by a reload was told.
        heard: Numbers of the events that a subscriber heard.
        reports: Reports of nights that were heard, by the sweep's name.
    """

    accepted: list[int] = field(default_factory=list)
    cancels: int = 0
    crashes: int = 0
    reservation: int | None = None
    still_reserved: bool = False
    added: bool = False
    heard: set[int] = field(default_factory=set)

    def hear(self, event: dict[str, Any]) -> None:
        """Note an event."""
        self.heard.add(event["number"])


@dataclass(frozen=True, slots=True)
class Fortnight:
    """One of them, or its first days.

    Args:
        lab: With a daemon at work, whose clock has `anchor`.
        caller: Asks for everybody.
        anchor: The fortnight's time.
        days: How many days of it are lived.
        seen: What came of it.
    """

    lab: LightLab
    caller: Caller
    anchor: Anchor
    days: int
    seen: Seen

    async def pass_by(self) -> None:
        """Live through it, and wait until everything has ended."""
        await self._create_sweeps()
        async with asyncio.TaskGroup() as group:
            people = group.create_task(self._people(), name="people")
            telling = group.create_task(self._tell(), name="telling")
            for moment, act in sorted(self._happenings(), key=lambda entry: entry[0]):
                if moment < self._end:
                    await self._until(moment)
                    await act()
            await self._until(self._end)
            await asyncio.wait({people})
            for name in SWEEPS:
                await self.caller.ask("sweep.pause", {"name": name}, requester="olga")
            await self._cancel_waiting()
            await self._settled()
            telling.cancel()

    @property
    def _end(self) -> datetime:
        return START.astimezone(UTC) + timedelta(days=self.days)

    def _now(self) -> datetime:
        return FastClock(self.anchor).now()

    async def _until(self, moment: datetime) -> None:
        while self._now() < moment:
            await asyncio.sleep(LOOK_S)

    def _happenings(self) -> list[tuple[datetime, Callable[[], Awaitable[None]]]]:
        def breaks(board: str, **faults: Any) -> Callable[[], Awaitable[None]]:
            async def act() -> None:
                await self.lab.rack(board, Faults(**faults))

            return act

        return [
            (berlin(1, 22, 20), self._crash),
            (berlin(2, 3), breaks(SILENT, silent=True)),
            (berlin(2, 14), self._reload),
            (berlin(3, 9), breaks(DRIFTING, drift_per_day=0.03)),
            (berlin(4, 21), breaks(UNPLUGGED, unplugged=True)),
            (berlin(5, 9), breaks(UNPLUGGED)),
            (berlin(8, 20), self._reserve),
            (berlin(9, 3, 10), self._crash),  # ten minutes after the hour that was not there
            (berlin(9, 9), self._look_at_reservation),
            (berlin(10, 21, 50), self._broker_goes),
        ]

    async def _create_sweeps(self) -> None:
        everywhere = {"board": [{"tags": ["light"], "take": "each"}]}
        for (name, at), catch_up in zip(SWEEPS.items(), ("once", "all"), strict=True):
            spec = {
                "name": name,
                "axes": everywhere,
                "job": JOB,
                "repetitions": 2,
                "seed": 7,
                "cron": cron_line(at),
                "zone": str(BERLIN),
                "not_after": "07:00",
                "catch_up": catch_up,
                "overlap": "queue",
            }
            await self.caller.ask("sweep.create", spec, requester="olga")

    async def _crash(self) -> None:
        """The host loses its power for ten minutes of the fortnight."""
        await self.lab.kill_daemon()
        self.seen.crashes += 1
        await self._until(self._now() + timedelta(minutes=10))
        await self.lab.start_daemon(self.anchor)

    async def _reload(self) -> None:
        """A board is added to lab.toml."""
        self.lab.write_lab(self.lab.boards, LAB_KEYS, BOARD_KEYS)
        await self.caller.ask("lab.reload", {}, requester="olga")
        page = await self.caller.ask("board.list", {})
        self.seen.added = any(board["id"] == ADDED for board in page["boards"])

    async def _reserve(self) -> None:
        asked = {"board": {"id": RESERVED}, "purpose": "to solder a probe", "duration_s": 14 * 3600.0}
        answer = await self.caller.ask("board.reserve", asked, requester="erin")
        self.seen.reservation = answer["id"]

    async def _look_at_reservation(self) -> None:
        told = await self.caller.ask("reservation.get", {"id": self.seen.reservation})
        self.seen.still_reserved = told["state"] == "active" and told["board_id"] == RESERVED

    async def _broker_goes(self) -> None:
        await self.lab.broker.stop()
        await self._until(self._now() + timedelta(hours=1))
        await self.lab.broker.start()

    async def _people(self) -> None:
        """From nine to five on working days people submit jobs, and some change their minds."""
        chance = random.Random(1)
        moments = sorted(
            berlin(day, 9) + timedelta(seconds=chance.uniform(0, 8 * 3600))
            for day in range(1, DAYS)
            if berlin(day, 9).weekday() < 5
            for _ in range(JOBS_A_DAY)
        )
        for moment in moments:
            if moment >= self._end:
                return
            await self._until(moment)
            board = chance.choice([None, None, {"tags": ["light"]}, {"id": chance.choice(self.lab.boards[:5])}])
            params = {**JOB, **({"board": board} if board else {}), "priority": chance.randint(0, 3)}
            person = chance.choice(PEOPLE)
            answer = await self.caller.ask("job.submit", params, requester=person)
            self.seen.accepted.append(answer["job_id"])
            if chance.random() < CANCELLED:
                await self._cancel(answer["job_id"], person)

    async def _cancel(self, job_id: int, person: str) -> None:
        self.seen.cancels += 1
        try:
            await self.caller.ask("job.cancel", {"id": job_id}, requester=person)
        except RefusalError as refusal:
            if refusal.kind != "conflict":
                raise

    async def _cancel_waiting(self) -> None:
        """At the end nobody waits any longer for a board that will not come back."""
        page = await self.caller.ask("job.list", {"state": "queued", "limit": 500})
        for job in page["jobs"]:
            await self._cancel(job["id"], "olga")

    async def _settled(self) -> None:
        books, left, since = Books(self.lab.database), -1, asyncio.get_running_loop().time()
        while open_still := await asyncio.to_thread(books.number, OPEN_WORK):
            now = asyncio.get_running_loop().time()
            if open_still != left:
                left, since = open_still, now
            elif now - since > STUCK_S:
                print(f"\n{left} jobs, nights, reservations or leases do not end", file=sys.stderr)
                return
            await asyncio.sleep(0.5)

    async def _tell(self) -> None:
        books = Books(self.lab.database)
        while True:
            await asyncio.sleep(2.0)
            open_still = await asyncio.to_thread(books.number, OPEN_WORK)
            runs = await asyncio.to_thread(books.number, "SELECT count(*) FROM run")
            here = self._now().astimezone(BERLIN).strftime("%a %d %b %H:%M")
            print(f"\r{here}: {runs} runs, {open_still} open   ", end="", file=sys.stderr, flush=True)
