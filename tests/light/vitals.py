"""What the daemon's own process holds, line by line while it works: memory, CPU time, files, threads and tasks."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import threading
from collections import Counter
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from labd.model.database import Database
from tests.benchmarks.memory import rss_anon_mb

EVERY_S = 1.0
_TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")
_NUMBERS = re.compile(r"\d+")


class Vitals(BaseModel):
    """One look.

    Args:
        at_s: Reading of the host's monotonic clock, s.
        rss_anon_mb: Anonymous resident memory, MB.
        files: Open file descriptors.
        commits: Transactions of the database that it has open.
        threads: CPU time of each thread, s, by its name.
        tasks: How many tasks of each kind: their names with the numbers left out.
    """

    model_config = ConfigDict(frozen=True)

    at_s: float
    rss_anon_mb: float
    files: int
    commits: int
    threads: dict[str, float]
    tasks: dict[str, int]

    @property
    def cpu_s(self) -> float:
        """CPU time of all threads that are there, s."""
        return sum(self.threads.values())

    @property
    def task_count(self) -> int:
        """All tasks."""
        return sum(self.tasks.values())


async def keep_noting(path: Path) -> None:
    """Append a line to `path` every second of the host; never returns."""
    loop = asyncio.get_running_loop()
    database: Database | None = None
    with path.open("a", encoding="utf-8") as out:
        while True:
            # The composition root keeps it to itself, as it should; what is only counted here is looked up once.
            database = database or next((held for held in gc.get_objects() if isinstance(held, Database)), None)
            commits = database.commits if database else 0
            out.write(_look(loop.time(), commits).model_dump_json() + "\n")
            out.flush()
            await asyncio.sleep(EVERY_S)


def read_vitals(path: Path) -> list[Vitals]:
    """All lines so far; one that a kill has cut off is left out."""
    *whole, _ = path.read_text(encoding="utf-8").split("\n")
    return [Vitals.model_validate_json(line) for line in whole]


def _look(at_s: float, commits: int) -> Vitals:
    return Vitals(
        at_s=at_s,
        rss_anon_mb=rss_anon_mb(),
        files=len(os.listdir("/proc/self/fd")),
        commits=commits,
        threads=_threads(),
        tasks=Counter(_NUMBERS.sub("#", task.get_name()) for task in asyncio.all_tasks()),
    )


def _threads() -> dict[str, float]:
    used: dict[str, float] = {}
    for thread in threading.enumerate():
        stat = Path(f"/proc/self/task/{thread.native_id}/stat")
        try:
            fields = stat.read_text(encoding="ascii").rpartition(")")[2].split()
        except OSError:  # it has ended since
            continue
        name = _NUMBERS.sub("#", thread.name)
        used[name] = used.get(name, 0.0) + (int(fields[11]) + int(fields[12])) * _TICK_S
    return used
