"""`labd outputs-off`: switches off what feeds the boards, without the daemon; the unit runs it after every stop."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from drivers.api import driver_loaders
from labd.bench.outputs import OutputResult, Outputs, switch_off, wired_outputs
from labd.cli.table import Exit, counted, print_json, print_table, remarks
from labd.config.reading import Inspection, inspect
from labd.errors import ConfigError


def outputs_off(
    path: Annotated[Path, typer.Argument(help="The lab.toml of the rack.", show_default=False)],
    *,
    timeout_s: Annotated[float, typer.Option("--timeout", min=0.1, help="Longest time a supply may take, s.")] = 20.0,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")] = False,
) -> None:
    """Switch off every output that feeds a board, and say of each whether it is off.

    A lab.toml with faults is no reason to leave boards under power: then every channel of every supply that can still
    be made out is switched off.

    Exit status: 0 all are off, 1 some are not known to be off or the file has faults, 2 the file cannot be read.
    """
    try:
        seen = inspect(path)
    except ConfigError as error:
        remarks().print(str(error), markup=False)
        raise typer.Exit(Exit.USAGE) from error
    if seen.config is None:
        count = counted(len(seen.faults), "fault")
        remarks().print(f"{path} has {count}, see labd check; switching off all channels instead", markup=False)
    outputs = wired_outputs(seen.config) if seen.config is not None else _all_outputs(seen)
    loaders = driver_loaders()
    drivers = {name: loaders[name]() for name in {each.instrument.driver for each in outputs}}
    results = asyncio.run(switch_off(outputs, drivers, timeout_s))
    done = seen.config is not None and all(result.off for result in results)
    if json:
        print_json({"ok": done, "outputs": [_document(result) for result in results]})
    else:
        rows = [(result.instrument, str(result.channel), result.error or "off") for result in results]
        print_table("outputs", ("instrument", "channel", "state"), rows)
    raise typer.Exit(Exit.DONE if done else Exit.FAILED)


def _all_outputs(seen: Inspection) -> list[Outputs]:
    return [
        Outputs(instrument, able.supply.channels)
        for instrument in seen.instruments
        if (able := seen.capabilities[instrument.id]).supply is not None
    ]


def _document(result: OutputResult) -> dict[str, str | int | bool]:
    return {"instrument": result.instrument, "channel": result.channel, "off": result.off, "error": result.error}
