"""Energy of one window with all terms of its uncertainty.

It is the sum of the window's whole samples and of its parts of the two samples that its edges cut, times the sample
period. Gain and offset errors, slow noise, the clocks, the timebase and the filter's response are the same in all
windows of a run: they do not average out over trials. Noise and the cut samples are each window's own.
"""

from __future__ import annotations

import math

import numpy as np

from drivers.api import Quantity, SampleKind
from labd.errors import ScoreError
from labd.score.edge_sample import EdgePower, Split, split
from labd.score.noise import Noise, noise_terms
from labd.score.product import Excess, Source, excess
from labd.score.reading import Instrument, WindowReading
from labd.score.sampling import sampling_term
from labd.score.uncertainty import Distribution, Estimate, Frozen, Scope, Term, TermName, limits_of_error

WITHIN = 0.5
"""Edges that are known so well, in samples, stay within the samples that they cut."""


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
    reading.check()
    placement = reading.placement
    period_s = instrument.period_s
    duration_s = reading.duration_s(instrument)
    noise_w = reading.noise_w(instrument)
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
            reading.duration_s(instrument),
        ),
    )


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


def _column_terms(
    reading: WindowReading, instrument: Instrument, *, energy_j: float, duration_s: float
) -> tuple[Term, ...]:
    terms = []
    for quantity, (felt, _) in reading.sensitivities(instrument).items():
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
    step itself lies is not known: from beside it, where all of it counts, to where nothing of it does. Boards of either
    kind are common, so the half is taken whole for a standard uncertainty, and not as a limit of error.
    """
    placement = reading.placement
    near = max(1, placement.smeared)
    settled = slice(3 * near // 4, near)  # what is smeared has come and gone there
    steps_w = [
        float(np.mean(edge.inside[settled]) - np.mean(edge.outside[settled])) for edge in (reading.first, reading.last)
    ]
    most_w = [_extent_w(edge, near) for edge in (reading.first, reading.last)]
    smear_s = (placement.response or 0.0) * period_s
    source = f"the instrument's filter: it smears a step by {smear_s:.2g} s"
    if placement.response is None:
        source = "the instrument's filter: no step stands by itself, what it smears is not known and taken for nothing"
    term = Term(
        name=TermName.RESPONSE,
        standard_uncertainty=smear_s / 2 * sum(most_w),
        distribution=Distribution.NORMAL,
        scope=Scope.RUN,
        source=source,
    )
    return smear_s / 2 * sum(steps_w), term


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
