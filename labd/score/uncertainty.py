"""Uncertainty as a list of named terms: how each came to be, what it shares with other windows, and what they make.

The arithmetic is that of the GUM (JCGM 100:2008): standard uncertainties add in quadrature, degrees of freedom by
Welch and Satterthwaite, the coverage interval by the distributions of the terms (`labd.score.coverage`). Limits of
error are rectangular distributions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from enum import StrEnum
from functools import cache
from typing import Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field
from scipy.special import ndtri

from labd.score.correlation import possible_correlation, widening
from labd.score.coverage import COVERAGE, interval_half_width

_NET_BITS = 12
"""The Sobol' net has 2^12 points: the standard error of a median of five comes out to 0.3 %."""


class Frozen(BaseModel):
    """What a score is made of: frozen, no unknown keys, and JSON without loss."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TermName(StrEnum):
    """The closed set of what makes a score uncertain."""

    CURRENT_GAIN = "current_gain"
    CURRENT_OFFSET = "current_offset"
    VOLTAGE_GAIN = "voltage_gain"
    VOLTAGE_OFFSET = "voltage_offset"
    POWER_GAIN = "power_gain"
    POWER_OFFSET = "power_offset"
    ENERGY_GAIN = "energy_gain"
    ENERGY_OFFSET = "energy_offset"
    PRODUCT_OF_MEANS = "product_of_means"
    NOISE = "noise"
    DRIFT = "drift"  # noise slower than the run's windows
    SAMPLING = "sampling"  # what lies between samples that are instants
    EDGE_PLACEMENT = "edge_placement"
    EDGE_SAMPLE = "edge_sample"
    RESPONSE = "response"  # what the instrument's filter smears over an edge
    CLOCK = "clock"
    TIMER_RESOLUTION = "timer_resolution"
    SPREAD = "spread"


class Distribution(StrEnum):
    """What a term's standard uncertainty was taken from."""

    RECTANGULAR = "rectangular"
    TRIANGULAR = "triangular"
    NORMAL = "normal"
    STUDENT = "student"


class Scope(StrEnum):
    """Whether a term has one value for the whole run, or a new one in each window."""

    RUN = "run"  # does not average out over trials
    WINDOW = "window"


class Term(Frozen):
    """One source of uncertainty.

    Args:
        name: Which source.
        standard_uncertainty: One standard deviation, in the unit of the quantity that it belongs to.
        distribution: What it was taken from.
        scope: What it shares between the windows of a run.
        degrees_of_freedom: None: known, not estimated from a sample.
        source: Where the figure comes from, one phrase.
    """

    name: TermName
    standard_uncertainty: float = Field(ge=0, allow_inf_nan=False)
    distribution: Distribution
    scope: Scope
    degrees_of_freedom: float | None = Field(default=None, gt=0)
    source: str

    def scaled(self, factor: float) -> Term:
        """The same term of a quantity that is `factor` times as large."""
        return self.model_copy(update={"standard_uncertainty": self.standard_uncertainty * abs(factor)})


def limits_of_error(name: TermName, half_width: float, source: str, *, scope: Scope = Scope.RUN) -> Term:
    """A term known only by its limits ±`half_width`: half width over √3 (GUM 4.3.7)."""
    return Term(
        name=name,
        standard_uncertainty=abs(half_width) / math.sqrt(3),
        distribution=Distribution.RECTANGULAR,
        scope=scope,
        source=source,
    )


def quadrature(terms: Iterable[Term]) -> float:
    """Standard uncertainty of what all `terms` act on, independently of each other (GUM 5.1.2)."""
    return math.sqrt(math.fsum(term.standard_uncertainty**2 for term in terms))


def effective_degrees_of_freedom(terms: Iterable[Term]) -> float:
    """Welch and Satterthwaite's degrees of freedom of the combination (GUM G.4.1); infinite if none is estimated."""
    kept = tuple(terms)
    below = math.fsum(
        term.standard_uncertainty**4 / term.degrees_of_freedom for term in kept if term.degrees_of_freedom is not None
    )
    return quadrature(kept) ** 4 / below if below > 0 else math.inf


def _reach(terms: Iterable[Term]) -> float:
    """Half width of the coverage interval of what all `terms` act on."""
    limits: list[float] = []
    others: list[Term] = []
    for term in terms:
        if term.distribution is Distribution.RECTANGULAR:
            limits.append(math.sqrt(3) * term.standard_uncertainty)
        elif term.distribution is Distribution.TRIANGULAR:  # the sum of two rectangles
            limits += [math.sqrt(1.5) * term.standard_uncertainty] * 2
        else:
            others.append(term)
    return interval_half_width(tuple(limits), quadrature(others), effective_degrees_of_freedom(others))


