"""The real daemon with a fast clock, as a process that can be killed.

    python -m tests.light.daemon LAB_TOML --start 2026-03-20T12:00:00Z --speed 2000 --since 81234.5

`--since` is a reading of the host's monotonic clock, at which the simulated time was `--start`: a daemon that is
started again with the same three goes on at the right time.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path

from labd.app import serve
from labd.config.reading import load
from labd.logs import configure
from tests.fast_clock import Anchor, FastClock
from tests.light.vitals import keep_noting


async def _serve(lab_toml: Path, anchor: Anchor, vitals: Path | None) -> None:
    config = load(lab_toml)
    configure(config.lab.log_level)
    noting = asyncio.create_task(keep_noting(vitals), name="vitals") if vitals else None
    try:
        await serve(config, clock=FastClock(anchor), reread=partial(load, lab_toml))
    finally:
        if noting is not None:
            noting.cancel()
            await asyncio.wait({noting})


@contextmanager
def _profiled(out: Path | None) -> Iterator[None]:
    """Write where the event loop's thread spends its time; `python -m pstats` reads it."""
    if out is None:
        yield
        return
    with cProfile.Profile() as profile:
        yield
    profile.dump_stats(out)


def main() -> None:
    """Parse the command line and serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m tests.light.daemon", description=__doc__)
    parser.add_argument("lab_toml", type=Path)
    parser.add_argument("--start", type=datetime.fromisoformat, required=True)
    parser.add_argument("--speed", type=float, required=True)
    parser.add_argument("--since", type=float, required=True)
    parser.add_argument("--vitals", type=Path)
    parser.add_argument("--profile", type=Path)
    arguments = parser.parse_args()
    with _profiled(arguments.profile):
        asyncio.run(
            _serve(arguments.lab_toml, Anchor(arguments.start, arguments.speed, arguments.since), arguments.vitals)
        )


if __name__ == "__main__":
    main()
