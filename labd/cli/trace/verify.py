"""`labctl trace verify`: every byte of sealed traces against their seals, in folders here and in a lab."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from labd.cli.completion import complete_trace
from labd.cli.connection import run
from labd.cli.table import Exit, print_json, print_table, remarks
from labd.cli.trace.place import Url

HINT = "a running capture is sealed at its end, one that was cut off when its lab starts again"


def verify(
    context: typer.Context,
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="ID|FOLDER...",
            help="Folders of traces here, or folders full of them, or else ids of traces in the lab.",
            autocompletion=complete_trace,
            show_default=False,
        ),
    ],
    *,
    url: Url = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")] = False,
) -> None:
    """Check every byte of sealed traces against their seals; exit 0 only if all of them are what was sealed."""
    from labd.cli.bars import byte_bar
    from labd.cli.trace.verdict import Checked, Verdict, check, find_traces

    async def work() -> list[Checked]:
        traces = [found for name in names for found in await find_traces(context.obj, name, url)]
        with byte_bar("verifying") as progressed:
            return [await asyncio.to_thread(check, name, files, progressed) for name, files in traces]

    checked = run(work)
    good = all(each.verdict is Verdict.OK for each in checked)
    if json:
        print_json({"ok": good, "traces": [each.document() for each in checked]})
    else:
        rows = [
            (each.name, each.verdict.value, "-" if each.rows is None else f"{each.rows:,}", each.detail or "-")
            for each in checked
        ]
        print_table("traces against their seals", ("trace", "verdict", "samples", "detail"), rows)
    if any(each.verdict is Verdict.UNSEALED for each in checked):
        remarks().print(f"labctl: a trace that is not sealed cannot be verified; {HINT}", markup=False)
    if not good:
        raise typer.Exit(Exit.FAILED)
