"""`labctl session`: sessions that other runners have published, checked and scored without a lab."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from labd.cli.connection import stop
from labd.cli.table import Exit, print_json, remarks
from labd.errors import LabError

app = typer.Typer(no_args_is_help=True)


@app.command()
def score(
    path: Annotated[
        Path,
        typer.Argument(
            help="A results folder (kws/energy), a benchmark's (kws), or a whole submission.",
            exists=True,
            file_okay=False,
            show_default=False,
        ),
    ],
    *,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")] = False,
) -> None:
    """Make the published figures of a session again from its samples, and labd's own beside them. Needs no lab.

    Exit status: 0 every published window comes out at the printed digits, 1 one does not or a file is damaged,
    2 wrong usage.
    """
    from labd.cli.session_view import print_session, session_document
    from labd.service.sessions.scoring import score_sessions

    try:
        scores = score_sessions(path)
    except LabError as error:
        raise stop(error) from error
    if json:
        print_json(session_document(scores))
    else:
        for each in scores:
            print_session(each)
    for each in scores:
        for remark in each.remarks:
            remarks().print(f"{each.name}: {remark}", markup=False)
        for window in each.missed:
            remarks().print(
                f"{each.name}: window {window.index} is published as {window.printed} µJ, "
                f"its samples come to {window.energy} µJ",
                markup=False,
            )
    raise typer.Exit(Exit.FAILED if any(each.missed for each in scores) else Exit.DONE)
