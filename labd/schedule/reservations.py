"""The warden: gives boards to people who wait for one, and takes them back when their time is up.

A board that a reservation waits for is wanted: no job gets it before. So a board that comes free goes to the oldest
reservation that it suits, and only then to a job. Granting has one place, `Granting`, which works inside a transaction:
that of the request, so that a free board is had with the reply, and that of the warden when a board comes free. In the
end the owner is warned, then the board goes dark, and only then is it given to others.

A reservation lasts as long as was promised, whatever the clock is set to: where the time of day has moved by something
else than the time that has passed, every end is moved along before any of them counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import datetime
from functools import partial
from typing import Any

import structlog
from sqlmodel import Session

from labd.clock import WALL, Clock
from labd.config import Board, LabConfig, LiveConfig, resources_of
from labd.config.derived import BoardFacts
from labd.errors import StateError
from labd.model import ledger_lab
from labd.model import ledger_reservations as reservations
from labd.model.database import Database
from labd.model.ledger_leases import held_resources
from labd.model.states import LeasePurpose
from labd.model.tables import Reservation
from labd.schedule.snapshot import Holder
from labd.schedule.wishes import Grant, Wish, candidates, decide

LOOK_S = 30.0
"""Longest pause between two looks at the clock, s."""
STEP_S = 60.0
"""A clock that moves by less than this besides running is taken as it is, s."""

Darken = Callable[[Board], Awaitable[bool]]
"""Switches a board's output off; False if it is not known to be off. Has a deadline of its own."""
FactsOf = Callable[[LabConfig], Mapping[str, BoardFacts]]
"""All that is known of the boards of a lab."""


class Granting:
    """Decides which reservation gets which board, inside a transaction; used in the writer's thread only.

    Args:
        facts: What is known of the boards of a lab.
    """

    def __init__(self, facts: FactsOf) -> None:
        self._facts_of = facts
        self._of: LabConfig | None = None
        self._facts: Mapping[str, BoardFacts] = {}
        self._fits: dict[str, tuple[str, ...]] = {}
        self._resources: dict[str, frozenset[str]] = {}

    def facts(self, config: LabConfig) -> Mapping[str, BoardFacts]:
        """What is known of each board, by its id."""
        self._take_up(config)
        return self._facts

    def grant(self, session: Session, config: LabConfig, now: datetime) -> list[Reservation]:
        """Give all that can be given now; nothing in a lab that is stopped."""
        wishes = reservations.waiting_wishes(session)
        if not wishes or ledger_lab.stop_of(session) is not None:
            return []
        self._take_up(config)
        wanted = {board_id for text in wishes for board_id in self._fitting(text, config)}
        free = reservations.free_boards(session) & wanted
        if not free:
            return []
        waiting = {
            text: reservations.waiting_numbers(session, text, len(free))
            for text in wishes
            if not free.isdisjoint(self._fitting(text, config))
        }
        granted = decide(
            waiting,
            free,
            held_resources(session),
            lambda text: self._fitting(text, config),
            lambda board_id: self._resources[board_id],
        )
        return [self._give(session, each, now) for each in granted]

    def wanted(self, session: Session, config: LabConfig) -> dict[str, str]:
        """Boards that nobody else may have before the reservations that wait, each with who asked for it first.

        With a board those that share something with it are wanted, or it would never be free of them.
        """
        self._take_up(config)
        found: dict[str, str] = {}
        for text, owner in reservations.waiting_owners(session):
            for board_id in self._fitting(text, config):
                for other, resources in self._resources.items():
                    if not resources.isdisjoint(self._resources[board_id]):
                        found.setdefault(other, owner)
        return found

    def _give(self, session: Session, grant: Grant, now: datetime) -> Reservation:
        resources = self._resources[grant.board_id]
        return reservations.grant_reservation(session, grant.reservation_id, grant.board_id, resources, now)

    def _fitting(self, text: str, config: LabConfig) -> tuple[str, ...]:
        if text not in self._fits:
            self._fits[text] = candidates(Wish.parse(text), config, self._facts)
        return self._fits[text]

    def _take_up(self, config: LabConfig) -> None:
        if self._of is not config:
            self._of, self._facts, self._fits = config, self._facts_of(config), {}
            self._resources = {board.id: resources_of(board) for board in config.board}


