"""How fast samples come from the instrument's socket into the hot file with its pyramid."""

from __future__ import annotations

import asyncio
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from drivers.analyzers.keysight_n6705c import DRIVER
from tests.benchmarks.elog_server import elog_server
from tests.benchmarks.figure import Better, Figure, median_ratio
from tests.benchmarks.recording import CAPTURE_S, CHANNEL, REQUEST, capture, options, receive_and_write

LIMIT = 0.5


async def capture_path(samples: int = 60_000_000, rounds: int = 7) -> tuple[Figure, ...]:
    """Throughput of driver and recorder, over that of receiving the same bytes and writing them with no parsing.

    Both take one log of `samples` from the same server process, turn about, and both end when their file is durable.
    """
    ours: list[float] = []
    bare: list[float] = []
    volatile: list[float] = []  # the bare side again, up to its last write only
    folder = Path(tempfile.mkdtemp(prefix="labd-bench-"))
    try:
        async with (
            elog_server(samples) as port,
            asyncio.timeout(rounds * CAPTURE_S),
            DRIVER.open(options(port)) as device,
        ):
            for number in range(rounds):
                began = time.perf_counter()
                written = await asyncio.to_thread(receive_and_write, port, samples, folder / "bare")
                volatile.append(samples / (written - began))
                bare.append(samples / (time.perf_counter() - began))
                (folder / "bare").unlink()
                setup = await device.configure(CHANNEL, REQUEST)
                began = time.perf_counter()
                summary = await capture(device, setup, folder, f"t{number}")
                ours.append(samples / (time.perf_counter() - began))
                if summary.rows != samples or summary.marked:
                    raise ValueError(f"{summary} is not a clean trace of {samples} samples")
                shutil.rmtree(summary.folder)
    finally:
        shutil.rmtree(folder)
    return (
        Figure(
            "capture_path",
            median_ratio(ours, bare),
            "1",
            LIMIT,
            Better.HIGHER,
            f"recv and write of the same bytes, no parsing: {statistics.median(bare) / 1e6:.0f} M samples/s, "
            f"labd {statistics.median(ours) / 1e6:.0f}; {median_ratio(ours, volatile):.2f} of a bare file not synced",
        ),
    )
