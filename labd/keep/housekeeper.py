"""The lab's housekeeper: looks at the disk, says when room is short, and lets go what has to go.

Nothing that goes wrong here ends a run or the daemon: it is logged, and tried again in the next round.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime

import structlog

from labd.clock import WALL
from labd.errors import LabError
from labd.keep.collect import Collector
from labd.keep.reserve import Reserve
from labd.keep.space import SpaceState, SpaceWatch
from labd.model import ledger_lab
from labd.model.database import Database

LOOK_S = 5.0
"""Pause between two looks at the free space, s."""
ROUND_S = 600.0
"""Pause between two rounds of collecting, s."""


class Housekeeper:
    """Keeps one lab's house; `begin` before anything is captured, then `run` beside the rest.

    Args:
        lab: The lab's name.
        database: What the lab remembers.
        watch: The disk.
        collector: Lets traces go.
        reserve: What gives way to the database on a full disk; filled again when there is room.
        salvage: Seals what was left open, on a full disk say.
        space_changed: Called on the event loop when the state of the disk has changed.
        look_s: Pause between two looks, s.
        now: Wall-clock time, aware.
    """

    def __init__(
        self,
        lab: str,
        database: Database,
        watch: SpaceWatch,
        collector: Collector,
        reserve: Reserve,
        *,
        salvage: Callable[[], Awaitable[None]],
        space_changed: Callable[[], None],
        look_s: float = LOOK_S,
        now: Callable[[], datetime] = WALL.now,
    ) -> None:
        self._lab = lab
        self._database = database
        self._watch = watch
        self._collector = collector
        self._reserve = reserve
        self._salvage = salvage
        self._space_changed = space_changed
        self._look_s = look_s
        self._now = now
        self._woken = asyncio.Event()
        self._looking = asyncio.Lock()
        self._log = structlog.get_logger()

    def wake(self) -> None:
        """Ask for a round now."""
        self._woken.set()

    async def captures_start(self) -> bool:
        """Whether there is room for a capture, by a look at the disk as it is now."""
        await self._try(self._look)
        return self._watch.captures_start

    async def begin(self) -> None:
        """Finish what a kill has left of a deletion here, and look at the disk for the first time."""
        await self._try(self._collector.finish_here)
        await self._try(self._look)

    async def run(self) -> None:
        """A round now, every ten minutes and when woken; a look at the disk in between; until cancelled."""
        loop = asyncio.get_running_loop()
        next_round = loop.time()
        while True:
            if self._woken.is_set() or loop.time() >= next_round:
                self._woken.clear()
                next_round = loop.time() + ROUND_S
                await self._try(self._round)
            try:
                async with asyncio.timeout(self._look_s):
                    await self._woken.wait()
            except TimeoutError:
                await self._try(self._look)

    async def _round(self) -> None:
        await self._collector.finish_here()
        await self._look()  # room that was made since the last look must not be made once more
        await self._collector.collect(self._now(), self._watch.seen.reclaim_bytes)
        await self._collector.foreign()
        await self._look()
        if self._watch.captures_start:
            await asyncio.to_thread(self._reserve.fill)
            await self._salvage()

    async def _look(self) -> None:
        """Measure; a change is told to all who must know."""
        async with self._looking:
            if not await asyncio.to_thread(self._watch.look):
                return
            seen = self._watch.seen
        self._space_changed()
        now = self._now()
        if seen.state is SpaceState.ENOUGH:
            self._log.info("space_regained")
        else:
            self._log.warning("space_short", state=seen.state, notice=seen.notice)
        if seen.state is not SpaceState.LOW:
            self.wake()  # make room, or seal what could not be sealed without it
        await self._database.write(
            lambda session: ledger_lab.note_space(session, self._lab, seen.state.value, seen.notice, now)
        )

    async def _try(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except LabError as error:
            self._log.error("housekeeping_failed", error=str(error))
