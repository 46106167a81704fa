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
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog
from sqlmodel import Session

from labd.clock import WALL, Clock
from labd.config import Board, LabConfig, LiveConfig, resources_of, supply_resource
from labd.config.derived import BoardFacts
from labd.model import ledger_lab
from labd.model import ledger_reservations as reservations
from labd.model.database import Database
from labd.model.ledger_leases import held_resources
from labd.model.states import LeasePurpose
from labd.model.tables import Reservation
from labd.schedule.snapshot import Holder
from labd.schedule.waiting import first_of
from labd.schedule.wishes import Grant, Wish, candidates, decide

LOOK_S = 30.0
"""Longest pause between two looks at the clock, s."""
WISHES_MAX = 10_000
"""Most wishes whose boards are remembered."""
STEP_S = 60.0
"""A clock that moves by less than this besides running is taken as it is, s."""

Darken = Callable[[Board], Awaitable[bool]]
"""Switches a board's output off; False if it is not known to be off. Has a deadline of its own."""
FactsOf = Callable[[LabConfig], Mapping[str, BoardFacts]]
"""All that is known of the boards of a lab."""


class _Rack:
    """What a configuration says of its boards, and which of them each wish found so far may have."""

    def __init__(self, config: LabConfig, facts: Mapping[str, BoardFacts]) -> None:
        self.config = config
        self.facts = facts
        self.resources = {board.id: resources_of(board) for board in config.board}
        self._fits: dict[str, tuple[str, ...]] = {}
        self._near: dict[str, frozenset[str]] = {}

    def fits(self, text: str) -> tuple[str, ...]:
        """Boards that meet the wish with this text."""
        if text not in self._fits:
            if len(self._fits) >= WISHES_MAX:
                self._fits.clear()
            self._fits[text] = candidates(Wish.parse(text), self.config, self.facts)
        return self._fits[text]

    def near(self, board_id: str) -> frozenset[str]:
        """The board, and those that share something with it."""
        if board_id not in self._near:
            own = self.resources[board_id]
            self._near[board_id] = frozenset(
                {board_id, *(other for other, held in self.resources.items() if not own.isdisjoint(held))}
            )
        return self._near[board_id]

    def wanted(self, wishes: Iterable[tuple[str, str]]) -> dict[str, str]:
        """Boards that meet one of these wishes, and those near them, each with the owner of the first such wish."""
        found: dict[str, str] = {}
        for text, owner in wishes:
            for board_id in self.fits(text):
                for each in self.near(board_id):
                    found.setdefault(each, owner)
        return found


def _wired(board: Board | None, held: frozenset[str] | None) -> Board | None:
    """The board, if what feeds it now is what its reservation holds: it may be wired anew since the lease began."""
    if board is None or (held is not None and supply_resource(board) not in held):
        return None
    return board


@dataclass(frozen=True, slots=True)
class Outlook:
    """What those who wait for a board can hope for.

    Args:
        possible: What can be given now.
        wanted: Boards that nobody else may have before the reservations that wait, each with who asked for it first.
            With a board those that share something with it are wanted, or it would never be free of them.
    """

    possible: list[Grant]
    wanted: dict[str, str]


