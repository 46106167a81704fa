"""Traces to export: any columns, NaN gaps, edges, and what tells bit from bit."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from drivers.api import Column, Interval, IntervalKind, Quantity
from labd.trace.export.formats import Format
from labd.trace.export.selection import Selection, select
from labd.trace.export.writing import export
from labd.trace.export.written import Written
from labd.trace.journal import EdgeSeen, Marked, SyncPulse, TrialEnded, TrialStarted
from labd.trace.reader import Trace
from labd.trace.writer import TraceWriter
from tests.trace.recording import column, cut, make_meta

I, V, P, E, D = (  # noqa: E741
    Quantity.CURRENT,
    Quantity.VOLTAGE,
    Quantity.POWER,
    Quantity.ENERGY,
    Quantity.DIGITAL,
)
Signal = dict[Quantity, npt.NDArray[Any]]
WHEN = dt.datetime(2025, 1, 2, 3, 4, 5, tzinfo=dt.UTC)


def signal(rows: int, quantities: Iterable[Quantity] = (I, V, D), *, gap: tuple[int, int] | None = None) -> Signal:
    """Noise of every magnitude that a float32 has, levels of all pins, and a gap of NaN if asked for."""
    random = np.random.default_rng(rows)
    columns: Signal = {}
    for quantity in quantities:
        if quantity is D:
            columns[quantity] = random.integers(0, 256, rows, dtype=np.uint8)
        else:
            size = 10.0 ** random.integers(-12, 3, rows)
            columns[quantity] = (size * random.standard_normal(rows)).astype(np.float32)
            if gap is not None:
                columns[quantity][gap[0] : gap[1]] = np.nan
    return columns


def unlimited(quantities: Iterable[Quantity]) -> tuple[Column, ...]:
    """Declarations that take a reading of any size."""
    return tuple(replace(one, accuracy=replace(one.accuracy, range_max=0.0)) for one in map(column, quantities))


def recorded(folder: Path, columns: Signal, **meta: Any) -> Trace:
    """A closed trace of these columns, which declare no range."""
    writer = TraceWriter.create(folder, make_meta(columns=unlimited(columns), **meta))
    for block in cut(columns, ()):
        writer.write(block)
    return Trace.open(writer.close().folder)


def with_windows(folder: Path, rows: int, spans: Iterable[tuple[int, int]]) -> Trace:
    """A trace of current and voltage that a sync pulse started, with a trial for each span of samples, and a gap."""
    columns = signal(rows, (I, V), gap=(50, 60))
    meta = make_meta(columns=unlimited(columns), period_s=1e-3, tick_rate_hz=1e6, trigger="external", sync_pin=7)
    writer = TraceWriter.create(folder, meta)
    writer.journal(SyncPulse(pin=7, ticks=0, sequence=0, u_latency_s=1e-6))
    writer.journal(Marked.of(Interval(IntervalKind.GAP, 50, 60)))
    for block in cut(columns, ()):
        writer.write(block)
    for number, (start, stop) in enumerate(spans):
        writer.journal(TrialStarted(index=number, input=f"{number}.bin", inferences=10, warmups=1, at=WHEN))
        for sequence, sample in enumerate((start, stop)):
            edge = EdgeSeen(pin=0, level=0, ticks=sample * 1000, sequence=2 * number + sequence + 1)
            writer.journal(edge)
        writer.journal(TrialEnded(index=number, at=WHEN))
    return Trace.open(writer.close().folder)


def made(trace: Trace, form: Format, path: Path, **part: Any) -> tuple[Selection, Written]:
    """Export a part of a trace."""
    selection = select(trace, **part)
    return selection, export(selection, form, path)


def same(got: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> bool:
    """Whether two arrays are equal bit by bit."""
    return got.dtype == wanted.dtype and got.shape == wanted.shape and got.tobytes() == wanted.tobytes()
