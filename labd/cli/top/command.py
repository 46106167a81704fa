"""`labctl top`: follows the lab's documents, over lost brokers and restarted daemons, and draws them as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.live import Live

from labd.cli.connection import Connection, connection_of, run
from labd.cli.table import print_json
from labd.cli.top.scene import News, Scene
from labd.cli.top.view import view
from labd.errors import UnreachableError
from labd.service.messages import (
    BoardDocument,
    EventDocument,
    InstrumentDocument,
    LabState,
    LabStatus,
    Offline,
    ProgressDocument,
)
from labd.service.reservations.messages import ReservationDocument

FILTERS = ("board/+", "instrument/+", "reservation/+", "job/+/progress", "event")
DRAW_EVERY_S = 0.25
"""Pause between two pictures, s."""
FIRST_LOOK_S = 1.0
"""How long `--once` waits for what the broker keeps after the lab's status has come, s."""
AGAIN_S = 1.0
"""Pause between two attempts to reach a lost broker, s."""

_KINDS: dict[str, type[Any]] = {
    "board": BoardDocument,
    "instrument": InstrumentDocument,
    "reservation": ReservationDocument,
    "event": EventDocument,
}


@dataclass(frozen=True, slots=True)
class Heard:
    """One message: what it tells, or which document it takes away."""

    news: News | None
    kind: str = ""
    name: str = ""


def top(
    context: typer.Context,
    *,
    once: Annotated[bool, typer.Option("--once", help="Show the lab as it is now, and end.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the lab as it is now as one JSON document.")] = False,
) -> None:
    """Show the lab live: boards, queue, throughput, reservations and what happened last. Ctrl-C ends it."""
    connection = connection_of(context)
    console = Console(highlight=False)
    if once or json or not console.is_terminal:
        scene = run(lambda: _look(connection))
        if json:
            print_json(_document(scene))
        else:
            console.print(view(scene, datetime.now(UTC), lab=connection.lab, height=len(scene.boards) + 30))
        return
    with suppress(typer.Exit):  # Ctrl-C is how one leaves it
        run(lambda: _live(connection, console))


async def _look(connection: Connection) -> Scene:
    """What the broker keeps of the lab. Raises `UnreachableError` if broker or lab are not there."""
    scene = Scene(datetime.now(UTC))
    async with connection.client() as lab:
        scene.note(await lab.status(), datetime.now(UTC))
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_LOOK_S), aclosing(lab.watch(*FILTERS)) as messages:
                async for path, payload in messages:
                    _take(scene, _heard(path, payload))
    return scene


async def _live(connection: Connection, console: Console) -> None:
    scene = Scene(datetime.now(UTC))
    async with AsyncExitStack() as stack:
        screen = stack.enter_context(Live(console=console, screen=True, auto_refresh=False))
        group = await stack.enter_async_context(asyncio.TaskGroup())
        group.create_task(_follow(connection, scene), name="top-follow")
        while True:
            screen.update(view(scene, datetime.now(UTC), lab=connection.lab, height=console.size.height), refresh=True)
            await asyncio.sleep(DRAW_EVERY_S)


async def _follow(connection: Connection, scene: Scene) -> None:
    """Take in messages, from one connection after another."""
    while True:
        try:
            async with aclosing(_messages(connection)) as messages:
                async for heard in messages:
                    _take(scene, heard)
        except UnreachableError:
            if scene.status is None:  # it was never there: that is an error, not an outage
                raise
            scene.status = Offline()
            await asyncio.sleep(AGAIN_S)


async def _messages(connection: Connection) -> AsyncGenerator[Heard, None]:
    async with connection.client() as lab:
        yield Heard(await lab.status())
        async with aclosing(lab.watch(*FILTERS)) as messages:
            async for path, payload in messages:
                yield _heard(path, payload)


def _take(scene: Scene, heard: Heard) -> None:
    if heard.news is not None:
        scene.note(heard.news, datetime.now(UTC))
    elif heard.kind:
        scene.forget(heard.kind, heard.name)


def _heard(path: str, payload: bytes) -> Heard:
    """Read a message; one that this version does not understand is left out: a picture need not be whole."""
    kind, _, name = path.partition("/")
    if not payload:
        return Heard(None, kind, name)
    with suppress(ValidationError):
        if kind == "status":
            offline = f'"state":"{LabState.OFFLINE}"'.encode() in payload.replace(b" ", b"")
            return Heard((Offline if offline else LabStatus).model_validate_json(payload))
        if kind == "job":
            return Heard(ProgressDocument.model_validate_json(payload))
        return Heard(_KINDS[kind].model_validate_json(payload))
    return Heard(None)


def _document(scene: Scene) -> dict[str, Any]:
    assert scene.status is not None, "a look begins with the lab's status"
    return {
        "status": scene.status.model_dump(mode="json"),
        "boards": [board.model_dump(mode="json") for board in scene.ranked_boards()],
        "instruments": [scene.instruments[name].model_dump(mode="json") for name in sorted(scene.instruments)],
        "reservations": [each.model_dump(mode="json") for each in scene.live_reservations()],
        "running": [each.model_dump(mode="json") for each in scene.progress.values()],
    }
