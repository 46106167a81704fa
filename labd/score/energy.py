"""Energy of a run's windows, between their timing edges, and what it says of the board.

Two quantities are told apart. The energy per inference *of these windows* is uncertain by the instrument, the timing
and the noise. What *this board* needs is also uncertain by the spread of its trials.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from labd.model.causes import Cause
from labd.score.noise import Noise, Rest, measure_noise, noise_remark
from labd.score.reading import Instrument, WindowReading
from labd.score.rules import Finding, Judged, Rule, Rules, Testimony, alike_remark, damage_findings, phases_findings
from labd.score.sampling import PHASES_MIN
from labd.score.uncertainty import (
    Estimate,
    run_estimates,
)
from labd.score.window import WindowScore, score_window

SCORER = "labd-energy/3"
"""Since 2, noise is measured in the rests, instants have a sampling term, and trials may be correlated. Since 3, levels
of rests far apart tell slow noise, a filter's smear is a term, and intervals are made of the terms' distributions."""


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
        duration_s = reading.duration_s(instrument)
        refusals = (
            *_damage(reading),
            *rules.placement_findings(
                reading.trial,
                length_s=reading.placement.u_length * instrument.period_s,
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
    each = [(one.trial, one.noise_w(instrument), one.duration_s(instrument)) for one in sound]
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


def _sparse(reading: WindowReading, instrument: Instrument) -> tuple[Finding, ...]:
    if not instrument.instants:
        return ()
    reading.check()
    return phases_findings(reading.trial, reading.raster(instrument.period_s).phases(), PHASES_MIN)


def _measured(readings: Sequence[WindowReading], instrument: Instrument, rests: Sequence[Rest]) -> Noise | None:
    """Noise of the power at the mean level of all windows."""
    if not readings or not rests:
        return None
    each = [reading.sensitivities(instrument) for reading in readings]
    felt = {quantity: float(np.mean([one[quantity][0] for one in each])) for quantity in each[0]}
    return measure_noise(rests, felt)


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
