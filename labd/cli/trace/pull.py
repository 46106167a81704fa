"""`labctl trace pull`: bring traces from a lab whole, or put a part of one into a file of another tool's format.

A whole folder is downloaded, resumed and checked against its seal. For any other format only the bytes that it needs
are read: from a folder here, or by ranges from the lab's server.
"""

from __future__ import annotations

import asyncio
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labd.cli.completion import complete_trace
from labd.cli.connection import Connection, connection_of, run, stop
from labd.cli.table import print_json, print_table, quantity, remarks
from labd.cli.trace.place import Url, find_trace, is_folder, served_at
from labd.errors import ConfigError, LabError, NotFoundError
from labd.keep.names import TraceIdError, checked_id
from labd.mqtt.client import LabClient
from labd.service.messages import NUMBER_MAX
from labd.trace.export.formats import Format

if TYPE_CHECKING:
    from labd.cli.trace.download import Pulled
    from labd.trace.files import TraceFiles


class PullFormat(StrEnum):
    """What a trace is pulled as: its folder as it lies in the lab, or a format of `labd.trace.export`."""

    FOLDER = "folder"
    CSV = "csv"
    NPZ = "npz"
    HDF5 = "hdf5"
    JLS = "jls"
    SR = "sr"
    PARQUET = "parquet"


def pull(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            metavar="ID|FOLDER",
            help="A trace's id, a job's number for all its traces, or a trace's folder here.",
            autocompletion=complete_trace,
            show_default=False,
        ),
    ],
    *,
    form: Annotated[PullFormat, typer.Option("--format", help="What to make of it.")] = PullFormat.FOLDER,
    window: Annotated[
        str | None, typer.Option(metavar="START:STOP", help="Only this stretch of it, s; either end may be left out.")
    ] = None,
    trial: Annotated[int | None, typer.Option(min=0, help="Only the window of this trial, from 0.")] = None,
    margin_s: Annotated[
        float, typer.Option("--margin", min=0, help="What to add on both sides of the trial's window, s.")
    ] = 0.0,
    rate_hz: Annotated[
        float | None, typer.Option("--rate", help="Average samples, down to about this rate, Hz.")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder for the traces, a folder or file each; or the file, of one trace.")
    ] = Path("."),
    url: Url = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")] = False,
) -> None:
    """Bring a trace here: its whole folder, resumable and checked against its seal, or a part of it in another format.

    Formats: csv (.gz by the name of --out), npz (NumPy), hdf5, jls (Joulescope UI), sr (PulseView), parquet.
    """
    if not name or (name.isdecimal() and not is_folder(name) and not _is_job(name)):
        raise typer.BadParameter(f"{name[:256]!r} is neither a trace's id nor a job's number")
    if form is not PullFormat.FOLDER:
        if trial is not None and window is not None:
            raise typer.BadParameter("--window and --trial cannot go together")
        from labd.cli.trace.export import Part, make_file, show_files

        part = Part(_window(window), trial, margin_s, rate_hz)
        sources = run(lambda: _sources(context, name, url))
        if len(sources) > 1 and not is_folder(str(out)):
            raise typer.BadParameter(f"job {name} has {len(sources)} traces: name a folder with --out")
        # outside of the event loop, where one Ctrl-C ends it at once
        try:
            made = [make_file(files, Format(form.value), part, out) for files in sources]
        except LabError as error:
            raise stop(error) from error
        except KeyboardInterrupt as error:
            raise typer.Exit(130) from error
        show_files(made, json=json)
        return
    if window is not None or trial is not None or rate_hz is not None:
        raise typer.BadParameter("--window, --trial and --rate go with a --format that is not the folder")
    if not name.isdecimal():
        _check_pullable(name)
    from labd.cli.bars import byte_bar
    from labd.cli.trace.download import pull_trace

    connection = connection_of(context)

    async def work() -> list[Pulled]:
        urls = await _urls(connection, name, url)
        with byte_bar("trace") as progressed:
            return [
                await pull_trace(each, out / trace_id, timeout_s=connection.timeout_s, progressed=progressed)
                for trace_id, each in urls.items()
            ]

    _show_pulled(run(work), json=json)


def _is_job(name: str) -> bool:
    """Whether digits are the number of a job; the length first, as Python refuses to read very long numbers."""
    return len(name) <= len(str(NUMBER_MAX)) and 1 <= int(name) <= NUMBER_MAX


def _check_pullable(name: str) -> None:
    """Refuse what no lab can have. A folder here with a trace's name is where an earlier pull of it has got to."""
    try:
        checked_id(name)
    except TraceIdError as error:
        if is_folder(name):
            message = f"{name!r} is a folder here already; name a --format to make of it"
            raise typer.BadParameter(message) from error
        raise typer.BadParameter(error.message) from error


def _window(text: str | None) -> tuple[float | None, float | None] | None:
    if text is None:
        return None
    start, colon, end = text.partition(":")
    try:
        if not colon:
            raise ValueError("there is no colon")
        return (float(start) if start else None), (float(end) if end else None)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no window: give START:STOP in seconds, as 1.5:2") from error


async def _sources(context: typer.Context, name: str, url: str | None) -> list[TraceFiles]:
    """The traces that `name` means, where they lie."""
    from labd.trace.object_files import http_files

    if name.isdecimal() and not await asyncio.to_thread(is_folder, name):
        return [http_files(each) for each in (await _urls(connection_of(context), name, url)).values()]
    return [await find_trace(context.obj, name, url)]


async def _urls(connection: Connection, name: str, url: str | None) -> dict[str, str]:
    """Addresses by trace id. No id leads out of the folder that is pulled into, whatever the lab says."""
    if url is not None and not name.isdecimal():
        return {name: f"{url.rstrip('/')}/{name}"}
    async with connection.client() as lab:
        if not name.isdecimal():
            return {checked_id(name): await served_at(lab, name)}
        ids = await _of_job(lab, int(name))
        where = url or (await lab.status()).traces_url
    if not where.startswith(("http://", "https://")):
        raise ConfigError(f"the lab does not say where it serves traces, only {where!r}", remedy="give --url")
    return {checked_id(trace_id): f"{where.rstrip('/')}/{trace_id}" for trace_id in ids}


async def _of_job(lab: LabClient, job_id: int) -> list[str]:
    job = await lab.job(job_id)
    traces = [trace for run in job.runs for trace in run.traces]
    if not traces:
        raise NotFoundError(f"job {job_id} has no traces", remedy=f"see how far it is: labctl job show {job_id}")
    ids = [trace.id for trace in traces if trace.url is not None]
    for trace in traces:
        if trace.url is None:
            remarks().print(f"{trace.id} is {trace.state}, see labctl trace show", markup=False)
    if not ids:
        raise NotFoundError(f"job {job_id} has no traces any more")
    return ids


def _show_pulled(pulled: list[Pulled], *, json: bool) -> None:
    if json:
        print_json({"traces": [_pulled_document(trace) for trace in pulled]})
        return
    for trace in pulled:
        rows = [(file.name, quantity(file.size, "B"), file.sha256 or "-") for file in trace.files]
        print_table(str(trace.folder), ("file", "size", "sha256"), rows)
        if not trace.sealed:
            remarks().print(
                f"{trace.trace_id} is not sealed: it may still grow, and could not be checked", markup=False
            )


def _pulled_document(trace: Pulled) -> dict[str, object]:
    files = [file.model_dump(mode="json") for file in trace.files]
    return {"id": trace.trace_id, "folder": str(trace.folder), "sealed": trace.sealed, "files": files}
