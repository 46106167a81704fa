"""`labctl trace show`: what a lab knows of a trace, or what a folder says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labd.cli.completion import complete_trace
from labd.cli.connection import ask, run
from labd.cli.job.view import print_scores
from labd.cli.table import counted, local_time, print_json, print_table, quantity, results
from labd.cli.trace.list_ import place
from labd.cli.trace.place import is_folder
from labd.keep.names import TraceIdError, checked_id
from labd.service.traces.messages import TraceDetails, TraceRef

if TYPE_CHECKING:
    from drivers.api import Column
    from labd.trace.reader import Trace

_UNITS = {"current": "A", "voltage": "V", "power": "W", "energy": "J"}
_INTERVALS = 20
"""Marked intervals that are shown to people; JSON has all."""


def show(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            metavar="ID|FOLDER",
            help="A trace's folder here, or else its id in the lab.",
            show_default=False,
            autocompletion=complete_trace,
        ),
    ],
    *,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Show a trace: what the lab's record has of it, or of a folder what is in it. A folder needs no lab."""
    if is_folder(name):
        from labd.trace.reader import Trace

        folder = Path(name)

        async def opened() -> dict[str, Any]:
            return _document(folder, Trace.open(folder))

        document = run(opened)
        if json:
            print_json(document)
        else:
            _print_folder(document)
        return
    try:
        trace_id = checked_id(name)
    except TraceIdError as error:
        raise typer.BadParameter(f"{name[:256]!r} is neither a folder here nor the id of a trace") from error
    details = ask(context, lambda lab: lab.request("trace.get", TraceRef(id=trace_id), TraceDetails))
    if json:
        print_json(details.model_dump(mode="json"))
    else:
        _print_details(details)


def _print_details(trace: TraceDetails) -> None:
    rows = [
        ("state", trace.state if not trace.pinned else f"{trace.state}, pinned"),
        ("why", trace.reason),
        ("job", f"{trace.job_id}: {trace.benchmark}, {trace.mode}, by {trace.client}"),
        ("labels", ", ".join(f"{key} = {value}" for key, value in trace.labels.items())),
        ("run", f"{trace.run_id} on {trace.board_id}, {trace.outcome}"),
        ("firmware", trace.firmware_sha256),
        ("began", local_time(trace.started_at)),
        ("lasts", f"{quantity(trace.duration_s, 's')}, {trace.rows:,} samples of {quantity(trace.period_s, 's')}"),
        ("size", quantity(trace.bytes, "B")),
        ("lies", place(trace)),
        ("archived", local_time(trace.archived_at) if trace.archived_at is not None else ""),
        ("removed", local_time(trace.removed_at) if trace.removed_at is not None else ""),
        ("seal", trace.sha256),
        ("pull", trace.url or ""),
    ]
    print_table(f"trace {trace.id}", ("what", "is"), [(what, words) for what, words in rows if words])
    print_scores(trace.scores)


def _document(folder: Path, trace: Trace) -> dict[str, Any]:
    marked = trace.marked()
    return {
        "folder": str(folder),
        "meta": trace.meta.model_dump(mode="json"),
        "state": trace.seal.state.value if trace.seal is not None else "not sealed",
        "rows": trace.rows,
        "duration_s": trace.duration_s,
        "rate_hz": 1.0 / trace.period_s,
        "bytes": sum(path.stat().st_size for path in folder.iterdir() if path.is_file()),
        "columns": [_column(column) for column in trace.meta.columns],
        "marked": [{"kind": each.kind.value, "start": each.start, "stop": each.stop} for each in marked],
        "trials": [
            {
                "index": trial.started.index,
                "input": trial.started.input,
                "inferences": trial.started.inferences,
                "edges": len(trace.counted(trial.edges)),
                "ended": trial.ended is not None,
                "failure": trial.ended.failure if trial.ended is not None else "",
            }
            for trial in trace.trials()
        ],
        "edges": len(trace.edges()),
    }


