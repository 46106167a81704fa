"""The rack: all devices of a `rack.toml`, wired, on one time, until it is closed.

It runs inside of a test, or as a process of its own (`run_rack`). Nothing survives it: boards end with their pipes.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import zlib
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import structlog

from labd.errors import ConfigError, NotFoundError
from labd.virtual.board import Board, BoardEdge, BoardFault
from labd.virtual.config import LoadWire, RackBoard, RackConfig, Stamper
from labd.virtual.control import (
    BoardsRequest,
    BoardState,
    FaultRequest,
    OutputReport,
    OutputsRequest,
    Request,
    SwitchingReport,
    SwitchingsRequest,
    TruthRequest,
    serve_control,
)
from labd.virtual.endpoints import BoardEndpoint, Endpoints
from labd.virtual.n6705c import N6705C
from labd.virtual.openocd import OpenOcd, OpenOcdFault
from labd.virtual.scpi_server import Fault as AnalyzerFault
from labd.virtual.scpi_server import background
from labd.virtual.sync_load import SyncLoad
from labd.virtual.timestamper import Timestamper, TimestamperFault
from labd.virtual.truth import Truth
from labd.virtual.world import RackClock

TIMING_PIN = 0
"""The pin of a native board that marks windows."""
_TICK_HOST_S = 0.1

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Seat:
    """A board in its place: with its truth and the probe on it."""

    board: Board
    truth: Truth
    probe: OpenOcd


class VirtualRack:
    """A running rack: `async with VirtualRack(config) as rack`.

    Args:
        config: What is in it; `rack.dir` is made if it is not there.

    Raises:
        ConfigError: on entering: another rack lives in the folder, or an image cannot be read.
    """

    def __init__(self, config: RackConfig) -> None:
        self.config = config
        self.clock = RackClock(config.rack.speed)
        self.seats: dict[str, Seat] = {}
        self.analyzers: dict[str, N6705C] = {}
        self.timestampers: dict[str, Timestamper] = {}
        self.loads: dict[str, SyncLoad] = {}
        """The sync loads, by the ids of their boards."""
        self._open = AsyncExitStack()

    @property
    def endpoints(self) -> Endpoints:
        """Where its devices are found."""
        return Endpoints(
            control=self._control,
            pid=os.getpid(),
            analyzers={name: analyzer.port for name, analyzer in self.analyzers.items()},
            timestampers={name: stamper.port.link for name, stamper in self.timestampers.items()},
            boards={
                name: BoardEndpoint(serial=seat.board.port, probe_port=seat.probe.port)
                for name, seat in self.seats.items()
            },
        )

    @property
    def _control(self) -> Path:
        return self.config.rack.dir / "control.sock"

    @property
    def _ready(self) -> Path:
        return self.config.rack.dir / "rack.json"

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opening:
            self._occupy(opening)
            for stamper in self.config.timestamper:
                self._add_timestamper(stamper, opening)
            for board in self.config.board:
                await self._add_board(board, opening)
            for analyzer in self.config.analyzer:
                loads = {
                    board.supply.channel: self.loads.get(board.id, self.seats[board.id].board)
                    for board in self.config.board
                    if board.supply.analyzer == analyzer.id
                }
                device = N6705C(self.clock, loads, seed=self._seed(analyzer.id))
                for fault in analyzer.faults:
                    device.faults.add(fault)
                self.analyzers[analyzer.id] = await opening.enter_async_context(device.serve(port=analyzer.port))
            await opening.enter_async_context(background(self._keep_up(), "rack"))
            await opening.enter_async_context(serve_control(self._control, self.answer))
            self._announce(opening)
            self._open = opening.pop_all()
        log.info("rack_started", dir=str(self.config.rack.dir), speed=self.clock.speed, boards=len(self.seats))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._open.__aexit__(kind, error, trace)
        log.info("rack_stopped", dir=str(self.config.rack.dir))

    def answer(self, request: Request) -> list[Any]:
        """Answer a request of the control socket with a list of models. Raises `NotFoundError`."""
        match request:
            case FaultRequest(device=device, name=name, on=on):
                self._turn_fault(device, name, on=on)
                return []
            case TruthRequest(board=name):
                if name not in self.seats:
                    raise NotFoundError(f"there is no board {name!r}", where="board")
                return list(self.seats[name].truth.windows)
            case OutputsRequest():
                return self._outputs()
            case SwitchingsRequest():
                return self._switchings()
            case BoardsRequest():
                return [self._state(name) for name in self.seats]

    # --- putting it together ------------------------------------------------------------------------------------

    def _seed(self, name: str) -> int:
        """A seed for one device: its errors do not depend on what else is in the rack."""
        return zlib.crc32(f"{self.config.rack.seed}/{name}".encode())

    def _occupy(self, opening: AsyncExitStack) -> None:
        folder = self.config.rack.dir
        folder.mkdir(parents=True, exist_ok=True)
        lock = opening.enter_context((folder / "rack.lock").open("w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                "another rack runs in this folder", where=str(folder), remedy="stop it or choose another rack.dir"
            ) from error
        self._ready.unlink(missing_ok=True)  # of a rack that was killed

    def _add_timestamper(self, stamper: Stamper, opening: AsyncExitStack) -> None:
        def on_level(pin: int, level: int, at_s: float) -> None:
            if pin == stamper.trigger_pin:
                for name in stamper.triggers:
                    self.analyzers[name].drive_trigger(level, at_s)
            for board in self.config.board:
                if board.load and (board.load.timestamper, board.load.pin) == (stamper.id, pin):
                    self.loads[board.id].drive(level, at_s)

        device = Timestamper(
            self.clock,
            self.config.rack.dir / f"{stamper.id}.tty",
            name=stamper.id,
            spec=stamper.spec,
            rng=np.random.default_rng(self._seed(stamper.id)),
            on_level=on_level,
        )
        device.faults |= stamper.faults
        self.timestampers[stamper.id] = device
        opening.callback(device.close)

    async def _add_board(self, config: RackBoard, opening: AsyncExitStack) -> None:
        rng = np.random.default_rng(self._seed(config.id))

        profile = config.profile.draw(rng)

        def on_edge(edge: BoardEdge) -> None:
            if edge.pin != TIMING_PIN:
                return
            ticks = None
            if edge.seen and config.timing:
                stamper = self.timestampers[config.timing.timestamper]
                ticks = stamper.edge(config.timing.pin, edge.level, edge.at_s)
            if edge.real and not edge.level:
                truth.falling(edge.at_s, ticks)

        board = Board(
            self.clock,
            name=config.id,
            directory=self.config.rack.dir,
            profile=profile,
            crystal_ppm=float(rng.uniform(-config.crystal_ppm, config.crystal_ppm)),
            rng=rng,
            on_edge=on_edge,
        )
        truth = Truth(config.id, board.energy)
        opening.callback(board.close)
        board.faults |= config.faults
        if config.load:
            self.loads[config.id] = self._sync_load(config.load, board, profile.supply_ohm)
        if config.image:
            try:
                board.load_image(config.image.read_bytes())
            except OSError as error:
                raise ConfigError(
                    f"the image cannot be read: {error.strerror}", where=f"board {config.id}: {config.image}"
                ) from error
        probe = OpenOcd(board, clock=self.clock)
        await opening.enter_async_context(probe.serve(port=config.probe_port))
        self.seats[config.id] = Seat(board, truth, probe)

    def _sync_load(self, wire: LoadWire, board: Board, supply_ohm: float) -> SyncLoad:
        """The load of a board, with errors of its own."""
        rng = np.random.default_rng(self._seed(f"{board.name}/load"))
        stamper = self.timestampers[wire.timestamper]
        return SyncLoad(
            board,
            ohm=wire.ohm * (1 + float(rng.uniform(-1, 1)) * wire.tolerance_percent / 100),
            supply_ohm=supply_ohm,
            switch_s=float(rng.uniform(0, wire.switch_us)) * 1e-6,
            known_s=lambda: stamper.known_s(wire.pin),
            stuck=lambda: BoardFault.LOAD_STUCK in board.faults,
        )

    def _announce(self, opening: AsyncExitStack) -> None:
        """Write `rack.json`, whole or not at all: who sees it can connect."""
        path = self._ready
        fresh = path.with_name(f"{path.name}.new")
        fresh.write_text(self.endpoints.model_dump_json(indent=2) + "\n")
        fresh.replace(path)
        opening.callback(path.unlink, missing_ok=True)

    async def _keep_up(self) -> None:
        while True:
            for seat in self.seats.values():
                seat.board.tick()
                seat.truth.advance(seat.board.horizon())
            await asyncio.sleep(_TICK_HOST_S)

    # --- answers ------------------------------------------------------------------------------------------------

    def _turn_fault(self, device: str, name: str, *, on: bool) -> None:
        """Switch a fault of a device; the probe of a board is called `<board>.probe`."""
        try:
            if device in self.analyzers:
                _turn(self.analyzers[device].faults, AnalyzerFault(name), on=on)
            elif device in self.timestampers:
                _turn(self.timestampers[device].faults, TimestamperFault(name), on=on)
            elif device in self.seats:
                _turn(self.seats[device].board.faults, BoardFault(name), on=on)
            elif device.removesuffix(".probe") in self.seats:
                _turn(self.seats[device.removesuffix(".probe")].probe.faults, OpenOcdFault(name), on=on)
            else:
                raise NotFoundError(f"there is no device {device!r}", where="device")
        except ValueError as error:
            raise NotFoundError(f"{device} has no fault {name!r}", where="name") from error
        log.info("fault_switched", device=device, fault=name, on=on)

    def _outputs(self) -> list[OutputReport]:
        return [
            OutputReport(
                analyzer=name,
                channel=channel,
                programmed_on=state.programmed_on,
                energized=state.energized,
                voltage_v=state.voltage_v,
                current_limit_a=state.current_limit_a,
                tripped=int(state.tripped),
            )
            for name, analyzer in self.analyzers.items()
            for channel, state in analyzer.outputs().items()
        ]

    def _switchings(self) -> list[SwitchingReport]:
        reports = [
            SwitchingReport(analyzer=name, channel=channel, at_s=each.at_s, energized=each.energized)
            for name, analyzer in self.analyzers.items()
            for channel, switchings in analyzer.switchings().items()
            for each in switchings
        ]
        return sorted(reports, key=lambda report: report.at_s)

    def _state(self, name: str) -> BoardState:
        board = self.seats[name].board
        return BoardState(
            id=name,
            powered=board.powered(),
            image_sha256=board.image_digest(),
            pid=board.pid,
            busy_s=board.busy_s(),
            now_s=self.clock.now(),
        )


def _turn(faults: Any, fault: Any, *, on: bool) -> None:
    if on:
        faults.add(fault)
    else:
        faults.discard(fault)


async def run_rack(config: RackConfig) -> None:
    """Run a rack until SIGTERM or SIGINT. Raises `ConfigError`."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    try:
        async with VirtualRack(config):
            await stopped.wait()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
