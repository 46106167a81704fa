"""From the ticks of an edge source to the sample index of a trace: offset and rate, with their uncertainty.

    sample(ticks) = offset + (1 + stretch) · x,    x = (ticks − origin) / (tick_rate · period)

Anchors are moments of which both the ticks and the sample index are known: a sync pulse, or a step of the current at a
timing edge. The fit is generalised least squares over them with one more observation, the prior that the stretch is 0
within what both clocks' makers state (half widths, taken as rectangular). Ticks are differenced as integers before they
become floats, and x is centred on the anchors, so 64-bit counters lose nothing.

An anchor's error has two parts: its own, and one that it shares with all anchors of its kind (the board's code sets the
pin and starts to compute in the same order every time). Shared parts do not average out, and here they do not.

An anchor whose residual is more than `OUTLIER` of its standard deviations is taken out, the worst first, as long as
three remain, or a sync pulse does, which alone places a trace. What is left over after that widens the covariance by
Birge's ratio (chi² per degree of freedom) if that is above 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from scipy.linalg import cholesky, solve_triangular

from labd.errors import TraceError

Floats = npt.NDArray[np.float64]

OUTLIER = 4.0
WANDER = 1e-7
"""How far a clock's rate strays from its mean over a run in a window of it, relative: quartz in a room."""
ANCHORS_MIN = 3
"""Fewest steps that are left when outliers are taken out and no sync pulse is there."""


class TimebaseError(TraceError):
    """Ticks cannot be mapped to samples well enough to be used."""

    kind = "timebase"


class AnchorKind(StrEnum):
    """What ties ticks to samples; anchors of a kind share an error."""

    SYNC = "sync"
    LOAD = "load"
    OPENING = "opening"
    CLOSING = "closing"


@dataclass(frozen=True, slots=True)
class Anchor:
    """A moment in both clocks.

    Args:
        ticks: In ticks of the edge source.
        sample: In fractional samples of the trace.
        u_sample: Standard uncertainty of `sample`, its own part, in samples.
        u_shared: Standard uncertainty that it shares with all anchors of its kind, in samples.
        kind: What it is.
        trial: The trial that it belongs to; None for a sync pulse or a load.
    """

    ticks: int
    sample: float
    u_sample: float
    u_shared: float = 0.0
    kind: AnchorKind = AnchorKind.SYNC
    trial: int | None = None

    def unfolded(self, fold: int) -> Anchor:
        """The same in samples, of one in means of `fold` samples."""
        return replace(self, sample=fold * self.sample, u_sample=fold * self.u_sample, u_shared=fold * self.u_shared)


@dataclass(frozen=True, slots=True)
class Placed:
    """Two moments on the sample index, with the standard uncertainty of each and the correlation of their errors."""

    start: float
    stop: float
    u_start: float
    u_stop: float
    correlation: float


@dataclass(frozen=True, slots=True)
class Timebase:
    """The map, and how well it is known.

    Args:
        origin_ticks: Tick at which x is 0.
        samples_per_tick: Nominal rate.
        offset: Sample index at the origin.
        stretch: Rate over the nominal one, less 1.
        covariance: Of (offset, stretch), shape (2, 2).
        anchors: The anchors that were used.
        residuals: Their sample less the map's, in samples, shape (n,).
        rejected: Anchors that were taken out as outliers, each with its residual in samples.
        chi2: Sum of squares of the whitened residuals, the prior's among them.
        degrees: Degrees of freedom of it.
    """

    origin_ticks: int
    samples_per_tick: float
    offset: float
    stretch: float
    covariance: Floats
    anchors: tuple[Anchor, ...]
    residuals: Floats
    rejected: tuple[tuple[Anchor, float], ...]
    chi2: float
    degrees: int

    def sample(self, ticks: int) -> tuple[float, float]:
        """Fractional sample index of an edge, and its standard uncertainty in samples with that of a whole tick."""
        x = (ticks - self.origin_ticks) * self.samples_per_tick
        gradient = np.array([1.0, x])
        variance = float(gradient @ self.covariance @ gradient) + self.samples_per_tick**2 / 12
        return self.offset + x + self.stretch * x, math.sqrt(variance)

    def place(self, opening: int, closing: int) -> Placed:
        """Where a window between two edges lies, and how the errors of its ends hang together."""
        (start, u_start), (stop, u_stop) = self.sample(opening), self.sample(closing)
        strayed = WANDER * (stop - start) / math.sqrt(2)
        u_start, u_stop = math.hypot(u_start, strayed), math.hypot(u_stop, strayed)
        ends = np.array([[1.0, (ticks - self.origin_ticks) * self.samples_per_tick] for ticks in (opening, closing)])
        shared = float(ends[0] @ self.covariance @ ends[1])
        both = u_start * u_stop
        return Placed(start, stop, u_start, u_stop, min(1.0, max(-1.0, shared / both)) if both > 0 else 1.0)


