"""The rack of light boards: a Unix socket for each line and each supply, and one to make faults, on one loop.

python -m tests.light.rack FOLDER --boards 200 --speed 2
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import signal
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from tests.light.board import LightBoard, RackTime
from tests.light.faults import Faults, Order, RackTold
from tests.light.supply import LightSupply

CHANNELS = 8
"""Channels of one supply."""
CONTROL = "control.sock"


def board_name(index: int) -> str:
    """Id of a board, counted from 0."""
    return f"light-{index + 1:03d}"


def line_path(folder: Path, board: str) -> Path:
    """Where the line of a board is."""
    return folder / f"{board}.line"


def supply_path(folder: Path, number: int) -> Path:
    """Where a supply is, counted from 0."""
    return folder / f"psu-{number + 1:02d}.sock"


class Port:
    """A socket that can be taken away and put back.

    Args:
        path: Where it lies.
        factory: Makes the protocol of a connection.
    """

    def __init__(self, path: Path, factory: Callable[[Port], asyncio.Protocol]) -> None:
        self._path = path
        self._factory = factory
        self._server: asyncio.AbstractServer | None = None
        self.open: set[asyncio.Transport] = set()

    async def put(self) -> None:
        """Take connections; harmless if it does."""
        if self._server is None:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_unix_server(lambda: self._factory(self), str(self._path))

    def take(self) -> None:
        """Take none any more, and cut those that are open."""
        if self._server is not None:
            self._server.close()
            self._server = None
            self._path.unlink(missing_ok=True)
        for transport in self.open:
            transport.abort()


class _Line(asyncio.Protocol):
    """A connection to a board."""

    def __init__(self, port: Port, board: LightBoard) -> None:
        self._port, self._board = port, board
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._port.open.add(transport)
        self._board.say = transport.write

    def data_received(self, data: bytes) -> None:
        self._board.hear(data)

    def connection_lost(self, error: Exception | None) -> None:
        assert self._transport is not None
        self._port.open.discard(self._transport)
        if self._board.say == self._transport.write:
            self._board.say = None


class _Dialogue(asyncio.Protocol):
    """A connection on which lines are answered one by one."""

    def __init__(self, port: Port, answer: Callable[[str], str]) -> None:
        self._port, self._answer = port, answer
        self._transport: asyncio.Transport | None = None
        self._pending = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._port.open.add(transport)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        *lines, self._pending = (self._pending + data).split(b"\n")
        if lines:
            self._transport.write(b"".join(f"{self._answer(line.decode())}\n".encode() for line in lines))

    def connection_lost(self, error: Exception | None) -> None:
        assert self._transport is not None
        self._port.open.discard(self._transport)


class Rack:
    """All boards with their sockets.

    Args:
        folder: Where the sockets lie.
        boards: How many boards.
        speed: Rack seconds in one of the host's.
        seed: Of the boards' noise.
    """

    def __init__(self, folder: Path, boards: int, speed: float, seed: int) -> None:
        self._time = RackTime(asyncio.get_running_loop().time(), speed)
        self._boards = {board_name(index): LightBoard(board_name(index), self._time, seed) for index in range(boards)}
        named = list(self._boards.values())
        supplies = [LightSupply(named[first : first + CHANNELS]) for first in range(0, boards, CHANNELS)]
        self._lines = {board.name: Port(line_path(folder, board.name), _line_to(board)) for board in named}
        self._supplies: dict[str, Port] = {}
        for number, supply in enumerate(supplies):
            port = Port(supply_path(folder, number), _dialogue_with(supply.answer))
            self._supplies |= dict.fromkeys((board.name for board in supply.boards), port)
        self._control = Port(folder / CONTROL, _dialogue_with(self._obey))
        self._changes: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Put up all sockets."""
        for port in (*self._lines.values(), *self._supplies.values(), self._control):
            await port.put()

    def close(self) -> None:
        """Take them down."""
        for port in (*self._lines.values(), *self._supplies.values(), self._control):
            port.take()

    def _obey(self, line: str) -> str:
        try:
            order = Order.model_validate_json(line)
        except ValidationError as error:
            return f"err {error.errors()[0]['msg']}"
        if order.board is not None:
            change = asyncio.create_task(self._give(order.board, order.faults), name=f"faults-of-{order.board}")
            self._changes.add(change)
            change.add_done_callback(self._changes.discard)
        used = resource.getrusage(resource.RUSAGE_SELF)
        return RackTold(
            now_s=self._time.now_s(),
            cpu_s=used.ru_utime + used.ru_stime,
            boards={name: board.told for name, board in self._boards.items()},
        ).model_dump_json()

    async def _give(self, name: str, faults: Faults) -> None:
        self._boards[name].give(faults)
        for port, away in ((self._lines[name], faults.unplugged), (self._supplies[name], faults.unreachable)):
            if away:
                port.take()
            else:
                await port.put()


def _line_to(board: LightBoard) -> Callable[[Port], asyncio.Protocol]:
    return lambda port: _Line(port, board)


def _dialogue_with(answer: Callable[[str], str]) -> Callable[[Port], asyncio.Protocol]:
    return lambda port: _Dialogue(port, answer)


async def serve(folder: Path, boards: int, speed: float, seed: int) -> None:
    """Be the rack until SIGTERM; prints a line when it is there."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    rack = Rack(folder, boards, speed, seed)
    await rack.serve()
    try:
        print("ready", flush=True)
        await stop.wait()
    finally:
        rack.close()


def main() -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m tests.light.rack", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--boards", type=int, default=8)
    parser.add_argument("--speed", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.folder, arguments.boards, arguments.speed, arguments.seed))


if __name__ == "__main__":
    main()
