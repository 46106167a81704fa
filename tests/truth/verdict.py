"""What many runs of a cell say together, against bounds; how large chance is, is said and allowed for.

A ratio is the root mean square of error over stated standard uncertainty. Its standard error from n runs follows from
the fourth moment of what was seen; a share's from the binomial. A bound is broken when it is missed by more than
`ALLOWED` of those standard errors, so a cell on its bound fails once in 44 times by chance, and one well inside never.
Wrong runs that were accepted are counted, and nothing is allowed for.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

ALLOWED = 2.0
"""Standard errors of a figure that are allowed for."""
WRONG = 5.0
"""An error over so many standard uncertainties is wrong, not unlucky."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run's score was worth; errors are relative, of the median energy per inference of its windows.

    Args:
        cell: The cell that it belongs to.
        number: Which run of it.
        window_s: Length of its windows, s.
        refusals: What the score found against the run, without figures; empty if it stands.
        error: Score over truth, less 1; not a number if nothing was scored.
        uncertainty: Stated standard uncertainty, without what the cell leaves out.
        half_width: Half of the stated 95 % interval, likewise.
        length_ratio: Root mean square over windows of the error of their length on the trace over what is stated.
    """

    cell: str
    number: int
    window_s: float
    refusals: tuple[str, ...]
    error: float
    uncertainty: float
    half_width: float
    length_ratio: float

    @property
    def wrong(self) -> bool:
        """Accepted, and off by more than chance can be."""
        return not self.refusals and abs(self.error) > WRONG * self.uncertainty


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is asked of a cell; None asks nothing.

    Args:
        ratio: Least and largest root mean square of error over stated uncertainty.
        coverage: Least and largest share of runs whose 95 % interval holds the truth.
        refused: Largest share of runs that are refused.
        wrong: Most runs, of so many, that are accepted with an error over 5 u.
    """

    ratio: tuple[float, float] | None = None
    coverage: tuple[float, float] | None = None
    refused: float | None = None
    wrong: tuple[int, int] | None = None


CLEAN = Bounds(ratio=(0.8, 1.2), coverage=(0.93, 0.98), refused=0.01)
COLOURED = Bounds(ratio=(0.0, 1.3), refused=0.01)
STEPPED = Bounds(wrong=(3, 3000))
FAULTY = Bounds(wrong=(1, 100))
SLIPPED = Bounds(wrong=(1, 100), coverage=(0.93, 1.0))


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of a group of runs; `ratio_error` and `coverage_error` are their standard errors from so few runs.

    Args:
        group: Which runs.
        runs: How many.
        refused: Share that was refused.
        reason: What they were refused for most often, with how often; empty if none was.
        wrong: How many were accepted with an error over 5 u.
        ratio: Of error over stated standard uncertainty, root mean square.
        coverage: Share of accepted runs whose interval holds the truth.
        length_ratio: Of the windows' lengths on the trace.
        uncertainty: Median stated standard uncertainty, relative.
        error: Median size of the error, relative.
        worst: Largest size of the error of an accepted run, relative.
    """

    group: str
    runs: int
    refused: float
    reason: str
    wrong: int
    ratio: float
    ratio_error: float
    coverage: float
    coverage_error: float
    length_ratio: float
    uncertainty: float
    error: float
    worst: float


def figures(group: str, outcomes: Sequence[Outcome]) -> Figures:
    """Sum up a group of at least one run; figures of accepted runs are not numbers where none was accepted."""
    kept = [o for o in outcomes if not o.refusals]
    refusals = Counter(reason for o in outcomes for reason in o.refusals)
    often = "; ".join(f"{count}x {reason}" for reason, count in refusals.most_common(2))
    ratios = np.array([o.error / o.uncertainty for o in kept])
    n = len(kept)
    ratio = _rms(ratios)
    excess = float(np.mean(ratios**4)) / ratio**4 - 1 if n and ratio > 0 else math.nan
    covered = sum(abs(o.error) <= o.half_width for o in kept)
    near = (covered + 1) / (n + 2)  # a share of 0 or 1 is not known exactly either
    return Figures(
        group=group,
        runs=len(outcomes),
        refused=1 - n / len(outcomes),
        reason=often,
        wrong=sum(o.wrong for o in outcomes),
        ratio=ratio,
        ratio_error=ratio * math.sqrt(max(0.0, excess) / (4 * n)) if n else math.nan,
        coverage=covered / n if n else math.nan,
        coverage_error=math.sqrt(near * (1 - near) / n) if n else math.nan,
        length_ratio=_rms(np.array([o.length_ratio for o in kept])),
        uncertainty=float(np.median([o.uncertainty for o in kept])) if n else math.nan,
        error=float(np.median([abs(o.error) for o in kept])) if n else math.nan,
        worst=max((abs(o.error) for o in kept), default=math.nan),
    )


def breaches(row: Figures, bounds: Bounds) -> list[str]:
    """Which bounds a group breaks beyond chance, a sentence each."""
    found = []
    for name, value, error, limits in (
        ("error over stated uncertainty", row.ratio, row.ratio_error, bounds.ratio),
        ("coverage of the 95 % interval", row.coverage, row.coverage_error, bounds.coverage),
    ):
        if limits is not None and not limits[0] - ALLOWED * error <= value <= limits[1] + ALLOWED * error:
            if math.isnan(value) and bounds.refused is None:
                continue  # all of a fault's runs refused is what is wanted
            found.append(
                f"{row.group}: {name} is {value:.3f} ± {error:.3f} (k = 1), not {limits[0]:g} to {limits[1]:g}"
            )
    if bounds.refused is not None:
        error = math.sqrt(bounds.refused * (1 - bounds.refused) / row.runs)
        if row.refused > bounds.refused + ALLOWED * error:
            found.append(f"{row.group}: {row.refused:.1%} of good runs refused, not {bounds.refused:.0%}: {row.reason}")
    if bounds.wrong is not None and row.wrong > math.ceil(bounds.wrong[0] * row.runs / bounds.wrong[1]):
        found.append(
            f"{row.group}: {row.wrong} of {row.runs} runs accepted with an error over {WRONG:g} u (worst "
            f"{row.worst:.2%}), not {bounds.wrong[0]} in {bounds.wrong[1]}"
        )
    return found


def bare(detail: str) -> str:
    """A refusal without its figures, so that like ones can be counted."""
    return re.sub(r"[-+]?\d[\d.,]*(e[-+]?\d+)?", "#", detail)[:100]


def _rms(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) if len(values) else math.nan
