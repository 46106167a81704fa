"""What a board does beside its window: the load of an input before the warm-up, and the results after the window.

The order is the protocol's: load, warm-up, window, results. Only the window has edges. The warm-up is looked for in
the signal: it is as long as its inferences would be in the window, and draws what the window draws. Where the stretch
of that length with the highest mean does not come near the window's own, no warm-up is shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from labd.cli.picture.signal import make_bins, quantities_of
from labd.cli.picture.windows import RunWindows, ShownWindow
from labd.trace.reader import Trace

BINS = 4000
LEVEL = 0.1
"""How far the mean of a warm-up may lie off its window's, relative."""
LENGTH_MIN = 3
"""Bins that a warm-up must be long to be seen at all."""


class Phase(StrEnum):
    """What a board does."""

    LOAD = "load"
    WARM_UP = "warm-up"
    RESULTS = "results"
    RESULTS_AND_LOAD = "results, load"  # of the next trial


@dataclass(frozen=True, slots=True)
class ShownPhase:
    """A phase and where it lies, s."""

    phase: Phase
    start_s: float
    stop_s: float


def phases_beside(
    trace: Trace, run: RunWindows, window: ShownWindow, start_s: float, stop_s: float
) -> tuple[ShownPhase, ...]:
    """What lies between `start_s` and `stop_s`, s, beside a window there; empty where no warm-up is found."""
    warm_up = _warm_up(trace, window, start_s)
    if warm_up is None:
        return ()
    phases = [ShownPhase(Phase.LOAD, start_s, warm_up.start_s), warm_up]
    if stop_s > window.stop_s:
        last = all(other.start_s <= window.start_s for other in run.windows)
        after = Phase.RESULTS if last else Phase.RESULTS_AND_LOAD
        phases.append(ShownPhase(after, window.stop_s, stop_s))
    return tuple(phases)


def _warm_up(trace: Trace, window: ShownWindow, start_s: float) -> ShownPhase | None:
    length_s = (window.stop_s - window.start_s) / window.inferences * window.warmups
    if window.start_s - start_s <= length_s:
        return None
    quantity = quantities_of(trace.meta)[0]
    before = make_bins(trace, quantity, start_s, window.start_s, BINS)
    inside = make_bins(trace, quantity, window.start_s, min(window.stop_s, trace.duration_s), BINS)
    size = round(length_s / float(np.diff(before.limits_s).mean()))
    if not LENGTH_MIN <= size < len(before.mean):
        return None
    known = np.isfinite(before.mean)
    totals = np.concatenate([[0.0], np.cumsum(np.where(known, before.mean, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    numbers = counts[size:] - counts[:-size]
    if not numbers.any():
        return None
    means = (totals[size:] - totals[:-size]) / np.where(numbers > 0, numbers, np.nan)
    at = int(np.nanargmax(means))
    level = float(np.nanmean(inside.mean)) if np.isfinite(inside.mean).any() else 0.0
    if abs(means[at] - level) > LEVEL * abs(level):
        return None
    return ShownPhase(Phase.WARM_UP, float(before.limits_s[at]), float(before.limits_s[at + size]))
