"""`labctl trace pin`, `unpin` and `gc`: which traces stay, and letting go of the others."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from labd.cli.completion import complete_trace
from labd.cli.connection import ask
from labd.cli.table import Exit, counted, local_time, print_json, print_table, quantity, remarks, results
from labd.keep.names import TraceIdError, checked_id
from labd.keep.retention import Way
from labd.service.traces.messages import Collected, GoingDocument, TraceCollection, TracePin, TraceRef, TraceSummary


def checked_name(name: str) -> str:
    """The same name, if a trace can have it. Raises `BadParameter`."""
    try:
        return checked_id(name)
    except TraceIdError as error:
        raise typer.BadParameter(error.message) from error


TraceId = Annotated[
    str,
    typer.Argument(
        metavar="ID",
        help="The trace's id.",
        show_default=False,
        callback=checked_name,
        autocompletion=complete_trace,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of words.")]

_WAYS = {Way.REMOVE: "for good", Way.DROP_LOCAL: "only here"}


def pin(
    context: typer.Context,
    trace_id: TraceId,
    *,
    reason: Annotated[str, typer.Option(help="Why; kept with the trace.")] = "",
    json: Json = False,
) -> None:
    """Keep a trace from ever being removed."""
    asked = TracePin(id=trace_id, reason=reason)
    _tell(ask(context, lambda lab: lab.request("trace.pin", asked, TraceSummary)), json=json)


def unpin(context: typer.Context, trace_id: TraceId, *, json: Json = False) -> None:
    """Let the lab's rules hold for a trace again."""
    asked = TraceRef(id=trace_id)
    _tell(ask(context, lambda lab: lab.request("trace.unpin", asked, TraceSummary)), json=json)


def gc(
    context: typer.Context,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go, and why.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Let go now of what the rules in the lab's lab.toml let go; the lab itself does so every ten minutes."""
    if not dry_run and not yes and sys.stdin.isatty():
        found = _collected(context, dry_run=True)
        if found.count:
            _print_collected(found, remark=True)
            _confirm("Let them go?")
    done = _collected(context, dry_run=dry_run)
    if json:
        print_json(done.model_dump(mode="json"))
    else:
        _print_collected(done, remark=False)


def _collected(context: typer.Context, *, dry_run: bool) -> Collected:
    return ask(context, lambda lab: lab.request("trace.gc", TraceCollection(dry_run=dry_run), Collected))


def _confirm(question: str) -> None:
    """Ask on standard error, which leaves standard output to the result; ends the command unless the answer is yes."""
    remarks().print(f"{question} [y/N] ", end="", markup=False)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise typer.Exit(Exit.FAILED)


def _tell(trace: TraceSummary, *, json: bool) -> None:
    if json:
        print_json(trace.model_dump(mode="json"))
    else:
        why = f": {trace.reason}" if trace.pinned and trace.reason else ""
        results().print(f"trace {trace.id} is {'pinned' if trace.pinned else 'not pinned'}{why}", markup=False)


def _print_collected(collected: Collected, *, remark: bool) -> None:
    """The table of what goes, then one line; on standard error if it is only a remark to a question."""
    verb = "would go" if collected.dry_run else "went"
    console = remarks() if remark else results()
    if collected.going:
        columns = ("trace", "ended", "frees", "goes", "why")
        print_table("", columns, map(_row, collected.going), console=console)
    if (unlisted := collected.count - len(collected.going)) > 0:
        console.print(f"and {unlisted} more", markup=False)
    console.print(f"{counted(collected.count, 'trace')} {verb}, {quantity(collected.bytes, 'B')} here", markup=False)
    if collected.left:
        remarks().print(f"{collected.left} more go in the lab's next rounds", markup=False)
    for name in collected.foreign:
        remarks().print(f"{name} in the folder of the traces is none of this lab's; it is left alone", markup=False)


def _row(going: GoingDocument) -> tuple[str, ...]:
    return going.id, local_time(going.ended_at), quantity(going.bytes, "B"), _WAYS[going.way], going.reason
