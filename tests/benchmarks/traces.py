"""Traces for the benchmarks: what the virtual rack's analyzer shows of a board at work, and folders written from it.

The signal is that of an N6781A as the rack has it: 18-bit readings with the noise of its data sheet, of a board that
computes for 0.8 s and rests for 0.2 s, with its timing pin beside them.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from drivers.api import Block, Column, Provenance, Quantity, SampleKind
from labd.trace.meta import TraceMeta
from labd.trace.writer import TraceWriter
from labd.virtual.instrument_errors import AnalyzerErrors, observe
from labd.virtual.n6705c import N6781A
from tests.trace.recording import make_meta

Columns = dict[Quantity, npt.NDArray[Any]]
Floats = npt.NDArray[np.float64]

PIECE = 1_000_000
"""Samples of a block: a second of a fast analyzer."""
PERIOD_S = 1e-6
ROUND_S, BUSY_S = 1.0, 0.8
IDLE_A, BUSY_A, SUPPLY_V, SOURCE_OHM = 5e-3, 12e-3, 3.0, 0.5
CURRENT, VOLTAGE = N6781A.current[1], N6781A.voltage[1]
_STEPS = 2**N6781A.bits
ERRORS = AnalyzerErrors(
    noise_current_a=CURRENT.noise_rms,
    noise_voltage_v=VOLTAGE.noise_rms,
    lsb_current_a=2 * 1.02 * CURRENT.range_max / _STEPS,
    lsb_voltage_v=2 * 1.02 * VOLTAGE.range_max / _STEPS,
)
BYTES = 9
"""Of a sample: two float32 and one uint8."""


def pieces(samples: int, different: int = 4) -> Iterator[Columns]:
    """The signal in pieces of a million samples; after `different` ones they repeat: they cost much to make."""
    made = [_piece(number) for number in range(min(different, -(-samples // PIECE)))]
    for number, first in enumerate(range(0, samples, PIECE)):
        size = min(PIECE, samples - first)
        yield {quantity: values[:size] for quantity, values in made[number % len(made)].items()}


def write_trace(folder: Path, trace_id: str, samples: int, different: int = 4) -> Path:
    """Record and close a trace; return its folder."""
    return recording(folder, trace_id, samples, different)()


def recording(folder: Path, trace_id: str, samples: int, different: int = 4) -> Callable[[], Path]:
    """Make the signal; what is returned records it, closes the trace and returns its folder."""
    signal = pieces(samples, different)
    first_piece = next(signal)

    def record() -> Path:
        writer = TraceWriter.create(folder, meta(trace_id))
        first = 0
        for columns in chain((first_piece,), signal):
            writer.write(Block(first, columns))
            first += len(columns[Quantity.CURRENT])
        return writer.close().folder

    return record


def meta(trace_id: str) -> TraceMeta:
    """The sidecar of such a trace."""
    columns = (
        Column(Quantity.CURRENT, SampleKind.MEAN, Provenance.MEASURED, CURRENT),
        Column(Quantity.VOLTAGE, SampleKind.MEAN, Provenance.MEASURED, VOLTAGE),
        Column(Quantity.DIGITAL, SampleKind.INSTANT, Provenance.MEASURED, CURRENT),
    )
    return make_meta(
        trace_id,
        columns=columns,
        period_s=PERIOD_S,
        edge_source=None,
        tick_rate_hz=None,
        tick_clock_ppm=None,
        pulse_s=1e-3,
        supply_voltage_v=SUPPLY_V,
        started_at=dt.datetime.now(dt.UTC),
    )


def _piece(number: int) -> Columns:
    current, voltage = observe(
        _load,
        ERRORS,
        start_s=0.0,
        period_s=PERIOD_S,
        first=number * PIECE,
        count=PIECE,
        rng=np.random.default_rng(number),
    )
    at = np.arange(number * PIECE, (number + 1) * PIECE) * PERIOD_S % ROUND_S
    digital = (at >= BUSY_S).astype(np.uint8)
    return {Quantity.CURRENT: current, Quantity.VOLTAGE: voltage, Quantity.DIGITAL: digital}


def _load(edges: Floats) -> tuple[Floats, Floats]:
    """Mean current and voltage between times of the rack."""
    rounds, rest = np.divmod(edges, ROUND_S)
    charge = IDLE_A * edges + (BUSY_A - IDLE_A) * (rounds * BUSY_S + np.minimum(rest, BUSY_S))
    current = np.diff(charge) / np.diff(edges)
    return current, SUPPLY_V - SOURCE_OHM * current
