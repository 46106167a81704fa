"""`labd virtual`: a rack with no hardware, for whoever wants to try a lab before wiring one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from labd.cli.table import Exit, remarks
from labd.errors import LabError
from labd.logs import configure
from labd.virtual.config import load_rack
from labd.virtual.endpoints import lab_toml, read_endpoints
from labd.virtual.rack import run_rack

virtual = typer.Typer(no_args_is_help=True)

RackFile = Annotated[Path, typer.Argument(help="The rack.toml.", show_default=False)]
Speed = Annotated[
    float | None, typer.Option(min=0.01, max=1000, help="Rack seconds per host second, in place of the file's.")
]


@virtual.command()
def rack(path: RackFile, *, speed: Speed = None) -> None:
    """Run the devices of a rack until SIGTERM or Ctrl-C; `rack.json` in its folder says where each is found.

    Exit status: 0 stopped, 2 rack.toml cannot be used.
    """
    configure("info")
    try:
        config = load_rack(path)
        asyncio.run(run_rack(config if speed is None else config.at_speed(speed)))
    except LabError as error:
        remarks().print(str(error), markup=False)
        raise typer.Exit(Exit.USAGE) from error


@virtual.command()
def lab(path: RackFile) -> None:
    """Print the instrument and board sections of a lab.toml for a rack that runs.

    Exit status: 0 done, 2 rack.toml cannot be used, 4 the rack does not run.
    """
    try:
        config = load_rack(path)
    except LabError as error:
        remarks().print(str(error), markup=False)
        raise typer.Exit(Exit.USAGE) from error
    try:
        endpoints = read_endpoints(config.rack.dir / "rack.json")
    except (OSError, ValueError) as error:
        remarks().print(f"the rack of {path} does not run: start it with labd virtual rack", markup=False)
        raise typer.Exit(Exit.UNREACHABLE) from error
    typer.echo(lab_toml(config, endpoints))
