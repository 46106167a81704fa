"""What a mean of instants misses: the power between them.

A sample that is a mean has seen all of its period. One that is an instant has not, and the mean of n instants is an
estimate of the mean over the window. Where the instants fall anywhere in what the board does, it scatters by s/√n, with
s the standard deviation of the samples themselves; parts of the window show that. But a board repeats itself, and so
does the raster of the samples:

- N inferences of q samples each are met at the phases k mod q. If q lies near a fraction with a small denominator,
  they are few, and more samples meet nothing new. With p the share of the samples in each of M bins of the phase,
  Σ p² - 1/M takes the place of 1/n: 1/(number of phases) if they are few, 0 if they are spread evenly. (The squared L²
  discrepancy of the phases for a signal without memory beyond a bin; Kuipers and Niederreiter, Uniform Distribution
  of Sequences (1974), chapter 2.)
- What repeats at a period of its own near a multiple of the sample's beats slowly against it, and parts of a window
  differ by more than their samples tell: so do, slower still, the windows of a run. The larger scatter counts.
- What lasts so shortly that few samples met it may be off by one such sample: the largest excursion over n.

An inference that is met at fewer than `PHASES_MIN` phases may hold what no sample met: such a window is refused.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from labd.score.moments import Moments
from labd.score.uncertainty import Distribution, Scope, Term, TermName

BURST_S = 10e-6
"""Shortest burst that is expected: phases closer than this meet the same."""
PHASES_MIN = 100
BINS_MAX = 1 << 20
OFF_EDGE = 0.382
"""Bins begin off the phases' simple fractions, which rounding would cast to either side."""
PARTS = 16
"""Parts of a window, each of whole inferences, that are held against each other."""
BEYOND = 2.4
"""Windows scatter by more than their samples tell if the variance is so many times theirs: F(4, ∞) at 5 %."""


@dataclass(frozen=True, slots=True)
class Raster:
    """How the samples of a window lie on its inferences.

    Args:
        samples: Number of whole samples.
        per_inference: Samples of an inference, a fraction.
        period_s: Sample period, s.
    """

    samples: int
    per_inference: float
    period_s: float

    def unevenness(self) -> float:
        """Σ p² - 1/M over the bins of the phase, at least 0."""
        bins = min(BINS_MAX, max(1, math.ceil(self.per_inference * self.period_s / BURST_S)))
        counts = np.zeros(bins, dtype=np.int64)
        for start in range(0, self.samples, BINS_MAX):
            places = np.arange(start, min(start + BINS_MAX, self.samples), dtype=np.float64)
            phases = np.mod(places / self.per_inference, 1.0)
            counts += np.bincount((phases * bins + OFF_EDGE).astype(np.int64) % bins, minlength=bins)
        shares = counts / self.samples
        return max(0.0, float(np.sum(shares**2)) - 1 / bins)

    def phases(self) -> float:
        """How many phases of an inference the samples meet, as far as that limits what they tell; infinite if not."""
        unevenness = self.unevenness()
        return 1 / unevenness if unevenness > 0 else math.inf


def sampling_w(raster: Raster, power: Moments) -> float:
    """Standard uncertainty of a window's mean power for what lies between instants, by the samples alone, W.

    Args:
        raster: How they lie.
        power: Moments of the power of the samples.
    """
    share = raster.unevenness()
    variance = max(0.0, power.mean_square - power.mean**2)
    excursion = max(power.high - power.mean, power.mean - power.low)
    return math.sqrt(variance * share + (excursion * max(1 / raster.samples, share)) ** 2)


def parts_w(parts: tuple[float, ...]) -> float:
    """Standard uncertainty of the mean of a window's parts from the differences of neighbours, W."""
    if len(parts) < 3:
        return 0.0
    differences = np.diff(np.asarray(parts, dtype=np.float64))
    return math.sqrt(float(differences @ differences) / (2 * len(differences) * len(parts)))


def sampling_term(
    raster: Raster, power: Moments, parts: tuple[float, ...], windows: tuple[float, ...], duration_s: float
) -> Term:
    """The term of a window's energy, J.

    Args:
        raster: How the samples lie on its inferences.
        power: Moments of their power, W.
        parts: Mean power of `PARTS` parts of the window, each of whole inferences, W.
        windows: Mean power of the run's windows, W.
        duration_s: Length of the window, s.
    """
    alone, among = sampling_w(raster, power), parts_w(parts)
    between = float(np.std(windows, ddof=1)) if len(windows) > 2 else 0.0
    candidates = [
        (alone, None, f"{raster.samples} instants, by the phases at which they met an inference"),
        (among, 2 * (len(parts) - 1) / 3, f"instants: {len(parts)} parts of the window differ by more"),
    ]
    largest, freedom, source = max(candidates, key=lambda each: each[0])
    if between > math.sqrt(BEYOND) * largest:
        largest, freedom, source = between, len(windows) - 1, "instants: the windows differ by more than their samples"
    return Term(
        name=TermName.SAMPLING,
        standard_uncertainty=largest * duration_s,
        distribution=Distribution.NORMAL if freedom is None else Distribution.STUDENT,
        scope=Scope.WINDOW,
        degrees_of_freedom=freedom,
        source=source,
    )
