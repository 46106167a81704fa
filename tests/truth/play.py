"""Plays runs of a cell: draw, spoil, sample, write, let labd score it, compare with the truth."""

from __future__ import annotations

import math
import multiprocessing
import os
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from drivers.api import Quantity
from labd.bench.scoring import score_trace
from labd.errors import LabError
from labd.score.energy import RunScore
from labd.score.uncertainty import Estimate, TermName
from labd.trace.reader import Trace
from tests.truth.cells import CELLS, Cell
from tests.truth.faults import Fault
from tests.truth.mutations import MUTATIONS, Mutation
from tests.truth.runs import Rack, Script, Subject, draw, sample, scratch, write
from tests.truth.verdict import Outcome, bare

TERMS = {
    (Quantity.CURRENT, "gains"): TermName.CURRENT_GAIN,
    (Quantity.VOLTAGE, "gains"): TermName.VOLTAGE_GAIN,
    (Quantity.CURRENT, "offsets"): TermName.CURRENT_OFFSET,
    (Quantity.VOLTAGE, "offsets"): TermName.VOLTAGE_OFFSET,
}
"""What the instrument's maker answers for."""
UNCHANGED = Mutation("none")


def play(cell: Cell, number: int, seed: int, mutation: str = "") -> Outcome:
    """Simulate one run of a cell and judge its score; the same arguments give the same run."""
    mutant = MUTATIONS.get(mutation, UNCHANGED)
    with recorded(cell, number, seed, mutant.fault) as (rack, script, trace), mutant.planted():
        return _outcome(cell, number, rack, script, trace)


def play_mutants(cell: Cell, number: int, seed: int, mutations: Sequence[str]) -> list[Outcome]:
    """The outcomes of one run under each of some mutations; those that change labd alone share one trace."""
    found = {}
    with recorded(cell, number, seed, None) as (rack, script, trace):
        for name in mutations:
            mutant = MUTATIONS.get(name, UNCHANGED)
            if mutant.fault is None:
                with mutant.planted():
                    found[name] = _outcome(cell, number, rack, script, trace)
    return [found[name] if name in found else play(cell, number, seed, name) for name in mutations]


@contextmanager
def recorded(cell: Cell, number: int, seed: int, fault: Fault | None) -> Iterator[tuple[Rack, Script, Trace]]:
    """One run of a cell as a trace, spoilt by the cell's own fault and by another."""
    rng = np.random.default_rng([seed, zlib.crc32(cell.name.encode()), number])
    rack, script = draw(rng, cell.here)
    wrong = [each for each in (cell.fault, fault) if each is not None]
    for each in wrong:
        each.before(script, rng)
    sample(rack, script, rng)
    for each in wrong:
        each.after(script, rng)
    with scratch() as folder:
        yield rack, script, Trace.open(write(rack, script, folder, rng))


def _outcome(cell: Cell, number: int, rack: Rack, script: Script, trace: Trace) -> Outcome:
    window_s = float(np.median([window.stop_s - window.start_s for window in script.windows]))
    try:
        score = score_trace(trace)
    except LabError as error:
        return Outcome(cell.name, number, window_s, (bare(error.message),), *[math.nan] * 4)
    refusals = tuple(sorted({f"{found.rule.value}: {bare(found.detail)}" for found in score.findings}))
    whole = cell.here.subject is Subject.BOARD
    estimate = score.board_energy_j_per_inference if whole else score.energy_j_per_inference
    if refusals or estimate is None:
        return Outcome(cell.name, number, window_s, refusals or ("nothing was scored",), *[math.nan] * 4)
    true_j = float(np.median(rack.board_energies_j if whole else rack.energies_j)) / rack.inferences
    out = {name for (quantity, kind), name in TERMS.items() if quantity not in getattr(cell.here, kind)}
    own = Estimate.combine(estimate.value, [term for term in estimate.terms if term.name not in out])
    return Outcome(
        cell=cell.name,
        number=number,
        window_s=window_s,
        refusals=(),
        error=own.value / true_j - 1,
        uncertainty=own.standard_uncertainty / true_j,
        half_width=(own.interval[1] - own.interval[0]) / 2 / true_j,
        length_ratio=_length_ratio(rack, script, score),
    )


def _length_ratio(rack: Rack, script: Script, score: RunScore) -> float:
    ratios = []
    for window in score.windows:
        true = script.windows[window.trial]
        shown_s = rack.sample_clock.shows(true.stop_s) - rack.sample_clock.shows(true.start_s)
        off = window.stop_sample - window.start_sample - shown_s / rack.model.period_s
        ratios.append(off / window.u_length_samples if window.u_length_samples else math.nan)
    return float(np.sqrt(np.mean(np.square(ratios)))) if ratios else math.nan


@dataclass(frozen=True, slots=True)
class Task:
    """One run of a cell, under each of some mutations; "" is none."""

    cell: str
    number: int
    seed: int
    mutations: tuple[str, ...] = ("",)


def _done(task: Task) -> list[Outcome]:
    return play_mutants(CELLS[task.cell], task.number, task.seed, task.mutations)


def play_all(tasks: Sequence[Task], jobs: int) -> Iterator[list[Outcome]]:
    """Play runs in `jobs` processes; the outcomes of each task, in their order."""
    if jobs == 1:
        yield from map(_done, tasks)
        return
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")  # read when a new process imports numpy
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_done, tasks, chunksize=4)
