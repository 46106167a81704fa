"""`labd run` and `labd db`: the daemon, and the database that it works on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from labd.app import serve
from labd.cli.check import database_address
from labd.cli.table import Exit, remarks, results
from labd.config.reading import load
from labd.errors import ConfigError, LabError
from labd.logs import configure
from labd.model.migrations import upgrade
from labd.occupancy import occupied

database = typer.Typer(no_args_is_help=True)

LabFile = Annotated[Path, typer.Argument(help="The lab.toml of the rack.", show_default=False)]


def run(path: LabFile) -> None:
    """Run the daemon until SIGTERM or Ctrl-C; without a terminal, SIGHUP makes it read lab.toml again.

    Exit status: 0 stopped, 1 it could not go on, 2 lab.toml cannot be used.
    """
    with _reported():
        config = load(path)
        configure(config.lab.log_level)
        asyncio.run(serve(config, reread=partial(load, path.resolve())))


@database.command("upgrade")
def upgrade_database(path: LabFile) -> None:
    """Bring the database to this version's schema; the daemon does so too when it starts.

    Exit status: 0 done, 1 the database cannot be upgraded or a daemon has it, 2 lab.toml cannot be used.
    """
    with _reported():
        config = load(path)
        with occupied(config.lab.data_dir):
            found, now = upgrade(config.database_url)
        done = f"is at schema {now} already" if found == now else f"brought from schema {found or 'none'} to {now}"
        results().print(f"{database_address(config)}: {done}", markup=False)


@contextmanager
def _reported() -> Iterator[None]:
    """Turn what labd raises on purpose into one clear message and an exit status."""
    try:
        yield
    except ConfigError as error:
        remarks().print(f"{error}\nlabd check shows each fault with its line", markup=False)
        raise typer.Exit(Exit.USAGE) from error
    except LabError as error:
        remarks().print(str(error), markup=False)
        raise typer.Exit(Exit.FAILED) from error
    except ExceptionGroup as group:  # tasks that failed while the lab was at work
        foreseen, others = group.split(LabError)
        if foreseen is None or others is not None:
            raise
        for words in dict.fromkeys(map(str, _leaves(foreseen))):
            remarks().print(words, markup=False)
        raise typer.Exit(Exit.FAILED) from group


def _leaves(group: ExceptionGroup[LabError]) -> Iterator[LabError]:
    for error in group.exceptions:
        if isinstance(error, ExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
