"""The rack's back door: faults, truth and state over a Unix socket, a JSON object a line each way.

A device under test has no such thing; only tests, the demo and whoever breaks things on purpose use it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from labd.errors import NotFoundError, RequestError, UnreachableError
from labd.virtual.truth import TrueWindow

_ANSWER_S = 10.0
_LINE_MAX = 1 << 20


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FaultRequest(_Request):
    """Switch a device's fault on or off by name."""

    op: Literal["fault"]
    device: str
    name: str
    on: bool


class TruthRequest(_Request):
    """The true windows of a board, oldest first."""

    op: Literal["truth"]
    board: str


class OutputsRequest(_Request):
    """The state of every analyzer's outputs."""

    op: Literal["outputs"]


class SwitchingsRequest(_Request):
    """The newest switchings of every analyzer's outputs, oldest first."""

    op: Literal["switchings"]


class BoardsRequest(_Request):
    """The state of every board."""

    op: Literal["boards"]


class BoardState(BaseModel):
    """What a board is doing: its power, the SHA-256 of its image, and how long it has been needed."""

    model_config = ConfigDict(frozen=True)

    id: str
    powered: bool
    image_sha256: str | None
    pid: int | None
    busy_s: float
    """Rack seconds in which it was not asleep, or a byte was on its way."""
    now_s: float
    """Rack time of this report."""


class OutputReport(BaseModel):
    """One output of an analyzer."""

    model_config = ConfigDict(frozen=True)

    analyzer: str
    channel: int
    programmed_on: bool
    energized: bool
    voltage_v: float
    current_limit_a: float
    tripped: int
    """Bits of the questionable status register."""


class SwitchingReport(BaseModel):
    """An output was switched by a command or a protection; `energized` is what there was then."""

    model_config = ConfigDict(frozen=True)

    analyzer: str
    channel: int
    at_s: float
    """Rack time, s."""
    energized: bool


Request = Annotated[
    FaultRequest | TruthRequest | OutputsRequest | SwitchingsRequest | BoardsRequest, Field(discriminator="op")
]
_REQUESTS: TypeAdapter[Request] = TypeAdapter(Request)

_WINDOWS = TypeAdapter(list[TrueWindow])
_OUTPUTS = TypeAdapter(list[OutputReport])
_SWITCHINGS = TypeAdapter(list[SwitchingReport])
_BOARDS = TypeAdapter(list[BoardState])


@contextlib.asynccontextmanager
async def serve_control(path: Path, answer: Callable[[Request], list[Any]]) -> AsyncIterator[None]:
    """Answer requests on a Unix socket until the context ends.

    Args:
        path: Of the socket; one that is there is replaced.
        answer: Returns models; may raise `RequestError`.
    """
    conversations: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        conversations[task] = writer
        try:
            while line := await reader.readline():
                writer.write(_reply(line, answer))
                await writer.drain()
        except (ConnectionError, ValueError):  # the client went away, or sent a line beyond the limit
            return
        finally:
            del conversations[task]
            writer.close()

    _remove(path)
    server = await asyncio.start_unix_server(converse, path, limit=_LINE_MAX)
    try:
        yield
    finally:
        server.close()
        tasks = list(conversations)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await server.wait_closed()
        _remove(path)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def _reply(line: bytes, answer: Callable[[Request], list[Any]]) -> bytes:
    try:
        result = [item.model_dump(mode="json") for item in answer(_REQUESTS.validate_json(line))]
        reply: dict[str, Any] = {"ok": True, "result": result}
    except ValidationError as error:
        reply = {"ok": False, "error": "; ".join(str(fault["msg"]) for fault in error.errors())}
    except RequestError as error:
        reply = {"ok": False, "error": str(error)}
    return json.dumps(reply).encode() + b"\n"


def _result(line: bytes, where: str) -> Any:
    if not line:
        raise UnreachableError("the rack has closed the connection", where=where)
    reply = json.loads(line)
    if not reply["ok"]:
        raise NotFoundError(reply["error"], where=where)
    return reply["result"]


def _line(request: _Request) -> bytes:
    return request.model_dump_json().encode() + b"\n"


class AsyncRackControl:
    """Asks a rack from a coroutine; each request is a connection of its own.

    Args:
        path: Its control socket.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    async def set_fault(self, device: str, name: str) -> None:
        """Switch a fault on. Raises `NotFoundError`, `UnreachableError`."""
        await self._ask(FaultRequest(op="fault", device=device, name=name, on=True))

    async def clear_fault(self, device: str, name: str) -> None:
        """Switch a fault off. Raises `NotFoundError`, `UnreachableError`."""
        await self._ask(FaultRequest(op="fault", device=device, name=name, on=False))

    async def truth(self, board: str) -> list[TrueWindow]:
        """The newest true windows of a board, oldest first. Raises `NotFoundError`, `UnreachableError`."""
        return _WINDOWS.validate_python(await self._ask(TruthRequest(op="truth", board=board)))

    async def outputs(self) -> list[OutputReport]:
        """All outputs. Raises `UnreachableError`."""
        return _OUTPUTS.validate_python(await self._ask(OutputsRequest(op="outputs")))

    async def switchings(self) -> list[SwitchingReport]:
        """The newest switchings of all outputs, oldest first. Raises `UnreachableError`."""
        return _SWITCHINGS.validate_python(await self._ask(SwitchingsRequest(op="switchings")))

    async def boards(self) -> list[BoardState]:
        """All boards. Raises `UnreachableError`."""
        return _BOARDS.validate_python(await self._ask(BoardsRequest(op="boards")))

    async def _ask(self, request: _Request) -> Any:
        try:
            async with asyncio.timeout(_ANSWER_S):
                reader, writer = await asyncio.open_unix_connection(self._path, limit=_LINE_MAX)
                try:
                    writer.write(_line(request))
                    line = await reader.readline()
                finally:
                    writer.close()
                    await writer.wait_closed()
        except (OSError, TimeoutError) as error:
            raise UnreachableError(f"the rack does not answer: {error}", where=str(self._path)) from error
        return _result(line, str(self._path))
