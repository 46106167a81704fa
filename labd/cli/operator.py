"""`labctl`: what operators of a lab use, nouns first, with short forms for what is done every day.

Results go to standard output and all else to standard error. Exit status: 0 done, 1 the job failed, 2 wrong usage,
3 refused by the lab, 4 lab not reachable, 5 timed out.
"""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Annotated

import typer

from labd.cli.lazy import LazyGroup


class Commands(LazyGroup):
    """All that `labctl` can do."""

    places = {  # noqa: RUF012 - a constant
        "top": (
            "labd.cli.top:top",
            "Show the lab live: boards, queue, throughput, reservations and what happened last. Ctrl-C ends it.",
        ),
        "audit": (
            "labd.cli.audit:audit",
            "Show who asked for what, and every state change with its reason and who caused it; newest first.",
        ),
        "submit": ("labd.cli.job:submit", "Short for `job submit`."),
        "jobs": ("labd.cli.job:list_", "Short for `job list`."),
        "reserve": (
            "labd.cli.reservation:reserve",
            "Reserve a board for yourself. It is yours at once if it is free, else after what runs on it.",
        ),
        "boards": ("labd.cli.board:list_", "Short for `board list`."),
        "job": ("labd.cli.job:app", "Jobs of a lab."),
        "board": ("labd.cli.board:app", "The boards of a lab."),
        "instrument": ("labd.cli.instrument:app", "The instruments of a lab."),
        "trace": ("labd.cli.trace:app", "Raw power traces of a lab."),
        "lab": ("labd.cli.lab:app", "The lab as a whole."),
        "reservation": ("labd.cli.reservation:app", "Boards held for people."),
        "session": ("labd.cli.session:app", "Sessions that other runners have published."),
        "sweep": ("labd.cli.sweep:app", "Sweeps: matrices of jobs, run once or on a cron line."),
    }


app = typer.Typer(
    cls=Commands,
    name="labctl",
    help="Queue jobs in a lab, follow them, and pull their power traces.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


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
    from labd.cli.connection import chosen

    context.obj = chosen(context.params)


def main() -> None:
    """Entry point of `labctl`."""
    gc.set_threshold(100_000)  # what modules make stays: to look for garbage among it takes a tenth of a short command
    app(prog_name="labctl")
