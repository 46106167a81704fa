"""`labctl trace list`: the traces of a lab, newest first."""

from __future__ import annotations

from typing import Annotated

import typer
from pydantic import ValidationError

from labd.cli.completion import complete_board
from labd.cli.connection import ask
from labd.cli.table import counted, local_time, print_json, print_table, quantity, remarks
from labd.model.states import TraceState
from labd.service.messages import NUMBER_MAX
from labd.service.traces.messages import TracePage, TraceQuery, TraceSummary


def list_(
    context: typer.Context,
    *,
    state: Annotated[TraceState | None, typer.Option(help="Only traces in this state.")] = None,
    board: Annotated[str | None, typer.Option(help="Only traces of this board.", autocompletion=complete_board)] = None,
    job: Annotated[int | None, typer.Option(min=1, max=NUMBER_MAX, help="Only traces of this job.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="At most so many.")] = 20,
    before: Annotated[str | None, typer.Option(metavar="ID", help="Only traces that began before this one.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """List traces, newest first."""
    try:
        query = TraceQuery(state=state, board=board, job=job, limit=limit, before=before)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise typer.BadParameter(f"{fault['loc'][0]}: {fault['msg']}") from error
    page = ask(context, lambda lab: lab.request("trace.list", query, TracePage))
    if json:
        print_json(page.model_dump(mode="json"))
        return
    columns = ("trace", "state", "job", "board", "run", "began", "lasts", "size", "lies", "kept")
    print_table(counted(len(page.traces), "trace"), columns, map(_row, page.traces))
    if page.next_before is not None:
        remarks().print(f"older traces: labctl trace list --before {page.next_before}", markup=False)


def place(trace: TraceSummary) -> str:
    """Where the files of a trace lie, in words."""
    if trace.url is None:
        return "-"
    places = ["here"] if trace.local else []
    places += ["archive"] if trace.archived_at is not None else []
    return " and ".join(places)


def _row(trace: TraceSummary) -> tuple[str, ...]:
    return (
        trace.id,
        trace.state,
        str(trace.job_id),
        trace.board_id,
        trace.outcome,
        local_time(trace.started_at),
        quantity(trace.duration_s, "s"),
        quantity(trace.bytes, "B"),
        place(trace),
        "pinned" if trace.pinned else "-",
    )
