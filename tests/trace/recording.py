"""Traces for the tests: a sidecar, a signal, and a folder recorded from it in blocks of given sizes."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from drivers.api import Accuracy, Block, Column, Identity, Interval, Provenance, Quantity, SampleKind, TriggerSource
from labd.trace.layout import PYRAMID, pyramid_row
from labd.trace.meta import HostClock, TraceMeta, read_meta
from labd.trace.writer import TraceWriter

I, V, D = Quantity.CURRENT, Quantity.VOLTAGE, Quantity.DIGITAL  # noqa: E741
WHEN = dt.datetime(2025, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
ACCURACY = Accuracy(range_max=0.1, gain=3e-4, offset=1e-6, noise_rms=2e-6)
RANGES = {V: 20.0, Quantity.POWER: 4.0}


def column(quantity: Quantity) -> Column:
    accuracy = replace(ACCURACY, range_max=RANGES.get(quantity, ACCURACY.range_max))
    return Column(quantity, SampleKind.MEAN, Provenance.MEASURED, accuracy)


def make_meta(trace_id: str = "t1", quantities: Iterable[Quantity] = (I, V), **changes: Any) -> TraceMeta:
    values: dict[str, Any] = {
        "trace_id": trace_id,
        "job_id": 7,
        "run_id": 11,
        "board": "b1",
        "benchmark": "digits01",
        "mode": "energy",
        "min_window_s": 1.0,
        "trials": 5,
        "instrument": Identity("Keysight", "N6705C", "MY1", "E.02"),
        "edge_source": Identity("labd", "timestamper", "s1", "1"),
        "channel": 1,
        "timing_pin": 0,
        "pulse_s": 1e-6,
        "columns": tuple(column(q) for q in quantities),
        "period_s": 204.8e-6,
        "period_requested_s": None,
        "sample_clock_ppm": 50.0,
        "tick_rate_hz": 125e6,
        "tick_clock_ppm": 30.0,
        "trigger": TriggerSource.IMMEDIATE,
        "supply_voltage_v": 3.0,
        "firmware_sha256": "",
        "labd_version": "0.1.0",
        "started_at": WHEN,
        "host_clock": HostClock.UNKNOWN,
    }
    return TraceMeta(**(values | changes))


def rows_of(folder: Path, level: int = 0) -> npt.NDArray[np.void]:
    """All rows in the file of a level."""
    return np.fromfile(folder / PYRAMID[level], dtype=pyramid_row(read_meta(folder)))


Signal = Mapping[Quantity, npt.NDArray[Any]]


def make_signal(rows: int, seed: int = 1, quantities: Iterable[Quantity] = (I, V)) -> Signal:
    random = np.random.default_rng(seed)
    signals = {
        I: lambda: (0.005 + 0.045 * (random.random(rows) < 0.3) + 1e-5 * random.standard_normal(rows)).astype("f4"),
        V: lambda: (3.0 + 1e-3 * random.standard_normal(rows)).astype("f4"),
        D: lambda: random.integers(0, 4, rows, dtype=np.uint8),
    }
    return {q: signals[q]() for q in quantities}


def cut(signal: Signal, sizes: Iterable[int], intervals: tuple[Interval, ...] = ()) -> Iterable[Block]:
    """The signal in blocks of these sizes, the rest as one."""
    rows, first = len(next(iter(signal.values()))), 0
    for size in (*sizes, rows):
        stop = min(first + size, rows)
        if stop > first:
            yield Block(first, {q: values[first:stop] for q, values in signal.items()}, intervals)
            first, intervals = stop, ()


def record(folder: Path, signal: Signal, sizes: Iterable[int] = (), **meta: Any) -> Path:
    """Record and close a trace; return its folder."""
    writer = TraceWriter.create(folder, make_meta(quantities=signal, **meta))
    for block in cut(signal, sizes):
        writer.write(block)
    return writer.close().folder
