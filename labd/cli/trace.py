"""`labctl trace`: bring raw power traces from a lab."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from labd.cli.connection import Connection, connection_of, run
from labd.cli.pull import Progressed, Pulled, pull_trace
from labd.cli.table import print_json, print_table, quantity, remarks
from labd.errors import ConfigError, NotFoundError
from labd.mqtt.client import LabClient, connect
from labd.service.messages import NUMBER_MAX

app = typer.Typer(help="Raw power traces of a lab.", no_args_is_help=True)


@app.callback()
def traces() -> None:
    """Raw power traces of a lab."""


@app.command()
def pull(
    context: typer.Context,
    trace_id: Annotated[
        str,
        typer.Argument(metavar="ID", help="A trace's id, or a job's number for all its traces.", show_default=False),
    ],
    *,
    out: Annotated[Path, typer.Option(help="Folder for the traces, a folder each.")] = Path("."),
    url: Annotated[
        str | None, typer.Option(envvar="LABCTL_TRACES", help="Where the lab serves traces, if not where it says.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")] = False,
) -> None:
    """Download a trace; a broken download goes on where it stopped. Every file is checked against the trace's seal."""
    if not trace_id or (trace_id.isdecimal() and not 1 <= int(trace_id) <= NUMBER_MAX):
        raise typer.BadParameter(f"{trace_id!r} is neither a trace's id nor a job's number")
    connection = connection_of(context)

    async def work() -> list[Pulled]:
        urls = await _urls(connection, trace_id, url)
        with _bars() as progressed:
            return [
                await pull_trace(each, out / name, timeout_s=connection.timeout_s, progressed=progressed)
                for name, each in urls.items()
            ]

    pulled = run(work)
    if json:
        print_json({"traces": [_document(trace) for trace in pulled]})
        return
    for trace in pulled:
        rows = [(file.name, quantity(file.size, "B"), file.sha256 or "-") for file in trace.files]
        print_table(str(trace.folder), ("file", "size", "sha256"), rows)
        if not trace.sealed:
            remarks().print(
                f"{trace.trace_id} is not sealed: it may still grow, and could not be checked", markup=False
            )


async def _urls(connection: Connection, trace_id: str, url: str | None) -> dict[str, str]:
    """Addresses by trace id."""
    if url is not None and not trace_id.isdecimal():
        return {trace_id: f"{url.rstrip('/')}/{trace_id}"}
    async with connect(connection.endpoint, connection.lab, timeout_s=connection.timeout_s) as lab:
        ids = [trace_id] if not trace_id.isdecimal() else await _of_job(lab, int(trace_id))
        where = url or (await lab.status()).traces_url
    if not where.startswith(("http://", "https://")):
        raise ConfigError(f"the lab does not say where it serves traces, only {where!r}", remedy="give --url")
    return {name: f"{where.rstrip('/')}/{name}" for name in ids}


async def _of_job(lab: LabClient, job_id: int) -> list[str]:
    job = await lab.job(job_id)
    ids = [trace.id for run in job.runs for trace in run.traces]
    if not ids:
        raise NotFoundError(f"job {job_id} has no traces", remedy=f"see how far it is: labctl job show {job_id}")
    return ids


@contextmanager
def _bars() -> Iterator[Progressed]:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=remarks(), transient=True) as bars:
        task = bars.add_task("trace")

        def progressed(name: str, there: int, size: int) -> None:
            bars.update(task, description=name, completed=there, total=size)

        yield progressed


def _document(trace: Pulled) -> dict[str, object]:
    files = [file.model_dump(mode="json") for file in trace.files]
    return {"id": trace.trace_id, "folder": str(trace.folder), "sealed": trace.sealed, "files": files}
