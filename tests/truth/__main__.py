"""`python -m tests.truth`: runs of known energy in cells; exit 1 if an uncertainty is untrue, or a run passes wrong."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from tests.truth.cells import BANDS_S, CELLS, RUNS, Cell
from tests.truth.mutations import MUTATIONS
from tests.truth.play import Task, play_all
from tests.truth.tables import markdown, mutants
from tests.truth.verdict import ALLOWED, STEPPED, Figures, Outcome, bare, breaches, figures

BAND_MIN = 30
"""Fewest runs in a band of window lengths that are judged by themselves."""
SEARCHING = 100
"""Runs of a cell under each mutation."""


def chosen(words: Sequence[str]) -> list[Cell]:
    """The cells whose group is one of the words, or whose name holds one; all for none."""
    return [
        cell for cell in CELLS.values() if not words or any(word == cell.group or word in cell.name for word in words)
    ]


def judged(cells: Sequence[Cell], seen: dict[str, list[Outcome]]) -> tuple[list[Figures], list[str]]:
    """Figures of each cell, whole and by length of window, of all steps together, and what breaks a bound."""
    rows: list[Figures] = []
    broken: list[str] = []
    for cell in cells:
        groups = {cell.name: seen[cell.name]}
        if cell.group == "clean":
            for low, high in BANDS_S:
                band = [o for o in seen[cell.name] if low <= o.window_s < high]
                if BAND_MIN <= len(band) < len(seen[cell.name]):
                    groups[f"{cell.name}, {low:g} to {high:g} s"] = band
        for name, outcomes in groups.items():
            rows.append(figures(name, outcomes))
            broken += breaches(rows[-1], cell.bounds)
    steps = [o for cell in cells if cell.group == "steps" for o in seen[cell.name]]
    if steps:
        rows.append(figures("steps alone, all boards", steps))
        broken += breaches(rows[-1], STEPPED)
    return rows, broken


def played(tasks: Sequence[Task], jobs: int) -> Iterator[tuple[Task, list[Outcome]]]:
    """Tasks with their outcomes, and progress for a person who watches."""
    for done, (task, outcomes) in enumerate(zip(tasks, play_all(tasks, jobs), strict=True), start=1):
        if sys.stderr.isatty():
            print(f"\r{done} of {len(tasks)} runs, {task.cell[:60]:<60}", end="", file=sys.stderr, flush=True)
        yield task, outcomes
    if sys.stderr.isatty():
        print("\r" + " " * 90 + "\r", end="", file=sys.stderr)


def judge_cells(arguments: argparse.Namespace) -> int:
    """Play the cells and judge them."""
    cells = chosen(arguments.cells)
    counts = {"clean": arguments.runs, "term": arguments.runs, "steps": arguments.steps, "fault": arguments.faults}
    per_group = {group: counts[group] or RUNS[group] for group in RUNS}
    if counts["steps"]:
        per_group["steps"] = -(-counts["steps"] // sum(cell.group == "steps" for cell in CELLS.values()))
    tasks = [Task(cell.name, number, arguments.seed) for cell in cells for number in range(per_group[cell.group])]
    seen: dict[str, list[Outcome]] = {cell.name: [] for cell in cells}
    for task, outcomes in played(tasks, arguments.jobs):
        seen[task.cell] += outcomes
    rows, broken = judged(cells, seen)
    if arguments.json:
        told = {"seed": arguments.seed, "ok": not broken, "broken": broken, "figures": [asdict(row) for row in rows]}
        print(json.dumps(told, indent=1))
    else:
        print(markdown(rows))
        print(f"\n± is one standard error (k = 1) from so many runs; a bound is broken if missed by {ALLOWED:g} of it.")
    for sentence in broken:
        print(sentence, file=sys.stderr)
    return 1 if broken else 0


def judge_mutations(arguments: argparse.Namespace) -> int:
    """Play each mutation's cells, unchanged too; each mutation must turn the verdict on one that stands unchanged."""
    names = [name for name in MUTATIONS if not arguments.cells or any(word in name for word in arguments.cells)]
    asked: dict[str, list[str]] = {}
    for name in names:
        for cell in MUTATIONS[name].cells:
            asked.setdefault(cell, [""]).append(name)
    runs = arguments.runs or SEARCHING
    tasks = [
        Task(cell, number, arguments.seed, tuple(mutations))
        for cell, mutations in asked.items()
        for number in range(runs)
    ]
    seen: dict[str, dict[str, list[Outcome]]] = {name: {} for name in ("", *names)}
    for task, outcomes in played(tasks, arguments.jobs):
        for mutation, outcome in zip(task.mutations, outcomes, strict=True):
            seen[mutation].setdefault(task.cell, []).append(outcome)
    rows = {name: [figures(cell, outcomes) for cell, outcomes in by_cell.items()] for name, by_cell in seen.items()}
    # A bound that is broken with nothing planted tells nothing when it is broken under a mutation.
    unchanged = [each for row in rows[""] for each in breaches(row, CELLS[row.group].bounds)]
    known = {_bound(each) for each in unchanged}
    turned = {
        name: [
            each for row in rows[name] for each in breaches(row, CELLS[row.group].bounds) if _bound(each) not in known
        ]
        for name in names
    }
    unseen = [name for name in names if not turned[name]]
    if arguments.json:
        told = {"seed": arguments.seed, "ok": not unseen and not unchanged, "unchanged": unchanged, "turned": turned}
        print(json.dumps(told, indent=1))
    else:
        print(mutants(turned))
    for sentence in unchanged:
        print(f"with nothing planted: {sentence}", file=sys.stderr)
    for name in unseen:
        print(f"nothing sees {name!r}", file=sys.stderr)
    return 1 if unseen or unchanged else 0


def _bound(breach: str) -> str:
    """Which bound of which cell a sentence of `breaches` is about."""
    cell, what = breach.split(": ", 1)
    return f"{cell}: {bare(what)[:20]}"


def main() -> int:
    """Run, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m tests.truth", description=__doc__)
    parser.add_argument("--cells", nargs="*", default=[], help="groups (clean term steps fault) or parts of names")
    parser.add_argument("--runs", type=int, help=f"runs of a cell ({RUNS['clean']}, {RUNS['term']} of one term)")
    parser.add_argument("--steps", type=int, help="boards with steps alone (3000)")
    parser.add_argument("--faults", type=int, help=f"runs of each fault ({RUNS['fault']})")
    parser.add_argument(
        "--mutations", action="store_true", help=f"plant errors, {SEARCHING} runs a cell; all must show"
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of all that is drawn (1)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (2)")
    parser.add_argument("--json", action="store_true", help="print figures as JSON")
    arguments = parser.parse_args()
    if not arguments.mutations and not chosen(arguments.cells):
        parser.error(f"no cell has one of {arguments.cells} in its name")
    return judge_mutations(arguments) if arguments.mutations else judge_cells(arguments)


if __name__ == "__main__":
    sys.exit(main())
