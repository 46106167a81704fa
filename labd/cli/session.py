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

    Exit status: 0 all that lies there was read, fits together, and comes out at the printed digits; 1 anything of it
    does not, or was left out; 2 wrong usage.
    """
    from labd.cli.session_view import print_session, session_document
    from labd.service.sessions.scoring import score_found
    from labd.trace.sessions.folders import survey

    try:
        scores, left_out = score_found(survey(path))
    except LabError as error:
        raise stop(error) from error
    if not scores:
        for each in left_out[:-1]:
            remarks().print(f"left out: {each.reason}", markup=False)
        raise stop(left_out[-1].reason)
    if json:
        print_json(session_document(scores, left_out))
    else:
        for score in scores:
            print_session(score)
    for score in scores:
        for remark in score.remarks:
            remarks().print(f"{score.name}: {remark}", markup=False)
        for window in score.missed:
            remarks().print(
                f"{score.name}: window {window.index} is published as {window.printed} µJ, "
                f"its samples come to {window.energy} µJ",
                markup=False,
            )
    for each in left_out:
        remarks().print(f"left out: {each.reason}", markup=False)
    whole = not left_out and not any(score.missed or score.findings for score in scores)
    raise typer.Exit(Exit.DONE if whole else Exit.FAILED)