def _headroom(seen: dict[str, Any] | None) -> str:
    """How far the ranges reach beyond what was read at most before the capture."""
    if seen is None:
        return "not known: peaks between samples were not watched"
    parts = [_reach(seen["current_peak_a"], seen["current_range_a"], "A")]
    if seen["voltage_peak_v"] is not None:
        parts.append(_reach(seen["voltage_peak_v"], seen["voltage_range_v"], "V"))
    return f"{', '.join(parts)}, in {counted(seen['records'], 'record')} of {quantity(seen['record_s'], 's')}"


def _reach(peak: float, end: float, unit: str) -> str:
    times = f"{end / peak:.3g} times" if peak > 0 else "far above"
    return f"{quantity(end, unit)} is {times} the peak of {quantity(peak, unit)}"


def _column(column: Column) -> dict[str, Any]:
    accuracy = column.accuracy
    return {
        "quantity": column.quantity.value,
        "sample": column.sample.value,
        "provenance": column.provenance.value,
        "range_max": accuracy.range_max,
        "gain": accuracy.gain,
        "offset": accuracy.offset,
        "noise_rms": accuracy.noise_rms,
    }


def _print_folder(document: dict[str, Any]) -> None:
    meta = document["meta"]
    name = " ".join(filter(None, (meta["instrument"][key] for key in ("maker", "model", "serial"))))
    rows = [
        ("folder", document["folder"]),
        ("state", document["state"]),
        ("job", f"{meta['job_id']}: {meta['benchmark']}, {meta['mode']}"),
        ("run", f"{meta['run_id']} on {meta['board']}"),
        ("instrument", f"{name}, channel {meta['channel']}"),
        ("calibrated", meta["calibrated_on"] or "-"),
        ("firmware", meta["firmware_sha256"] or "-"),
        ("supply", quantity(meta["supply_voltage_v"], "V")),
        ("began", meta["started_at"]),
        ("lasts", f"{quantity(document['duration_s'], 's')}, {document['rows']:,} samples"),
        ("rate", f"{quantity(document['rate_hz'], 'Hz', 6)}, a sample every {quantity(meta['period_s'], 's')}"),
        ("headroom", _headroom(meta.get("headroom"))),
        ("edges", str(document["edges"])),
        ("size", quantity(document["bytes"], "B")),
        ("labd", meta["labd_version"]),
    ]
    print_table(f"trace {meta['trace_id']}", ("what", "is"), rows)
    columns = ("column", "sample", "is", "range", "gain", "offset", "noise")
    print_table(counted(len(document["columns"]), "column"), columns, map(_column_row, document["columns"]))
    if trials := document["trials"]:
        print_table(
            counted(len(trials), "trial"), ("trial", "input", "inferences", "edges", "state"), map(_trial_row, trials)
        )
    if marked := document["marked"]:
        spans = ((each["kind"], str(each["start"]), str(each["stop"])) for each in marked[:_INTERVALS])
        print_table(f"{counted(len(marked), 'marked interval')}, samples", ("kind", "from", "to"), spans)
        if len(marked) > _INTERVALS:
            results().print(f"and {len(marked) - _INTERVALS} more", markup=False)


def _column_row(column: dict[str, Any]) -> tuple[str, ...]:
    unit = _UNITS.get(column["quantity"], "")
    if not unit:
        return column["quantity"], column["sample"], column["provenance"], "-", "-", "-", "-"
    return (
        column["quantity"],
        column["sample"],
        column["provenance"],
        quantity(column["range_max"], unit),
        f"{100 * column['gain']:.3g} %",
        quantity(column["offset"], unit),
        quantity(column["noise_rms"], unit),
    )


def _trial_row(trial: dict[str, Any]) -> tuple[str, ...]:
    state = trial["failure"] or ("measured" if trial["ended"] else "cut off")
    return str(trial["index"]), trial["input"], str(trial["inferences"]), str(trial["edges"]), state
