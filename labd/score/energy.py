"""Energy of a run's windows, between their timing edges, and what it says of the board.

Two quantities are told apart. The energy per inference *of these windows* is uncertain by the instrument, the timing
and the noise. What *this board* needs is also uncertain by the spread of its trials.

A window's energy is the sum of its whole samples, the window's parts of the two samples that its edges cut, times the
sample period. Gain and offset errors, the clocks and the timebase are the same in all windows of a run: they do not
average out over trials. Noise and the cut samples are each window's own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from drivers.api import Column, Interval, Provenance, Quantity, SampleKind
from labd.errors import ScoreError
from labd.model.causes import Cause
from labd.score.edge_sample import NEIGHBOURS, NEIGHBOURS_MIN, EdgePower, Split, split
from labd.score.moments import Moments
from labd.score.noise import Noise, Rest, measure_noise, noise_remark, noise_terms
from labd.score.product import Excess, Source, excess
from labd.score.rules import Finding, Judged, Rule, Rules, Testimony, alike_remark, damage_findings, phases_findings
from labd.score.sampling import PHASES_MIN, Raster, sampling_term
from labd.score.uncertainty import (
    Distribution,
    Estimate,
    Frozen,
    Scope,
    Term,
    TermName,
    limits_of_error,
    run_estimates,
)

SMEARED = 8.0
"""What a step is smeared by, times this, is three time constants of a first-order low-pass."""
WITHIN = 0.5
"""Edges that are known so well, in samples, stay within the samples that they cut."""
SCORER = "labd-energy/2"
"""Since 2, noise is measured in the rests, instants have a sampling term, and trials may be correlated."""


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
        response: What the instrument's filter smears a step at an edge by, in samples.
    """

    start: float
    stop: float
    u_start: float
    u_stop: float
    correlation: float
    response: float = 0.0

    @property
    def shared(self) -> float:
        """Standard uncertainty of what moves both edges to one side, in samples."""
        return math.sqrt(max(0.0, self.correlation) * self.u_start * self.u_stop)

    @property
    def smeared(self) -> int:
        """So many samples on each side of an edge hold what its filter makes of a step there."""
        return math.ceil(SMEARED * self.response)

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


class WindowScore(Frozen):
    """One window: energies in J, power in W.

    Args:
        trial: Number of the trial.
        inferences: N.
        start_sample, stop_sample: Its edges on the trace, in fractional samples.
        u_start_sample, u_stop_sample: Standard uncertainty of each, in samples.
        u_length_samples: Standard uncertainty of their distance, in samples.
        duration_s: Their distance by the sample clock, s.
        mean_power_w: Energy over duration: no clock's error is in it.
        energy_j: Energy of the window.
        energy_j_per_inference: The same over N.
    """

    trial: int
    inferences: int
    start_sample: float
    stop_sample: float
    u_start_sample: float
    u_stop_sample: float
    u_length_samples: float
    duration_s: float
    mean_power_w: float
    energy_j: Estimate
    energy_j_per_inference: Estimate


class RunScore(Judged):
    """Energy of a run.

    Args:
        windows: The windows that could be scored.
        energy_j_per_inference: Median of these windows; None if none could be scored.
        board_energy_j_per_inference: The same with the spread of the trials; None with fewer than two windows.
        placement: What the windows were placed by: load, pulse, steps or one_clock; None if nothing placed them.
        testimonies: What each witness said of their place.
    """

    scorer: str = SCORER
    windows: tuple[WindowScore, ...]
    energy_j_per_inference: Estimate | None
    board_energy_j_per_inference: Estimate | None
    placement: str | None = None
    testimonies: tuple[Testimony, ...] = ()


