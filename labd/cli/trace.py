"""`labctl trace`: what operators do with the raw power traces of a lab, a verb a file."""

from __future__ import annotations

import typer

from labd.cli import trace_pull

app = typer.Typer(help="Raw power traces of a lab.", no_args_is_help=True)
app.command()(trace_pull.pull)


@app.callback()
def traces() -> None:
    """Raw power traces of a lab."""
