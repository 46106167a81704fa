"""What happened in a trace besides samples, as tables that other tools read: edges, marked stretches, trials.

Times are seconds from the start of the trace's sample 0, whatever part of it is exported. Where nothing ties the edges
to the samples, they are NaN.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from labd.errors import TraceError
from labd.trace.export.placing import place
from labd.trace.export.selection import Selection, Span
from labd.trace.reader import Trace

EDGE = np.dtype([("pin", "<u4"), ("level", "u1"), ("ticks", "<u8"), ("sequence", "<u8"), ("time_s", "<f8")])
MARK = np.dtype([("kind", "S16"), ("start", "<u8"), ("stop", "<u8")])
TRIAL = np.dtype(
    [
        ("index", "<u4"),
        ("input", "S128"),
        ("expected", "<i4"),  # -1: the benchmark has no classes
        ("inferences", "<u8"),
        ("warmups", "<u8"),
        ("start_s", "<f8"),
        ("stop_s", "<f8"),
        ("failure", "S256"),
    ]
)


@dataclass(frozen=True, slots=True)
class Events:
    """Tables of a trace.

    Args:
        edges: Of dtype `EDGE`, in their order: all that were reported, or those that count of the digital column.
        marked: Of dtype `MARK`: sample indices of the trace, `stop` exclusive.
        trials: Of dtype `TRIAL`, in their order; `start_s` and `stop_s` are NaN where there is no window of two edges.
        remark: Why edges have no time; empty if they have, or there are none.
    """

    edges: npt.NDArray[Any]
    marked: npt.NDArray[Any]
    trials: npt.NDArray[Any]
    remark: str


def read_events(trace: Trace) -> Events:
    """Make the tables of a trace. Raises `TraceError` if its samples cannot be read."""
    placed = place(trace)
    unknown = Span(math.nan, math.nan)
    windows = [placed.windows.get(trial.index, unknown) for trial in trace.trials()]
    edges = [
        (edge.pin, edge.level, edge.ticks, edge.sequence, time_s)
        for edge, time_s in zip(placed.edges, placed.times_s, strict=True)
    ]
    marked = [(mark.kind.value.encode(), mark.start, mark.stop) for mark in trace.marked()]
    trials = [
        (
            trial.index,
            trial.started.input.encode(),
            -1 if trial.started.expected is None else trial.started.expected,
            trial.started.inferences,
            trial.started.warmups,
            window.start_s,
            window.stop_s,
            trial.ended.failure.encode() if trial.ended is not None else b"",
        )
        for trial, window in zip(trace.trials(), windows, strict=True)
    ]
    return Events(
        edges=np.array(edges, dtype=EDGE),
        marked=np.array(marked, dtype=MARK),
        trials=np.array(trials, dtype=TRIAL),
        remark=placed.remark,
    )


def describe(selection: Selection) -> dict[str, Any]:
    """What an exported file says of itself, for JSON: which samples of which trace, and the trace's sidecar."""
    period = selection.period
    return {
        "labd_export": 1,
        "trace_id": selection.meta.trace_id,
        "first_sample": selection.first,
        "samples": selection.rows,
        "samples_per_row": selection.factor,
        "start_s": float(selection.start),
        "period_s": float(period),
        "rate_hz": selection.rate_hz,
        "meta": selection.meta.model_dump(mode="json"),
    }


def description(selection: Selection) -> str:
    """The same as one line of JSON."""
    return json.dumps(describe(selection), ensure_ascii=False)


def journal_lines(trace: Trace) -> str:
    """The trace's journal, a JSON line a record."""
    return "".join(record.model_dump_json() + "\n" for record in trace.records)


def whole_rate(selection: Selection, limit: float = 0.01) -> tuple[int, str]:
    """The rate for formats that know whole numbers of Hz only, and a remark if it is not exact.

    Args:
        selection: What is exported.
        limit: Largest relative error that is taken.

    Raises:
        TraceError: the nearest whole number is further off than that.
    """
    exact = 1 / selection.period
    rate = round(exact)
    text = f"{float(exact):.9g} Hz"
    if rate < 1 or abs(rate - exact) > limit * exact:
        raise TraceError(
            f"this format holds whole numbers of samples a second, not {text}",
            where=selection.meta.trace_id,
            remedy="take a higher --rate, or a format that holds any rate: csv, npz, hdf5, parquet",
        )
    return rate, "" if rate == exact else f"the file says {rate} Hz, its samples come at {text}"
