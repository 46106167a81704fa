"""How long a run should take: what the plan says, corrected by what runs of the same kind took lately.

Only a start is charged by it and a forecast made from it; no deadline ever follows from an estimate.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

PLAN_WEIGHT = 2
"""The plan counts as much as so many runs: a single odd one does not overrule it."""
LATELY = 20
"""Newest runs that count."""


def refined_s(planned_s: float, took_s: Sequence[float]) -> float:
    """The plan's figure and what runs of the same benchmark, mode and extent took, averaged.

    Args:
        planned_s: How long a run usually takes by its plan (`labd.bench.plan.estimate_s`), s.
        took_s: How long completed runs took, oldest first, s; only the newest `LATELY` count.
    """
    newest = [seconds for seconds in took_s[-LATELY:] if seconds > 0]
    return fmean([planned_s] * PLAN_WEIGHT + newest)
