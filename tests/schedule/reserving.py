"""A lab with its warden, dispatcher, reloader and requests as they are, on paper boards, which can be killed anywhere.

All of it runs on a loop that never waits. Its database does what it is asked in place, a few turns of the loop later,
so any two of those who work on it may come before one another. A daemon that is killed at a commit never gets an answer
from it: nothing that follows the commit is done, as with kill -9. What is left then are the database, the outputs,
lab.toml, and the requests that nobody has answered.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, TypeVar, cast

from sqlmodel import Session, col, select

from drivers.api import Driver
from labd.bench import emergency
from labd.bench.devices import Devices
from labd.config import Board, LabConfig, LiveConfig
from labd.config.derived import BoardFacts, lab_facts
from labd.model.causes import Cause, Ending
from labd.model.database import Database
from labd.model.engine import Access, make_engine
from labd.model.tables import Event, Hold, Job, Run
from labd.schedule.dispatcher import Dispatcher
from labd.schedule.match import Requirement
from labd.schedule.reservations import Granting, Warden
from labd.schedule.snapshot import Holder
from labd.service import outbox
from labd.service.answer import answer
from labd.service.lab import Lab
from labd.service.messages import Reply
from labd.service.reload import Reloader
from labd.service.sender import Origin, sender_of
from tests.schedule.hand_clock import HandClock
from tests.schedule.histories import ESTIMATE_S, LEASE_S, Kill, recovery
from tests.schedule.quiet_loop import QuietLoop

T = TypeVar("T")
Output = tuple[str, int]
LAG_TURNS = 4
"""Most turns of the loop that the database lets pass before and after what it does."""


@dataclass
class Doom:
    """Kills to come: after how many commits, and on which side of the next one."""

    to_come: list[tuple[int, Kill]] = field(default_factory=list)
    told: Counter[str] = field(default_factory=Counter)
    """What was being committed when the daemon was killed."""

    def strikes(self) -> Kill:
        """Whether the commit that is about to be made is the daemon's last."""
        if not self.to_come:
            return Kill.NOWHERE
        commits, kill = self.to_come[0]
        if commits > 0:
            self.to_come[0] = commits - 1, kill
            return Kill.NOWHERE
        self.to_come.pop(0)
        return kill


class PaperDatabase:
    """What `labd.model.database.Database` is to its users, in place.

    Args:
        url: Where it lies.
        random: Says how long it takes its time.
        doom: Says when its daemon is killed.
    """

    def __init__(self, url: str, random: Random, doom: Doom) -> None:
        self._engine = make_engine(url, Access.WRITE)
        self._random = random
        self._doom = doom
        self._next_commit = asyncio.Event()
        self._never: list[asyncio.Future[None]] = []
        self.commits = 0
        self.dead = False

    async def write(self, change: Callable[[Session], T]) -> T:
        await self._lag()
        with self.session() as session:
            kill = self._doom.strikes()
            newest = outbox.newest_event(session)
            result = change(session)
            session.flush()
            if kill is not Kill.NOWHERE:
                for event in session.exec(select(Event).where(col(Event.id) > newest)):
                    self._doom.told[f"{event.kind} {event.state}"] += 1
                self._doom.told["commits"] += 1
                self.dead = True
            if kill is Kill.BEFORE_COMMIT:
                session.rollback()
            else:
                session.commit()
        if not self.dead:
            self.commits += 1
            self._next_commit.set()
            self._next_commit = asyncio.Event()
        await self._lag()
        return result

    async def read(self, query: Callable[[Session], T]) -> T:
        await self._lag()
        result = self.look(query)
        await self._lag()
        return result

    async def committed_since(self, commits: int) -> None:
        while self.commits <= commits:
            await self._next_commit.wait()

    def look(self, query: Callable[[Session], T]) -> T:
        """Read something, for the test."""
        with self.session() as session:
            return query(session)

    def session(self) -> Session:
        """A look at it, or a transaction."""
        return Session(self._engine, expire_on_commit=False)

    def close(self) -> None:
        """Let go of the file."""
        self._engine.dispose()

    async def _lag(self) -> None:
        for _ in range(self._random.randrange(LAG_TURNS)):
            await asyncio.sleep(0)
        if self.dead:
            self._never.append(asyncio.get_running_loop().create_future())
            await self._never[-1]


@dataclass(eq=False)
class Asking:
    """A request on its way; whoever asks it asks again until there is an answer."""

    user: str
    verb: str
    params: Mapping[str, Any]
    request_id: str
    reply: Reply | None = None


@dataclass
class World:
    """What a killed daemon leaves behind.

    Args:
        folder: Where the database lies.
        file: What lab.toml says.
        random: Says who comes before whom.
    """

    folder: Path
    file: LabConfig
    random: Random
    clock: HandClock = field(default_factory=HandClock)
    doom: Doom = field(default_factory=Doom)
    on: set[Output] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)
    """What nobody may ever do, and was done."""
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    """Open unless outputs take their time to go off."""
    obeys: bool = True
    """Whether outputs go off at all."""
    darkening: set[str] = field(default_factory=set)
    """Boards whose outputs are being switched off for a reservation that ends."""
    switched_off: int = 0


def output_of(board: Board) -> Output:
    """What feeds a board."""
    return board.supply.instrument, board.supply.channel