class Granting:
    """Decides which reservation gets which board, inside a transaction.

    It may be used in several threads at once: what it keeps of a configuration is replaced as a whole, and only grows.

    Args:
        facts: What is known of the boards of a lab.
    """

    def __init__(self, facts: FactsOf) -> None:
        self._facts_of = facts
        self._rack: _Rack | None = None

    def facts(self, config: LabConfig) -> Mapping[str, BoardFacts]:
        """What is known of each board, by its id."""
        return self._rack_of(config).facts

    def possible(self, session: Session, config: LabConfig) -> list[Grant]:
        """All that can be given now; nothing in a lab that is stopped. Changes nothing."""
        return self._possible(session, self._rack_of(config), reservations.waiting_wishes(session))

    def look(self, session: Session, config: LabConfig) -> Outlook:
        """What can be given now, and what is wanted."""
        rack, wishes = self._rack_of(config), reservations.waiting_wishes(session)
        return Outlook(self._possible(session, rack, wishes), rack.wanted(wishes))

    def _possible(self, session: Session, rack: _Rack, wishes: Sequence[tuple[str, str]]) -> list[Grant]:
        fits = {text: rack.fits(text) for text, _ in wishes}
        if not fits:
            return []
        free = reservations.free_boards(session, {board_id for boards in fits.values() for board_id in boards})
        if not free or ledger_lab.is_stopped(session):
            return []
        chances = {text: len(free.intersection(boards)) for text, boards in fits.items()}
        waiting = {
            text: reservations.waiting_numbers(session, text, chance) for text, chance in chances.items() if chance
        }
        return list(decide(waiting, free, held_resources(session), fits.__getitem__, rack.resources.__getitem__))

    def grant(self, session: Session, config: LabConfig, now: datetime) -> list[Reservation]:
        """Give all that can be given now. In the writer's thread."""
        resources = self._rack_of(config).resources
        return [
            reservations.grant_reservation(session, each.reservation_id, each.board_id, resources[each.board_id], now)
            for each in self.possible(session, config)
        ]

    def _rack_of(self, config: LabConfig) -> _Rack:
        rack = self._rack
        if rack is None or rack.config is not config:
            rack = self._rack = _Rack(config, self._facts_of(config))
        return rack


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
        """Those that are being ended, until a look at the record finds them ended: an older look ends none twice."""
        self._wiring: dict[int, Board | None] = {}
        """How the boards of active reservations were wired when each began: that is what goes dark; None if that is
        not known any more."""
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
        await self._grant(await self._database.read(partial(self._granting.look, config=self._live.now)))

    async def _grant(self, outlook: Outlook) -> None:
        wanted = outlook.wanted
        if outlook.possible:
            config = self._live.now
            for row in await self._database.write(partial(self._granting.grant, config=config, now=self._clock.now())):
                self._log.info("reservation_granted", reservation=row.id, board=row.board_id, owner=row.owner)
            self.wake()  # they have an end now, of which the last look did not know
            wanted = (await self._database.read(partial(self._granting.look, config=config))).wanted
        freed = not self._wanted.keys() <= wanted.keys()
        self._wanted = {board_id: Holder(LeasePurpose.RESERVATION, owner) for board_id, owner in wanted.items()}
        if freed:
            self._wake_dispatcher()

    async def run(self) -> None:
        """Grant, warn and take back until cancelled; what is under way then is done at the next start."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._news.clear()
                commits = self._database.commits
                next_s, outlook = await self._look(group)
                await self._grant(outlook)
                await self._wait(next_s, commits)

    async def _look(self, group: asyncio.TaskGroup) -> tuple[float, Outlook]:
        """Do what is due; return how long until something else is, s, and what those who wait can hope for."""
        now = await self._told_time()
        config = self._live.now
        warn_s = config.reservation.warn_s
        next_s = LOOK_S

        def look(session: Session) -> tuple[list[Reservation], dict[int, frozenset[str]], Outlook]:
            active, held = reservations.active_reservations(session), reservations.held_reservations(session)
            return active, held, self._granting.look(session, config)

        active, held, outlook = await self._database.read(look)
        boards = {board.id: board for board in config.board}
        self._wiring = {
            row.id: self._wiring.get(row.id) or _wired(boards.get(row.board_id or ""), held.get(row.id))
            for row in active
            if row.id is not None
        }
        self._ending &= self._wiring.keys()
        for row in active:
            assert row.id is not None, "rows that were read have their number"
            assert row.ends_at is not None, "an active reservation has an end"
            left_s = (row.ends_at - now).total_seconds()
            gone = row.board_id not in boards
            if left_s <= 0 or row.reason or gone or row.id not in held:
                if row.id not in self._ending:
                    self._ending.add(row.id)
                    group.create_task(self._end(row, row.id, gone=gone), name=f"reservation-end-{row.id}")
                continue
            next_s = min(next_s, left_s)
            if row.warned_at is None and row.duration_s > warn_s:
                if left_s <= warn_s:
                    warn = partial(reservations.warn_reservation, reservation_id=row.id, now=now, warn_s=warn_s)
                    if await self._database.write(warn):
                        self._log.info("reservation_warned", reservation=row.id, owner=row.owner, left_s=left_s)
                else:
                    next_s = min(next_s, left_s - warn_s)
        return next_s, outlook

    async def _wait(self, seconds: float, commits: int) -> None:
        """Until so much time has passed, there is news, or a board that somebody waits for may be free."""
        waits: list[Coroutine[Any, Any, object]] = [self._news.wait(), self._clock.sleep(seconds)]
        if self._wanted:
            waits.append(self._freed(commits))
        await first_of("warden", *waits)

    async def _freed(self, commits: int) -> None:
        """Until a board can be given to somebody who waits, after more than so many commits."""
        while True:
            await self._database.committed_since(commits)
            commits = self._database.commits
            if await self._database.read(partial(self._granting.possible, config=self._live.now)):
                return

    async def _end(self, row: Reservation, number: int, *, gone: bool) -> None:
        board = self._wiring.get(number)
        dark = board is not None and await self._darken(board)

        def end(session: Session) -> str | None:
            now = self._now()
            if not reservations.is_due(session, number, now):
                if not gone:
                    return None
                reservations.release_reservation(session, number, "its board was taken out of lab.toml", now)
            return reservations.end_reservation(session, number, now, dark=dark)

        reason = await self._database.write(end)
        if reason is None:  # its owner was faster
            self._ending.discard(number)
            self._log.info("reservation_went_on", reservation=number, board=row.board_id)
            self.wake()
            return
        self._log.info("reservation_ended", reservation=number, board=row.board_id, reason=reason, dark=dark)
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
            since = now - timedelta(seconds=passed_s - before_s)
            await self._database.write(
                partial(reservations.move_ends, step_s=step_s, since=since, known=frozenset(self._wiring), now=now)
            )
        return now