class Warden:
    """Looks after the reservations of a lab.

    Args:
        live: The lab, as it is now.
        database: Where they are.
        granting: Decides who gets what.
        darken: Switches the board of one that ends off.
        wake: Tells the dispatcher that boards are free, or not wanted any more.
        clock: Says when they end.
    """

    def __init__(
        self,
        live: LiveConfig,
        database: Database,
        granting: Granting,
        *,
        darken: Darken,
        wake: Callable[[], None],
        clock: Clock = WALL,
    ) -> None:
        self._live = live
        self._database = database
        self._granting = granting
        self._darken = darken
        self._wake_dispatcher = wake
        self._clock = clock
        self._news = asyncio.Event()
        self._wanted: Mapping[str, Holder] = {}
        self._ending: set[int] = set()
        self._boards: dict[str, Board] = {}
        """How boards were wired when they were last in lab.toml."""
        self._seen = clock.now(), clock.passed_s()
        self._log = structlog.get_logger()

    def wake(self) -> None:
        """Say that a reservation came, or that one has another end."""
        self._news.set()

    def wanted(self) -> Mapping[str, Holder]:
        """Who is to have a board as soon as it is free, by its id: no job gets it before."""
        return self._wanted

    async def begin(self) -> None:
        """Find out who waits, before any job is given a board."""
        now = self._clock.now()
        await self._database.write(partial(reservations.bound_ends, now=now))
        await self.grant()

    async def grant(self) -> None:
        """Give boards that are free to those who wait for one."""
        config, now = self._live.now, self._clock.now()

        def give(session: Session) -> tuple[list[Reservation], dict[str, str]]:
            return self._granting.grant(session, config, now), self._granting.wanted(session, config)

        try:
            granted, wanted = await self._database.write(give)
        except StateError as error:  # a check was quicker: its end is news again
            self._log.info("grant_overtaken", reason=error.message)
            return
        freed = not self._wanted.keys() <= wanted.keys()
        self._wanted = {board_id: Holder(LeasePurpose.RESERVATION, owner) for board_id, owner in wanted.items()}
        for row in granted:
            self._log.info("reservation_granted", reservation=row.id, board=row.board_id, owner=row.owner)
        if freed:
            self._wake_dispatcher()

    async def run(self) -> None:
        """Grant, warn and take back until cancelled; what is under way then is done at the next start."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._news.clear()
                commits = self._database.commits
                next_s = await self._look(group)
                await self.grant()
                await self._wait(next_s, commits)

    async def _look(self, group: asyncio.TaskGroup) -> float:
        """Do what is due; return how long until something else is, s."""
        now = await self._told_time()
        config = self._live.now
        self._boards |= {board.id: board for board in config.board}
        warn_s = config.reservation.warn_s
        next_s = LOOK_S
        active, held = await self._database.read(
            lambda session: (reservations.active_reservations(session), reservations.held_reservations(session))
        )
        for row in active:
            assert row.id is not None, "rows that were read have their number"
            assert row.ends_at is not None, "an active reservation has an end"
            left_s = (row.ends_at - now).total_seconds()
            gone = row.board_id is not None and config.board_by_id(row.board_id) is None
            if left_s <= 0 or row.reason or gone or row.id not in held:
                if row.id not in self._ending:
                    self._ending.add(row.id)
                    group.create_task(self._end(row, row.id, gone=gone), name=f"reservation-end-{row.id}")
                continue
            next_s = min(next_s, left_s)
            if row.warned_at is None and row.duration_s > warn_s:
                if left_s <= warn_s:
                    await self._database.write(partial(reservations.warn_reservation, reservation_id=row.id, now=now))
                    self._log.info("reservation_warned", reservation=row.id, owner=row.owner, left_s=left_s)
                else:
                    next_s = min(next_s, left_s - warn_s)
        return next_s

    async def _wait(self, seconds: float, commits: int) -> None:
        """Until so much time has passed, there is news, or a board that somebody waits for may be free."""
        waits: list[Coroutine[Any, Any, object]] = [self._news.wait(), self._clock.sleep(seconds)]
        if self._wanted:
            waits.append(self._freed(commits))
        tasks = {asyncio.create_task(each, name="reservations-wait") for each in waits}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _freed(self, commits: int) -> None:
        """Until a board that is wanted is free, after so many commits."""
        while self._wanted.keys().isdisjoint(await self._database.read(reservations.free_boards)):
            await self._database.committed_since(commits)
            commits = self._database.commits

    async def _end(self, row: Reservation, number: int, *, gone: bool) -> None:
        board = self._boards.get(row.board_id or "")
        dark = board is None or await self._darken(board)

        def end(session: Session) -> Reservation:
            if gone and not reservations.reservation_row(session, number).reason:
                reservations.release_reservation(session, number, "its board was taken out of lab.toml", self._now())
            return reservations.end_reservation(session, number, self._now(), dark=dark)

        ended = await self._database.write(end)
        self._ending.discard(number)
        self._log.info("reservation_ended", reservation=number, board=row.board_id, reason=ended.reason, dark=dark)
        self._wake_dispatcher()

    def _now(self) -> datetime:
        return self._clock.now()

    async def _told_time(self) -> datetime:
        """The time; if the clock was set since the last look, every reservation keeps what it has left."""
        now, passed_s = self._clock.now(), self._clock.passed_s()
        before, before_s = self._seen
        step_s = (now - before).total_seconds() - (passed_s - before_s)
        self._seen = now, passed_s
        if abs(step_s) >= STEP_S:
            self._log.warning("clock_set", step_s=step_s)
            await self._database.write(partial(reservations.move_ends, step_s=step_s, now=now))
        return now
