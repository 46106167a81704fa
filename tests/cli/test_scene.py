"""What a picture shows, as data: bins, limits, windows, edges, marks; and what cannot be shown, by name."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivers.api import Interval, IntervalKind, Quantity
from labd.cli.picture.phases import Phase
from labd.cli.picture.scene import OneInference, OneWindow, Scene, Sight, Stretch, WholeRun, make_scene
from labd.cli.picture.signal import make_bins, quantities_of
from labd.errors import TraceError
from labd.trace.reader import Trace
from tests.cli.staged_run import BUSY_A, IDLE_A, SUPPLY_V, StagedRun
from tests.trace.recording import make_signal, record

RUN = StagedRun()
PERIOD_S = RUN.period_s


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    return Trace.open(RUN.record(tmp_path_factory.mktemp("run")))


def scene_of(trace: Trace, sight: Sight | None = None, quantity: Quantity | None = None, pixels: int = 1000) -> Scene:
    return make_scene(trace, sight or WholeRun(), quantity=quantity, pixels=pixels)


def test_a_whole_run_shows_all_samples_in_a_bin_a_pixel(trace: Trace) -> None:
    scene = scene_of(trace)
    current = trace.samples(Quantity.CURRENT).astype(np.float64)
    assert (scene.start_s, scene.stop_s) == (0.0, trace.duration_s)
    assert len(scene.bins.mean) == 1000
    cuts = np.round(scene.bins.limits_s / PERIOD_S).astype(int)
    assert (cuts[0], cuts[-1]) == (0, trace.rows)
    assert scene.bins.samples == np.diff(cuts).max()
    for k in (0, 123, 999):
        inside = current[cuts[k] : cuts[k + 1]]
        assert scene.bins.low[k] == inside.min()
        assert scene.bins.high[k] == inside.max()
        assert scene.bins.mean[k] == pytest.approx(inside.mean(), rel=1e-12)


def test_windows_lie_where_the_board_computed_and_have_their_energies(trace: Trace) -> None:
    scene = scene_of(trace)
    assert [window.trial for window in scene.windows] == [0, 1, 2, 3, 4]
    for window, (start_s, stop_s) in zip(scene.windows, RUN.windows_s, strict=True):
        assert window.start_s == pytest.approx(start_s, abs=0.3 * PERIOD_S)
        assert window.stop_s == pytest.approx(stop_s, abs=0.3 * PERIOD_S)
        assert (window.inferences, window.warmups, window.refused) == (40, 4, "")
        assert window.energy_j == pytest.approx(RUN.energy_j, rel=1e-3)
        assert window.uncertainty_j is not None
        assert 0 < window.uncertainty_j < 0.01 * RUN.energy_j
    assert scene.run.energy_j == pytest.approx(RUN.energy_j, rel=1e-3)
    assert [edge.pin for edge in scene.edges] == [0] * 10
    assert not any(edge.rising for edge in scene.edges)
    assert scene.syncs_s == (0.0,)


def test_one_window_shows_load_warm_up_and_results_beside_it(trace: Trace) -> None:
    scene = scene_of(trace, OneWindow(2))
    start_s, stop_s = RUN.windows_s[2]
    assert [window.trial for window in scene.windows] == [2]
    assert scene.start_s < start_s - 0.1
    assert stop_s < scene.stop_s < stop_s + 0.1
    load, warm_up, results = scene.phases
    assert (load.phase, warm_up.phase, results.phase) == (
        Phase.LOAD,
        Phase.WARM_UP,
        Phase.RESULTS_AND_LOAD,
    )
    length_s = RUN.warmups * RUN.inference_s
    assert warm_up.stop_s - warm_up.start_s == pytest.approx(length_s, rel=0.02)
    assert warm_up.stop_s == pytest.approx(start_s - RUN.line_s, abs=0.02 * length_s)
    assert (load.start_s, load.stop_s) == (scene.start_s, warm_up.start_s)
    assert results.stop_s == scene.stop_s
    assert scene_of(trace, OneWindow(4)).phases[-1].phase is Phase.RESULTS


def test_a_run_without_warm_up_names_no_phases(tmp_path: Path) -> None:
    quiet = Trace.open(StagedRun(trials=1, warmups=0).record(tmp_path))
    assert scene_of(quiet, OneWindow(0)).phases == ()


def test_one_inference_is_its_part_of_the_window_with_its_neighbours(trace: Trace) -> None:
    scene = scene_of(trace, OneInference(17, trial=2))
    part = scene.inference
    assert part is not None
    start_s = RUN.windows_s[2][0] + 17 * RUN.inference_s
    assert part.start_s == pytest.approx(start_s, abs=0.3 * PERIOD_S)
    assert part.stop_s - part.start_s == pytest.approx(RUN.inference_s, rel=1e-3)
    assert part.samples == pytest.approx(RUN.inference_s / PERIOD_S, rel=1e-3)
    assert part.energy_j == pytest.approx(RUN.energy_j, rel=1e-2)
    assert [number for number, _, _ in scene.neighbours] == [16, 18]
    assert scene.neighbours[0][2] == pytest.approx(part.start_s)
    assert scene.neighbours[1][1] == pytest.approx(part.stop_s)
    assert scene.origin_s == pytest.approx(RUN.windows_s[2][0], abs=0.3 * PERIOD_S)
    assert scene.bins.samples == 1
    assert np.array_equal(scene.bins.low, scene.bins.high)


def test_the_first_and_last_inference_have_a_neighbour_on_one_side_only(trace: Trace) -> None:
    assert [number for number, _, _ in scene_of(trace, OneInference(0)).neighbours] == [1]
    assert [number for number, _, _ in scene_of(trace, OneInference(39)).neighbours] == [38]


def test_an_inference_shorter_than_a_sample_is_shown_among_several_samples(tmp_path: Path) -> None:
    fast = Trace.open(StagedRun(trials=1, inferences=5000, inference_s=0.1e-3).record(tmp_path))
    scene = scene_of(fast, OneInference(100))
    assert scene.inference is not None
    assert scene.inference.samples < 1
    assert len(scene.bins.mean) >= 12


def test_few_samples_are_shown_each_by_itself_from_k_to_k_plus_1(trace: Trace) -> None:
    scene = scene_of(trace, Stretch(100 * PERIOD_S, 120 * PERIOD_S))
    assert scene.bins.limits_s == pytest.approx(np.arange(100, 121) * PERIOD_S)
    assert scene.bins.mean == pytest.approx(trace.samples(Quantity.CURRENT, 100, 120).astype(np.float64))
    assert scene.bins.samples == 1


def test_a_stretch_shows_what_lies_in_it_alone(trace: Trace) -> None:
    start_s, stop_s = RUN.windows_s[1]
    scene = scene_of(trace, Stretch(start_s + 0.1, stop_s + 0.1))
    assert [window.trial for window in scene.windows] == [1]
    assert [edge.at_s for edge in scene.edges] == [pytest.approx(stop_s, abs=0.3 * PERIOD_S)]
    assert scene.syncs_s == ()
    assert scene.run.energy_j is not None


def test_marks_are_shown_and_the_window_they_spoil_is_refused(tmp_path: Path) -> None:
    start_s, _ = RUN.windows_s[1]
    inside = round((start_s + 0.4) / PERIOD_S)
    marks = (Interval(IntervalKind.GAP, 900, 950), Interval(IntervalKind.CLIPPED, inside, inside + 3))
    scene = scene_of(Trace.open(StagedRun(marks=marks).record(tmp_path)))
    assert [(mark.kind, mark.start_s, mark.stop_s) for mark in scene.marks] == [
        (mark.kind, pytest.approx(mark.start * PERIOD_S), pytest.approx(mark.stop * PERIOD_S)) for mark in marks
    ]
    assert [window.refused for window in scene.windows] == ["", "damaged", "", "", ""]
    assert scene.windows[1].energy_j is None


@pytest.mark.parametrize("scored_max", [20_000_000, 0])
@pytest.mark.parametrize("sent", [9.91e37, -9.91e37, math.nan, math.inf])
def test_a_record_that_is_no_reading_spoils_its_own_window_and_nothing_else(
    trace: Trace, tmp_path: Path, sent: float, scored_max: int
) -> None:
    inside = round((RUN.windows_s[1][0] + 0.4) / PERIOD_S)
    spoilt = Trace.open(StagedRun(spoilt={900: sent, inside: sent}).record(tmp_path))
    scene, whole = (
        make_scene(each, WholeRun(), quantity=None, pixels=1000, scored_max=scored_max) for each in (spoilt, trace)
    )
    assert [(mark.name, round(mark.start_s / PERIOD_S)) for mark in scene.marks] == [
        ("no reading", 900),
        ("no reading", inside),
    ]
    assert [window.refused for window in scene.windows] == ["", "damaged", "", "", ""]
    assert [window.energy_j for window in scene.windows] == [
        None if window.trial == 1 else pytest.approx(window.energy_j, rel=1e-9) for window in whole.windows
    ]
    np.testing.assert_allclose(scene.bins.high, whole.bins.high, rtol=1e-6)
    np.testing.assert_allclose(scene.bins.low, whole.bins.low, rtol=1e-6)


def test_a_warm_up_with_a_hole_in_it_is_found_by_the_level_of_the_rest(tmp_path: Path) -> None:
    start_s, _ = RUN.windows_s[1]
    length_s = RUN.warmups * RUN.inference_s
    begin = round((start_s - RUN.line_s - 0.8 * length_s) / PERIOD_S)
    gap = Interval(IntervalKind.GAP, begin, begin + round(0.4 * length_s / PERIOD_S))
    scene = scene_of(Trace.open(StagedRun(marks=(gap,)).record(tmp_path)), OneWindow(1))
    assert Phase.WARM_UP in [phase.phase for phase in scene.phases]


def test_a_gap_is_a_hole_in_the_signal(tmp_path: Path) -> None:
    gap = Interval(IntervalKind.GAP, 1000, 1500)
    scene = scene_of(Trace.open(StagedRun(marks=(gap,)).record(tmp_path)), Stretch(0.0, 2000 * PERIOD_S), pixels=100)
    hole = np.isnan(scene.bins.mean)
    middle = 0.5 * (scene.bins.limits_s[1:] + scene.bins.limits_s[:-1]) / PERIOD_S
    assert np.array_equal(hole, (middle > 1000) & (middle < 1500))
    assert np.array_equal(hole, np.isnan(scene.bins.low))


def test_a_stretch_of_nothing_but_gap_has_bins_without_figures(tmp_path: Path) -> None:
    gap = Interval(IntervalKind.GAP, 100, 300)
    gone = Trace.open(StagedRun(trials=0, marks=(gap,)).record(tmp_path))
    assert np.isnan(scene_of(gone, Stretch(120 * PERIOD_S, 200 * PERIOD_S)).bins.mean).all()


@pytest.mark.parametrize(
    ("quantity", "level"),
    [
        (Quantity.CURRENT, IDLE_A),
        (Quantity.VOLTAGE, SUPPLY_V),
        (Quantity.POWER, IDLE_A * SUPPLY_V),
        (Quantity.ENERGY, IDLE_A * SUPPLY_V * PERIOD_S),
    ],
)
def test_power_and_energy_follow_from_current_and_voltage(trace: Trace, quantity: Quantity, level: float) -> None:
    scene = scene_of(trace, Stretch(0.0, 0.1), quantity)
    assert scene.bins.mean.mean() == pytest.approx(level, rel=1e-2)


def test_a_trace_of_energies_shows_them_first_and_power_on_demand(tmp_path: Path) -> None:
    energies = Trace.open(StagedRun(trials=1, period_s=1e-3, quantities=(Quantity.ENERGY,)).record(tmp_path))
    assert quantities_of(energies.meta) == (Quantity.ENERGY, Quantity.POWER)
    start_s, stop_s = StagedRun(trials=1).windows_s[0]
    inside = Stretch(start_s, stop_s)
    assert scene_of(energies, inside).bins.mean.mean() == pytest.approx(BUSY_A * SUPPLY_V * 1e-3, rel=1e-2)
    power = scene_of(energies, inside, Quantity.POWER)
    assert power.bins.mean.mean() == pytest.approx(BUSY_A * SUPPLY_V, rel=1e-2)


def test_energies_without_uncertainty_where_the_samples_may_not_all_be_read(trace: Trace) -> None:
    scene = make_scene(trace, WholeRun(), quantity=None, pixels=100, scored_max=1000)
    assert [window.uncertainty_j for window in scene.windows] == [None] * 5
    assert scene.run.energy_j == pytest.approx(RUN.energy_j, rel=1e-3)
    assert scene.run.uncertainty_j is None


def test_a_long_trace_is_shown_from_its_pyramid(tmp_path: Path) -> None:
    signal = make_signal(40_500)
    long = Trace.open(record(tmp_path, signal))
    scene = scene_of(long, pixels=10)
    assert scene.bins.samples >= 4000
    assert scene.bins.low.min() == signal[Quantity.CURRENT].min()
    assert scene.bins.high.max() == signal[Quantity.CURRENT].max()
    power = signal[Quantity.CURRENT].astype(np.float64) * signal[Quantity.VOLTAGE]
    shown = scene_of(long, quantity=Quantity.ENERGY, pixels=10).bins
    counts = np.diff(shown.limits_s) / long.period_s
    assert float(shown.mean @ counts) == pytest.approx(power.sum() * long.period_s, rel=1e-9)


def test_edges_that_nothing_ties_to_samples_are_remarked_on(tmp_path: Path) -> None:
    untied = Trace.open(StagedRun(trials=2, synced=False, quantities=(Quantity.VOLTAGE,)).record(tmp_path))
    scene = scene_of(untied)
    assert scene.windows == scene.edges == ()
    assert [remark.split(":")[0] for remark in scene.run.remarks] == ["edges have no time"]
    with pytest.raises(TraceError, match="shows no window; edges have no time"):
        scene_of(untied, OneInference(0))


def test_edges_of_a_digital_column_make_windows_with_plain_sums(tmp_path: Path) -> None:
    run = StagedRun(
        trials=2,
        quantities=(Quantity.CURRENT, Quantity.VOLTAGE, Quantity.DIGITAL),
        meta={"tick_rate_hz": None, "tick_clock_ppm": None, "edge_source": None, "sync_pin": None},
    )
    scene = scene_of(Trace.open(run.record(tmp_path)))
    assert len(scene.edges) == 4
    for window, (start_s, stop_s) in zip(scene.windows, run.windows_s, strict=True):
        assert window.start_s == pytest.approx(start_s, abs=PERIOD_S)
        assert window.stop_s == pytest.approx(stop_s, abs=PERIOD_S)
        assert window.energy_j == pytest.approx(run.energy_j, rel=2e-3)
        assert window.uncertainty_j is None


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=st.integers(0, 40_000), length=st.integers(1, 2_000), pixels=st.integers(1, 3000))
def test_bins_cover_the_stretch_and_lose_no_sample(trace: Trace, first: int, length: int, pixels: int) -> None:
    stop = min(first + length, trace.rows)
    bins = make_bins(trace, Quantity.CURRENT, first * PERIOD_S, stop * PERIOD_S, pixels)
    cuts = bins.limits_s / PERIOD_S
    samples = trace.samples(Quantity.CURRENT, round(cuts[0]), round(cuts[-1])).astype(np.float64)
    assert cuts[0] <= first + 1e-6
    assert cuts[-1] >= stop - 1e-6
    assert len(bins.mean) <= max(pixels, 2 * length)
    assert float(bins.mean @ np.diff(cuts)) == pytest.approx(samples.sum(), rel=1e-9)
    assert (bins.low.min(), bins.high.max()) == (samples.min(), samples.max())


@pytest.mark.parametrize(
    ("sight", "quantity", "says"),
    [
        (OneWindow(7), None, "trial 7 has no window in this trace; trials that have one: 0, 1, 2, 3, 4"),
        (OneInference(40), None, "trial 0 has no inference 40; they count from 0 to 39"),
        (OneInference(0, trial=9), None, "trial 9 has no window"),
        (Stretch(1.0, 99.0), None, "1 to 99 s does not lie in the trace; it lasts"),
        (Stretch(2.0, 1.0), None, "no stretch of time"),
        (Stretch(float("nan"), 1.0), None, "no stretch of time"),
        (WholeRun(), Quantity.DIGITAL, "the trace has no digital to plot; it has current, voltage, power, energy"),
    ],
)
def test_what_is_not_there_is_refused_by_name(trace: Trace, sight: Sight, quantity: Quantity | None, says: str) -> None:
    with pytest.raises(TraceError, match=says):
        scene_of(trace, sight, quantity)


def test_a_trace_without_samples_or_windows_says_so(tmp_path: Path) -> None:
    empty = Trace.open(record(tmp_path / "empty", make_signal(0)))
    with pytest.raises(TraceError, match="no samples to plot"):
        scene_of(empty)
    idle = Trace.open(StagedRun(trials=0).record(tmp_path / "idle"))
    with pytest.raises(TraceError, match="shows no window; no trial has one"):
        scene_of(idle, OneInference(0))
