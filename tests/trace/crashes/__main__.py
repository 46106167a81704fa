"""`python -m tests.trace.crashes --kills 200 --cuts 200 --seed 1`: kill, cut, print a table; exit 1 on a violation."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from tests.trace.crashes import cuts, kills
from tests.trace.crashes.nursery import Nursery


def kills_table(outcomes: Sequence[kills.Outcome]) -> list[tuple[str, str]]:
    """Figures of the kills, for people."""
    stages = Counter(outcome.stage for outcome in outcomes)
    sealing = [outcome.step for outcome in outcomes if outcome.stage == "sealing"]
    states = Counter(outcome.verdict.state.value for outcome in outcomes if outcome.verdict.state)
    return [
        ("kills", str(len(outcomes))),
        ("  at", ", ".join(f"{stage} {count}" for stage, count in stages.most_common())),
        ("  after how many steps of a seal", ", ".join(f"{k}: {n}" for k, n in sorted(Counter(sealing).items()))),
        ("  samples said to be written", f"{sum(outcome.rows_said for outcome in outcomes):,}"),
        ("  samples recovered", f"{sum(outcome.verdict.rows for outcome in outcomes):,}"),
        ("  traces ended", ", ".join(f"{state} {count}" for state, count in states.items())),
        ("  violations", str(sum(bool(outcome.broken) for outcome in outcomes))),
    ]


def cuts_table(outcomes: Sequence[cuts.Outcome]) -> list[tuple[str, str]]:
    """Figures of the power cuts, for people."""
    stages = Counter(outcome.stage for outcome in outcomes)
    states = Counter(outcome.verdict.state.value for outcome in outcomes if outcome.verdict.state)
    lossy = [outcome for outcome in outcomes if outcome.lost_s > 0]
    worst = max(lossy, key=lambda outcome: outcome.lost_s, default=None)
    tightest = max((outcome.lost_s / outcome.bound_s for outcome in lossy), default=0.0)
    return [
        ("power cuts", str(len(outcomes))),
        ("  at", ", ".join(f"{stage} {count}" for stage, count in stages.most_common())),
        ("  samples taken", f"{sum(outcome.rows_taken for outcome in outcomes):,}"),
        ("  samples durable", f"{sum(outcome.rows_sure for outcome in outcomes):,}"),
        ("  samples recovered", f"{sum(outcome.verdict.intact for outcome in outcomes):,}"),
        ("  traces ended", ", ".join(f"{state} {count}" for state, count in states.items())),
        ("  refused by a reader until salvaged", str(sum(bool(outcome.verdict.refused) for outcome in outcomes))),
        (
            "  lost at most",
            f"{worst.lost_s:.3f} s where {worst.bound_s:.3f} s were promised; "
            f"median {median(outcome.lost_s for outcome in lossy):.3f} s, nearest to the promise {tightest:.0%}"
            if worst
            else "nothing",
        ),
        ("  violations", str(sum(bool(outcome.broken) for outcome in outcomes))),
    ]


def main() -> int:
    """Kill, cut, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m tests.trace.crashes", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="how many children are killed (200)")
    parser.add_argument("--cuts", type=int, default=200, help="how many power cuts are played (200)")
    parser.add_argument("--seed", type=int, default=1, help="seed of it all (1)")
    arguments = parser.parse_args()
    rows = [("seed", str(arguments.seed))]
    broken: list[str] = []
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="labd-crashes-") as folder, Nursery() as nursery:
        scratch = Path(folder)
        killed = []
        for number, death in enumerate(kills.kills(nursery, scratch, arguments.kills, arguments.seed)):
            killed.append(death)
            broken += [f"kill {number} ({death.stage}, {death.step}): {sentence}" for sentence in death.broken]
            _report(broken)
        if killed:
            rows += kills_table(killed)
        if nursery.watcher is None:
            rows.append(("power cuts", "none: there is no C compiler to build the watcher with"))
        else:
            cut = []
            for number, outcome in enumerate(cuts.cuts(nursery, scratch, arguments.cuts, arguments.seed)):
                cut.append(outcome)
                place = f"cut {number} ({outcome.stage}; {outcome.moods})"
                broken += [f"{place}: {sentence}" for sentence in outcome.broken]
                _report(broken)
            if cut:
                rows += cuts_table(cut)
    rows.append(("took", f"{time.monotonic() - begun:.0f} s"))
    for name, value in rows:
        print(f"{name:<40}{value}")
    return 1 if broken else 0


_shown = 0


def _report(broken: Sequence[str]) -> None:
    """Say at once what is wrong: the rest takes minutes."""
    global _shown  # noqa: PLW0603
    for sentence in broken[_shown:]:
        print(sentence, file=sys.stderr, flush=True)
    _shown = len(broken)


if __name__ == "__main__":
    sys.exit(main())
