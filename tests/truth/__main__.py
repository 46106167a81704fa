"""`python -m tests.truth`: 200 runs of known energy; exit 1 if stated uncertainties or labd's own error are wrong."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np

from tests.truth.runs import Anchor, Outcome, play
from tests.truth.verdict import Figures, breaches, table


def run_all(runs: int, seed: int) -> list[Outcome]:
    """Play runs one after the other, by turns with a sync pulse and with current steps; each has its own seed."""
    outcomes = []
    for number, child in enumerate(np.random.SeedSequence(seed).spawn(runs)):
        folder = Path(tempfile.mkdtemp(prefix="labd-truth-"))
        try:
            anchor = Anchor.STEPS if number % 2 else Anchor.SYNC
            outcomes.append(play(np.random.default_rng(child), anchor, folder))
        finally:
            shutil.rmtree(folder)
        if sys.stderr.isatty():
            print(f"\r{number + 1} of {runs} runs", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print("\r", end="", file=sys.stderr)
    return outcomes


def show(rows: list[Figures]) -> None:
    """Print the table for people."""
    heads = ("n", "error/u", "own error/u", "length error/u", "own |error|", "stated u", "own stated u")
    print(f"{'runs':<22}" + "".join(f"{head:>16}" for head in heads))
    for row in rows:
        ratios = "".join(f"{ratio:>16.3f}" for ratio in (row.ratio, row.own_ratio, row.length_ratio))
        sizes = "".join(f"{size:>16.5%}" for size in (row.own_error, row.uncertainty, row.own_uncertainty))
        print(f"{row.group:<22}{row.runs:>16}{ratios}{sizes}")


def main() -> int:
    """Run, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m tests.truth", description=__doc__)
    parser.add_argument("--runs", type=int, default=200, help="how many runs (200)")
    parser.add_argument("--seed", type=int, default=1, help="seed of all that is drawn (1)")
    parser.add_argument("--json", action="store_true", help="print figures as JSON")
    arguments = parser.parse_args()
    outcomes = run_all(arguments.runs, arguments.seed)
    rows = table(outcomes)
    broken = breaches(rows[0], outcomes)
    if arguments.json:
        figures = [asdict(row) for row in rows]
        print(json.dumps({"seed": arguments.seed, "ok": not broken, "broken": broken, "figures": figures}, indent=1))
    else:
        show(rows)
        print("error/u: root mean square of error over stated standard uncertainty (0.8 to 1.2 asked)")
        print("own: with the drawn gain and offset errors taken out (median error of 0.01 % at most asked)")
        print("length: of the windows on the trace, in samples; how honest the timebase is")
    for sentence in broken:
        print(sentence, file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
