"""`labctl reservation` and `labctl reserve`: a board for a person, for a while."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated

import typer
from pydantic import ValidationError

from labd.cli.completion import complete_board, complete_reservation, complete_tag
from labd.cli.connection import OverdueError, ask
from labd.cli.span import span_s, span_text
from labd.cli.table import counted, local_time, print_json, print_table, remarks, results
from labd.model.states import ReservationState
from labd.mqtt.client import LabClient
from labd.service.messages import NUMBER_MAX, BoardChoice
from labd.service.reservations.messages import (
    ReservationDocument,
    ReservationExtension,
    ReservationHandOver,
    ReservationPage,
    ReservationQuery,
    ReservationRef,
    ReservationRequest,
)

app = typer.Typer(no_args_is_help=True)

LOOK_S = 0.5
"""Pause between two looks at a reservation that waits, s."""

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Number = Annotated[
    int,
    typer.Argument(
        metavar="ID",
        min=1,
        max=NUMBER_MAX,
        help="The reservation's number.",
        show_default=False,
        autocompletion=complete_reservation,
    ),
]
Within = Annotated[str | None, typer.Option("--within", help="Longest wait: 10m.")]
Span = Annotated[str, typer.Option("--for", help="How long: 90m, 2h, 1d12h.", show_default=False)]


def reserve(
    context: typer.Context,
    board: Annotated[
        str | None,
        typer.Argument(help="This board and no other.", show_default=False, autocompletion=complete_board),
    ] = None,
    *,
    length: Span,
    tag: Annotated[
        list[str] | None,
        typer.Option(help="A board with this tag; again for more tags.", autocompletion=complete_tag),
    ] = None,
    require: Annotated[str | None, typer.Option(help="What it has to be: 'memory_kb >= 256 and fpu'.")] = None,
    purpose: Annotated[str, typer.Option(help="What for, for everybody who wonders.")] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Wait until there is a board.")] = False,
    limit: Within = None,
    json: Json = False,
) -> None:
    """Reserve a board for yourself. It is yours at once if it is free, else after what runs on it.

    Exit status: 0 the lab has the reservation, with --wait also the board; 3 refused, 5 --within has passed.
    """
    if board and tag:
        raise typer.BadParameter("give either a board or tags")
    limit_s = _limit_s(limit, wait=wait)
    try:
        choice = BoardChoice(id=board, tags=tuple(tag or ())) if board or tag else None
        request = ReservationRequest(board=choice, require=require, purpose=purpose, duration_s=span_s(length))
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise typer.BadParameter(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}") from error

    async def work(lab: LabClient) -> ReservationDocument:
        found = await lab.request("board.reserve", request, ReservationDocument)
        if wait and found.state is ReservationState.WAITING:
            remarks().print(f"reservation {found.id} waits for a board", markup=False)
            return await _granted(lab, found.id, limit_s)
        return found

    _print(ask(context, work), json=json)


@app.command("list")
def list_(
    context: typer.Context,
    *,
    state: Annotated[ReservationState | None, typer.Option(help="Only those in this state.")] = None,
    owner: Annotated[str | None, typer.Option(help="Only this person's.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="At most so many.")] = 20,
    before: Annotated[int | None, typer.Option(min=1, max=NUMBER_MAX, help="Only older ones than this number.")] = None,
    json: Json = False,
) -> None:
    """List reservations, newest first."""
    try:
        query = ReservationQuery(state=state, owner=owner, limit=limit, before=before)
    except ValidationError as error:
        raise typer.BadParameter(f"{owner!r} cannot be the name of anybody") from error
    page = ask(context, lambda lab: lab.request("reservation.list", query, ReservationPage))
    if json:
        print_json(page.model_dump(mode="json"))
        return
    columns = ("id", "state", "owner", "board", "wanted", "ends", "left", "purpose")
    print_table(counted(len(page.reservations), "reservation"), columns, map(_row, page.reservations))
    if page.next_before is not None:
        remarks().print(f"older ones: labctl reservation list --before {page.next_before}", markup=False)


@app.command()
def show(context: typer.Context, number: Number, *, json: Json = False) -> None:
    """Show one reservation."""
    ref = ReservationRef(id=number)
    found = ask(context, lambda lab: lab.request("reservation.get", ref, ReservationDocument))
    if json:
        print_json(found.model_dump(mode="json"))
        return
    rows = [
        ("state", found.state.value + (f": {found.reason}" if found.reason else "")),
        ("owner", found.owner),
        ("purpose", found.purpose or "-"),
        ("wanted", _wanted(found)),
        ("board", found.board_id or "-"),
        ("for", span_text(found.duration_s)),
        ("asked", local_time(found.requested_at)),
        ("began", local_time(found.starts_at)),
        ("ends", _end_words(found)),
    ]
    print_table(f"reservation {found.id}", ("what", "how"), rows)


@app.command()
def extend(context: typer.Context, number: Number, *, length: Span, json: Json = False) -> None:
    """Hold the board so much longer."""
    change = ReservationExtension(id=number, duration_s=span_s(length))
    _print(ask(context, lambda lab: lab.request("reservation.extend", change, ReservationDocument)), json=json)


@app.command("hand-over")
def hand_over(
    context: typer.Context,
    number: Number,
    to: Annotated[str, typer.Argument(help="Who gets it.", show_default=False)],
    *,
    json: Json = False,
) -> None:
    """Make the reservation somebody else's."""
    try:
        change = ReservationHandOver(id=number, to=to)
    except ValidationError as error:
        raise typer.BadParameter(f"{to!r} cannot be the name of anybody") from error
    _print(ask(context, lambda lab: lab.request("reservation.hand_over", change, ReservationDocument)), json=json)


