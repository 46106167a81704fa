"""`labctl sweep`: create, preview, list, show, pause, resume, run and remove."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from labd.cli.completion import complete_sweep
from labd.cli.connection import ask, connection_of, run, stop
from labd.cli.span import LENGTH, LONGEST_WAIT, check_limit, limit_s
from labd.cli.sweep.file import read_sweep
from labd.cli.sweep.report import report
from labd.cli.sweep.view import print_preview, print_sweep, print_sweeps
from labd.cli.sweep.watch import watch_night
from labd.cli.table import Exit, counted, local_time, print_json, remarks, results
from labd.errors import ConfigError
from labd.model.states import JobState, NightState
from labd.service.sweeps.messages import (
    NightAccepted,
    NightDocument,
    SweepAccepted,
    SweepCreate,
    SweepDocument,
    SweepPage,
    SweepPlanned,
    SweepPreview,
    SweepQuery,
    SweepRef,
)

app = typer.Typer(no_args_is_help=True)
app.command()(report)

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
File = Annotated[Path, typer.Argument(metavar="FILE", help="A sweep in TOML or JSON.", show_default=False)]
Name = Annotated[
    str, typer.Argument(metavar="NAME", help="The sweep's name.", show_default=False, autocompletion=complete_sweep)
]
OwnName = Annotated[str | None, typer.Option("--name", help="Take this in place of the file's own name.")]


@app.command()
def create(
    context: typer.Context,
    file: File,
    *,
    name: OwnName = None,
    replace: Annotated[bool, typer.Option("--replace", help="Change the sweep of that name; its nights stay.")] = False,
    json: Json = False,
) -> None:
    """Add a sweep, or change one."""
    sweep = _read(file, name, **({"replace": True} if replace else {}))
    accepted = ask(context, lambda lab: lab.request("sweep.create", sweep, SweepAccepted))
    if json:
        print_json(accepted.model_dump(mode="json"))
        return
    results().print(f"sweep {accepted.name} is {_told(accepted)}", markup=False)
    if accepted.left_out:
        left = counted(accepted.left_out, "cell")
        remarks().print(f"{left} left out, which no board can serve; see labctl sweep preview", markup=False)


@app.command()
def preview(context: typer.Context, file: File, *, name: OwnName = None, json: Json = False) -> None:
    """Show what a sweep would do: its jobs, what is left out and why, hours, and when it would run."""
    sweep = SweepPreview.model_validate(_read(file, name or "preview").model_dump(exclude_unset=True))
    planned = ask(context, lambda lab: lab.request("sweep.preview", sweep, SweepPlanned))
    if json:
        print_json(planned.model_dump(mode="json"))
    else:
        print_preview(planned)


@app.command("list")
def list_(
    context: typer.Context,
    *,
    owner: Annotated[str | None, typer.Option(help="Only those of this owner.")] = None,
    json: Json = False,
) -> None:
    """List the sweeps with their last nights."""
    page = ask(context, lambda lab: lab.request("sweep.list", SweepQuery(owner=owner), SweepPage))
    if json:
        print_json(page.model_dump(mode="json"))
    else:
        print_sweeps(page.sweeps)


@app.command()
def show(context: typer.Context, name: Name, *, json: Json = False) -> None:
    """Show a sweep: what it measures, when, and how its last nights went."""
    sweep = ask(context, lambda lab: lab.request("sweep.get", SweepRef(name=name), SweepDocument))
    if json:
        print_json(sweep.model_dump(mode="json"))
    else:
        print_sweep(sweep)


@app.command()
def pause(context: typer.Context, name: Name, *, json: Json = False) -> None:
    """Let a sweep's cron line count no more; a night under way goes on."""
    _change(context, "sweep.pause", name, json=json)


@app.command()
def resume(context: typer.Context, name: Name, *, json: Json = False) -> None:
    """Let a sweep's cron line count again, from now on."""
    _change(context, "sweep.resume", name, json=json)


@app.command()
def remove(context: typer.Context, name: Name, *, json: Json = False) -> None:
    """Take a sweep away; its jobs that are queued stay."""
    _change(context, "sweep.remove", name, json=json)


@app.command("run")
def run_(
    context: typer.Context,
    name: Name,
    *,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the night's end and show it.")] = False,
    within_s: Annotated[float | None, typer.Option("--for", parser=limit_s, metavar=LENGTH, help=LONGEST_WAIT)] = None,
    json: Json = False,
) -> None:
    """Begin a night now, whatever the cron line says.

    With --wait the exit status is 0 if all jobs completed, 1 if not, 5 if --for has passed.
    """
    check_limit(within_s, wait=wait)
    accepted = ask(context, lambda lab: lab.request("sweep.run", SweepRef(name=name), NightAccepted))
    if not wait:
        if json:
            print_json(accepted.model_dump(mode="json"))
        else:
            results().print(f"night {accepted.night} of sweep {accepted.name} is {accepted.state}", markup=False)
        return
    connection = connection_of(context)
    night = run(lambda: watch_night(connection, name, accepted.night, within_s))
    if json:
        print_json(night.model_dump(mode="json"))
    else:
        counts = ", ".join(f"{count} {state}" for state, count in night.counts.items()) or "no jobs"
        results().print(f"night {night.id} of sweep {name} has {night.state}: {counts}", markup=False)
    raise typer.Exit(Exit.DONE if _went_well(night) else Exit.FAILED)


def _went_well(night: NightDocument) -> bool:
    return night.state is NightState.ENDED and set(night.counts) == {JobState.COMPLETED}


def _change(context: typer.Context, verb: str, name: str, *, json: bool) -> None:
    accepted = ask(context, lambda lab: lab.request(verb, SweepRef(name=name), SweepAccepted))
    if json:
        print_json(accepted.model_dump(mode="json"))
    else:
        results().print(f"sweep {accepted.name} is {_told(accepted)}", markup=False)


def _told(accepted: SweepAccepted) -> str:
    jobs = "" if accepted.jobs is None else f", {counted(accepted.jobs, 'job')} a night"
    due = "" if accepted.due_at is None else f", next on {local_time(accepted.due_at)}"
    return f"{accepted.state}{jobs}{due}"


def _read(file: Path, name: str | None, **given: bool) -> SweepCreate:
    try:
        return read_sweep(file, **({"name": name} if name is not None else {}), **given)
    except ConfigError as error:
        raise stop(error) from error
