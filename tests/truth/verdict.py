"""What many outcomes say together, against the bounds of the project."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tests.truth.runs import Anchor, Outcome

RATIO_MIN, RATIO_MAX = 0.8, 1.2
"""Root mean square of error over stated standard uncertainty."""
OWN_ERROR_MAX = 1e-4
"""labd's own median error, relative."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of a group of runs; all relative, `ratio_*` are root mean squares of error over stated uncertainty.

    Args:
        group: Which runs.
        runs: How many.
        ratio: Of the whole error.
        own_ratio: Of labd's own error, over the stated terms other than gain and offset.
        own_error: Median of the size of labd's own error.
        uncertainty: Median stated standard uncertainty.
        own_uncertainty: The same without gain and offset.
        length_ratio: Of the windows' lengths on the trace: whether the timebase is as good as it says.
    """

    group: str
    runs: int
    ratio: float
    own_ratio: float
    own_error: float
    uncertainty: float
    own_uncertainty: float
    length_ratio: float


def figures(group: str, outcomes: Sequence[Outcome]) -> Figures:
    """Sum up a group of at least one run."""
    return Figures(
        group=group,
        runs=len(outcomes),
        ratio=_rms([o.error / o.uncertainty for o in outcomes]),
        own_ratio=_rms([o.own_error / o.own_uncertainty for o in outcomes]),
        own_error=float(np.median([abs(o.own_error) for o in outcomes])),
        uncertainty=float(np.median([o.uncertainty for o in outcomes])),
        own_uncertainty=float(np.median([o.own_uncertainty for o in outcomes])),
        length_ratio=_rms([o.length_ratio for o in outcomes]),
    )


def table(outcomes: Sequence[Outcome]) -> list[Figures]:
    """All runs that were not refused, then by length of window and by anchor."""
    groups: list[tuple[str, Callable[[Outcome], bool]]] = [
        ("all", lambda o: True),
        ("windows under 0.5 s", lambda o: o.window_s < 0.5),
        ("windows of 0.5 to 2 s", lambda o: 0.5 <= o.window_s < 2),
        ("windows over 2 s", lambda o: o.window_s >= 2),
        ("sync pulse", lambda o: o.anchor is Anchor.SYNC),
        ("current steps", lambda o: o.anchor is Anchor.STEPS),
    ]
    found = [(name, [o for o in outcomes if belongs(o) and not o.refusal]) for name, belongs in groups]
    return [figures(name, group) for name, group in found if group]


def breaches(whole: Figures, outcomes: Sequence[Outcome]) -> list[str]:
    """What is out of bounds, a sentence each."""
    found = []
    if not RATIO_MIN <= whole.ratio <= RATIO_MAX:
        found.append(f"error over stated uncertainty is {whole.ratio:.3f}, not {RATIO_MIN} to {RATIO_MAX}")
    if whole.own_error > OWN_ERROR_MAX:
        found.append(f"labd's own median error is {whole.own_error:.2%}, above {OWN_ERROR_MAX:.2%}")
    found.extend(f"a run with windows of {o.window_s:.3g} s was refused: {o.refusal}" for o in outcomes if o.refusal)
    return found


def _rms(values: Sequence[float]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
