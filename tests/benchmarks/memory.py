"""Memory of a process of its own, as the kernel tells it: `RssAnon`, in which no mapped file counts."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path


def rss_anon_mb(process: int | None = None) -> float:
    """Anonymous resident memory of a process by its number, else of this one, MB."""
    status = Path(f"/proc/{'self' if process is None else process}/status").read_text(encoding="ascii")
    found = re.search(r"^RssAnon:\s+(\d+) kB", status, re.MULTILINE)
    assert found is not None, "Linux has told it since 4.5"
    return int(found[1]) * 1024 / 1e6


async def measured(module: str, *arguments: str) -> tuple[float, float]:
    """Run a module in a fresh process; return its memory before its work, and the most of it since, MB, as it says."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments, stdout=asyncio.subprocess.PIPE
    )
    try:
        out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise RuntimeError(f"{module} {' '.join(arguments)} ended with {process.returncode}")
    idle_mb, most_mb = map(float, out.split())
    return idle_mb, most_mb
