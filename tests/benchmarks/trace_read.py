"""What reading costs: energies of windows, all samples, and what a trace takes on the disk."""

from __future__ import annotations

import json
import math
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from drivers.api import Quantity
from labd.trace.layout import PARQUET
from labd.trace.reader import Trace
from labd.trace.seal import seal
from tests.benchmarks.figure import Better, Figure, median_ratio
from tests.benchmarks.traces import BYTES, PERIOD_S, pieces, write_trace

Floats = npt.NDArray[np.float64]

ENERGY, EXACT, READ, SIZE = 0.5, 1e-12, 0.3, 0.3
WINDOWS = 1000
BLOCK = 1000


async def trace_read(samples: int = 20_000_000, rounds: int = 5) -> tuple[Figure, ...]:
    """Energies of 1,000 windows, hot and sealed; all samples of a sealed trace; its size; and the MLCommons form."""
    folder = Path(tempfile.mkdtemp(prefix="labd-bench-"))
    try:
        path = write_trace(folder, "t1", samples, different=20)
        windows = _windows(samples)
        hot = _energy_hot(path, windows, rounds)
        seal(path)
        return (*hot, *_energy_sealed(path, windows, rounds), *_read_all(folder, path, samples, rounds))
    finally:
        shutil.rmtree(folder)


