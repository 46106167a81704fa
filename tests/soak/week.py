"""What happens in the week: people submit by day, sweeps by night, some change their minds, things break."""

from __future__ import annotations

import asyncio
import math
import random
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.deadline import HUNG_S
from tests.fast_clock import Anchor, FastClock
from tests.light.books import Books
from tests.light.caller import Caller, RefusalError
from tests.light.faults import Faults
from tests.light.lab import LightLab

START = datetime(2026, 3, 2, tzinfo=UTC)
DAY_S = 86_400.0
JOB = {"benchmark": "digits01", "mode": "performance", "trials": 1, "min_window_s": 11.5}
"""15 s on a light board."""
REQUESTERS = {"nightly": 0.5, "alice": 0.2, "bob": 0.15, "carol": 0.1, "dan": 0.05}
CANCELLED = 0.02
"""Share of the jobs whose requester wants them cancelled."""
STEP_S = 0.05
CLIENTS = 32
"""Submits under way at once."""
RESERVE_EVERY_S = 3600.0
FAULT_EVERY_S = 2 * 3600.0
FAULT_LASTS_S = 1200.0
BROKER_AWAY_S = 900.0
BROKER_STOPS = (0.25, 0.5, 0.75)
"""When the broker is restarted, as shares of the week."""
LOOK_S = 2.0
REST_S = 5.0
STUCK_S = 3 * HUNG_S
"""With nothing ending for so long, what is left is not waited for any more, s."""
FAULTS = (Faults(reboots=True), Faults(unplugged=True), Faults(flaky=0.5), Faults(slow=3.0), Faults(idle_current=3.0))


@dataclass(slots=True)
class Seen:
    """What the people of the week know.

    Args:
        accepted: Jobs that they were told are queued.
        refused: How many were too late for their deadline.
        cancels: How many they asked to cancel.
        too_late: How many of those had ended.
        reservations: How many boards they asked to have for themselves.
        faults: How many boards were broken.
        broker_stops: How often the broker went away.
        heard: Numbers of the events that a subscriber heard.
    """

    accepted: list[int] = field(default_factory=list)
    refused: int = 0
    cancels: int = 0
    too_late: int = 0
    reservations: int = 0
    faults: int = 0
    broker_stops: int = 0
    heard: set[int] = field(default_factory=set)

    def hear(self, event: dict[str, Any]) -> None:
        """Note an event."""
        self.heard.add(event["number"])