@dataclass(frozen=True, slots=True)
class Clocks:
    """The two clocks of a trace, as declared.

    Args:
        tick_rate_hz: Rate of the edge source's clock, Hz.
        period_s: Sample period by the analyzer's word, s.
        u_stretch: Standard uncertainty of their ratio, relative, see `rate_prior`; above 0.
    """

    tick_rate_hz: float
    period_s: float
    u_stretch: float

    @property
    def ticks_per_sample(self) -> float:
        """Nominal ticks in a sample period."""
        return self.tick_rate_hz * self.period_s

    def fit(self, anchors: Sequence[Anchor]) -> Timebase:
        """The map by these anchors, see `fit_timebase`."""
        return fit_timebase(anchors, tick_rate_hz=self.tick_rate_hz, period_s=self.period_s, u_stretch=self.u_stretch)


def rate_prior(*half_widths_ppm: float) -> float:
    """Standard uncertainty of a ratio of clocks, relative, from the half widths that their makers state, ppm."""
    return math.sqrt(sum((ppm * 1e-6) ** 2 / 3 for ppm in half_widths_ppm))


def fit_timebase(anchors: Sequence[Anchor], *, tick_rate_hz: float, period_s: float, u_stretch: float) -> Timebase:
    """Fit the map to the anchors.

    Args:
        anchors: At least one.
        tick_rate_hz: Declared rate of the edge source's clock, Hz.
        period_s: Sample period by the analyzer's word, s.
        u_stretch: Standard uncertainty of the ratio of both clocks, relative, see `rate_prior`; above 0.

    Raises:
        TimebaseError: there is no anchor, or one is not a number.
    """
    kept = list(anchors)
    if not kept:
        raise TimebaseError(
            "nothing ties the edges to the samples",
            remedy="wire the edge source's sync pin to the analyzer's trigger, or give the board a clearer step",
        )
    if not all(math.isfinite(a.sample) and 0 < a.u_sample < math.inf and 0 <= a.u_shared < math.inf for a in kept):
        raise TimebaseError("an anchor is not a number, or has no uncertainty")
    rejected: list[tuple[Anchor, float]] = []
    while True:
        fit, normalised = _solve(kept, rejected, 1.0 / (tick_rate_hz * period_s), u_stretch)
        worst = int(np.argmax(np.abs(normalised)))
        left = [*kept[:worst], *kept[worst + 1 :]]
        enough = len(left) >= ANCHORS_MIN or any(anchor.kind is AnchorKind.SYNC for anchor in left)
        if abs(normalised[worst]) <= OUTLIER or not enough:
            break
        rejected.append((kept.pop(worst), 0.0))
    return fit


def _solve(
    kept: Sequence[Anchor], rejected: Sequence[tuple[Anchor, float]], samples_per_tick: float, u_stretch: float
) -> tuple[Timebase, Floats]:
    """One fit; also the residual of each anchor over the standard deviation that a residual of it has."""
    origin = sum(anchor.ticks for anchor in kept) // len(kept)
    x = np.array([(anchor.ticks - origin) * samples_per_tick for anchor in kept])
    y = np.array([anchor.sample for anchor in kept]) - x
    shared = np.array([anchor.u_shared for anchor in kept])
    kinds = np.array([anchor.kind.value for anchor in kept])
    own = np.hypot([anchor.u_sample for anchor in kept], samples_per_tick / math.sqrt(12))
    noise = np.diag(own**2)
    noise += np.where(kinds[:, None] == kinds[None, :], np.outer(shared, shared), 0.0)
    root = cholesky(noise, lower=True)
    design = np.column_stack([np.ones_like(x), x])
    # The prior is one more row: stretch = 0 within u_stretch. Columns are scaled, x may be a million samples.
    rows = np.vstack([solve_triangular(root, design, lower=True), [0.0, 1.0 / u_stretch]])
    data = np.append(solve_triangular(root, y, lower=True), 0.0)
    scale = np.linalg.norm(rows, axis=0)
    orthogonal, upper = np.linalg.qr(rows / scale)
    solution = solve_triangular(upper, orthogonal.T @ data) / scale
    inverse = solve_triangular(upper, np.eye(2)) / scale[:, None]
    covariance = inverse @ inverse.T
    residuals = y - design @ solution
    chi2 = float(np.sum((data - rows @ solution) ** 2))
    degrees = len(kept) - 1
    spread = np.sqrt(np.maximum(np.diag(noise) - np.einsum("ij,jk,ik->i", design, covariance, design), 0.0))
    if degrees > 0:
        covariance = covariance * max(1.0, chi2 / degrees)
    fit = Timebase(
        origin_ticks=origin,
        samples_per_tick=samples_per_tick,
        offset=float(solution[0]),
        stretch=float(solution[1]),
        covariance=covariance,
        anchors=tuple(kept),
        residuals=residuals,
        rejected=(),
        chi2=chi2,
        degrees=degrees,
    )
    off = tuple((anchor, anchor.sample - fit.sample(anchor.ticks)[0]) for anchor, _ in rejected)
    return replace(fit, rejected=off), residuals / np.maximum(spread, 0.1 * own)
