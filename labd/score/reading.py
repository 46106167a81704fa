"""What an energy score is made of: the instrument, where the windows lie, and what was read of each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from drivers.api import Column, Interval, Provenance, Quantity, SampleKind
from labd.errors import ScoreError
from labd.score.edge_sample import NEIGHBOURS, NEIGHBOURS_MIN, EdgePower
from labd.score.moments import Moments
from labd.score.product import Source
from labd.score.sampling import Raster

SMEARED = 8.0
"""What a step is smeared by, times this, is three time constants of a first-order low-pass."""


@dataclass(frozen=True, slots=True)
class Instrument:
    """What recorded the samples.

    Args:
        columns: Declarations of the columns, on the ranges in force.
        period_s: Sample period as the instrument calls it, s.
        clock_ppm: Half width of its clock's error, ppm.
        source: What feeds the board; None to take it from each window.
    """

    columns: tuple[Column, ...]
    period_s: float
    clock_ppm: float
    source: Source | None = None

    def column(self, quantity: Quantity) -> Column | None:
        """The declaration of one column; None if it was not recorded."""
        return next((column for column in self.columns if column.quantity is quantity), None)

    @property
    def instants(self) -> bool:
        """Whether a measured column that makes the power holds instants; what is set or assumed has nothing between."""
        alone = [self.column(quantity) for quantity in (Quantity.POWER, Quantity.ENERGY)]
        made_of = [column for column in alone if column is not None][:1] or self.columns
        return any(
            column.sample is SampleKind.INSTANT and column.provenance is Provenance.MEASURED
            for column in made_of
            if column.quantity is not Quantity.DIGITAL
        )


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a window lies on the sample index: fractional, a sample k reaches from k to k + 1.

    Args:
        start, stop: Its edges, in samples.
        u_start, u_stop: Standard uncertainty of each, in samples.
        correlation: Of the two errors: 1 if a shift of the timebase moves both alike.
        response: What the instrument's filter smears a step at an edge by, in samples; None if that is not known.
    """

    start: float
    stop: float
    u_start: float
    u_stop: float
    correlation: float
    response: float | None = None

    @property
    def shared(self) -> float:
        """Standard uncertainty of what moves both edges to one side, in samples."""
        return math.sqrt(max(0.0, self.correlation) * self.u_start * self.u_stop)

    @property
    def smeared(self) -> int:
        """So many samples on each side of an edge hold what the instrument's filter makes of a step there."""
        return math.ceil(SMEARED * (self.response or 0.0))

    @property
    def neighbours(self) -> int:
        """So many samples on each side of an edge are looked at."""
        return max(NEIGHBOURS, math.ceil(2 * self.shared), self.smeared)

    @property
    def u_length(self) -> float:
        """Standard uncertainty of stop less start, in samples."""
        return math.sqrt(max(0.0, self.u_start**2 + self.u_stop**2 - 2 * self.correlation * self.u_start * self.u_stop))


@dataclass(frozen=True, slots=True)
class WindowReading:
    """All that a window's score is made of.

    Args:
        trial: Number of the trial.
        inferences: N.
        placement: Where it lies.
        whole: Number of samples that lie in it whole.
        power_w: Mean power of those.
        moments: Moments of every analog column over those.
        first, last: Power around the opening and the closing edge.
        marked: Marked stretches of samples that touch it.
        power: Moments of the power of its whole samples; needed where samples are instants.
        parts_w: Mean power of parts of it that are of whole inferences; needed where samples are instants.
    """

    trial: int
    inferences: int
    placement: Placement
    whole: int
    power_w: float
    moments: Mapping[Quantity, Moments]
    first: EdgePower
    last: EdgePower
    marked: tuple[Interval, ...] = ()
    power: Moments | None = None
    parts_w: tuple[float, ...] = ()

    def raster(self, period_s: float) -> Raster:
        """How its samples lie on its inferences."""
        length = self.placement.stop - self.placement.start
        return Raster(self.whole, length / self.inferences, period_s)

    def check(self) -> None:
        """Raise a score error unless it has length, inferences and neighbours at its edges."""
        where = f"trial {self.trial}"
        if self.whole < 1 or self.inferences < 1:
            raise ScoreError(
                f"a window of {self.whole} whole samples and {self.inferences} inferences has no energy", where=where
            )
        for edge in (self.first, self.last):
            if min(len(edge.outside), len(edge.inside)) < NEIGHBOURS_MIN:
                raise ScoreError(
                    f"an edge has fewer than {NEIGHBOURS_MIN} samples on one of its sides",
                    where=where,
                    remedy="capture must begin before the window and go on after it",
                )

    def duration_s(self, instrument: Instrument) -> float:
        """Length of the window by the sample clock, s."""
        return (self.placement.stop - self.placement.start) * instrument.period_s

    def sensitivities(self, instrument: Instrument) -> Mapping[Quantity, tuple[float, float]]:
        """For each column that makes the power: mean [W per unit of the column] and mean square of power over column.

        An offset of the current is felt times the mean voltage; noise of the current times the mean square of it.
        """
        if instrument.column(Quantity.POWER) is not None:
            return {Quantity.POWER: (1.0, 1.0)}
        if instrument.column(Quantity.ENERGY) is not None:
            return {Quantity.ENERGY: (1 / instrument.period_s, 1 / instrument.period_s**2)}
        try:
            current, voltage = self.moments[Quantity.CURRENT], self.moments[Quantity.VOLTAGE]
        except KeyError as error:
            raise ScoreError(
                f"power does not follow from the columns: {error.args[0]} is missing", where=f"trial {self.trial}"
            ) from error
        return {
            Quantity.CURRENT: (voltage.mean, voltage.mean_square),
            Quantity.VOLTAGE: (current.mean, current.mean_square),
        }

    def noise_w(self, instrument: Instrument) -> float:
        """Standard deviation of one sample's power from the instrument's noise, root mean square over the window, W."""
        variance = 0.0
        for quantity, (_, felt_square) in self.sensitivities(instrument).items():
            column = instrument.column(quantity)
            if column is not None:
                variance += felt_square * column.accuracy.noise_rms**2
        return math.sqrt(variance)
