"""`labctl lab`: how the lab is, another lab.toml for it, and the emergency stop."""

from __future__ import annotations

from typing import Annotated

import typer

from labd.cli.connection import ask
from labd.cli.table import counted, local_time, print_json, print_table, results
from labd.service.lab_messages import DifferenceDocument, LabReload, LabResume, LabStop, ReloadDocument, StopReply
from labd.service.messages import LabStatus

app = typer.Typer(no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]


@app.command()
def status(context: typer.Context, *, json: Json = False) -> None:
    """Show how the lab is: at work or stopped, what waits, what runs, and whether there is room."""
    found = ask(context, lambda lab: lab.status())
    if json:
        print_json(found.model_dump(mode="json"))
    else:
        print_table("", ("what", "how"), _status_rows(found))


@app.command()
def reload(context: typer.Context, *, json: Json = False) -> None:
    """Have the daemon read lab.toml again, whole; what runs is not touched.

    Exit status: 0 it is in use, 3 it has faults or asks for a restart, and nothing of it is in use.
    """
    done = ask(context, lambda lab: lab.request("lab.reload", LabReload(), ReloadDocument))
    if json:
        print_json(done.model_dump(mode="json"))
        return
    rows = [
        *_difference_rows("board", done.boards),
        *_difference_rows("instrument", done.instruments),
        *_difference_rows("firmware", done.firmware),
        *_difference_rows("user", done.users),
        *((section, "", "changed") for section in done.sections),
    ]
    if rows:
        print_table("lab.toml is in use as it is now", ("what", "which", "is"), rows)
    else:
        results().print("lab.toml is as it was")


@app.command()
def stop(
    context: typer.Context,
    reason: Annotated[str, typer.Argument(help="Why, for everybody who wonders.", show_default=False)],
    *,
    json: Json = False,
) -> None:
    """Emergency: interrupt all runs, switch all outputs off, begin nothing until `resume`. Jobs are still taken."""
    try:
        asked = LabStop(reason=reason)
    except ValueError as error:
        raise typer.BadParameter("give a reason of 1 to 256 characters") from error
    _print_stop(ask(context, lambda lab: lab.request("lab.stop", asked, StopReply)), json=json)


@app.command()
def resume(context: typer.Context, *, json: Json = False) -> None:
    """Let a stopped lab go on with what waits."""
    _print_stop(ask(context, lambda lab: lab.request("lab.resume", LabResume(), StopReply)), json=json)


def _print_stop(reply: StopReply, *, json: bool) -> None:
    if json:
        print_json(reply.model_dump(mode="json"))
    elif reply.stopped is None:
        results().print("the lab goes on")
    else:
        results().print(f"the lab is stopped: {reply.stopped.reason}", markup=False)


def _status_rows(found: LabStatus) -> list[tuple[str, str]]:
    rows = [("state", found.state.value), ("version", found.version), ("since", local_time(found.since))]
    if found.stopped is not None:
        stop = found.stopped
        rows.append(("stopped", f"{stop.reason} ({stop.by}, {local_time(stop.at)}); labctl lab resume lets it go on"))
    rows.append(("jobs", f"{counted(found.queue_length, 'job')} waiting, {found.running:,} running"))
    rows.append(("clock", found.host_clock.value))
    rows.append(("space", found.space.notice or found.space.state.value))
    if found.archive:
        rows.append(("archive", found.archive))
    return rows


def _difference_rows(what: str, found: DifferenceDocument) -> list[tuple[str, str, str]]:
    kinds = (("added", found.added), ("removed", found.removed), ("changed", found.changed))
    return [(what, name, kind) for kind, names in kinds for name in names]
