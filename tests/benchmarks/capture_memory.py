"""How much memory of its own a process needs to record a long capture: `RssAnon`, in which no mapped file counts."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import tempfile
from pathlib import Path

from drivers.analyzers.keysight_n6705c import DRIVER
from tests.benchmarks.elog_server import elog_server
from tests.benchmarks.figure import Better, Figure
from tests.benchmarks.memory import measured, rss_anon_mb
from tests.benchmarks.recording import CAPTURE_S, CHANNEL, REQUEST, capture, options

LIMIT_MB = 100.0
_LOOK_S = 0.01


async def capture_memory(samples: int = 100_000_000) -> tuple[Figure, ...]:
    """Most memory that a capture of `samples` took at any moment, over that of the idle process before it, MB.

    The recording process is a fresh one, with driver and analyzer open and the capture configured before it counts.
    """
    async with elog_server(samples) as port, asyncio.timeout(CAPTURE_S):
        idle_mb, most_mb = await measured(__name__, "--port", str(port), "--samples", str(samples))
    return (
        Figure(
            "capture_memory",
            most_mb - idle_mb,
            "MB",
            LIMIT_MB,
            Better.LOWER,
            f"the idle process before it, {idle_mb:.0f} MB; at most {most_mb:.0f} MB in {samples / 1e6:g} M samples",
        ),
    )


async def _record(port: int, samples: int) -> tuple[float, float]:
    """Record once; return the memory before, and the most of it since, MB."""
    folder = Path(tempfile.mkdtemp(prefix="labd-bench-"))
    try:
        async with DRIVER.open(options(port)) as device:
            setup = await device.configure(CHANNEL, REQUEST)
            idle_mb = most_mb = rss_anon_mb()
            recording = asyncio.create_task(capture(device, setup, folder, "t0"))
            while not recording.done():
                await asyncio.wait([recording], timeout=_LOOK_S)
                most_mb = max(most_mb, rss_anon_mb())
            summary = recording.result()
    finally:
        shutil.rmtree(folder)
    if summary.rows != samples or summary.marked:
        raise ValueError(f"{summary} is not a clean trace of {samples} samples")
    return idle_mb, most_mb


def main() -> None:
    """Record in this process and print both figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--samples", type=int, required=True)
    arguments = parser.parse_args()
    print(*asyncio.run(_record(arguments.port, arguments.samples)))


if __name__ == "__main__":
    main()