@app.command()
def release(
    context: typer.Context,
    number: Number,
    *,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the board is dark and free.")] = False,
    limit: Within = None,
    json: Json = False,
) -> None:
    """Give the board back, or do not wait for one any longer. Its output goes off."""
    limit_s = _limit_s(limit, wait=wait)

    async def work(lab: LabClient) -> ReservationDocument:
        found = await lab.request("board.release", ReservationRef(id=number), ReservationDocument)
        return await _ended(lab, number, limit_s) if wait else found

    _print(ask(context, work), json=json)


def _limit_s(limit: str | None, *, wait: bool) -> float | None:
    if limit is not None and not wait:
        raise typer.BadParameter("--within bounds the waiting: give --wait too")
    return span_s(limit) if limit is not None else None


async def _granted(lab: LabClient, number: int, limit_s: float | None) -> ReservationDocument:
    """Wait until a reservation does not wait any more."""
    try:
        async with asyncio.timeout(limit_s):
            return await _left(lab, number, ReservationState.WAITING)
    except TimeoutError as error:
        remedy = "it waits on: labctl reservation show; labctl reservation release gives it up"
        raise OverdueError("there was no board in time", where=f"reservation {number}", remedy=remedy) from error


async def _ended(lab: LabClient, number: int, limit_s: float | None) -> ReservationDocument:
    """Wait until a reservation that was released does not hold its board any more."""
    try:
        async with asyncio.timeout(limit_s):
            return await _left(lab, number, ReservationState.WAITING, ReservationState.ACTIVE)
    except TimeoutError as error:
        remedy = "its output is being switched off: labctl reservation show"
        raise OverdueError("the board is not free in time", where=f"reservation {number}", remedy=remedy) from error


async def _left(lab: LabClient, number: int, *states: ReservationState) -> ReservationDocument:
    """The reservation once it is in none of these states."""
    ref = ReservationRef(id=number)
    while (found := await lab.request("reservation.get", ref, ReservationDocument)).state in states:
        await asyncio.sleep(LOOK_S)
    return found


def _print(found: ReservationDocument, *, json: bool) -> None:
    if json:
        print_json(found.model_dump(mode="json"))
        return
    match found.state:
        case ReservationState.WAITING:
            words = f"waits for {_wanted(found)}"
        case ReservationState.ACTIVE if found.reason:
            words = f"gives {found.board_id} back: {found.reason}"
        case ReservationState.ACTIVE:
            words = f"has {found.board_id} for {found.owner} until {_end_words(found)}"
        case ReservationState.ENDED:
            words = f"has ended: {found.reason}"
    results().print(f"reservation {found.id} {words}", markup=False)


def _row(found: ReservationDocument) -> tuple[str, ...]:
    live = found.state is ReservationState.ACTIVE and found.ends_at is not None
    return (
        str(found.id),
        found.state.value,
        found.owner,
        found.board_id or "-",
        _wanted(found),
        local_time(found.ended_at or found.ends_at),
        span_text(_left_s(found)) if live else "-",
        found.purpose or "-",
    )


def _wanted(found: ReservationDocument) -> str:
    if found.board is not None:
        parts = [found.board.id] if found.board.id is not None else [f"tag {tag}" for tag in found.board.tags]
    else:
        parts = []
    return ", ".join([*parts, *([found.require] if found.require else [])]) or "any board"


def _end_words(found: ReservationDocument) -> str:
    if found.ends_at is None:
        return "-"
    words = local_time(found.ended_at or found.ends_at)
    if found.state is not ReservationState.ACTIVE:
        return words
    soon = ", soon: extend it, or put your things away" if found.warned_at is not None else ""
    return f"{words} (in {span_text(_left_s(found))}{soon})"


def _left_s(found: ReservationDocument) -> float:
    return (found.ends_at - datetime.now(UTC)).total_seconds() if found.ends_at is not None else 0.0