class Estimate(Frozen):
    """A value with its uncertainty and what that is made of, all in one unit.

    Args:
        value: Best estimate.
        standard_uncertainty: The terms in quadrature.
        degrees_of_freedom: Effective ones of all terms together; None for infinite. The interval is not made of them.
        interval: Lower and upper end of the coverage interval.
        coverage: Share that the interval covers.
        method: How the interval was made.
        terms: The parts.
    """

    value: float
    standard_uncertainty: float
    degrees_of_freedom: float | None
    interval: tuple[float, float]
    coverage: float
    method: str
    terms: tuple[Term, ...]

    @property
    def relative_uncertainty(self) -> float:
        """Standard uncertainty over the value; infinite for a value of zero."""
        return self.standard_uncertainty / abs(self.value) if self.value else math.inf

    def part(self, *names: TermName) -> float:
        """Standard uncertainty from the terms of these names alone."""
        return quadrature(term for term in self.terms if term.name in names)

    @classmethod
    def combine(cls, value: float, terms: Sequence[Term]) -> Self:
        """Make the estimate of `value` from independent terms."""
        freedom = effective_degrees_of_freedom(terms)
        half = _reach(terms)
        return cls(
            value=value,
            standard_uncertainty=quadrature(terms),
            degrees_of_freedom=None if math.isinf(freedom) else freedom,
            interval=(value - half, value + half),
            coverage=COVERAGE,
            method="rectangular terms convolved with Student's t of the others (JCGM 101:2008, GUM G.4.1)",
            terms=tuple(terms),
        )

    def scaled(self, factor: float) -> Estimate:
        """The estimate of a quantity that is `factor` times as large, such as the energy of one inference."""
        ends = sorted(end * factor for end in self.interval)
        return self.model_copy(
            update={
                "value": self.value * factor,
                "standard_uncertainty": self.standard_uncertainty * abs(factor),
                "interval": (ends[0], ends[1]),
                "terms": tuple(term.scaled(factor) for term in self.terms),
            }
        )


@cache
def _normal_net(dimensions: int) -> npt.NDArray[np.float64]:
    """Normal deviates spread evenly over `dimensions`, float64 of shape (4096, dimensions); the same every time."""
    from scipy.stats import qmc  # noqa: PLC0415  (takes 0.6 s: only who asks for a median's error pays for it)

    points = qmc.Sobol(dimensions, scramble=False).random_base2(_NET_BITS)
    return np.asarray(ndtri(points + 0.5 / len(points)), dtype=np.float64)


@cache
def median_factor(count: int) -> float:
    """Standard error of the median of `count` normal values, over that of one value: 1.2/√5 for five."""
    return float(np.std(np.median(_normal_net(count), axis=1)))


def median_uncertainty(values: Sequence[float], uncertainties: Sequence[float]) -> float:
    """Standard uncertainty that independent errors of the values give their median.

    Between two limits: values that lie close together share their errors (1.2·u/√5 for five), values far apart leave
    the error of the middle one. Observed values lie further apart than the true ones by the very errors in question,
    so they are drawn together first by as much as those errors explain; then the errors are propagated over an even
    net (GUM Supplement 1, with a fixed net in the place of random draws).

    Args:
        values: Observed values, shape (n,).
        uncertainties: Standard uncertainty of each, from errors that they do not share, shape (n,).
    """
    centres = np.asarray(values, dtype=np.float64)
    errors = np.asarray(uncertainties, dtype=np.float64)
    if len(centres) == 1:
        return float(errors[0])
    observed = float(np.var(centres, ddof=1))
    explained = float(np.mean(errors**2))
    shrink = math.sqrt(max(0.0, 1 - explained / observed)) if observed > 0 else 0.0
    middle = float(np.mean(centres))
    drawn = middle + shrink * (centres - middle) + errors * _normal_net(len(centres))
    return float(np.std(np.median(drawn, axis=1)))


def median_of(values: Sequence[float], terms: Sequence[Sequence[Term]]) -> Estimate:
    """The median of a run's windows: what they share stays whole, what is each window's own averages out in part.

    Args:
        values: One value a window, shape (n,).
        terms: The terms of each value, in its unit; every window has the same names.
    """
    combined = []
    for parts in zip(*terms, strict=True):
        if parts[0].scope is Scope.RUN:
            changed: dict[str, object] = {
                "standard_uncertainty": float(np.median([part.standard_uncertainty for part in parts]))
            }
        else:
            changed = {
                "standard_uncertainty": median_uncertainty(values, [part.standard_uncertainty for part in parts])
            }
            if parts[0].degrees_of_freedom is None:  # whatever each was, the median of some is nearly normal
                changed["distribution"] = Distribution.NORMAL
        combined.append(parts[0].model_copy(update=changed))
    return Estimate.combine(float(np.median(values)), combined)


def with_spread(estimate: Estimate, values: Sequence[float]) -> Estimate:
    """Widen a run's median by the spread of its trials, so that it speaks of the board and not of these windows only.

    The standard error of a normal sample's median is `median_factor(n)` times the sample's standard deviation, with
    n - 1 degrees of freedom; it is widened by the correlation that the trials leave open (`labd.score.correlation`).
    The interval of five covers 99 % if they are independent, and 90 % at a lag-1 correlation of 0.8 (tests/score).

    Args:
        estimate: The median of these windows.
        values: One value a window, at least two, in the order of the trials.
    """
    correlation = possible_correlation(values)
    factor = median_factor(len(values)) * widening(len(values), correlation)
    spread = Term(
        name=TermName.SPREAD,
        standard_uncertainty=factor * float(np.std(values, ddof=1)),
        distribution=Distribution.STUDENT,
        scope=Scope.RUN,
        degrees_of_freedom=len(values) - 1,
        source=f"standard error of the median of {len(values)} trials, from their own spread, "
        f"if each is correlated with the one before by up to {correlation:.2f}",
    )
    return Estimate.combine(estimate.value, (*estimate.terms, spread))


def run_estimates(estimates: Sequence[Estimate]) -> tuple[Estimate | None, Estimate | None]:
    """What a run's windows make together: the median of these windows, and the same with the spread of the trials.

    Args:
        estimates: One a window, in the order of the trials; their terms have the same names.

    Returns:
        None for the first without any window, for the second with fewer than two.
    """
    if not estimates:
        return None, None
    values = [estimate.value for estimate in estimates]
    median = median_of(values, [estimate.terms for estimate in estimates])
    return median, with_spread(median, values) if len(values) > 1 else None
