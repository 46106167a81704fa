"""How much of the sample that a timing edge cuts belongs to the window.

The sample is a mean over its period; how the power ran inside it is not known, but its neighbours tell. The part
outside the window is taken to be as the sample before it, or the part inside as the sample after it. Whichever side is
steadier says more: a board that sends a line or sleeps before the edge is steady, and then the split is nearly exact
even though the power steps at the edge. Taking the power as uniform inside the sample would be off by half a step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

NEIGHBOURS = 8
"""Samples on each side of the edge's own that tell how it is shared out."""

NEIGHBOURS_MIN = 2
"""Fewest on each side with which the split can be made: one difference."""


@dataclass(frozen=True, slots=True)
class EdgePower:
    """Power around one edge of a window, W.

    Args:
        outside: Samples outside the window, nearest to the edge first, shape (m,).
        cut: The sample in which the edge lies.
        inside: Samples inside the window, nearest to the edge first, shape (n,).
        share: Share of the cut sample's period that belongs to the window, 0 to 1.
    """

    outside: npt.NDArray[np.float64]
    cut: float
    inside: npt.NDArray[np.float64]
    share: float


@dataclass(frozen=True, slots=True)
class Split:
    """What of a cut sample belongs to the window, in W times a sample period.

    Args:
        energy: Best estimate.
        uncertainty: Standard uncertainty, from how unsteady the neighbours are and how well both sides agree.
        slope_w: Power by which the estimate and the window's energy grow if the edge moves outwards by a sample.
    """

    energy: float
    uncertainty: float
    slope_w: float


def split(edge: EdgePower, *, placement: float, noise_w: float) -> Split:
    """Share the cut sample out.

    Two estimates are weighted by their variances. The variance of a stretch shorter than a sample about a neighbouring
    whole one is taken from the mean square of the differences of consecutive samples d², as of a process without
    memory: d²/2 · (share + share²). If the two disagree by more than that, and by more than a misplaced edge explains,
    the uncertainty is widened by Birge's ratio.

    Args:
        edge: The power around the edge.
        placement: Standard uncertainty of the edge's place, in samples.
        noise_w: Standard deviation of one sample from the instrument's noise, W.
    """
    outside, inside = edge.outside[:NEIGHBOURS], edge.inside[:NEIGHBOURS]
    gone = 1.0 - edge.share
    from_outside = edge.cut - gone * outside[0]
    from_inside = edge.share * inside[0]
    variance_outside = _unsteadiness(outside, noise_w) * (gone + gone**2)
    variance_inside = _unsteadiness(inside, noise_w) * (edge.share + edge.share**2)
    total = variance_outside + variance_inside
    weight = variance_inside / total if total > 0 else 0.5
    step = float(inside[0] - outside[0])
    disagreement = (from_outside - from_inside) ** 2
    expected = total + noise_w**2 + (step * placement) ** 2
    birge = max(1.0, disagreement / expected) if expected > 0 else 1.0
    variance = variance_outside * variance_inside / total if total > 0 else 0.0
    # Steady neighbours tell nothing of work between pin and step that lies within the cut sample alone, at any level
    # that is seen about it; it shows as far as the two estimates can be told apart. It is at the level outside more
    # often than between, so its variance is that of an arcsine distribution over their distance: 1/8 of its square.
    seen = np.concatenate([outside, [edge.cut], inside])
    hidden = min(float(np.ptp(seen)) ** 2, disagreement + total) / 8
    return Split(
        energy=weight * from_outside + (1 - weight) * from_inside,
        uncertainty=math.sqrt(variance * birge + hidden),
        slope_w=float(weight * outside[0] + (1 - weight) * inside[0]),
    )


def _unsteadiness(powers: npt.NDArray[np.float64], noise_w: float) -> float:
    """Half the mean square of the differences of consecutive samples, at least the instrument's noise, W²."""
    return max(float(np.mean(np.diff(powers) ** 2)) / 2, noise_w**2)