@dataclass(frozen=True, slots=True)
class Week:
    """One soak.

    Args:
        lab: At work, with the clock of `anchor`.
        caller: Asks for everybody.
        anchor: The week's time.
        runs: Jobs to be submitted.
        days: How long it is, simulated days.
        seen: What came of it.
        seed: Of all that is left to chance.
    """

    lab: LightLab
    caller: Caller
    anchor: Anchor
    runs: int
    days: float
    seen: Seen
    seed: int = 1

    async def pass_by(self) -> None:
        """Let the week happen, and wait until everything has ended."""
        async with asyncio.TaskGroup() as group:
            beside = [
                group.create_task(part, name="week")
                for part in (self._reserve(), self._break(), self._stop_broker(), self._tell())
            ]
            await self._submit()
            await self._settled()
            for task in beside:
                task.cancel()
        for board in self.lab.boards:
            await self.lab.rack(board, Faults())
        await asyncio.sleep(REST_S)  # the daemon's vitals are looked at once more when it has nothing to do

    @property
    def _length_s(self) -> float:
        return self.days * DAY_S

    def _passed_s(self) -> float:
        return (FastClock(self.anchor).now() - self.anchor.start).total_seconds()

    async def _sleep(self, simulated_s: float) -> None:
        await asyncio.sleep(simulated_s / self.anchor.speed)

    async def _submit(self) -> None:
        """Submit as people do: twice as much in the middle of the day as on the mean, little at midnight."""
        chance, slots = random.Random(f"{self.seed} submit"), asyncio.Semaphore(CLIENTS)
        async with asyncio.TaskGroup() as group:
            for number in range(self.runs):
                while self._share_due() * self.runs <= number:
                    await asyncio.sleep(STEP_S)
                await slots.acquire()
                task = group.create_task(self._one(number, chance), name="week-job")
                task.add_done_callback(lambda _: slots.release())

    def _share_due(self) -> float:
        """Share of the jobs that are submitted by now: the rate is 1 - 0.8·cos(2π·day)."""
        passed_d = min(self._passed_s(), self._length_s) / DAY_S
        wave = 0.8 / (2 * math.pi)
        return (passed_d - wave * math.sin(2 * math.pi * passed_d)) / (
            self.days - wave * math.sin(2 * math.pi * self.days)
        )

    async def _one(self, number: int, chance: random.Random) -> None:
        (requester,) = chance.choices(list(REQUESTERS), list(REQUESTERS.values()))
        params: dict[str, Any] = {**JOB, "labels": {"number": str(number)}}
        match chance.random():
            case share if share < 0.15:
                params["board"] = {"id": chance.choice(self.lab.boards)}
            case share if share < 0.4:
                params["board"] = {"tags": ["light"]}
        if chance.random() < 0.2:
            params["priority"] = chance.randint(-3, 5)
        if chance.random() < 0.02:
            wait_s = chance.choice([1800.0, 6 * 3600.0])
            params["deadline"] = (FastClock(self.anchor).now() + timedelta(seconds=wait_s)).isoformat()
        cancelled, after_s = chance.random() < CANCELLED, chance.expovariate(1 / 60)
        try:
            answer = await self.caller.ask("job.submit", params, requester=requester)
        except RefusalError as refusal:
            if refusal.field != "params.deadline":  # it passed while the broker was away
                raise
            self.seen.refused += 1
            return
        self.seen.accepted.append(answer["job_id"])
        if cancelled:
            await self._sleep(after_s)
            self.seen.cancels += 1
            try:
                await self.caller.ask("job.cancel", {"id": answer["job_id"]}, requester=requester)
            except RefusalError as refusal:
                if refusal.kind != "conflict":
                    raise
                self.seen.too_late += 1

    async def _settled(self) -> None:
        """Wait until no job is queued or runs and no reservation is open."""
        books, left, since = Books(self.lab.database), -1, asyncio.get_running_loop().time()
        while True:
            now = asyncio.get_running_loop().time()
            open_still = await asyncio.to_thread(_open, books)
            if open_still == 0:
                return
            if open_still != left:
                left, since = open_still, now
            elif now - since > STUCK_S:
                print(f"\n{left} jobs or reservations do not end", file=sys.stderr)
                return
            await asyncio.sleep(LOOK_S)

    async def _reserve(self) -> None:
        """Somebody takes a board: keeps it to its end, gives it back early, or wants it for longer."""
        chance = random.Random(f"{self.seed} reserve")
        while True:
            await self._sleep(chance.uniform(0.5, 1.5) * RESERVE_EVERY_S)
            board = chance.choice(self.lab.boards)
            asked = {"board": {"id": board}, "purpose": "debugging", "duration_s": chance.choice([900.0, 3600.0])}
            answer = await self.caller.ask("board.reserve", asked, requester="erin")
            self.seen.reservations += 1
            number = answer["id"]
            match chance.randrange(3):
                case 0:
                    await self._end_early(number)
                case 1:
                    await self._extend(number)

    async def _end_early(self, number: int) -> None:
        await self._sleep(600.0)
        await self._unless_ended("board.release", {"id": number})

    async def _extend(self, number: int) -> None:
        await self._sleep(300.0)
        await self._unless_ended("reservation.extend", {"id": number, "duration_s": 1800.0})

    async def _unless_ended(self, verb: str, params: dict[str, Any]) -> None:
        try:
            await self.caller.ask(verb, params, requester="erin")
        except RefusalError as refusal:
            if refusal.kind != "conflict":
                raise

    async def _break(self) -> None:
        """A board breaks, and is mended."""
        chance = random.Random(f"{self.seed} break")
        while True:
            await self._sleep(chance.uniform(0.5, 1.5) * FAULT_EVERY_S)
            board = chance.choice(self.lab.boards)
            await self.lab.rack(board, chance.choice(FAULTS))
            self.seen.faults += 1
            await self._sleep(FAULT_LASTS_S)
            await self.lab.rack(board, Faults())

    async def _stop_broker(self) -> None:
        for share in BROKER_STOPS:
            while self._passed_s() < share * self._length_s:
                await asyncio.sleep(STEP_S)
            await self.lab.broker.stop()
            self.seen.broker_stops += 1
            await self._sleep(BROKER_AWAY_S)
            await self.lab.broker.start()
        await asyncio.Event().wait()

    async def _tell(self) -> None:
        books, began = Books(self.lab.database), asyncio.get_running_loop().time()
        while True:
            await asyncio.sleep(LOOK_S)
            assert self.lab.daemon is not None
            if self.lab.daemon.returncode is not None:
                raise RuntimeError(f"the daemon has ended: {self.lab.log.read_text()[-4000:]}")
            runs = await asyncio.to_thread(books.number, "SELECT count(*) FROM run WHERE ended_at IS NOT NULL")
            open_still = await asyncio.to_thread(_open, books)
            rate = runs / (asyncio.get_running_loop().time() - began)
            day = self._passed_s() / DAY_S
            words = f"day {day:.2f} of {self.days:g}: {len(self.seen.accepted)} accepted, {open_still} open, "
            print(f"\r{words}{runs} runs, {rate:.1f} a second   ", end="", file=sys.stderr, flush=True)


def _open(books: Books) -> int:
    return books.number(
        "SELECT (SELECT count(*) FROM job WHERE state IN ('queued', 'running')) + "
        "(SELECT count(*) FROM reservation WHERE state != 'ended')"
    )
