"""`python -m tests.soak`: let the week pass and print its ledger; exit 1 if it does not balance.

The ledger is kept in build/soak.json, and what the daemon held is drawn in build/soak.png.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.fast_clock import Anchor
from tests.light.books import Books, Line, close
from tests.light.caller import calling
from tests.light.lab import LAB, light_lab
from tests.light.vitals import Vitals
from tests.soak.leaks import leak_lines
from tests.soak.picture import draw
from tests.soak.week import DAY_S, REST_S, START, Seen, Week

RUNS = 100_000
DAYS = 7.0
BOARDS = 40
RATE_HZ = 45.0
"""Runs in a second of the host: 100,000 take 37 minutes."""
OUT = Path("build/soak.json")
PICTURE = Path("build/soak.png")


async def soak(
    runs: int = RUNS,
    *,
    boards: int = BOARDS,
    rate_hz: float = RATE_HZ,
    keep: Path | None = None,
    picture: Path | None = None,
) -> list[Line]:
    """Let `runs` jobs be done at the pace of 100,000 a week.

    Args:
        runs: Jobs that are submitted.
        boards: Boards of the rack.
        rate_hz: Jobs in a second of the host; it follows how fast the week passes.
        keep: A new folder for everything that is left; None for one that is removed.
        picture: Where what the daemon held is drawn; None for nowhere.

    Returns:
        The ledger.
    """
    days = DAYS * runs / RUNS
    speed = days * DAY_S * rate_hz / runs
    folder = keep or Path(tempfile.mkdtemp(prefix="soak-"))
    seen = Seen()
    try:
        async with light_lab(folder, boards=boards, speed=speed) as lab:
            lab.write_lab(board_keys="idle_current_a = [0.005, 0.02]\n")
            anchor = Anchor.here(START, speed)
            async with calling(lab.broker.endpoint, LAB, seen.hear) as caller:
                await caller.listening()
                await lab.start_daemon(anchor)
                await asyncio.sleep(REST_S)
                quiet = lab.vitals[-1]
                await Week(lab, caller, anchor, runs, days, seen).pass_by()
                looks = lab.vitals
                status = await lab.stop_daemon()
                await caller.caught_up()
        if picture is not None:
            picture.parent.mkdir(exist_ok=True)
            draw(looks, speed, picture)
        lines = Books(lab.database).lines(seen.accepted, seen.heard)
        return [
            *lines,
            Line("daemon", f"ended with status {status}", status == 0),
            *_people(seen),
            *leak_lines(quiet, looks, speed),
            _cost(looks, runs),
        ]
    finally:
        if keep is None:
            shutil.rmtree(folder)


def _people(seen: Seen) -> list[Line]:
    return [
        Line("cancels", f"{seen.cancels} asked for, {seen.too_late} came too late", True),
        Line("refused", f"{seen.refused}, whose deadline had passed", True),
        Line("asked for boards", f"{seen.reservations} reservations", True),
        Line("broken", f"{seen.faults} boards, {seen.broker_stops} times the broker", True),
    ]


def _cost(looks: Sequence[Vitals], runs: int) -> Line:
    first, last = looks[0], looks[-1]
    wall_s, cpu_s = last.at_s - first.at_s, last.cpu_s - first.cpu_s
    found = f"{runs / wall_s:.1f} jobs/s over {wall_s:.0f} s, {1e3 * cpu_s / runs:.1f} ms CPU of the daemon a job"
    return Line("cost", found, True)


def main() -> int:
    """Parse the command line, soak and tell."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS, help="jobs to submit; the time is cut in proportion")
    parser.add_argument("--boards", type=int, default=BOARDS)
    parser.add_argument("--rate", type=float, default=RATE_HZ, help="jobs in a second of the host")
    parser.add_argument("--keep", type=Path, help="a new folder in which all that is left stays")
    parser.add_argument("--json", action="store_true", help="print what soak.json holds in place of the table")
    arguments = parser.parse_args()
    lines = asyncio.run(
        soak(arguments.runs, boards=arguments.boards, rate_hz=arguments.rate, keep=arguments.keep, picture=PICTURE)
    )
    print(file=sys.stderr)
    return close(lines, f"{arguments.runs} jobs", OUT, as_json=arguments.json)


if __name__ == "__main__":
    sys.exit(main())
