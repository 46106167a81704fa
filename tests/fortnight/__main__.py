"""`python -m tests.fortnight`: live it, print its ledger, write build/fortnight.json; exit 1 if it does not balance."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

from tests.fast_clock import Anchor
from tests.fortnight.calendar import DAYS, START
from tests.fortnight.ledger import ledger
from tests.fortnight.story import ADDED, BOARD_KEYS, BOARDS, LAB_KEYS, Fortnight, Seen
from tests.light.books import Books, Line, close
from tests.light.caller import calling
from tests.light.lab import LAB, light_lab

SPEED = 2_200.0
"""A day takes 39 s."""
OUT = Path("build/fortnight.json")


async def fortnight(days: int = DAYS, *, speed: float = SPEED, keep: Path | None = None) -> list[Line]:
    """Live through so many days of it.

    Args:
        days: All of it, or its first days.
        speed: Seconds of the fortnight in one of the host's.
        keep: A new folder for everything that is left; None for one that is removed.

    Returns:
        The ledger.
    """
    folder = keep or Path(tempfile.mkdtemp(prefix="14d-"))
    seen = Seen()
    try:
        async with light_lab(folder, boards=BOARDS, speed=speed) as lab:
            lab.write_lab([board for board in lab.boards if board != ADDED], LAB_KEYS, BOARD_KEYS)
            async with calling(lab.broker.endpoint, LAB, seen.hear) as caller:
                await caller.listening()
                anchor = Anchor.here(START, speed)
                await lab.start_daemon(anchor)
                await Fortnight(lab, caller, anchor, days, seen).pass_by()
                status = await lab.stop_daemon()
                await caller.caught_up()
        lines = ledger(Books(lab.database), seen, days, folder / "var" / "reports")
        return [*lines, Line("daemon", f"ended with status {status}", status == 0)]
    finally:
        if keep is None:
            shutil.rmtree(folder)


def main() -> int:
    """Parse the command line, live and tell."""
    parser = argparse.ArgumentParser(prog="python -m tests.fortnight", description=__doc__)
    parser.add_argument("--days", type=int, default=DAYS)
    parser.add_argument("--speed", type=float, default=SPEED)
    parser.add_argument("--keep", type=Path, help="a new folder in which all that is left stays")
    parser.add_argument("--json", action="store_true", help="print what fortnight.json holds in place of the table")
    arguments = parser.parse_args()
    lines = asyncio.run(fortnight(arguments.days, speed=arguments.speed, keep=arguments.keep))
    print(file=sys.stderr)
    return close(lines, f"{arguments.days} days", OUT, as_json=arguments.json)


if __name__ == "__main__":
    sys.exit(main())
