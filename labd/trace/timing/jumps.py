"""Samples that were lost or doubled without a mark: from there on the sample index is off by their number.

Anchors of a kind share what shifts them, so between two of them only the clocks' rate and the samples in between count.
For each gap between two anchors the model

    sample = offset of the kind + (1 + stretch) · x + J · [x beyond the gap]

is fitted by least squares, with the stated rates of the clocks as a prior of the stretch. The gap with the largest |J|
in units of its standard uncertainty is the jump, if that is beyond `SURE`. Where the fit with the jump still scatters
by more than is stated, the uncertainty is widened by Birge's ratio.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labd.trace.timing.timebase import WANDER, Anchor, Clocks

SURE = 5.0
"""So many standard uncertainties make a jump."""
JUMP_S = 30e-6
"""And so much time: what is shorter shifts no edge by more than a trigger's latency, s."""


@dataclass(frozen=True, slots=True)
class Jump:
    """The index goes on by `samples` more than the clocks between two ticks; below 0 samples are missing."""

    after_ticks: int
    before_ticks: int
    samples: float
    u_samples: float


def find_jump(anchors: Sequence[Anchor], clocks: Clocks) -> Jump | None:
    """Return the clearest jump between anchors; None if there is none, or too few of them to tell."""
    ordered = sorted(anchors, key=lambda anchor: anchor.ticks)
    kinds = sorted({anchor.kind for anchor in ordered})
    ticks = [anchor.ticks for anchor in ordered]
    unknowns = len(kinds) + 2
    if len(ordered) < 2:
        return None
    x = np.array([(tick - ticks[0]) / clocks.ticks_per_sample for tick in ticks])
    y = np.array([anchor.sample for anchor in ordered]) - x
    y -= y[0]
    gaps = np.diff(x, prepend=x[0])
    own = np.hypot([anchor.u_sample for anchor in ordered], WANDER * gaps)
    offsets = np.array([[float(anchor.kind == kind) for kind in kinds] for anchor in ordered])
    scale = max(float(x[-1]), 1.0)
    prior = np.zeros(unknowns)
    prior[len(kinds)] = 1.0 / (clocks.u_stretch * scale)
    best: Jump | None = None
    for at in range(1, len(ordered)):
        if ticks[at] == ticks[at - 1]:
            continue
        beyond = (np.arange(len(ordered)) >= at).astype(np.float64)
        rows = np.vstack([np.column_stack([offsets, x / scale, beyond]) / own[:, None], prior])
        data = np.append(y / own, 0.0)
        if np.linalg.matrix_rank(rows) < unknowns:
            continue
        inverse = np.linalg.inv(rows.T @ rows)
        solution = inverse @ (rows.T @ data)
        chi2 = float(np.sum((data - rows @ solution) ** 2))
        free = len(ordered) + 1 - unknowns
        u_jump = math.sqrt(float(inverse[-1, -1]) * (max(1.0, chi2 / free) if free > 0 else 1.0))
        jump = Jump(ticks[at - 1], ticks[at], float(solution[-1]), u_jump)
        if best is None or abs(jump.samples) * best.u_samples > abs(best.samples) * jump.u_samples:
            best = jump
    if best is None or abs(best.samples) * clocks.period_s < JUMP_S or abs(best.samples) < SURE * best.u_samples:
        return None
    return best
