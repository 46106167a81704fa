"""How far the analyzer's filter smears a step, from steps that are known to be sharp.

A filter of unit gain shows a unit step as s(t). A window that opens with it is placed by the middle m of that answer,
where as much of the step comes too early as too late. What comes too late,

    R = ∫ₘ (1 - s) dt = ∫ᵐ s dt,

is the time for which a step at an edge lies on the wrong side of it: a first-order low-pass of time constant τ has
m = τ and R = τ/e. Means over samples smear too, by f (1 - f) samples at a middle that divides its sample at f; dividing
that sample undoes it (`labd.score.edge_sample`), so it is taken off here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from labd.trace.timing.steps import SPREAD_S, Signal

AROUND = 2
"""Fewest samples on each side of a step that its answer is looked at in, and that its levels are taken from."""


def response_of(signal: Signal, middles: Sequence[float]) -> float:
    """R of the filter, in samples: the median over the steps; 0 if none can be looked at.

    Args:
        signal: The samples.
        middles: Where the middles of the steps lie, in samples.
    """
    room = max(AROUND, math.ceil(SPREAD_S / signal.clocks.period_s))
    found = []
    for middle in middles:
        first = math.floor(middle) - 2 * room
        last = first + 4 * room + 1
        if first < 0 or last > signal.rows:
            continue
        samples = signal.read(first, last).astype(np.float64)
        before, after = samples[:room].mean(), samples[-room:].mean()
        if not np.isfinite(samples).all() or before == after:
            continue
        risen = (samples - before) / (after - before)
        share = middle - math.floor(middle)
        early = risen[room : 2 * room].sum() + share * risen[2 * room]
        late = (1 - risen[2 * room + 1 : -room]).sum() + (1 - share) * (1 - risen[2 * room])
        found.append((early + late) / 2 - share * (1 - share))
    return max(0.0, float(np.median(found))) if found else 0.0