async def trace_against_json(samples: int = 2_000_000, rounds: int = 3) -> tuple[Figure, ...]:
    """Energy of five windows out of a trace, over the same out of the MLCommons runner's results.json, both from cold.

    There a trial keeps its samples as a JSON list of joules, and the energy is the sum of a slice of it.
    """
    folder = Path(tempfile.mkdtemp(prefix="labd-bench-"))
    try:
        path = write_trace(folder, "t1", samples)
        seal(path)
        trace = Trace.open(path)
        joules = np.round(trace.power() * PERIOD_S, 12).tolist()
        each = samples // 5
        bounds = [(k * each + each // 10, (k + 1) * each - each // 10) for k in range(5)]
        trials = [{"power": {"samples": joules[k * each : (k + 1) * each], "timestamps": []}} for k in range(5)]
        (folder / "results.json").write_text(json.dumps(trials))

        def theirs() -> float:
            read = json.loads((folder / "results.json").read_text())
            return sum(
                sum(trial["power"]["samples"][start - k * each : stop - k * each])
                for k, (trial, (start, stop)) in enumerate(zip(read, bounds, strict=True))
            )

        def ours() -> float:
            return float(Trace.open(path).energies(np.array(bounds, dtype=np.float64)).sum())

        if not math.isclose(ours(), theirs(), rel_tol=1e-4):
            raise ValueError(f"the two do not agree: {ours()} J, {theirs()} J")
        mine, json_s = _times(ours, rounds), _times(theirs, rounds)
    finally:
        shutil.rmtree(folder)
    return (
        Figure(
            "trace_against_json",
            median_ratio(json_s, mine),
            "1",
            1.0,
            Better.HIGHER,
            f"results.json of {samples / 1e6:g} M samples read and summed in {statistics.median(json_s) * 1e3:.1f} ms, "
            f"the trace opened and asked in {statistics.median(mine) * 1e3:.1f} ms",
        ),
    )


def _windows(samples: int) -> Floats:
    """Windows of random places and lengths, with fractional ends: float64 of shape (1000, 2)."""
    rng = np.random.default_rng(2)
    return np.sort(rng.uniform(0, samples, (WINDOWS, 2)), axis=1)


def _energy_hot(path: Path, windows: Floats, rounds: int) -> tuple[Figure, ...]:
    trace = Trace.open(path)
    current = trace.samples(Quantity.CURRENT)
    voltage = trace.samples(Quantity.VOLTAGE)

    def blockwise() -> Floats:
        """Sums of whole blocks straight from the samples, in pieces that stay in the cache; then the windows' own."""
        sums = np.empty(-(-len(current) // BLOCK))
        for start in range(0, len(current), 256 * BLOCK):
            stop = min(start + 256 * BLOCK, len(current))
            power = current[start:stop].astype(np.float64) * voltage[start:stop]
            at = np.arange(0, stop - start, BLOCK)
            sums[start // BLOCK : start // BLOCK + len(at)] = np.add.reduceat(power, at)
        return np.array([_by_blocks(sums, current, voltage, *window) for window in windows.tolist()]) * PERIOD_S

    mine = _times(lambda: Trace.open(path).energies(windows), rounds)
    theirs = _times(blockwise, rounds)
    return (
        Figure(
            "trace_energy_hot",
            median_ratio(mine, theirs),
            "1",
            ENERGY,
            Better.LOWER,
            f"blockwise float64 reduceat, {statistics.median(theirs) * 1e3:.1f} ms for {WINDOWS} windows; "
            f"labd {statistics.median(mine) * 1e3:.1f} ms, opening included",
        ),
        _exact("trace_energy_hot_error", trace, windows),
    )


def _by_blocks(sums: Floats, current: Floats, voltage: Floats, start: float, stop: float) -> float:
    head, tail = -int(-start // BLOCK), int(stop // BLOCK)
    if tail <= head:
        return _partial(current, voltage, start, stop)
    ends = _partial(current, voltage, start, head * BLOCK) + _partial(current, voltage, tail * BLOCK, stop)
    return float(sums[head:tail].sum()) + ends


def _partial(current: Floats, voltage: Floats, start: float, stop: float) -> float:
    first, end = int(start), -int(-stop // 1)
    if stop <= start:
        return 0.0
    power = current[first:end].astype(np.float64) * voltage[first:end]
    share = np.minimum(np.arange(first, end) + 1, stop) - np.maximum(np.arange(first, end), start)
    return float(power @ share)


def _energy_sealed(path: Path, windows: Floats, rounds: int) -> tuple[Figure, ...]:
    def decoded() -> None:
        """The row groups in which the windows' ends lie, each once, the two columns that make power."""
        file = pq.ParquetFile(path / PARQUET, memory_map=True)
        sizes = [file.metadata.row_group(k).num_rows for k in range(file.num_row_groups)]
        groups = np.unique(np.searchsorted(np.cumsum(sizes), windows.ravel(), side="right"))
        for group in groups.tolist():
            file.read_row_group(group, columns=["current", "voltage"], use_threads=False)

    mine = _times(lambda: Trace.open(path).energies(windows), rounds)
    limit = _times(decoded, rounds)
    return (
        Figure(
            "trace_energy_sealed",
            median_ratio(limit, mine),
            "1",
            ENERGY,
            Better.HIGHER,
            f"the limit: the row groups with the windows' ends decoded once each, {statistics.median(limit) * 1e3:.0f} "
            f"ms; labd {statistics.median(mine) * 1e3:.0f} ms for {WINDOWS} windows, opening included",
        ),
        _exact("trace_energy_sealed_error", Trace.open(path), windows),
    )


def _exact(name: str, trace: Trace, windows: Floats) -> Figure:
    """Largest relative error against sums that are exact until they are rounded once."""
    found, worst = trace.energies(windows), 0.0
    power = trace.power()
    for (start, stop), energy in list(zip(windows.tolist(), found.tolist(), strict=True))[::100]:
        first, end = int(start), -int(-stop // 1)
        share = np.minimum(np.arange(first, end) + 1, stop) - np.maximum(np.arange(first, end), start)
        true = math.fsum((power[first:end] * share).tolist()) * trace.period_s
        worst = max(worst, abs(energy - true) / true)
    return Figure(name, worst, "1", EXACT, Better.LOWER, "math.fsum over the samples of every hundredth window")


def _read_all(folder: Path, path: Path, samples: int, rounds: int) -> tuple[Figure, ...]:
    bare = folder / "bare"
    bare.mkdir()
    kinds = {Quantity.CURRENT: np.float32, Quantity.VOLTAGE: np.float32, Quantity.DIGITAL: np.uint8}
    for quantity in kinds:
        with (bare / quantity.value).open("wb") as file:
            for columns in pieces(samples, different=20):
                columns[quantity].tofile(file)
    theirs = _times(lambda: [np.fromfile(bare / name, dtype=kind) for name, kind in kinds.items()], rounds)
    mine = _times(lambda: Trace.open(path).to_numpy(), rounds)
    size = sum(file.stat().st_size for file in path.iterdir())
    return (
        Figure(
            "trace_read_all",
            median_ratio(theirs, mine),
            "1",
            READ,
            Better.HIGHER,
            f"numpy.fromfile of the same samples, {statistics.median(theirs) * 1e3:.0f} ms; "
            f"labd {statistics.median(mine) * 1e3:.0f} ms, opening included",
        ),
        Figure(
            "trace_size",
            size / (samples * BYTES),
            "1",
            SIZE,
            Better.LOWER,
            f"{BYTES} B a sample; the sealed files have {size / 1e6:.1f} MB for {samples / 1e6:g} M samples",
        ),
    )


def _times(work: Callable[[], object], rounds: int) -> list[float]:
    """Durations of work done again and again, s; the first time is not counted."""
    work()
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return times
