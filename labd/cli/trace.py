"""`labctl trace`: what operators do with the raw power traces of a lab, a verb a file."""

from __future__ import annotations

import typer

from labd.cli import trace_import, trace_keep, trace_list, trace_plot, trace_pull, trace_show, trace_verify

app = typer.Typer(help="Raw power traces of a lab.", no_args_is_help=True)
app.command("list")(trace_list.list_)
app.command()(trace_show.show)
app.command()(trace_pull.pull)
app.command()(trace_plot.plot)
app.command()(trace_verify.verify)
app.command()(trace_keep.pin)
app.command()(trace_keep.unpin)
app.command()(trace_keep.gc)
app.command("import")(trace_import.import_)


@app.callback()
def traces() -> None:
    """Raw power traces of a lab."""
