"""A trace of a billion samples: as quick to open and to look at as a short one, in no more memory than that.

It takes 50 GB of the disk for a while, and some ten minutes.

The stages that write (record, seal, export, import) each run in a process of their own, whose anonymous memory is
looked at all the time: mapped files do not count in it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from labd.trace.reader import Trace
from labd.trace.seal import seal
from tests.benchmarks.figure import Better, Figure
from tests.benchmarks.memory import measured, rss_anon_mb
from tests.benchmarks.stages import STAGES
from tests.benchmarks.traces import write_trace

MEMORY_MB, OVERVIEW_MS, OPEN_MS, FLAT = 150.0, 10.0, 20.0, 1.5
PIXELS = 1000
STAGE_S = 1800.0
_LOOK_S = 0.01


async def trace_long(samples: int = 1_000_000_000, short: int = 10_000_000, rounds: int = 30) -> tuple[Figure, ...]:
    """Opening and overviews at both lengths, hot and sealed; memory of every stage at the long one."""
    folder = Path(tempfile.mkdtemp(prefix="labd-bench-"))
    opened: dict[str, tuple[float, float]] = {}
    looked: dict[str, tuple[float, float]] = {}
    memory: dict[str, float] = {}
    try:
        few = write_trace(folder, "short", short)
        memory["record"] = await _stage("record", folder, samples)
        many = folder / "long"
        opened["hot"], looked["hot"] = _look(few, many, rounds)
        seal(few)
        memory["seal"] = await _stage("seal", folder, samples)
        opened["sealed"], looked["sealed"] = _look(few, many, rounds)
        for stage in STAGES:
            if stage not in memory:
                memory[stage] = await _stage(stage, folder, samples)
    finally:
        shutil.rmtree(folder)
    return (
        _slowest("trace_open", opened, samples, short, OPEN_MS),
        _steepest("trace_open_flat", opened, samples, short),
        _slowest("trace_overview", looked, samples, short, OVERVIEW_MS),
        _steepest("trace_overview_flat", looked, samples, short),
        Figure(
            "trace_memory",
            max(memory.values()),
            "MB",
            MEMORY_MB,
            Better.LOWER,
            f"above the idle process, {samples / 1e6:g} M samples: "
            + ", ".join(f"{stage} {mb:.0f}" for stage, mb in memory.items()),
        ),
    )


def _look(short: Path, long: Path, rounds: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """Times of opening, and of the slower of both kinds of overview, at the short and the long trace, ms.

    Both are looked at in turn, so that a slow spell of the machine meets both, and once the disk has nothing left to
    write of them. A hundredth of the short trace has fewer than 1,000 blocks, so fewer bins, and takes the least time
    of all: the two lengths are held against each other by whichever overview takes longer.
    """
    os.sync()
    opens: tuple[list[float], list[float]] = ([], [])
    wholes: tuple[list[float], list[float]] = ([], [])
    parts: tuple[list[float], list[float]] = ([], [])
    places = np.random.default_rng(3).uniform(0, 0.99, rounds)
    for place in (0.5, *places.tolist()):  # the first look brings the files into the page cache, and is left out
        for k, path in enumerate((short, long)):
            trace, open_ms = _timed(lambda path=path: Trace.open(path))  # type: ignore[misc]
            end_s = trace.duration_s
            _, whole_ms = _timed(lambda trace=trace, end_s=end_s: trace.overview(0.0, end_s, PIXELS))  # type: ignore[misc]
            start_s = place * end_s
            _, part_ms = _timed(
                lambda trace=trace, start_s=start_s, end_s=end_s: trace.overview(  # type: ignore[misc]
                    start_s, start_s + 0.01 * end_s, PIXELS
                )
            )
            opens[k].append(open_ms)
            wholes[k].append(whole_ms)
            parts[k].append(part_ms)
    middle = [[statistics.median(times[1:]) for times in both] for both in (opens, wholes, parts)]
    return (middle[0][0], middle[0][1]), (max(middle[1][0], middle[2][0]), max(middle[1][1], middle[2][1]))


def _timed(work: Callable[[], Trace]) -> tuple[Trace, float]:
    began = time.perf_counter()
    outcome = work()
    return outcome, (time.perf_counter() - began) * 1e3


def _slowest(name: str, times: dict[str, tuple[float, float]], samples: int, short: int, limit: float) -> Figure:
    shown = "; ".join(f"{state} {few:.2f} and {many:.2f} ms" for state, (few, many) in times.items())
    return Figure(
        name,
        max(max(pair) for pair in times.values()),
        "ms",
        limit,
        Better.LOWER,
        f"{short / 1e6:g} M and {samples / 1e6:g} M samples: {shown}",
    )


def _steepest(name: str, times: dict[str, tuple[float, float]], samples: int, short: int) -> Figure:
    return Figure(
        name,
        max(many / few for few, many in times.values()),
        "1",
        FLAT,
        Better.LOWER,
        f"{samples / 1e6:g} M samples over {short / 1e6:g} M: "
        + ", ".join(f"{state} {many / few:.2f}" for state, (few, many) in times.items()),
    )


async def _stage(name: str, folder: Path, samples: int) -> float:
    """Run a stage in a process of its own; return the most memory it took above its idle state, MB."""
    async with asyncio.timeout(STAGE_S):
        idle_mb, most_mb = await measured(__name__, name, str(folder), str(samples))
    return most_mb - idle_mb


def main() -> None:
    """Do one stage in this process; print memory before it, and the most of it since, MB."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("samples", type=int)
    arguments = parser.parse_args()
    work = STAGES[arguments.stage](arguments.folder, arguments.samples)
    idle_mb = most_mb = rss_anon_mb()
    ended = threading.Event()

    def watch() -> None:
        nonlocal most_mb
        while not ended.wait(_LOOK_S):
            most_mb = max(most_mb, rss_anon_mb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        ended.set()
        watcher.join()
    print(idle_mb, max(most_mb, rss_anon_mb()))


if __name__ == "__main__":
    main()
