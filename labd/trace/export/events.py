"""What happened in a trace besides samples, as tables that other tools read: edges, marked stretches, trials.

Times are seconds from the start of the trace's sample 0, whatever part of it is exported. Where nothing ties the edges
to the samples, they are NaN.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from labd.errors import TraceError
from labd.trace.export.selection import Selection
from labd.trace.journal import EdgeSeen
from labd.trace.reader import Trace
from labd.trace.timing.steps import trace_timebase
from labd.trace.timing.timebase import Timebase, TimebaseError

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
        edges: Of dtype `EDGE`, all that were reported, in their order.
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
    trials = trace.trials()
    seen = [record.edge for record in trace.records if isinstance(record, EdgeSeen)]
    timebase, remark = _timebase(trace) if seen else (None, "")

    def at_s(ticks: int) -> float:
        return float("nan") if timebase is None else timebase.sample(ticks)[0] * trace.period_s

    windows = {}
    for trial in trials:
        counted = trace.counted(trial.edges)
        if len(counted) == 2:
            windows[trial.index] = (at_s(counted[0].ticks), at_s(counted[1].ticks))
    edges = [(e.pin, e.level, e.ticks, e.sequence, at_s(e.ticks)) for e in seen]
    marked = [(m.kind.value.encode(), m.start, m.stop) for m in trace.marked()]
    rows = [
        (
            t.index,
            t.started.input.encode(),
            -1 if t.started.expected is None else t.started.expected,
            t.started.inferences,
            t.started.warmups,
            *windows.get(t.index, (float("nan"), float("nan"))),
            t.ended.failure.encode() if t.ended is not None else b"",
        )
        for t in trials
    ]
    return Events(
        edges=np.array(edges, dtype=EDGE),
        marked=np.array(marked, dtype=MARK),
        trials=np.array(rows, dtype=TRIAL),
        remark=remark,
    )


def _timebase(trace: Trace) -> tuple[Timebase | None, str]:
    try:
        return trace_timebase(trace), ""
    except TimebaseError as error:
        return None, f"edges have no time: {error.message}"


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
