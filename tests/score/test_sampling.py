"""Means of instants: how far they are off, on boards whose bursts lie between the samples, and what is refused."""

from __future__ import annotations

import dataclasses
import math
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import pytest

from drivers.api import Provenance, Quantity, SampleKind
from labd.benchmarks import BENCHMARKS
from labd.errors import ScoreError
from labd.model.causes import Cause
from labd.score.energy import score_run
from labd.score.moments import Moments, Tally
from labd.score.rules import Rule, Rules
from labd.score.sampling import PHASES_MIN, Raster, parts_w, sampling_term
from labd.score.uncertainty import TermName
from labd.score.window import score_window
from tests.score.readings import PERIOD_S, exact, instrument, reading

TRIALS = 5
PARTS = 16


class Rhythm(StrEnum):
    """How the inferences follow each other."""

    EVEN = "even"
    UNEVEN = "uneven"  # each a little longer or shorter
    IN_STEP = "in step"  # close to a multiple of the sample period


def bursts(rng: np.random.Generator, rhythm: Rhythm, window_s: float) -> list[tuple[float, float]]:
    """Error and stated uncertainty of the mean power of each window that is not refused, W."""
    span_s = float(rng.uniform(2e-3, 12e-3))
    if rhythm is Rhythm.IN_STEP:
        span_s = PERIOD_S * round(span_s / PERIOD_S) * (1 + float(rng.uniform(-50e-6, 50e-6)))
    inferences = max(10, round(window_s / span_s))
    starts, heights = rng.uniform(0, span_s, 6), rng.uniform(0.5, 2, 6)
    widths = np.exp(rng.uniform(math.log(10e-6), math.log(1e-3), 6))
    truth = 0.3 + float(heights @ widths) / span_s
    samples = int(inferences * span_s / PERIOD_S)
    raster = Raster(samples, span_s / PERIOD_S, PERIOD_S)
    if raster.phases() < PHASES_MIN:
        return []
    recorded = []
    for _ in range(TRIALS):
        at_s = float(rng.uniform(0, PERIOD_S)) + PERIOD_S * np.arange(samples)
        into_s = np.mod(at_s, span_s)
        if rhythm is Rhythm.UNEVEN:
            spans = span_s * (1 + 0.02 * rng.standard_normal(inferences))
            ends = np.cumsum(spans)
            which = np.minimum(np.searchsorted(ends, at_s), inferences - 1)
            into_s = (at_s - ends[which] + spans[which]) / spans[which] * span_s
        power = 0.3 + ((np.mod(into_s[:, None] - starts, span_s) < widths) @ heights)
        recorded.append(power)
    means = tuple(float(power.mean()) for power in recorded)
    return [(float(power.mean()) - truth, _stated(raster, power, inferences, means)) for power in recorded]


def _stated(raster: Raster, power: npt.NDArray[np.float64], inferences: int, means: tuple[float, ...]) -> float:
    tally = Tally()
    tally.add(power)
    ends = [round(part * inferences / PARTS) / inferences * len(power) for part in range(PARTS + 1)]
    cuts = sorted({round(end) for end in ends})
    parts = tuple(float(part.mean()) for part in np.split(power, cuts[1:-1]))
    return sampling_term(raster, tally.moments(), parts, means, 1.0).standard_uncertainty


@pytest.mark.parametrize("window_s", [0.3, 1.0])
@pytest.mark.parametrize("rhythm", list(Rhythm))
def test_bursts_between_instants_are_within_what_is_stated_or_refused(rhythm: Rhythm, window_s: float) -> None:
    rng = np.random.default_rng(1)
    found = [pair for _ in range(80) for pair in bursts(rng, rhythm, window_s)]
    errors, stated = np.array(found).reshape(-1, 2).T
    if rhythm is not Rhythm.IN_STEP:
        assert len(found) > 70 * TRIALS
    assert np.sum(np.square(errors / stated)) <= 1.3**2 * len(found)


