"""`labctl trace`: what operators do with the raw power traces of a lab, a verb a file."""

from __future__ import annotations

import typer

from labd.cli.trace import import_, keep, list_, plot, pull, show, verify

app = typer.Typer(no_args_is_help=True)
app.command("list")(list_.list_)
app.command()(show.show)
app.command()(pull.pull)
app.command()(plot.plot)
app.command()(verify.verify)
app.command()(keep.pin)
app.command()(keep.unpin)
app.command()(keep.gc)
app.command("import")(import_.import_)
