"""Another `lab.toml` for a lab at work, as its boards see it: taken up at once and whole, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlmodel import Session, col, select

from drivers.api import ConnectError, Driver, DriverLoader
from labd.bench.devices import Devices
from labd.clock import WALL
from labd.config import Board, Instrument, LabConfig, LiveConfig, resources_of
from labd.errors import ConfigError
from labd.model import ledger_lab, ledger_leases
from labd.model import ledger_reservations as reservations
from labd.model.database import Database
from labd.model.migrations import upgrade
from labd.model.states import BoardState
from labd.model.tables import Board as BoardRow
from labd.model.tables import Event, Lease
from labd.service.reload import ConfigRefusedError, Reloader
from tests.bench.test_changed_instruments import SupplyDriver, instrument
from tests.deadline import HUNG_S
from tests.schedule.rack import rack

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def broken() -> Driver:
    raise ConnectError("driver 'broken' (shop:Broken) cannot be loaded: No module named 'shop'")


@dataclass
class Scene:
    """A lab and its file, which a test edits."""

    database: Database
    live: LiveConfig
    driver: SupplyDriver
    reloader: Reloader
    file: Callable[[], LabConfig]
    wakes: int = 0

    def edit(self, **tables: object) -> None:
        edited = self.live.now.model_copy(update=tables)
        self.file = lambda: edited

    async def reload(self) -> None:
        """As a signal asks for it, until it has been heeded."""
        told = len(await self.told())
        self.reloader.request()
        async with asyncio.timeout(HUNG_S):
            while len(await self.told()) == told:
                await asyncio.sleep(0.005)
        async with self.reloader.turn:
            pass

    async def told(self) -> list[str]:
        query = select(Event).where(Event.kind == ledger_lab.KIND).order_by(col(Event.id))
        return [event.state for event in await self.database.read(lambda session: list(session.exec(query)))]

    async def until(self, board_id: str, state: BoardState) -> None:
        async with asyncio.timeout(HUNG_S):
            while (row := await self.board(board_id)) is None or row.state is not state:
                await asyncio.sleep(0.005)

    async def board(self, board_id: str) -> BoardRow | None:
        return await self.database.read(lambda session: session.get(BoardRow, board_id))


@asynccontextmanager
async def lab(folder: Path, config: LabConfig | None = None) -> AsyncIterator[Scene]:
    """A lab with one supply, as it is after a start."""
    url = f"sqlite:///{folder}/labd.db"
    upgrade(url)
    plain = rack(folder)
    live = LiveConfig(config or plain.model_copy(update={"instrument": (instrument("here"),)}))
    driver = SupplyDriver()
    drivers: dict[str, Driver] = {"supply": driver, "serial": driver}
    loaders: dict[str, DriverLoader] = {"broken": broken}

    def reread() -> LabConfig:
        return scene.file()

    def woken() -> None:
        scene.wakes += 1

    async with Database.open(url) as database, Devices(live.now.instrument, drivers, database) as devices:
        reloader = Reloader(
            live,
            devices,
            database,
            drivers=drivers,
            reread=reread,
            loaders=lambda: loaders,
            wake=woken,
            clock=WALL,
        )
        scene = Scene(database, live, driver, reloader, file=lambda: live.now)

        def start(session: Session) -> None:
            ledger_lab.retire_boards(session, [board.id for board in live.now.board], NOW)
            for board in live.now.board:
                ledger_lab.bring_up(session, board.id, NOW)

        await database.write(start)
        task = asyncio.create_task(reloader.run(), name="reloader")
        try:
            yield scene
        finally:
            task.cancel()
            await asyncio.wait({task})


def boards(count: int) -> tuple[Board, ...]:
    """Boards that share nothing."""
    first = rack().board[2]
    return tuple(
        first.model_copy(
            update={
                "id": f"n{number}",
                "supply": first.supply.model_copy(update={"channel": number}),
                "serial": first.serial.model_copy(update={"port": f"/dev/ttyN{number}"}),
            }
        )
        for number in range(count)
    )


async def hold(scene: Scene, board: Board, duration_s: float = 3600.0) -> int:
    """A reservation that holds a board."""

    def reserve(session: Session) -> int:
        row = reservations.request_reservation(
            session, requirement="{}", owner="ada", purpose="", duration_s=duration_s, now=NOW, max_live=8
        )
        assert row.id is not None
        reservations.grant_reservation(session, row.id, board.id, resources_of(board), NOW)
        return row.id

    return await scene.database.write(reserve)


async def give_back(scene: Scene, number: int) -> None:
    await scene.database.write(lambda session: reservations.end_reservation(session, number, NOW, dark=True))


async def test_whoever_decides_is_told_of_another_file_at_once(tmp_path: Path) -> None:
    async with lab(tmp_path) as scene:
        first, *others = scene.live.now.board
        scene.edit(board=(first.model_copy(update={"tags": ("m4", "rf")}), *others))
        await scene.reload()
        assert scene.live.now.board[0].tags == ("m4", "rf")
        assert scene.wakes == 1


async def test_a_board_that_is_held_on_its_way_out_is_waited_for_in_silence(tmp_path: Path) -> None:
    async with lab(tmp_path) as scene:
        leaving, *others = scene.live.now.board
        number = await hold(scene, leaving)
        scene.edit(board=tuple(others))
        await scene.reload()

        async def idle() -> int:
            """Long enough for whoever would look again and again."""
            for _ in range(50):
                await scene.board(leaving.id)
            return scene.database.commits

        assert await idle() == await idle()
        await give_back(scene, number)
        await scene.until(leaving.id, BoardState.OFFLINE)


@pytest.mark.parametrize("fault", ["gone", "driver"])
async def test_a_file_that_vanished_or_a_driver_that_cannot_be_loaded_leaves_all_as_it_was(
    tmp_path: Path, fault: str
) -> None:
    async with lab(tmp_path) as scene:
        before = scene.live.now

        def gone() -> LabConfig:
            raise ConfigError("cannot be read: No such file or directory", where="lab.toml")

        if fault == "gone":
            scene.file = gone
        else:
            new = Instrument.model_validate({"id": "new", "driver": "broken"})
            scene.edit(instrument=(*before.instrument, new))
        await scene.reload()
        assert await scene.told() == [ledger_lab.RELOAD_REFUSED]
        assert scene.live.now is before
        with pytest.raises(ConfigRefusedError, match="No such file" if fault == "gone" else "No module named 'shop'"):
            await scene.reloader.propose()


async def test_two_hundred_boards_come_and_go(tmp_path: Path) -> None:
    async with lab(tmp_path) as scene:
        old, new = scene.live.now.board, boards(200)
        scene.edit(board=(*old, *new))
        await scene.reload()
        await scene.until("n199", BoardState.ONLINE)
        scene.edit(board=old)
        await scene.reload()
        await scene.until("n199", BoardState.OFFLINE)
        assert scene.driver.opened[0].on.isdisjoint(board.supply.channel for board in new)


async def test_boards_that_swap_their_ports_wait_for_whoever_has_one(tmp_path: Path) -> None:
    async with lab(tmp_path) as scene:
        first, second, third = scene.live.now.board
        number = await hold(scene, first)
        swapped = (
            first.model_copy(update={"serial": second.serial}),
            second.model_copy(update={"serial": first.serial}),
        )
        scene.edit(board=(*swapped, third))
        await scene.reload()
        held = await scene.database.read(ledger_leases.held_resources)
        assert held == resources_of(first), "what is in use stays in the hands that have it"
        assert held & resources_of(swapped[1]), "so the other one cannot have it yet"
        await give_back(scene, number)
        assert not await scene.database.read(ledger_leases.held_resources)


async def test_a_board_that_was_taken_out_while_the_lab_was_down_goes_once_nobody_holds_it(tmp_path: Path) -> None:
    async with lab(tmp_path) as scene:
        config, number = scene.live.now, await hold(scene, scene.live.now.board[0])
    async with lab(tmp_path, config.model_copy(update={"board": config.board[1:]})) as scene:
        found = await scene.board("b1")
        assert found is not None
        assert found.state is BoardState.BUSY
        await give_back(scene, number)
        await scene.until("b1", BoardState.OFFLINE)
        leases = await scene.database.read(
            lambda session: session.exec(select(Lease).where(col(Lease.released_at).is_(None))).all()
        )
        assert leases == []


async def test_reloads_that_are_asked_for_at_once_are_done_one_after_the_other(tmp_path: Path) -> None:
    async with lab(tmp_path) as scene:
        read: list[str] = []
        one, more = scene.live.now, scene.live.now.model_copy(update={"board": (*scene.live.now.board, *boards(1))})

        def file() -> LabConfig:
            assert scene.reloader.turn.locked()
            read.append("again")
            return more if len(read) % 2 else one

        scene.file = file
        for _ in range(4):
            scene.reloader.request()
            await scene.reload()
        assert (await scene.told()).count(ledger_lab.RELOADED) == len(read)
        assert scene.live.now is (more if len(read) % 2 else one)
