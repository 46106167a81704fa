"""What recording costs: samples into the hot file with index, digests and pyramid, against the arrays written bare."""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from pathlib import Path

from drivers.api import Block, Quantity
from labd.trace.writer import TraceWriter
from tests.benchmarks.figure import Better, Figure, median_ratio
from tests.benchmarks.traces import Columns, meta, pieces

RATIO, CPU_S = 0.25, 0.02


async def trace_record(samples: int = 20_000_000, rounds: int = 5) -> tuple[Figure, ...]:
    """Throughput of the trace writer over that of `tofile`, a file a column, turn about; and its CPU time.

    Neither side waits for the disk at its end: `tofile` does not, so the writer's time is taken before its `close`,
    once all samples but those in its buffer are written; its own fdatasync go on beside it all the time.
    """
    blocks = list(pieces(samples))
    ours: list[float] = []
    bare: list[float] = []
    cpu: list[float] = []
    folder = Path(tempfile.mkdtemp(prefix="labd-bench-"))
    try:
        for number in range(rounds):
            began = time.perf_counter()
            _write_bare(folder / "bare", blocks)
            bare.append(samples / (time.perf_counter() - began))
            shutil.rmtree(folder / "bare")
            began, busy = time.perf_counter(), time.process_time()
            writer = TraceWriter.create(folder, meta(f"t{number}"))
            first = 0
            for columns in blocks:
                writer.write(Block(first, columns))
                first += len(columns[Quantity.CURRENT])
            ours.append(samples / (time.perf_counter() - began))
            summary = writer.close()
            cpu.append((time.process_time() - busy) / (samples / 1e6))
            if summary.rows != samples:
                raise ValueError(f"{summary} does not hold {samples} samples")
            shutil.rmtree(summary.folder)
    finally:
        shutil.rmtree(folder)
    return (
        Figure(
            "trace_record",
            median_ratio(ours, bare),
            "1",
            RATIO,
            Better.HIGHER,
            f"tofile of the same arrays, {statistics.median(bare) / 1e6:.0f} M samples/s; "
            f"labd {statistics.median(ours) / 1e6:.0f}, its syncs beside it",
        ),
        Figure(
            "trace_record_cpu",
            statistics.median(cpu),
            "CPU-s/M samples",
            CPU_S,
            Better.LOWER,
            f"all threads, closing included; median of {rounds} times {samples / 1e6:g} M samples",
        ),
    )


def _write_bare(folder: Path, blocks: list[Columns]) -> None:
    folder.mkdir()
    files = {quantity: (folder / quantity.value).open("wb") for quantity in blocks[0]}
    for columns in blocks:
        for quantity, values in columns.items():
            values.tofile(files[quantity])
    for file in files.values():
        file.close()