def score_run(
    readings: Sequence[WindowReading],
    instrument: Instrument,
    rules: Rules,
    *,
    inputs: Mapping[str, str] | None = None,
    findings: Sequence[Finding] = (),
    placement: str | None = None,
    testimonies: Sequence[Testimony] = (),
    rests: Sequence[Rest] = (),
) -> RunScore:
    """Score a run's windows.

    Args:
        readings: One a window; a damaged or badly placed one is refused with a finding, not scored.
        instrument: What recorded them.
        rules: What the run must fulfil.
        inputs: Names and digests of what the readings came from.
        findings: What was already found before: windows that could not be read.
        placement: What the windows were placed by.
        testimonies: What the witnesses said of it.
        rests: What lies outside the windows, to measure noise in; without any, noise is as declared.

    Raises:
        ScoreError: the columns do not tell power, or a reading has no length, inferences or neighbours.
    """
    found = list(findings)
    sound = []
    for reading in readings:
        duration_s = _duration_s(reading, instrument)
        refusals = (
            *_damage(reading),
            *rules.placement_findings(
                reading.trial,
                worst_s=max(reading.placement.u_start, reading.placement.u_stop) * instrument.period_s,
                duration_s=duration_s,
            ),
            *_sparse(reading, instrument),
        )
        if refusals:
            found.extend(refusals)
            continue
        found.extend(rules.length_findings(reading.trial, duration_s=duration_s, inferences=reading.inferences))
        sound.append(reading)
    noise = _measured(sound, instrument, rests)
    powers = tuple(reading.power_w for reading in sound)
    windows = [score_window(reading, instrument, noise=noise, powers_w=powers) for reading in sound]
    found.extend(rules.trial_findings(len(windows)))
    energies = [window.energy_j_per_inference for window in windows]
    of_windows, of_board = run_estimates(energies)
    each = [(one.trial, _noise_w(one, instrument), _duration_s(one, instrument)) for one in sound]
    remarks = (noise_remark(noise, each, instrument.period_s), alike_remark([energy.value for energy in energies]))
    return RunScore(
        inputs=dict(inputs or {}),
        windows=tuple(windows),
        energy_j_per_inference=of_windows,
        board_energy_j_per_inference=of_board,
        placement=placement,
        testimonies=tuple(testimonies),
        findings=tuple(found),
        remarks=tuple(remark for remark in remarks if remark is not None),
    )


def score_window(
    reading: WindowReading, instrument: Instrument, *, noise: Noise | None = None, powers_w: tuple[float, ...] = ()
) -> WindowScore:
    """Energy of one window with all terms of its uncertainty.

    Args:
        reading: What it is made of.
        instrument: What recorded it.
        noise: What the rests show; None for noise as declared.
        powers_w: Mean power of all windows of its run, which instants are held against, W.

    Raises:
        ScoreError: the columns do not tell power, or the reading has no length, inferences or neighbours.
    """
    _check(reading)
    placement = reading.placement
    period_s = instrument.period_s
    duration_s = _duration_s(reading, instrument)
    noise_w = _noise_w(reading, instrument)
    opening = split(reading.first, placement=placement.u_start, noise_w=noise_w)
    closing = split(reading.last, placement=placement.u_stop, noise_w=noise_w)
    energy_j = period_s * (reading.whole * reading.power_w + opening.energy + closing.energy)
    beyond = _excess(reading, instrument)
    strayed_j, response = _response(reading, period_s)
    energy_j += strayed_j - beyond.bias_w * duration_s
    terms = (
        *_column_terms(reading, instrument, energy_j=energy_j, duration_s=duration_s),
        limits_of_error(
            TermName.PRODUCT_OF_MEANS, beyond.half_width_w * duration_s, "variance of the current within the samples"
        ),
        *noise_terms(noise, noise_w, duration_s, period_s),
        *_sampling(reading, instrument, powers_w),
        _edge_placement(reading, opening, closing, period_s),
        response,
        Term(
            name=TermName.EDGE_SAMPLE,
            standard_uncertainty=period_s * math.hypot(opening.uncertainty, closing.uncertainty),
            distribution=Distribution.NORMAL,
            scope=Scope.WINDOW,
            source="steadiness of the samples beside the two that the edges cut",
        ),
        limits_of_error(
            TermName.CLOCK, energy_j * instrument.clock_ppm * 1e-6, f"sample clock within ±{instrument.clock_ppm:g} ppm"
        ),
    )
    energy = Estimate.combine(energy_j, terms)
    return WindowScore(
        trial=reading.trial,
        inferences=reading.inferences,
        start_sample=placement.start,
        stop_sample=placement.stop,
        u_start_sample=placement.u_start,
        u_stop_sample=placement.u_stop,
        u_length_samples=placement.u_length,
        duration_s=duration_s,
        mean_power_w=energy_j / duration_s,
        energy_j=energy,
        energy_j_per_inference=energy.scaled(1 / reading.inferences),
    )


def _sparse(reading: WindowReading, instrument: Instrument) -> tuple[Finding, ...]:
    if not instrument.instants:
        return ()
    _check(reading)
    return phases_findings(reading.trial, reading.raster(instrument.period_s).phases(), PHASES_MIN)


