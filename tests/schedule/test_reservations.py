"""Reservations as their owners see them: granted in order, warned, ended in the dark, whatever the clock does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from sqlmodel import Session, col, select

from labd.config import Board, LiveConfig, ReservationRules, resources_of
from labd.config.derived import lab_facts
from labd.errors import ConflictError
from labd.model import ledger, ledger_lab
from labd.model import ledger_reservations as reservations
from labd.model.database import Database
from labd.model.migrations import upgrade
from labd.model.states import BoardState, LeasePurpose, ReservationState
from labd.model.tables import Board as BoardRow
from labd.model.tables import Event, Hold, Lease, Reservation
from labd.schedule.reservations import Granting, Warden
from labd.schedule.wishes import Wish
from tests.deadline import HUNG_S
from tests.schedule.hand_clock import START, HandClock
from tests.schedule.rack import BOARDS, rack

RULES = ReservationRules(max_s=7200, warn_s=600, max_per_owner=100)


@dataclass
class Scene:
    """A lab with reservations, and the things that were switched off."""

    database: Database
    live: LiveConfig
    clock: HandClock
    warden: Warden
    darkened: list[str] = field(default_factory=list)
    outputs: list[tuple[str, int]] = field(default_factory=list)
    obeys: bool = True
    while_darkening: Callable[[], Awaitable[object]] | None = None

    async def reserve(self, wish: Wish, owner: str = "ada", duration_s: float = 3600.0) -> int:
        row = await self.database.write(
            lambda session: reservations.request_reservation(
                session,
                requirement=wish.canonical(),
                owner=owner,
                purpose="debug",
                duration_s=duration_s,
                now=self.clock.now(),
                max_live=RULES.max_per_owner,
            )
        )
        assert row.id is not None
        await self.warden.grant()
        self.warden.wake()
        return row.id

    async def row(self, number: int) -> Reservation:
        return await self.database.read(lambda session: session.get_one(Reservation, number))

    async def until(self, number: int, state: ReservationState) -> Reservation:
        async with asyncio.timeout(HUNG_S):
            while (row := await self.row(number)).state is not state:
                await asyncio.sleep(0.005)
        return row

    async def warned(self, number: int) -> None:
        """Let time pass until the warden has warned of its end."""
        async with asyncio.timeout(HUNG_S):
            while (await self.row(number)).warned_at is None:
                await self.look(number, 1)

    async def reasons(self, number: int) -> list[str]:
        events = await self.database.read(
            lambda session: list(
                session.exec(
                    select(Event)
                    .where(Event.kind == "reservation", Event.subject == str(number))
                    .order_by(col(Event.id))
                )
            )
        )
        return [event.reason for event in events]

    async def board(self, board_id: str) -> BoardRow:
        return await self.database.read(lambda session: session.get_one(BoardRow, board_id))

    async def look(self, number: int, seconds: float) -> None:
        """Let time pass in pieces, as a day does, and let the warden look after each."""
        while seconds > 0:
            await self.clock.move(min(seconds, 20.0))
            seconds -= 20.0
            for _ in range(5):
                await self.database.read(lambda session: session.get(Reservation, number))
        self.warden.wake()  # it may have looked at the clock before the last move, and sleep by that

    async def release(self, number: int, reason: str = "released by ada") -> None:
        await self.database.write(
            lambda session: reservations.release_reservation(session, number, reason, self.clock.now())
        )
        self.warden.wake()


@asynccontextmanager
async def lab(
    folder: Path, clock: HandClock | None = None, boards: tuple[Board, ...] | None = None
) -> AsyncIterator[Scene]:
    """Three boards unless others are given, which are online unless the folder has a lab that knows better."""
    url = f"sqlite:///{folder / 'labd.db'}"
    upgrade(url)
    config = rack().model_copy(update={"reservation": RULES})
    live = LiveConfig(config if boards is None else config.model_copy(update={"board": boards}))
    clock = clock or HandClock()
    async with Database.open(url) as database:

        async def darken(board: Board) -> bool:
            scene.darkened.append(board.id)
            scene.outputs.append((board.supply.instrument, board.supply.channel))
            if scene.while_darkening is not None:
                await scene.while_darkening()
            return scene.obeys

        granting = Granting(lambda config: lab_facts(config, {}))
        warden = Warden(live, database, granting, darken=darken, wake=lambda: None, clock=clock)
        scene = Scene(database, live, clock, warden)
        for board_id in BOARDS:
            await database.write(lambda session, b=board_id: ledger_lab.bring_up(session, b, START))  # type: ignore[misc]
        await warden.begin()
        task = asyncio.create_task(warden.run(), name="warden")
        try:
            yield scene
        finally:
            task.cancel()
            await asyncio.wait({task})


async def in_force(scene: Scene) -> tuple[list[Lease], list[str]]:
    return await scene.database.read(
        lambda session: (
            list(session.exec(select(Lease).where(col(Lease.released_at).is_(None)))),
            list(session.exec(select(Hold.resource))),
        )
    )


async def test_a_reservation_of_a_free_board_has_it_at_once_with_all_that_it_needs(tmp_path: Path) -> None:
    async with lab(tmp_path) as scene:
        row = await scene.row(await scene.reserve(Wish(board_id="b2")))
        assert (row.state, row.board_id) == (ReservationState.ACTIVE, "b2")
        assert row.ends_at == START + timedelta(hours=1)
        (lease,), held = await in_force(scene)
        assert (lease.owner, lease.reservation_id, lease.expires_at) == ("ada", row.id, row.ends_at)
        assert set(held) == resources_of(scene.live.now.board[1])
        board = await scene.board("b2")
        assert (board.state, board.reason) == (BoardState.BUSY, f"reservation {row.id} of ada: debug")


async def test_those_who_wait_are_served_in_the_order_of_asking(tmp_path: Path) -> None:
    async with lab(tmp_path) as scene:
        first = await scene.reserve(Wish(board_id="b1"))
        second = await scene.reserve(Wish(board_id="b1"), "bob")
        third = await scene.reserve(Wish(tags=frozenset({"fpu"})), "cy")  # b1 alone
        other = await scene.reserve(Wish(tags=frozenset({"m7"})), "di")
        states = [(await scene.row(number)).state for number in (first, second, third, other)]
        waiting, active = ReservationState.WAITING, ReservationState.ACTIVE
        assert states == [active, waiting, waiting, active]
        await scene.release(first)
        await scene.until(second, active)
        assert (await scene.row(third)).state is waiting
        await scene.release(second)
        assert (await scene.until(third, active)).board_id == "b1"


async def test_the_end_is_warned_of_once_then_the_board_goes_dark_and_is_free(tmp_path: Path) -> None:
    async with lab(tmp_path) as scene:
        number = await scene.reserve(Wish(board_id="b1"))
        await scene.look(number, 2980)
        assert (await scene.row(number)).warned_at is None
        await scene.look(number, 100)
        async with asyncio.timeout(HUNG_S):
            while (await scene.row(number)).warned_at is None:
                await asyncio.sleep(0.005)
        await scene.look(number, 600)
        row = await scene.until(number, ReservationState.ENDED)
        assert row.reason == "its time was up"
        assert await scene.reasons(number) == ["", "", "warned", "its time was up"]
        assert scene.darkened == ["b1"]
        assert (await scene.board("b1")).state is BoardState.ONLINE
        assert await in_force(scene) == ([], [])


async def test_an_extension_moves_the_end_and_is_warned_of_anew_but_not_past_the_limit(tmp_path: Path) -> None:
    async with lab(tmp_path) as scene:
        number = await scene.reserve(Wish(board_id="b1"))
        await scene.look(number, 3100)
        async with asyncio.timeout(HUNG_S):
            while (await scene.row(number)).warned_at is None:
                await asyncio.sleep(0.005)

        async def extended(seconds: float) -> Reservation:
            return await scene.database.write(
                lambda session: reservations.extend_reservation(
                    session, number, seconds, scene.clock.now(), RULES.max_s
                )
            )

        row = await extended(3600)
        assert (row.ends_at, row.warned_at) == (START + timedelta(hours=2), None)
        with pytest.raises(ConflictError, match="7200 s are allowed"):
            await extended(3600)
        (lease,), _ = await in_force(scene)
        assert lease.expires_at == row.ends_at


async def test_a_handed_over_reservation_is_the_new_owners(tmp_path: Path) -> None:
    async with lab(tmp_path) as scene:
        number = await scene.reserve(Wish(board_id="b1"))
        await scene.database.write(
            lambda session: reservations.hand_over_reservation(session, number, "bob", scene.clock.now(), 8)
        )
        (lease,), _ = await in_force(scene)
        assert ((await scene.row(number)).owner, lease.owner) == ("bob", "bob")
        assert (await scene.board("b1")).reason == f"reservation {number} of bob: debug"


async def test_a_board_that_would_not_go_dark_is_looked_at_before_it_serves_again(tmp_path: Path) -> None:
    async with lab(tmp_path) as scene:
        scene.obeys = False
        number = await scene.reserve(Wish(board_id="b1"))
        await scene.release(number)
        await scene.until(number, ReservationState.ENDED)
        board = await scene.board("b1")
        assert (board.state, "could not be switched off" in board.reason) == (BoardState.SUSPECT, True)


@pytest.mark.parametrize("step", [timedelta(days=1), timedelta(hours=-1)])
async def test_a_clock_that_is_set_takes_nothing_away_and_gives_nothing(tmp_path: Path, step: timedelta) -> None:
    async with lab(tmp_path) as scene:
        number = await scene.reserve(Wish(board_id="b1"))
        await scene.look(number, 1800)
        scene.clock.set_by(step)
        await scene.look(number, 1700)
        row = await scene.row(number)
        assert row.state is ReservationState.ACTIVE
        assert row.ends_at == START + timedelta(hours=1) + step
        await scene.look(number, 200)
        await scene.until(number, ReservationState.ENDED)


async def test_after_a_restart_they_are_as_they_were(tmp_path: Path) -> None:
    clock = HandClock()
    async with lab(tmp_path, clock) as scene:
        kept, ended, waits = (
            await scene.reserve(Wish(board_id="b1")),
            await scene.reserve(Wish(board_id="b2"), duration_s=60),
            await scene.reserve(Wish(board_id="b1"), "bob"),
        )
    await clock.move(120)
    async with lab(tmp_path, clock) as scene:
        row = await scene.until(ended, ReservationState.ENDED)
        assert row.reason == "its time was up"
        held = await scene.row(kept)
        assert (held.state, held.ends_at) == (ReservationState.ACTIVE, START + timedelta(hours=1))
        assert (await scene.row(waits)).state is ReservationState.WAITING
        assert (await scene.board("b1")).state is BoardState.BUSY


async def test_a_clock_set_back_while_the_lab_was_down_makes_no_endless_reservation(tmp_path: Path) -> None:
    clock = HandClock()
    async with lab(tmp_path, clock) as scene:
        number = await scene.reserve(Wish(board_id="b1"), duration_s=600)
    clock.set_by(timedelta(days=-30))
    async with lab(tmp_path, clock) as scene:
        async with asyncio.timeout(HUNG_S):
            while (await scene.row(number)).ends_at != clock.now() + timedelta(seconds=600):
                await asyncio.sleep(0.005)
        await scene.look(number, 620)
        await scene.until(number, ReservationState.ENDED)


async def test_a_board_that_is_taken_out_of_the_lab_ends_its_reservation_in_the_dark(tmp_path: Path) -> None:
    async with lab(tmp_path) as scene:
        number = await scene.reserve(Wish(board_id="b1"), duration_s=RULES.warn_s + 20)
        await scene.look(number, 40)
        async with asyncio.timeout(HUNG_S):
            while (await scene.row(number)).warned_at is None:  # until then the warden may not have seen the board
                await asyncio.sleep(0.005)
        config = scene.live.now
        scene.live.replace(config.model_copy(update={"board": config.board[1:]}))
        scene.warden.wake()
        row = await scene.until(number, ReservationState.ENDED)
        assert (row.reason, scene.darkened) == ("its board was taken out of lab.toml", ["b1"])


async def test_a_reservation_whose_lease_is_gone_is_reclaimed(tmp_path: Path) -> None:
    async with lab(tmp_path) as scene:
        number = await scene.reserve(Wish(board_id="b1"))

        def lose(session: Session) -> None:
            for lease in session.exec(select(Lease)):
                lease.released_at = scene.clock.now()
                session.add(lease)

        await scene.database.write(lose)
        scene.warden.wake()
        assert (await scene.until(number, ReservationState.ENDED)).reason == "its lease was gone"
        assert (await scene.board("b1")).state is BoardState.ONLINE


async def test_a_stopped_lab_grants_nothing_until_it_goes_on(tmp_path: Path) -> None:
    async with lab(tmp_path) as scene:
        await scene.database.write(lambda session: ledger_lab.stop_lab(session, "paper", "smoke", scene.clock.now()))
        number = await scene.reserve(Wish(board_id="b1"))
        assert (await scene.row(number)).state is ReservationState.WAITING
        await scene.database.write(lambda session: ledger_lab.resume_lab(session, "paper", scene.clock.now()))
        scene.warden.wake()
        await scene.until(number, ReservationState.ACTIVE)


async def test_an_owner_has_so_many_and_no_more(tmp_path: Path) -> None:
    async with lab(tmp_path) as scene:
        for _ in range(2):
            await scene.reserve(Wish(board_id="b1"))
        with pytest.raises(ConflictError, match="ada has 2 reservations"):
            await scene.database.write(
                lambda session: reservations.request_reservation(
                    session, requirement="{}", owner="ada", purpose="", duration_s=1, now=START, max_live=2
                )
            )


async def test_a_board_that_runs_is_not_taken_from_its_job(tmp_path: Path) -> None:
    async with lab(tmp_path) as scene:
        await scene.database.write(
            lambda session: ledger.set_board_state(session, "b1", BoardState.BUSY, "run 1 of job 1", START)
        )
        number = await scene.reserve(Wish(board_id="b1"))
        assert (await scene.row(number)).state is ReservationState.WAITING
        holder = scene.warden.wanted()["b1"]
        assert (holder.purpose, holder.owner) == (LeasePurpose.RESERVATION, "ada"), "no other job gets it next"
        await scene.database.write(lambda session: ledger.set_board_state(session, "b1", BoardState.ONLINE, "", START))
        await scene.until(number, ReservationState.ACTIVE)
        async with asyncio.timeout(HUNG_S):
            while scene.warden.wanted():
                await asyncio.sleep(0.005)


async def idle(scene: Scene) -> None:
    """Long enough for whoever would do something again and again."""
    for _ in range(50):
        await scene.database.read(lambda session: session.get(Reservation, 1))


@pytest.mark.parametrize("why", ["the lab is stopped", "what it shares with another is held"])
async def test_a_free_board_that_cannot_be_had_yet_is_waited_for_in_silence(tmp_path: Path, why: str) -> None:
    async with lab(tmp_path) as scene:
        if why == "the lab is stopped":
            await scene.database.write(lambda session: ledger_lab.stop_lab(session, "paper", why, START))
        else:
            shared = {"board": tuple(each.model_copy(update={"resources": ("mux",)}) for each in scene.live.now.board)}
            scene.live.replace(scene.live.now.model_copy(update=shared))
            await scene.reserve(Wish(board_id="b2"))
        number = await scene.reserve(Wish(board_id="b1"))
        await idle(scene)
        commits = scene.database.commits
        await idle(scene)
        assert scene.database.commits == commits
        assert (await scene.row(number)).state is ReservationState.WAITING


@pytest.mark.parametrize("step", [timedelta(days=1), timedelta(hours=-1)])
async def test_a_board_had_just_after_the_clock_was_set_is_had_as_long_as_promised(
    tmp_path: Path, step: timedelta
) -> None:
    async with lab(tmp_path) as scene:
        before = await scene.reserve(Wish(board_id="b1"))
        await scene.look(before, 600)
        scene.clock.set_by(step)
        after = await scene.reserve(Wish(board_id="b2"))
        await scene.look(after, 3500)
        assert (await scene.until(before, ReservationState.ENDED)).reason == "its time was up"
        row = await scene.row(after)
        assert (row.state, row.ends_at) == (ReservationState.ACTIVE, START + timedelta(seconds=4200) + step)
        await scene.look(after, 200)
        await scene.until(after, ReservationState.ENDED)


async def test_the_output_that_a_reservation_began_with_goes_dark_though_its_board_was_wired_anew(
    tmp_path: Path,
) -> None:
    async with lab(tmp_path) as scene:
        number = await scene.reserve(Wish(board_id="b1"), duration_s=RULES.warn_s + 20.0)
        await scene.warned(number)  # so the warden has seen it, and how its board is wired
        first, *others = scene.live.now.board
        moved = first.model_copy(update={"supply": first.supply.model_copy(update={"channel": 4})})
        scene.live.replace(scene.live.now.model_copy(update={"board": (moved, *others)}))
        await scene.look(number, 40)
        await scene.release(number)
        await scene.until(number, ReservationState.ENDED)
        assert ("psu", 1) in scene.outputs


async def test_a_board_wired_anew_over_a_restart_is_looked_at_and_what_feeds_it_now_is_let_alone(
    tmp_path: Path,
) -> None:
    clock = HandClock()
    async with lab(tmp_path, clock) as scene:
        number = await scene.reserve(Wish(board_id="b1"))
        first, *others = scene.live.now.board
    moved = first.model_copy(update={"supply": first.supply.model_copy(update={"channel": 4})})
    async with lab(tmp_path, clock, (moved, *others)) as scene:
        await scene.release(number)
        await scene.until(number, ReservationState.ENDED)
        assert scene.outputs == [], "its reservation does not hold channel 4"
        assert (await scene.board("b1")).state is BoardState.SUSPECT


async def test_a_board_taken_out_over_a_restart_is_not_taken_for_dark(tmp_path: Path) -> None:
    clock = HandClock()
    async with lab(tmp_path, clock) as scene:
        number = await scene.reserve(Wish(board_id="b1"))
        others = scene.live.now.board[1:]
    async with lab(tmp_path, clock, others) as scene:
        await scene.until(number, ReservationState.ENDED)
        assert (await scene.board("b1")).state is BoardState.SUSPECT


async def test_who_extends_in_the_last_moment_keeps_the_board(tmp_path: Path) -> None:
    async with lab(tmp_path) as scene:
        number = await scene.reserve(Wish(board_id="b1"), duration_s=60)
        asked_at = scene.clock.now()

        async def extend() -> None:
            scene.while_darkening = None
            await scene.database.write(
                lambda session: reservations.extend_reservation(session, number, 600, asked_at, RULES.max_s)
            )

        await idle(scene)
        scene.while_darkening = extend
        await scene.clock.move(60)
        async with asyncio.timeout(HUNG_S):
            while (await scene.row(number)).ends_at != START + timedelta(seconds=660):
                await asyncio.sleep(0.005)
        await idle(scene)
        assert (await scene.row(number)).state is ReservationState.ACTIVE
        assert scene.darkened == ["b1"], "it was switched off, and is still its owner's"
        await scene.look(number, 600)
        assert (await scene.until(number, ReservationState.ENDED)).reason == "its time was up"


async def test_an_end_that_was_moved_away_is_not_warned_of_yet(tmp_path: Path) -> None:
    async with lab(tmp_path) as scene:
        number = await scene.reserve(Wish(board_id="b1"))

        async def warn(seconds: float) -> bool:
            now = START + timedelta(seconds=seconds)
            return await scene.database.write(
                lambda session: reservations.warn_reservation(session, number, now, RULES.warn_s)
            )

        assert not await warn(2999)
        assert await warn(3000)
        assert not await warn(3001), "once"


async def test_who_has_waited_for_a_board_gives_it_back_in_time(tmp_path: Path) -> None:
    async with lab(tmp_path) as scene:
        first = await scene.reserve(Wish(board_id="b1"))
        second = await scene.reserve(Wish(board_id="b1"), "bob", duration_s=20)
        await scene.release(first)
        await scene.until(second, ReservationState.ACTIVE)
        await idle(scene)
        await scene.clock.move(20)
        assert (await scene.until(second, ReservationState.ENDED)).ended_at == START + timedelta(seconds=20)
