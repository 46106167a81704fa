"""`labd acl`: the broker's rules for the users of a lab."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from labd.cli.table import Exit, remarks
from labd.config.reading import load
from labd.errors import ConfigError
from labd.mqtt.acl import acl_file


def acl(path: Annotated[Path, typer.Argument(help="The lab.toml of the rack.", show_default=False)]) -> None:
    """Print Mosquitto's ACL file for the users of lab.toml.

    Exit status: 0 printed, 1 the lab has no users, 2 lab.toml cannot be used.
    """
    try:
        config = load(path)
    except ConfigError as error:
        remarks().print(f"{error}\nlabd check shows each fault with its line", markup=False)
        raise typer.Exit(Exit.USAGE) from error
    if not config.user:
        remarks().print("the lab is open: name its users as [[user]] in lab.toml", markup=False)
        raise typer.Exit(Exit.FAILED)
    typer.echo(acl_file(config), nl=False)
