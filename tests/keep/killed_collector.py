"""A process that lets traces go and kills itself at a line of doing so: `python -m tests.keep.killed_collector F K`.

Lines are counted in every thread, in the modules that decide, commit and delete. Told to die at line 0 it lives, and
prints how many lines there were.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import threading
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

from labd.config import Keep
from labd.keep import collect, store
from labd.model import database, ledger_traces
from tests.keep.traces import NOW, record

_FILES = {module.__file__ for module in (collect, store, database, ledger_traces, shutil)}


async def let_go(folder: Path) -> None:
    async with record(folder) as opened:
        keep = Keep(max_age_days=30, max_size_gb=2e-6)
        collector = collect.Collector(opened, store.TraceStore(folder / "traces"), keep)
        await collector.finish_here()
        await collector.collect(NOW)


def die_at(line: int) -> Any:
    """A trace function that counts lines, and ends the process without warning at the one of that number."""
    lines = count(1)

    def step(frame: FrameType, kind: str, _: Any) -> Any:
        if frame.f_code.co_filename not in _FILES:
            return None
        if kind == "line" and next(lines) == line:
            os.kill(os.getpid(), signal.SIGKILL)
        return step

    return lines, step


if __name__ == "__main__":
    seen, tracer = die_at(int(sys.argv[2]))
    threading.settrace(tracer)
    sys.settrace(tracer)
    asyncio.run(let_go(Path(sys.argv[1])))
    sys.settrace(None)
    print(next(seen))
