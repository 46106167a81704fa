"""`labctl sweep report`: did the night go well? Short, the most important first."""

from __future__ import annotations

import tempfile
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from labd.cli.completion import complete_sweep
from labd.cli.connection import ask
from labd.cli.table import print_json


def report(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="The sweep's name.", show_default=False, autocompletion=complete_sweep),
    ],
    *,
    night: Annotated[int | None, typer.Option(min=1, help="Number of the night; the last one if left out.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")] = False,
    open_page: Annotated[bool, typer.Option("--open", help="Show the page with the charts in a browser.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write it to a .html, .md or .json file.", dir_okay=False)
    ] = None,
) -> None:
    """Show what a night of a sweep brought."""
    if out is not None and out.suffix not in (".html", ".md", ".json"):
        raise typer.BadParameter("end it with .html, .md or .json", param_hint="--out")
    from labd.cli.sweep.report_view import show, write
    from labd.service.reports.messages import MorningReport, SweepReportQuery

    query = SweepReportQuery(name=name, night=night)
    found = ask(context, lambda lab: lab.request("sweep.report", query, MorningReport))
    if json:
        print_json(found.model_dump(mode="json"))
    elif out is not None:
        write(out, found)
    elif not open_page:
        show(found)
    if open_page:
        path = Path(tempfile.mkdtemp(prefix="labctl-report-")) / f"{found.sweep}-{found.night}.html"
        write(path, found)
        webbrowser.open(path.as_uri())
