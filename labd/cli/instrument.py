"""`labctl instrument`: the instruments of a lab, and whether they answer."""

from __future__ import annotations

from typing import Annotated

import typer

from labd.cli.board_view import print_changes
from labd.cli.completion import complete_instrument
from labd.cli.connection import ask
from labd.cli.table import counted, local_time, print_json, print_table, results
from labd.service.health.messages import (
    InstrumentDetail,
    InstrumentPage,
    InstrumentQuery,
    InstrumentRef,
    InstrumentWithdrawal,
)
from labd.service.messages import InstrumentDocument, Message

app = typer.Typer(no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
InstrumentId = Annotated[
    str,
    typer.Argument(metavar="ID", help="The instrument's id.", show_default=False, autocompletion=complete_instrument),
]
Reason = Annotated[str, typer.Option("--reason", "-r", help="Why, for everybody to read.", show_default=False)]


@app.command("list")
def list_(context: typer.Context, *, json: Json = False) -> None:
    """List the instruments that the lab has seen."""
    page = ask(context, lambda lab: lab.request("instrument.list", InstrumentQuery(), InstrumentPage))
    if json:
        print_json(page.model_dump(mode="json"))
        return
    columns = ("instrument", "driver", "state", "model", "serial", "since", "reason")
    print_table(counted(len(page.instruments), "instrument"), columns, map(_row, page.instruments))


@app.command()
def show(context: typer.Context, instrument_id: InstrumentId, *, json: Json = False) -> None:
    """Show an instrument: its state and why, the boards wired to it, its last changes."""
    detail = ask(context, lambda lab: lab.request("instrument.get", InstrumentRef(id=instrument_id), InstrumentDetail))
    if json:
        print_json(detail.model_dump(mode="json"))
        return
    results().print(_line(detail.instrument), markup=False)
    results().print(f"  boards: {', '.join(detail.boards) or 'none'}", markup=False)
    print_changes(detail.changes)


@app.command()
def maintain(context: typer.Context, instrument_id: InstrumentId, reason: Reason, *, json: Json = False) -> None:
    """Take an instrument into your hands until you return it; labd asks nothing of it, and its boards wait."""
    _change(context, "instrument.maintain", InstrumentWithdrawal(id=instrument_id, reason=reason), json=json)


@app.command("return")
def return_(context: typer.Context, instrument_id: InstrumentId, *, json: Json = False) -> None:
    """Give an instrument back: it is asked, and its boards go on when it answers."""
    _change(context, "instrument.return", InstrumentRef(id=instrument_id), json=json)


def _change(context: typer.Context, verb: str, params: Message, *, json: bool) -> None:
    instrument = ask(context, lambda lab: lab.request(verb, params, InstrumentDocument))
    if json:
        print_json(instrument.model_dump(mode="json"))
    else:
        results().print(_line(instrument), markup=False)


def _line(instrument: InstrumentDocument) -> str:
    line = f"{instrument.id} ({instrument.driver}) is {instrument.state} since {local_time(instrument.changed_at)}"
    return f"{line}: {instrument.reason}" if instrument.reason else line


def _row(instrument: InstrumentDocument) -> tuple[str, ...]:
    return (
        instrument.id,
        instrument.driver,
        instrument.state,
        str(instrument.identity.get("model") or "-"),
        str(instrument.identity.get("serial") or "-"),
        local_time(instrument.changed_at),
        instrument.reason or "-",
    )
