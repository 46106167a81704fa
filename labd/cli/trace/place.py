"""Where a trace that a command names is found: a folder here, or a lab that serves it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labd.cli.connection import Choice
from labd.errors import ConfigError, NotFoundError
from labd.keep.names import TraceIdError, checked_id
from labd.mqtt.client import LabClient
from labd.service.traces.messages import TraceDetails, TraceRef

if TYPE_CHECKING:
    from labd.trace.files import TraceFiles

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
        NotFoundError: it can only be a folder, and there is none; or the lab has no such trace, or has it no more.
        ConfigError: no lab is named, or it does not say where it serves traces.
        UnreachableError: the lab does not answer.
    """
    from labd.trace.files import LocalFiles
    from labd.trace.object_files import http_files

    if is_folder(name):
        return LocalFiles(Path(name))
    try:
        checked_id(name)
    except TraceIdError as error:
        message, remedy = "there is no such folder", "give a trace's folder, or its id"
        raise NotFoundError(message, where=name[:256], remedy=remedy) from error
    if url is not None:
        return http_files(f"{url.rstrip('/')}/{name}/")
    async with choice.connection().client() as lab:
        return http_files(await served_at(lab, name))


async def served_at(lab: LabClient, trace_id: str) -> str:
    """Where a lab serves the files of a trace.

    Raises:
        NotFoundError: it has no such trace, or has removed it.
        RefusedError: it refuses the question.
        ConfigError: it does not say where it serves traces.
    """
    trace = await lab.request("trace.get", TraceRef(id=trace_id), TraceDetails)
    if trace.url is None:
        why = f": {trace.reason}" if trace.reason else ""
        raise NotFoundError(f"the trace is {trace.state}{why}", where=trace_id, remedy="its scores stay: trace show")
    if not trace.url.startswith(("http://", "https://")):
        raise ConfigError(f"the lab does not say where it serves traces, only {trace.url!r}", remedy="give --url")
    return trace.url


def is_folder(name: str) -> bool:
    """Whether this is a folder here, whatever is in it; no name is too odd to be asked for."""
    try:
        return name != "" and Path(name).is_dir()
    except OSError:  # too long, or behind a folder that this user may not enter
        return False
