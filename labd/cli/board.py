"""`labctl board`: the boards of a lab, how well they are, and who may use them."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from labd.cli.board_view import board_line, found, print_board, verdict
from labd.cli.completion import complete_board
from labd.cli.connection import OverdueError, ask
from labd.cli.span import LENGTH, LONGEST_WAIT, limit_s
from labd.cli.table import Exit, counted, local_time, print_json, print_table, results
from labd.mqtt.client import LabClient
from labd.service.health.messages import BoardDetail, BoardRef, BoardWithdrawal, CheckDocument
from labd.service.messages import BoardDocument, Message

app = typer.Typer(no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
BoardId = Annotated[
    str, typer.Argument(metavar="ID", help="The board's id.", show_default=False, autocompletion=complete_board)
]
Reason = Annotated[str, typer.Option("--reason", "-r", help="Why, for everybody to read.", show_default=False)]

Wait = Annotated[bool, typer.Option("--wait", help="Wait for the check's end and show what it found.")]
WaitLimit = Annotated[
    float, typer.Option("--for", parser=limit_s, metavar=LENGTH, help=LONGEST_WAIT, show_default="10m")
]

POLL_S = 0.5
"""Pause between two questions whether a check has ended, s."""


@app.command("list")
def list_(
    context: typer.Context,
    *,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")] = False,
) -> None:
    """List the boards: what they can do, how they are, what they are busy with."""
    page = ask(context, lambda lab: lab.boards())
    if json:
        print_json(page.model_dump(mode="json"))
        return
    columns = ("board", "state", "job", "modes", "tags", "since", "reason")
    print_table(counted(len(page.boards), "board"), columns, map(_row, page.boards))


@app.command()
def show(context: typer.Context, board_id: BoardId, *, json: Json = False) -> None:
    """Show a board: its state and why, its last checks and what they found, its last changes."""
    detail = ask(context, lambda lab: _detail(lab, board_id))
    if json:
        print_json(detail.model_dump(mode="json"))
    else:
        print_board(detail)


@app.command()
def check(
    context: typer.Context,
    board_id: BoardId,
    *,
    wait: Wait = False,
    within_s: WaitLimit = 600.0,
    json: Json = False,
) -> None:
    """Have a board checked as soon as it is free.

    With --wait the exit status is 0 if it passed, 1 if it did not, 5 if --for has passed.
    """
    if wait:
        raise _checked(context, "board.check", board_id, within_s, json=json)
    _change(context, "board.check", BoardRef(id=board_id), json=json)


@app.command()
def quarantine(context: typer.Context, board_id: BoardId, reason: Reason, *, json: Json = False) -> None:
    """Trust a board no longer until it passes a check; a run that is on goes on to its end."""
    _change(context, "board.quarantine", BoardWithdrawal(id=board_id, reason=reason), json=json)


@app.command()
def maintain(context: typer.Context, board_id: BoardId, reason: Reason, *, json: Json = False) -> None:
    """Take a board into your hands until you return it; a run that is on goes on to its end."""
    _change(context, "board.maintain", BoardWithdrawal(id=board_id, reason=reason), json=json)


@app.command("return")
def return_(
    context: typer.Context, board_id: BoardId, *, wait: Wait = False, within_s: WaitLimit = 600.0, json: Json = False
) -> None:
    """Give a board back from maintenance or quarantine: it is checked, and works again if it passes.

    With --wait the exit status is 0 if it passed, 1 if it did not, 5 if --for has passed.
    """
    if wait:
        raise _checked(context, "board.return", board_id, within_s, json=json)
    _change(context, "board.return", BoardRef(id=board_id), json=json)


async def _detail(lab: LabClient, board_id: str) -> BoardDetail:
    return await lab.request("board.get", BoardRef(id=board_id), BoardDetail)


def _checked(context: typer.Context, verb: str, board_id: str, within_s: float, *, json: bool) -> typer.Exit:
    """Ask for what brings a check, show what the check found, and return the exit that says it to scripts."""
    ended = ask(context, lambda lab: _next_check(lab, verb, board_id, within_s))
    if json:
        print_json(ended.model_dump(mode="json"))
    else:
        results().print(f"check {ended.id} of {board_id} {verdict(ended)}: {found(ended) or '-'}", markup=False)
    return typer.Exit(Exit.DONE if ended.passed else Exit.FAILED)


async def _next_check(lab: LabClient, verb: str, board_id: str, within_s: float) -> CheckDocument:
    """Ask for what brings a check, and wait for the end of the first one that begins after that."""
    before = max((each.id for each in (await _detail(lab, board_id)).checks), default=0)
    await lab.request(verb, BoardRef(id=board_id), BoardDocument)
    try:
        async with asyncio.timeout(within_s):
            while True:
                for each in reversed((await _detail(lab, board_id)).checks):
                    if each.id > before and each.ended_at is not None:
                        return each
                await asyncio.sleep(POLL_S)
    except TimeoutError as error:
        remedy = f"see what it waits for with labctl board show {board_id}"
        raise OverdueError(f"board {board_id} was not checked within {within_s:g} s", remedy=remedy) from error


def _change(context: typer.Context, verb: str, params: Message, *, json: bool) -> None:
    _tell(ask(context, lambda lab: lab.request(verb, params, BoardDocument)), json=json)


def _tell(board: BoardDocument, *, json: bool) -> None:
    if json:
        print_json(board.model_dump(mode="json"))
    else:
        results().print(board_line(board), markup=False)


def _row(board: BoardDocument) -> tuple[str, ...]:
    return (
        board.id,
        board.state,
        str(board.job_id) if board.job_id is not None else "-",
        " ".join(board.modes),
        " ".join(board.tags) or "-",
        local_time(board.changed_at),
        board.reason or "-",
    )