class _Bench:
    """Devices and work of one daemon, as far as its tasks know them."""

    def __init__(self, world: World, live: LiveConfig, database: PaperDatabase) -> None:
        self._world = world
        self._live = live
        self._database = database
        self.performing: dict[int, asyncio.Future[Cause | None]] = {}

    # --- devices

    async def switch_off(self, instrument_id: str, channel: int) -> None:
        if not self._database.dead:
            self._world.on.discard((instrument_id, channel))
            self._world.switched_off += 1

    def reconfigure(self, *_: object) -> None:
        pass

    async def take_over(self) -> None:
        await asyncio.get_running_loop().create_future()

    async def darken(self, board: Board) -> bool:
        """Switch off what a reservation leaves, which has to be its own to the end."""
        world = self._world
        world.darkening.add(board.id)
        try:
            await world.gate.wait()
            instrument, channel = output_of(board)
            name = f"channel {instrument}/{channel}"
            held = self._database.look(lambda session: session.get(Hold, name))
            if held is None and not self._database.dead:
                world.faults.append(f"{name} was switched off for a reservation that had given it back")
            if not world.obeys:
                world.obeys = True
                return False
            return await emergency.darken(cast(Devices, self), board)
        finally:
            world.darkening.discard(board.id)

    # --- work

    def facts(self, config: LabConfig) -> Mapping[str, BoardFacts]:
        return lab_facts(config, {})

    def requirement(self, job: Job) -> Requirement:
        raise AssertionError("every job here has one")

    def estimate_s(self, job: Job) -> float:
        return ESTIMATE_S

    def lease_s(self, job: Job) -> float:
        return LEASE_S

    async def perform(self, job: Job, run: Run) -> Ending:
        board = self._live.now.board_by_id(run.board_id)
        if board is None:
            return Ending(Cause.BOARD_SILENT, "taken out")
        assert run.id is not None
        self._world.on.add(output_of(board))
        self.performing[run.id] = asyncio.get_running_loop().create_future()
        try:
            return Ending(await self.performing[run.id], "seen")
        finally:
            del self.performing[run.id]
            await self.switch_off(*output_of(board))

    async def make_safe(self, board_id: str) -> None:
        board = self._live.now.board_by_id(board_id)
        if board is not None:
            await self.switch_off(*output_of(board))

    def pull(self) -> None:
        if not self._database.dead:
            self._world.on.clear()


class Daemon:
    """labd, from its start to its kill.

    Args:
        world: What it finds.
        loop: Where it runs.
    """

    def __init__(self, world: World, loop: QuietLoop) -> None:
        self.world = world
        self._loop = loop
        self.live = LiveConfig(world.file)
        self.database = PaperDatabase(f"sqlite:///{world.folder / 'labd.db'}", world.random, world.doom)
        database = cast(Database, self.database)
        self.bench = _Bench(world, self.live, self.database)
        granting = Granting(self.bench.facts)
        self.dispatcher = Dispatcher(
            self.live, database, self.bench, self._captures_start, world.clock, wanted=self._wanted
        )
        self.warden = Warden(
            self.live, database, granting, darken=self.bench.darken, wake=self.dispatcher.wake, clock=world.clock
        )
        self._reloader = Reloader(
            self.live,
            cast(Devices, self.bench),
            database,
            drivers={name: cast(Driver, None) for name in self.live.now.driver_names},
            reread=lambda: world.file,
            loaders=dict,
            wake=self._boards_changed,
            clock=world.clock,
        )
        self._lab = Lab(
            live=self.live,
            database=database,
            wake=self.dispatcher.wake,
            cancel_run=self.dispatcher.cancel,
            halt=self._halt,
            go_on=self._go_on,
            reloader=self._reloader,
            granting=granting,
            reservations_changed=self.warden.wake,
            now=world.clock.now,
        )
        self._life = loop.create_task(self._live_on(), name="daemon")

    @property
    def dead(self) -> bool:
        """Whether it was killed. Raises what it died of by itself."""
        if not self.database.dead and self._life.done():
            self._life.result()
        return self.database.dead

    def bury(self) -> None:
        """Nothing is left of it."""
        self.database.dead = True
        self._loop.end_tasks()
        self.database.close()

    async def ask(self, asking: Asking) -> None:
        """Ask something, and note the answer."""
        payload = json.dumps({"request_id": asking.request_id, "client": "test", "params": asking.params}).encode()
        asking.reply = await answer(self._lab, asking.verb, payload, sender_of(payload, Origin(user=asking.user)))

    async def _live_on(self) -> None:
        for board in self.live.now.board:  # before anything else
            self.world.on.discard(output_of(board))
        for change in recovery(self.live.now, self.world.clock.now()):
            await self.database.write(change)
        await self.warden.begin()
        await self.dispatcher.begin()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.warden.run(), name="warden")
            group.create_task(self.dispatcher.run(), name="dispatcher")
            group.create_task(self._reloader.run(), name="reloader")

    def _wanted(self) -> Mapping[str, Holder]:
        return self.warden.wanted()

    async def _captures_start(self) -> bool:
        return True

    def _boards_changed(self) -> None:
        self.dispatcher.wake()
        self.warden.wake()

    def _halt(self) -> None:
        self.dispatcher.halt()
        self.bench.pull()

    def _go_on(self) -> None:
        self.dispatcher.go_on()
        self.warden.wake()
