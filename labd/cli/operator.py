"""`labctl`: what operators of a lab use, nouns first, with short forms for what is done every day.

Results go to standard output and all else to standard error. Exit status: 0 done, 1 the job failed, 2 wrong usage,
3 refused by the lab, 4 lab not reachable, 5 timed out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from labd.cli import board, instrument, job, reservation, session, sweep, trace
from labd.cli import lab as the_lab
from labd.cli.audit import audit
from labd.cli.connection import chosen
from labd.cli.top import top

app = typer.Typer(
    name="labctl",
    help="Queue jobs in a lab, follow them, and pull their power traces.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(job.app, name="job")
app.add_typer(board.app, name="board")
app.add_typer(instrument.app, name="instrument")
app.add_typer(trace.app, name="trace")
app.add_typer(the_lab.app, name="lab")
app.add_typer(reservation.app, name="reservation")
app.add_typer(session.app, name="session")
app.add_typer(sweep.app, name="sweep")
app.command()(top)
app.command()(audit)
app.command("submit", help="Short for `job submit`.")(job.submit)
app.command("jobs", help="Short for `job list`.")(job.list_)
app.command("reserve")(reservation.reserve)
app.command("boards", help="Short for `board list`.")(board.list_)


@app.callback()
def connection(
    context: typer.Context,
    *,
    lab: Annotated[str | None, typer.Option(envvar="LABCTL_LAB", help="Name of the lab.")] = None,
    broker: Annotated[
        str | None, typer.Option(envvar="LABCTL_BROKER", help="mqtt://host:port or mqtts://host:port.")
    ] = None,
    user: Annotated[str | None, typer.Option(envvar="LABCTL_USER", help="User at the broker.")] = None,
    password_file: Annotated[
        Path | None, typer.Option(envvar="LABCTL_PASSWORD_FILE", help="File with the user's password.")
    ] = None,
    ca: Annotated[Path | None, typer.Option(envvar="LABCTL_CA", help="Certificates to trust, for mqtts.")] = None,
    cert: Annotated[Path | None, typer.Option(envvar="LABCTL_CERT", help="Own certificate, for mqtts.")] = None,
    key: Annotated[Path | None, typer.Option(envvar="LABCTL_KEY", help="Key of the own certificate.")] = None,
    as_user: Annotated[
        str | None, typer.Option("--as", envvar="LABCTL_AS", help="Common name of the own certificate.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(envvar="LABCTL_CONFIG", help="The lab's lab.toml, for its name and broker.")
    ] = None,
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=0.1, help="Longest wait for an answer of the lab, s.")
    ] = 10.0,
) -> None:
    """Queue jobs in a lab, follow them, and pull their power traces."""
    context.obj = chosen(context.params)


def main() -> None:
    """Entry point of `labctl`."""
    app(prog_name="labctl")
