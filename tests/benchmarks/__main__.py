"""`python -m tests.benchmarks`: run, print a table, write build/bench.json; exit 1 if a limit is missed."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.benchmarks.capture_memory import capture_memory
from tests.benchmarks.capture_path import capture_path
from tests.benchmarks.command_start import command_start
from tests.benchmarks.daemon_overhead import daemon_overhead
from tests.benchmarks.decision import decision
from tests.benchmarks.figure import Better, Figure
from tests.benchmarks.reservations import reservations
from tests.benchmarks.start_at_scale import start_at_scale
from tests.benchmarks.submit_latency import submit_latency
from tests.benchmarks.submit_rate import submit_rate
from tests.benchmarks.trace_long import trace_long
from tests.benchmarks.trace_read import trace_against_json, trace_read
from tests.benchmarks.trace_record import trace_record
from tests.benchmarks.utilisation import utilisation

BENCHMARKS: Mapping[str, Callable[[], Awaitable[tuple[Figure, ...]]]] = {
    "capture_path": capture_path,
    "capture_memory": capture_memory,
    "command_start": command_start,
    "submit_latency": submit_latency,
    "start_at_scale": start_at_scale,
    "reservations": reservations,
    "submit_rate": submit_rate,
    "daemon_overhead": daemon_overhead,
    "utilisation": utilisation,
    "decision": decision,
    "trace_record": trace_record,
    "trace_read": trace_read,
    "trace_against_json": trace_against_json,
    "trace_long": trace_long,
}
OUT = Path("build/bench.json")


def document(figure: Figure) -> dict[str, Any]:
    """One entry of bench.json."""
    return {**asdict(figure), "ok": figure.ok}


def table(figures: Sequence[Figure]) -> Table:
    """All figures, for people."""
    shown = Table("benchmark", "value", "limit", "", "against")
    for figure in figures:
        unit = "" if figure.unit == "1" else f" {figure.unit}"
        sign = "≥" if figure.better is Better.HIGHER else "≤"
        shown.add_row(
            figure.name,
            f"{figure.value:.3g}{unit}",
            f"{sign} {figure.limit:g}{unit}",
            "ok" if figure.ok else "[bold]missed[/bold]",
            figure.against,
        )
    return shown


def main() -> int:
    """Run those that were asked for, one after the other."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", choices=BENCHMARKS, metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--json", action="store_true", help="print what bench.json holds in place of the table")
    arguments = parser.parse_args()
    notes = Console(stderr=True)
    figures: list[Figure] = []
    for name in arguments.only or BENCHMARKS:
        notes.print(f"{name} runs")
        figures.extend(asyncio.run(_run(BENCHMARKS[name])))
    documents = json.dumps([document(figure) for figure in figures], indent=1)
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(documents + "\n", encoding="utf-8")
    if arguments.json:
        print(documents)
    else:
        Console().print(table(figures))
    return 0 if all(figure.ok for figure in figures) else 1


async def _run(benchmark: Callable[[], Awaitable[tuple[Figure, ...]]]) -> tuple[Figure, ...]:
    return await benchmark()


if __name__ == "__main__":
    sys.exit(main())
