"""The cells: what kind of runs are judged together, how many of them, and against what.

Clean cells ask whether stated uncertainties are true. Each is one combination of anchor, shape and rate, over windows
of all lengths that its rate is fast enough to simulate; bands of length are shown beside the whole. Term cells are made
so that one term of the uncertainty is nearly all of it: a term that nobody sees is a term that nobody tests.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from drivers.api import Quantity, SampleKind
from tests.truth.analyzers import Rate
from tests.truth.boards import Shape
from tests.truth.faults import Fault, faults
from tests.truth.runs import Anchor, Circumstances, Subject
from tests.truth.verdict import CLEAN, COLOURED, FAULTY, SLIPPED, STEPPED, Bounds

WINDOWS_S = {Rate.ELOG: (0.1, 10.0), Rate.TEN: (0.1, 10.0), Rate.HUNDRED: (0.1, 0.5), Rate.MEGA: (0.1, 0.2)}
SHORT_S = (0.1, 0.2)
BANDS_S = ((0.1, 0.5), (0.5, 2.0), (2.0, 10.5))
SHAPES = (Shape.SQUARE, Shape.PHASES, Shape.BURSTS, Shape.RAMPS, Shape.INRUSH)
WIRED = (Anchor.SYNC, Anchor.LOAD)
STEP_A = 8e-3
"""A pulse alone is proven by the board's own steps only, so its good runs are those of boards that have them."""
COLOURS = {
    "hum": {"hum_a": 0.1e-3},
    "1/f": {"flicker_a": 20e-6},
    "5x noise": {"noise_factor": 5.0},
    "2 kHz": {"bandwidth_hz": 2e3},
}
TRIALS = Bounds(ratio=(0.5, 1.8), coverage=(0.93, 1.0), refused=0.01)
"""For the spread of five trials: Student's t of 4 degrees of freedom has a standard deviation of 1.4."""
LOOSE = Bounds(ratio=(0.4, 1.3), refused=0.01)
"""For what is estimated from few figures, or bounded: not too small, and not ten times too large."""
DRIFTING = Bounds(ratio=(0.7, 1.1), refused=0.01)
"""For slow noise: a part of it is the noise of each window, so that a term ten times too small shows little."""


@dataclass(frozen=True, slots=True)
class Cell:
    """Runs that are judged together.

    Args:
        name: Words that tell it from all others.
        group: `clean`, `term`, `steps` or `fault`.
        here: What its runs have in common.
        bounds: What is asked of it.
        fault: What is done to each run; None for nothing.
    """

    name: str
    group: str
    here: Circumstances
    bounds: Bounds
    fault: Fault | None = None


def _clean() -> list[Cell]:
    found = []
    for rate in Rate:
        anchors = (*WIRED, Anchor.BOTH) if rate is Rate.ELOG else WIRED
        for anchor in anchors:
            step_a = STEP_A if anchor is Anchor.SYNC else 0.0
            plain = Circumstances(anchor=anchor, rate=rate, windows_s=WINDOWS_S[rate], step_a=step_a)
            found += [
                Cell(f"{anchor}, {shape}, {rate}", "clean", replace(plain, shape=shape), CLEAN) for shape in SHAPES
            ]
            found += [
                Cell(f"{anchor}, {name}, {rate}", "clean", replace(plain, **colour), COLOURED)
                for name, colour in COLOURS.items()
            ]
    return found


def _terms() -> list[Cell]:
    square = Circumstances(anchor=Anchor.LOAD, shape=Shape.SQUARE, windows_s=(1.0, 4.0))
    quiet = replace(square, clock_ppm=1.0)
    smeared = replace(quiet, rate=Rate.HUNDRED, bandwidth_hz=2e3, windows_s=SHORT_S)
    late = replace(quiet, anchor=Anchor.SYNC, step_a=STEP_A, delay_s=400e-6, windows_s=(0.5, 1.0))
    cells = [
        Cell(f"{q.value} gain", "term", replace(quiet, gains=frozenset({q})), CLEAN)
        for q in (Quantity.CURRENT, Quantity.VOLTAGE)
    ]
    cells += [
        Cell(f"{q.value} offset", "term", replace(quiet, offsets=frozenset({q})), CLEAN)
        for q in (Quantity.CURRENT, Quantity.VOLTAGE)
    ]
    return [
        *cells,
        Cell("clock", "term", replace(square, clock_ppm=500.0), CLEAN),
        Cell("noise", "term", replace(quiet, noise_a=1e-3, windows_s=SHORT_S), CLEAN),
        Cell("edge placement", "term", late, CLEAN),
        Cell("edge sample", "term", replace(quiet, shape=Shape.PHASES, ohm=(0.0, 0.0), windows_s=SHORT_S), CLEAN),
        Cell("response", "term", smeared, LOOSE),
        Cell("drift", "term", replace(quiet, flicker_a=20e-6, windows_s=SHORT_S, lead_s=8.0), DRIFTING),
        Cell(
            "sampling",
            "term",
            replace(quiet, shape=Shape.BURSTS, ohm=(0.0, 0.0), kind=SampleKind.INSTANT),
            replace(LOOSE, refused=None),
        ),
        Cell("spread", "term", replace(square, drift=(0.01, 0.02), subject=Subject.BOARD), TRIALS),
        Cell(
            "spread, trials correlated by 0.8",
            "term",
            replace(square, drift=(0.01, 0.02), memory=0.8, subject=Subject.BOARD),
            Bounds(coverage=(0.88, 1.0)),
        ),
        Cell("product of means", "term", replace(quiet, shape=Shape.BURSTS, ohm=(0.5, 1.0)), CLEAN),
    ]


def _steps() -> list[Cell]:
    found = []
    for shape in SHAPES:
        here = Circumstances(anchor=Anchor.STEPS, shape=shape, windows_s=(0.1, 3.0))
        found.append(Cell(f"{Anchor.STEPS}, {shape}", "steps", here, STEPPED))
        found.append(Cell(f"{Anchor.SYNC}, any {shape}", "steps", replace(here, anchor=Anchor.SYNC), STEPPED))
    return found


def _faults() -> list[Cell]:
    found = []
    for anchor in (Anchor.SYNC, Anchor.LOAD, Anchor.BOTH):
        here = Circumstances(anchor=anchor, windows_s=(0.1, 1.0))
        for fault in faults(anchor):
            shape = Shape.PEAKS if fault.peaks else Shape.PHASES
            bounds = SLIPPED if fault.small else FAULTY
            found.append(Cell(f"{anchor}, {fault.name}", "fault", replace(here, shape=shape), bounds, fault))
    return found


CELLS = {cell.name: cell for cell in (*_clean(), *_terms(), *_steps(), *_faults())}
RUNS = {"clean": 300, "term": 100, "steps": 600, "fault": 100}
"""Runs of a cell, by its group."""