def test_an_inference_in_step_with_the_samples_is_met_at_few_phases() -> None:
    assert Raster(5000, 40.0, PERIOD_S).phases() == pytest.approx(40, rel=0.1)
    assert Raster(5000, 40.5, PERIOD_S).phases() == pytest.approx(81, rel=0.2)
    assert Raster(5000, 40 + 1 / math.pi, PERIOD_S).phases() > 1000


def test_independent_instants_scatter_as_their_mean_does() -> None:
    rng = np.random.default_rng(2)
    stated = []
    for _ in range(40):
        power = np.where(rng.uniform(size=5000) < 0.1, 1.0, 0.0)
        tally = Tally()
        tally.add(power)
        parts = tuple(float(part.mean()) for part in np.array_split(power, PARTS))
        term = sampling_term(Raster(5000, 40 + 1 / math.pi, PERIOD_S), tally.moments(), parts, (), 1.0)
        stated.append(term.standard_uncertainty)
    assert np.sqrt(np.mean(np.square(stated))) == pytest.approx(math.sqrt(0.1 * 0.9 / 5000), rel=0.15)


def test_parts_that_differ_by_a_slow_beat_count() -> None:
    beat = tuple(1 + 0.1 * math.sin(part) for part in range(PARTS))
    term = sampling_term(Raster(5000, 40.3, PERIOD_S), Moments(1.0, 1.0001, 0.9, 1.1), beat, (), 2.0)
    assert term.standard_uncertainty == pytest.approx(2 * parts_w(beat))
    assert term.degrees_of_freedom == pytest.approx(10)
    assert parts_w(beat[:2]) == 0.0


def test_windows_that_differ_by_more_than_their_samples_tell_count() -> None:
    calm = Moments(1.0, 1.0001, 0.9, 1.1)
    windows = (1.0, 1.2, 0.9, 1.1, 0.8)
    term = sampling_term(Raster(5000, 40.3, PERIOD_S), calm, (1.0,) * PARTS, windows, 1.0)
    assert term.standard_uncertainty == pytest.approx(float(np.std(windows, ddof=1)))
    assert term.degrees_of_freedom == 4


# --- in a score ------------------------------------------------------------------------------------------------


def instants(provenance: Provenance = Provenance.MEASURED) -> object:
    declared = instrument()
    columns = tuple(
        dataclasses.replace(column, sample=SampleKind.INSTANT, provenance=provenance)
        if column.quantity is Quantity.CURRENT
        else column
        for column in declared.columns
    )
    return dataclasses.replace(declared, columns=columns)


def window(inferences: int) -> object:
    rng = np.random.default_rng(4)
    power = 0.03 + 0.01 * rng.standard_normal(6000)
    made = reading(power / 3.0, np.full(6000, 3.0), exact(500.0, 5500.0), inferences=inferences)
    tally = Tally()
    tally.add(power[501:5500])
    parts = tuple(float(part.mean()) for part in np.array_split(power[501:5500], PARTS))
    return dataclasses.replace(made, power=tally.moments(), parts_w=parts)


def test_only_measured_instants_have_a_sampling_term() -> None:
    of_instants = score_window(window(123), instants()).energy_j
    assert of_instants.part(TermName.SAMPLING) == pytest.approx(0.01 / math.sqrt(5000) * 5000 * PERIOD_S, rel=0.5)
    of_means = score_window(window(123), instrument()).energy_j
    assert of_means.part(TermName.SAMPLING) == 0.0
    assert score_window(window(123), instants(Provenance.SET)).energy_j.part(TermName.SAMPLING) == 0.0


def test_a_window_in_step_with_its_samples_is_refused() -> None:
    made = score_run([window(125)], instants(), Rules.of(BENCHMARKS["digits01"]))
    assert made.windows == ()
    assert (made.findings[0].rule, made.findings[0].cause) == (Rule.SAMPLED, Cause.SAMPLES_SPARSE)
    assert "at 42 phases only" in made.findings[0].detail


def test_instants_whose_scatter_was_not_read_are_refused() -> None:
    with pytest.raises(ScoreError, match="how they scatter was not read"):
        score_window(dataclasses.replace(window(123), power=None), instants())
