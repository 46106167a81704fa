"""Energy of windows: closed forms, named terms, what is shared by a run's windows, and every refusal."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.api import Interval, IntervalKind, Quantity
from labd.benchmarks import BENCHMARKS
from labd.errors import ScoreError
from labd.model.causes import Cause
from labd.score.edge_sample import EdgePower, split
from labd.score.energy import RunScore, score_run
from labd.score.reading import Placement
from labd.score.rules import Rule, Rules
from labd.score.uncertainty import Scope, TermName
from labd.score.window import score_window
from tests.score.readings import CURRENT, NOTHING, PERIOD_S, VOLTAGE, exact, instrument, reading

RULES = Rules.of(BENCHMARKS["digits01"])
IDEAL = instrument(NOTHING, NOTHING, 0.0)
SAMPLES = 6000


def constant(power_w: float = 0.03) -> tuple[np.ndarray, np.ndarray]:
    return np.full(SAMPLES, power_w / 3.0), np.full(SAMPLES, 3.0)


@given(st.floats(20, 2000), st.floats(500, 3900), st.floats(1e-6, 1.0))
def test_constant_power_times_duration(start: float, length: float, power_w: float) -> None:
    window = score_window(reading(*constant(power_w), exact(start, start + length)), IDEAL)
    assert window.energy_j.value == pytest.approx(power_w * length * PERIOD_S, rel=1e-9)
    assert window.duration_s == pytest.approx(length * PERIOD_S, rel=1e-12)
    assert window.mean_power_w == pytest.approx(power_w, rel=1e-9)
    assert window.energy_j.standard_uncertainty <= 1e-9 * window.energy_j.value


@given(st.floats(20, 2000), st.floats(500, 3900), st.floats(0.001, 0.05), st.floats(0.001, 0.05))
def test_a_step_at_the_edges_is_split_exactly(start: float, length: float, idle_a: float, busy_a: float) -> None:
    stop = start + length
    k = np.arange(SAMPLES)
    inside = np.clip(np.minimum(k + 1, stop) - np.maximum(k, start), 0, 1)  # share of each sample in the window
    current = idle_a + (busy_a - idle_a) * inside
    window = score_window(reading(current, np.full(SAMPLES, 3.0), exact(start, stop)), IDEAL)
    assert window.energy_j.value == pytest.approx(3.0 * busy_a * length * PERIOD_S, rel=1e-9)


def test_square_wave_inside_the_window_has_the_mean_of_its_levels() -> None:
    current = np.full(SAMPLES, 0.002)
    current[1000:5000] = np.where(np.arange(4000) % 2, 0.005, 0.015)
    window = score_window(reading(current, np.full(SAMPLES, 3.0), exact(1000.0, 5000.0)), IDEAL)
    assert window.mean_power_w == pytest.approx(0.03)
    assert window.energy_j_per_inference.value == pytest.approx(0.03 * 4000 * PERIOD_S / 100)


def test_every_term_has_its_closed_form() -> None:
    length = 4000.0
    placement = Placement(start=1000.3, stop=1000.3 + length, u_start=0.1, u_stop=0.2, correlation=0.5)
    window = score_window(reading(*constant(), placement), instrument())
    energy_j, duration_s = 0.03 * length * PERIOD_S, length * PERIOD_S
    part = window.energy_j.part
    root3 = math.sqrt(3)
    assert part(TermName.CURRENT_GAIN) == pytest.approx(CURRENT.gain * energy_j / root3)
    assert part(TermName.CURRENT_OFFSET) == pytest.approx(CURRENT.offset * 3.0 * duration_s / root3)
    assert part(TermName.VOLTAGE_GAIN) == pytest.approx(VOLTAGE.gain * energy_j / root3)
    assert part(TermName.VOLTAGE_OFFSET) == pytest.approx(VOLTAGE.offset * 0.01 * duration_s / root3)
    assert part(TermName.CLOCK) == pytest.approx(50e-6 * energy_j / root3)
    noise_w = math.hypot(3.0 * CURRENT.noise_rms, 0.01 * VOLTAGE.noise_rms)
    assert part(TermName.NOISE) == pytest.approx(PERIOD_S * noise_w * math.sqrt(length), rel=1e-6)
    assert part(TermName.EDGE_PLACEMENT) == pytest.approx(0.03 * PERIOD_S * math.sqrt(0.01 + 0.04 - 0.02))
    assert window.energy_j.standard_uncertainty == pytest.approx(
        math.sqrt(sum(term.standard_uncertainty**2 for term in window.energy_j.terms))
    )
    own = {term.name for term in window.energy_j.terms if term.scope is Scope.WINDOW}
    assert own == {TermName.NOISE, TermName.EDGE_SAMPLE}


def test_noise_scatters_as_stated() -> None:
    rng = np.random.default_rng(3)
    noisy = instrument(dataclasses.replace(CURRENT, noise_rms=1e-4), dataclasses.replace(VOLTAGE, noise_rms=0.01))
    ratios = []
    for _ in range(300):
        current = 0.01 + 1e-4 * rng.standard_normal(SAMPLES)
        voltage = 3.0 + 0.01 * rng.standard_normal(SAMPLES)
        energy = score_window(reading(current, voltage, exact(1000.4, 3000.9)), noisy).energy_j
        ratios.append((energy.value - 0.03 * 2000.5 * PERIOD_S) / energy.part(TermName.NOISE, TermName.EDGE_SAMPLE))
    assert 0.88 < np.sqrt(np.mean(np.square(ratios))) < 1.12


def test_the_product_of_means_is_corrected_within_its_term() -> None:
    # 5 and 50 mA by turns behind 0.5 ohm, much faster than the samples, with a duty that wanders slowly.
    duty = 0.5 + 0.5 * np.sin(np.arange(SAMPLES) / 7.0)
    current = 0.005 + 0.045 * duty
    voltage = 3.0 - 0.5 * current
    true_w = duty * 0.05 * (3 - 0.025) + (1 - duty) * 0.005 * (3 - 0.0025)
    true_j = float(true_w[1000:5000].sum()) * PERIOD_S
    window = score_window(reading(current, voltage, exact(1000.0, 5000.0)), IDEAL)
    naive_j = float((current * voltage)[1000:5000].sum()) * PERIOD_S
    assert naive_j - true_j > 5e-4 * true_j
    half_width_j = math.sqrt(3) * window.energy_j.part(TermName.PRODUCT_OF_MEANS)
    assert abs(window.energy_j.value - true_j) <= half_width_j
    assert abs(window.energy_j.value - true_j) < abs(naive_j - true_j)


def test_a_power_column_stands_for_itself() -> None:
    current, voltage = constant()
    made = reading(current, voltage, exact(1000.0, 5000.0))
    column = dataclasses.replace(instrument().columns[0], quantity=Quantity.POWER)
    meter = dataclasses.replace(instrument(), columns=(column,))
    energy = score_window(dataclasses.replace(made, moments={}), meter).energy_j
    assert energy.value == pytest.approx(0.03 * 4000 * PERIOD_S)
    assert {term.name for term in energy.terms} >= {TermName.POWER_GAIN, TermName.POWER_OFFSET}
    assert energy.part(TermName.CURRENT_GAIN) == 0.0


# --- runs ------------------------------------------------------------------------------------------------------


def five(length: float = 5000.0, inferences: int = 100) -> list:
    rng = np.random.default_rng(1)
    made = []
    for trial in range(5):
        current, voltage = constant(0.03 * (1 + 0.001 * rng.standard_normal()))
        made.append(reading(current, voltage, exact(100.5, 100.5 + length), trial=trial, inferences=inferences))
    return made


def test_a_run_has_two_quantities() -> None:
    score = score_run(five(), instrument(), RULES, inputs={"samples.parquet": "ab" * 32})
    windows, board = score.energy_j_per_inference, score.board_energy_j_per_inference
    assert windows is not None
    assert board is not None
    assert score.valid
    assert score.scorer == "labd-energy/3"
    assert windows.value == sorted(window.energy_j_per_inference.value for window in score.windows)[2]
    assert windows.part(TermName.SPREAD) == 0.0
    assert board.value == windows.value
    assert board.standard_uncertainty > windows.standard_uncertainty
    assert board.degrees_of_freedom is not None
    assert board.interval[0] < windows.interval[0] < windows.interval[1] < board.interval[1]


def test_a_runs_gain_does_not_average_out() -> None:
    score = score_run(five(), instrument(), RULES)
    one, median = score.windows[0].energy_j_per_inference, score.energy_j_per_inference
    assert median is not None
    assert median.part(TermName.CURRENT_GAIN) == pytest.approx(one.part(TermName.CURRENT_GAIN), rel=0.01)
    assert median.part(TermName.NOISE) <= one.part(TermName.NOISE) * 1.001


def test_a_score_survives_json() -> None:
    score = score_run(five(1000.0), instrument(), RULES, inputs={"meta.json": "00"})
    assert not score.valid
    assert RunScore.model_validate_json(score.model_dump_json()) == score


def test_a_score_of_an_earlier_version_is_still_read() -> None:
    document = score_run(five(1000.0), instrument(), RULES).model_dump(mode="json")
    del document["remarks"]
    read = RunScore.model_validate({**document, "scorer": "labd-energy/1"})
    assert (read.scorer, read.remarks) == ("labd-energy/1", ())


def test_marked_samples_refuse_a_window() -> None:
    readings = five()
    readings[2] = dataclasses.replace(readings[2], marked=(Interval(IntervalKind.GAP, 700, 720),))
    score = score_run(readings, instrument(), RULES)
    assert [(f.rule, f.cause, f.trial) for f in score.findings] == [
        (Rule.UNDAMAGED, Cause.CAPTURE_DAMAGED, 2),
        (Rule.TRIALS, Cause.TRIALS_MISSING, None),
    ]
    assert [window.trial for window in score.windows] == [0, 1, 3, 4]
    assert "700 to 720 are marked gap" in score.findings[0].detail


def test_many_marks_of_one_kind_are_one_finding() -> None:
    readings = five()
    peaks = tuple(Interval(IntervalKind.CLIPPED, 700 + 10 * k, 703 + 10 * k) for k in range(1000))
    readings[2] = dataclasses.replace(readings[2], marked=(*peaks, Interval(IntervalKind.GAP, 5, 9)))
    clipped, gap, _ = score_run(readings, instrument(), RULES).findings
    assert clipped.detail == "samples 700 to 10693 are marked clipped, in 1000 stretches"
    assert gap.detail == "samples 5 to 9 are marked gap"


def test_samples_that_are_not_numbers_refuse_a_window() -> None:
    readings = five()
    readings[1] = dataclasses.replace(readings[1], power_w=math.nan)
    (damaged, _) = score_run(readings, instrument(), RULES).findings
    assert (damaged.rule, damaged.cause, damaged.trial) == (Rule.UNDAMAGED, Cause.CAPTURE_DAMAGED, 1)


def test_a_poor_timebase_refuses_a_window() -> None:
    readings = five()
    readings[0] = dataclasses.replace(readings[0], placement=dataclasses.replace(readings[0].placement, u_stop=6.0))
    (placed, _) = score_run(readings, instrument(), RULES).findings
    assert (placed.rule, placed.cause, placed.trial) == (Rule.EDGES_PLACED, Cause.TIMEBASE_POOR, 0)


def test_short_windows_and_few_inferences_are_scored_and_named() -> None:
    score = score_run(five(1000.0, inferences=9), instrument(), RULES)
    assert {finding.rule for finding in score.findings} == {Rule.MIN_WINDOW, Rule.MIN_INFERENCES}
    assert {finding.cause for finding in score.findings} == {Cause.WINDOW_SHORT}
    assert len(score.windows) == 5


def test_one_window_says_nothing_of_the_spread() -> None:
    score = score_run(five()[:1], instrument(), RULES)
    assert score.energy_j_per_inference is not None
    assert score.board_energy_j_per_inference is None
    assert not score.valid


def test_no_window_makes_no_score() -> None:
    score = score_run([], instrument(), RULES)
    assert score.energy_j_per_inference is None
    assert [finding.rule for finding in score.findings] == [Rule.TRIALS]


def test_columns_without_power_are_refused() -> None:
    made = five()[0]
    only_current = {Quantity.CURRENT: made.moments[Quantity.CURRENT]}
    with pytest.raises(ScoreError, match="voltage is missing"):
        score_window(dataclasses.replace(made, moments=only_current), instrument())


def test_a_window_without_neighbours_or_samples_is_refused() -> None:
    made = five()[0]
    bare = dataclasses.replace(made.first, outside=np.zeros(1))
    with pytest.raises(ScoreError, match="fewer than 2 samples"):
        score_window(dataclasses.replace(made, first=bare), instrument())
    with pytest.raises(ScoreError, match="no energy"):
        score_window(dataclasses.replace(made, whole=0), instrument())


# --- the cut sample --------------------------------------------------------------------------------------------


@given(st.floats(0, 1), st.floats(0, 0.1), st.floats(0, 0.1))
def test_the_cut_sample_of_a_step_is_split_without_error(share: float, outside_w: float, inside_w: float) -> None:
    cut = (1 - share) * outside_w + share * inside_w
    edge = EdgePower(outside=np.full(8, outside_w), cut=cut, inside=np.full(8, inside_w), share=share)
    made = split(edge, placement=0.0, noise_w=0.0)
    assert made.energy == pytest.approx(share * inside_w, abs=1e-12)
    assert made.uncertainty == pytest.approx(0.0, abs=1e-9)


def test_the_steadier_side_decides() -> None:
    rng = np.random.default_rng(2)
    restless = 0.03 + 0.005 * rng.standard_normal(8)
    edge = EdgePower(outside=np.full(8, 0.01), cut=0.02, inside=restless, share=0.5)
    made = split(edge, placement=0.0, noise_w=1e-6)
    assert made.energy == pytest.approx(0.015, rel=1e-3)
    assert made.uncertainty < 0.005 / 2  # what the restless side leaves open of work within the cut sample
    assert made.slope_w == pytest.approx(0.01, rel=1e-2)


def test_sides_that_disagree_widen_the_uncertainty() -> None:
    calm = EdgePower(outside=np.full(8, 0.01), cut=0.02, inside=np.full(8, 0.03), share=0.5)
    torn = dataclasses.replace(calm, cut=0.028)
    assert (
        split(torn, placement=0.0, noise_w=1e-5).uncertainty
        > 100 * split(calm, placement=0.0, noise_w=1e-5).uncertainty
    )


@pytest.mark.parametrize("lag", [0.0, 300.0])
def test_what_a_filter_smears_over_the_edges_is_half_put_back_and_as_much_in_doubt(lag: float) -> None:
    # A low-pass of 20 samples sees a step up at 1000 + lag and one back at 5000 - lag; its middle lies 20 later.
    tau, low_a, high_a = 20.0, 2e-3, 12e-3
    up, down = 1000.0 + lag, 5000.0 - lag
    bounds = np.arange(6001.0)
    rise, fall = np.maximum(bounds - up, 0.0), np.maximum(bounds - down, 0.0)
    charge = low_a * bounds + (high_a - low_a) * (
        (rise + tau * np.expm1(-rise / tau)) - (fall + tau * np.expm1(-fall / tau))
    )
    placement = dataclasses.replace(exact(1020.0, 5020.0), response=tau / math.e)
    made = score_window(reading(np.diff(charge), np.full(6000, 3.0), placement), instrument(NOTHING, NOTHING, 0.0))
    true_j = 3.0 * (low_a * 4000 + (high_a - low_a) * (down - up)) * PERIOD_S
    smeared_j = made.energy_j.part(TermName.RESPONSE)
    assert smeared_j == pytest.approx(
        3.0 * (high_a - low_a) * tau / math.e * PERIOD_S if not lag else 0.0, rel=0.1, abs=1e-9
    )
    assert abs(made.energy_j.value - true_j) < 1.1 * smeared_j + 1e-9 * true_j
