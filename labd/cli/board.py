"""`labctl board`: the boards of a lab, and whether they can take a run."""

from __future__ import annotations

from typing import Annotated

import typer

from labd.cli.connection import ask
from labd.cli.table import counted, local_time, print_json, print_table
from labd.service.messages import BoardDocument

app = typer.Typer(help="The boards of a lab.", no_args_is_help=True)


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