def _sampling(reading: WindowReading, instrument: Instrument, powers_w: tuple[float, ...]) -> tuple[Term, ...]:
    if not instrument.instants:
        return ()
    if reading.power is None:
        raise ScoreError("its samples are instants, and how they scatter was not read", where=f"trial {reading.trial}")
    return (
        sampling_term(
            reading.raster(instrument.period_s),
            reading.power,
            reading.parts_w,
            powers_w,
            _duration_s(reading, instrument),
        ),
    )


def _measured(readings: Sequence[WindowReading], instrument: Instrument, rests: Sequence[Rest]) -> Noise | None:
    """Noise of the power at the mean level of all windows."""
    if not readings or not rests:
        return None
    each = [_sensitivities(reading, instrument) for reading in readings]
    felt = {quantity: float(np.mean([one[quantity][0] for one in each])) for quantity in each[0]}
    return measure_noise(rests, felt)


def _check(reading: WindowReading) -> None:
    where = f"trial {reading.trial}"
    if reading.whole < 1 or reading.inferences < 1:
        raise ScoreError(
            f"a window of {reading.whole} whole samples and {reading.inferences} inferences has no energy", where=where
        )
    for edge in (reading.first, reading.last):
        if min(len(edge.outside), len(edge.inside)) < NEIGHBOURS_MIN:
            raise ScoreError(
                f"an edge has fewer than {NEIGHBOURS_MIN} samples on one of its sides",
                where=where,
                remedy="capture must begin before the window and go on after it",
            )


def _damage(reading: WindowReading) -> tuple[Finding, ...]:
    """Marked stretches; where there are none, samples that are not numbers all the same."""
    if reading.marked:
        return damage_findings(reading.trial, reading.marked)
    edges = (reading.first, reading.last)
    powers = (reading.power_w, *(value for edge in edges for value in (edge.cut, *edge.inside, *edge.outside)))
    if all(math.isfinite(power) for power in powers):
        return ()
    return (
        Finding(
            rule=Rule.UNDAMAGED,
            cause=Cause.CAPTURE_DAMAGED,
            trial=reading.trial,
            detail="the window holds samples that are not numbers, and nothing marks them",
        ),
    )


def _duration_s(reading: WindowReading, instrument: Instrument) -> float:
    return (reading.placement.stop - reading.placement.start) * instrument.period_s


_GAIN = {
    Quantity.CURRENT: TermName.CURRENT_GAIN,
    Quantity.VOLTAGE: TermName.VOLTAGE_GAIN,
    Quantity.POWER: TermName.POWER_GAIN,
    Quantity.ENERGY: TermName.ENERGY_GAIN,
}
_OFFSET = {
    Quantity.CURRENT: TermName.CURRENT_OFFSET,
    Quantity.VOLTAGE: TermName.VOLTAGE_OFFSET,
    Quantity.POWER: TermName.POWER_OFFSET,
    Quantity.ENERGY: TermName.ENERGY_OFFSET,
}


def _sensitivities(reading: WindowReading, instrument: Instrument) -> Mapping[Quantity, tuple[float, float]]:
    """For each column that makes the power: mean [W per unit of the column] and mean square of power over column.

    An offset of the current is felt times the mean voltage; noise of the current times the mean square of it.
    """
    if instrument.column(Quantity.POWER) is not None:
        return {Quantity.POWER: (1.0, 1.0)}
    if instrument.column(Quantity.ENERGY) is not None:
        return {Quantity.ENERGY: (1 / instrument.period_s, 1 / instrument.period_s**2)}
    try:
        current, voltage = reading.moments[Quantity.CURRENT], reading.moments[Quantity.VOLTAGE]
    except KeyError as error:
        raise ScoreError(
            f"power does not follow from the columns: {error.args[0]} is missing", where=f"trial {reading.trial}"
        ) from error
    return {
        Quantity.CURRENT: (voltage.mean, voltage.mean_square),
        Quantity.VOLTAGE: (current.mean, current.mean_square),
    }


