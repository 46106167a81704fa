"""Where a trace that a command names is found: a folder here, or a lab that serves it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from labd.cli.connection import Choice
from labd.errors import ConfigError, NotFoundError
from labd.keep.names import TraceIdError, checked_id
from labd.mqtt.client import connect
from labd.trace.files import LocalFiles, TraceFiles
from labd.trace.object_files import http_files

Url = Annotated[
    str | None, typer.Option(envvar="LABCTL_TRACES", help="Where the lab serves traces, if not where it says.")
]


async def find_trace(choice: Choice, name: str, url: str | None) -> TraceFiles:
    """The files of a trace.

    Args:
        choice: The lab that is asked if `name` is no folder.
        name: A folder, or the id of a trace.
        url: Where the lab serves traces; None to ask it.

    Raises:
        NotFoundError: it can only be a folder, and there is none.
        ConfigError: no lab is named, or it does not say where it serves traces.
        UnreachableError: the lab does not answer.
    """
    if is_folder(name):
        return LocalFiles(Path(name))
    try:
        checked_id(name)
    except TraceIdError as error:
        message, remedy = "there is no such folder", "give a trace's folder, or its id"
        raise NotFoundError(message, where=name[:256], remedy=remedy) from error
    if url is None:
        connection = choice.connection()
        async with connect(connection.endpoint, connection.lab, timeout_s=connection.timeout_s) as lab:
            url = (await lab.status()).traces_url
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"the lab does not say where it serves traces, only {url!r}", remedy="give --url")
    return http_files(f"{url.rstrip('/')}/{name}/")


def is_folder(name: str) -> bool:
    """Whether this is a folder here, whatever is in it; no name is too odd to be asked for."""
    try:
        return name != "" and Path(name).is_dir()
    except OSError:  # too long, or behind a folder that this user may not enter
        return False