def _column_terms(
    reading: WindowReading, instrument: Instrument, *, energy_j: float, duration_s: float
) -> tuple[Term, ...]:
    terms = []
    for quantity, (felt, _) in _sensitivities(reading, instrument).items():
        column = instrument.column(quantity)
        if column is None:
            raise ScoreError(f"column {quantity.value!r} is read but not declared", where=f"trial {reading.trial}")
        accuracy = column.accuracy
        limits = f"{column.provenance.value} {quantity.value}, range {accuracy.range_max:g}"
        terms += [
            limits_of_error(_GAIN[quantity], accuracy.gain * energy_j, f"{limits}: gain within ±{accuracy.gain:g}"),
            limits_of_error(
                _OFFSET[quantity],
                accuracy.offset * felt * duration_s,
                f"{limits}: offset within ±{accuracy.offset:g}",
            ),
        ]
    return tuple(terms)


def _noise_w(reading: WindowReading, instrument: Instrument) -> float:
    """Standard deviation of one sample's power from the instrument's noise, root mean square over the window, W."""
    variance = 0.0
    for quantity, (_, felt_square) in _sensitivities(reading, instrument).items():
        column = instrument.column(quantity)
        if column is not None:
            variance += felt_square * column.accuracy.noise_rms**2
    return math.sqrt(variance)


def _edge_placement(reading: WindowReading, opening: Split, closing: Split, period_s: float) -> Term:
    """A later opening edge takes energy away, a later closing one adds it; a shift of both nearly cancels.

    That holds while the edges stay within the samples that they cut. What both are shifted by beyond that trades power
    inside the window for power outside of it, whichever way they are shifted.
    """
    placement = reading.placement
    lost = opening.slope_w * placement.u_start
    won = closing.slope_w * placement.u_stop
    variance = lost**2 + won**2 - 2 * placement.correlation * lost * won
    shared = placement.shared
    near = max(1, math.ceil(2 * shared))
    before_w, begun_w, after_w, ended_w = (
        float(np.mean(side[:near]))
        for side in (reading.first.outside, reading.first.inside, reading.last.outside, reading.last.inside)
    )
    traded = max(abs(after_w - begun_w), abs(before_w - ended_w)) * shared * min(1.0, shared / WITHIN)
    return Term(
        name=TermName.EDGE_PLACEMENT,
        standard_uncertainty=period_s * math.sqrt(max(0.0, variance, traded**2)),
        distribution=Distribution.NORMAL,
        scope=Scope.RUN,
        source=f"timebase: edges to {placement.u_start * period_s:.2g} s and {placement.u_stop * period_s:.2g} s",
    )


def _response(reading: WindowReading, period_s: float) -> tuple[float, Term]:
    """What the instrument's filter takes out of a window at its edges, J: half of the most it can be, as much in doubt.

    A step up into the window is smeared to both sides of its edge, and so is the step back. How far from the edge the
    step itself lies is not known: from beside it, where all of it counts, to where nothing of it does.
    """
    placement = reading.placement
    near = max(1, placement.smeared)
    steps_w = [
        float(np.mean(edge.inside[:near]) - np.mean(edge.outside[:near])) for edge in (reading.first, reading.last)
    ]
    most_w = [_extent_w(edge, near) for edge in (reading.first, reading.last)]
    half = placement.response * period_s / 2
    term = Term(
        name=TermName.RESPONSE,
        standard_uncertainty=half * sum(most_w),
        distribution=Distribution.NORMAL,
        scope=Scope.RUN,
        source=f"the instrument's filter: it smears a step by {placement.response * period_s:.2g} s",
    )
    return half * sum(steps_w), term


def _extent_w(edge: EdgePower, near: int) -> float:
    """By how much the power changes about an edge, in means that are a quarter as long as what is smeared, W."""
    size = max(1, near // 4)
    sides = [side[: near // size * size].reshape(-1, size).mean(axis=1) for side in (edge.outside, edge.inside)]
    return float(np.ptp(np.concatenate(sides)))


def _excess(reading: WindowReading, instrument: Instrument) -> Excess:
    """What the product of means is too large by, where power is made of means of both; see `labd.score.product`."""
    current = reading.moments.get(Quantity.CURRENT)
    voltage = reading.moments.get(Quantity.VOLTAGE)
    declared = instrument.column(Quantity.VOLTAGE)
    product = instrument.column(Quantity.POWER) is None and instrument.column(Quantity.ENERGY) is None
    if not product or current is None or voltage is None or declared is None or declared.sample is not SampleKind.MEAN:
        return Excess(0.0, 0.0)
    if instrument.source is not None:
        return excess(current, instrument.source)
    variance = current.mean_square - current.mean**2
    fall_w = max(0.0, current.mean * voltage.mean - reading.power_w)
    return excess(current, Source(fall_w / variance if variance > 0 else 0.0))
