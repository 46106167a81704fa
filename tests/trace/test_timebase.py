"""The timebase: exact where the clocks are, honest where they are not, and a refusal where nothing can be told."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.api import Block, Edge, SampleKind
from labd.trace.journal import EdgeSeen, SyncPulse, TrialEnded, TrialStarted
from labd.trace.reader import Trace
from labd.trace.timing.alignment import align
from labd.trace.timing.area import locate
from labd.trace.timing.proof import trace_timebase
from labd.trace.timing.steps import Signal, scattered, search_steps
from labd.trace.timing.timebase import Anchor, AnchorKind, Clocks, Timebase, TimebaseError, fit_timebase, rate_prior
from labd.trace.timing.windows import window_edges
from labd.trace.writer import TraceWriter
from tests.trace.recording import WHEN, I, V, make_meta
from tests.trace.synthetic_board import LAYERS, STEADY, Layer, Scene, make_scene

RATE, PERIOD = 125e6, 204.8e-6
PER_SAMPLE = RATE * PERIOD


def signal_of(scene: Scene, noise: float = 20e-6) -> Signal:
    clocks = Clocks(tick_rate_hz=scene.tick_rate_hz, period_s=scene.period_s, u_stretch=rate_prior(50, 50))
    return Signal(lambda a, b: scene.samples[a:b], len(scene.samples), noise, SampleKind.MEAN, clocks)


def fit(scene: Scene, noise: float = 20e-6, syncs: tuple[Anchor, ...] = ()) -> Timebase:
    """The map by steps that were searched, with those anchors that are known by wire."""
    signal = signal_of(scene, noise)
    middles = (0.0, math.inf)
    if syncs:
        place, _ = signal.clocks.fit(syncs).sample((scene.edges[0].ticks + scene.edges[-1].ticks) // 2)
        middles = (place - 100.0, place + 100.0)
    return signal.clocks.fit(
        [*syncs, *scattered(search_steps(signal, scene.edges, scene.inference_s, middles).anchors)]
    )


@settings(max_examples=100, deadline=None)
@given(
    first=st.integers(0, 2**63),
    offset=st.floats(0, 1e6),
    stretch=st.floats(-1e-4, 1e-4),
    gaps=st.lists(st.integers(10**4, 10**11), min_size=1, max_size=8),
)
def test_exact_anchors_are_met_whatever_the_counter_stands_at(
    first: int, offset: float, stretch: float, gaps: list[int]
) -> None:
    ticks = np.cumsum([0, *gaps]).tolist()
    anchors = [Anchor(first + t, offset + (1 + stretch) * t / PER_SAMPLE, 1e-6) for t in ticks]
    base = fit_timebase(anchors, tick_rate_hz=RATE, period_s=PERIOD, u_stretch=1.0)
    for anchor in anchors:
        assert base.sample(anchor.ticks)[0] == pytest.approx(anchor.sample, abs=1e-6)
    assert base.rejected == ()


def test_a_single_sync_pulse_ties_by_the_stated_rates_alone() -> None:
    u = rate_prior(50, 30)
    base = fit_timebase([Anchor(1000, -0.5, 0.01)], tick_rate_hz=RATE, period_s=PERIOD, u_stretch=u)
    index, u_index = base.sample(1000 + round(100_000 * PER_SAMPLE))
    assert index == pytest.approx(99_999.5)
    assert u_index == pytest.approx(math.hypot(0.01, 1e5 * u), rel=1e-3)
    placed = base.place(1000, 1000 + round(1000 * PER_SAMPLE))
    assert placed.stop - placed.start == pytest.approx(1000)
    assert placed.u_start == pytest.approx(0.01, rel=1e-3)


def test_what_all_anchors_share_does_not_average_out() -> None:
    def u(shared: float, own: float) -> float:
        anchors = [
            Anchor(k * 10**9, k * 10**9 / PER_SAMPLE, own, u_shared=shared, kind=AnchorKind.OPENING) for k in range(100)
        ]
        base = fit_timebase(anchors, tick_rate_hz=RATE, period_s=PERIOD, u_stretch=1e-5)
        return base.sample(50 * 10**9)[1]

    assert u(0.0, 0.1) == pytest.approx(0.01, rel=0.05)
    assert u(0.1, 0.01) == pytest.approx(0.1, rel=0.01)


def test_an_outlier_is_taken_out_and_its_trial_named() -> None:
    anchors = [
        Anchor(k * 10**8, k * 10**8 / PER_SAMPLE + 2.0 * (k == 4), 0.01, kind=AnchorKind.OPENING, trial=k)
        for k in range(8)
    ]
    base = fit_timebase(anchors, tick_rate_hz=RATE, period_s=PERIOD, u_stretch=1e-5)
    assert [(anchor.trial, round(residual, 2)) for anchor, residual in base.rejected] == [(4, 2.0)]


@pytest.mark.parametrize("anchors", [[], [Anchor(0, math.nan, 0.1)], [Anchor(0, 1.0, 0.0)], [Anchor(0, 1.0, math.inf)]])
def test_what_is_no_anchor_is_refused(anchors: list[Anchor]) -> None:
    with pytest.raises(TimebaseError):
        fit_timebase(anchors, tick_rate_hz=RATE, period_s=PERIOD, u_stretch=1e-5)


@given(place=st.floats(8, 12), low=st.floats(-1, 1), high=st.floats(2, 3), up=st.booleans())
def test_a_clean_step_is_located_exactly(place: float, low: float, high: float, up: bool) -> None:
    a, b = (low, high) if up else (high, low)
    share = np.clip(place - np.arange(20), 0, 1)
    found = locate(a * share + b * (1 - share), 7, 13, 1e-6)
    assert found is not None
    assert found.position == pytest.approx(place, abs=1e-9)
    assert found.u_levels == 0


def test_noise_is_no_step() -> None:
    noise = np.random.default_rng(1).standard_normal(20)
    assert locate(noise, 8, 12, 1.0) is None
    assert locate(np.full(20, np.nan), 8, 12, 1.0) is None


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize(
    ("windows_s", "layers", "noise", "typical"),
    [
        ((0.1, 0.3, 1.0, 0.5, 0.2), STEADY, 20e-6, 0.05),
        ((1.0, 1.0, 1.0), LAYERS, 20e-6, 0.2),
        ((10.0, 0.1, 3.0), STEADY, 100e-6, 0.08),
    ],
)
def test_edges_without_short_layers_are_placed_to_a_small_part_of_a_sample(
    windows_s: tuple[float, ...], layers: tuple[Layer, ...], noise: float, typical: float, sign: float
) -> None:
    errors = []
    for seed in range(12):
        scene = make_scene(seed, windows_s, layers=layers, noise=noise, compute_sign=sign, short_s=0.0)
        base = fit(scene, noise)
        errors.append(np.abs([base.sample(edge.ticks)[0] for edge in scene.edges] - scene.truth).max())
    assert np.median(errors) < typical
    assert max(errors) < 0.3


FIVE = (0.1, 0.3, 1.0, 0.5, 0.2)
AT_MOST = 1.33
"""Root mean square of forty errors over their uncertainty: 1 and three standard errors."""


def place_ratio(scene: Scene, base: Timebase) -> float:
    """Error of the middle edge over what is stated."""
    index, u = base.sample(scene.edges[5].ticks)
    return (index - float(scene.truth[5])) / u


def length_ratio(scene: Scene, base: Timebase) -> float:
    """Error of the longest window's length over what is stated."""
    placed = base.place(scene.edges[4].ticks, scene.edges[5].ticks)
    both = placed.u_start * placed.u_stop * placed.correlation
    u = math.sqrt(placed.u_start**2 + placed.u_stop**2 - 2 * both)
    return (placed.stop - placed.start - float(scene.truth[5] - scene.truth[4])) / u


def rms(values: list[float]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def synced(scene: Scene, seed: int, u_sample: float) -> tuple[Anchor, ...]:
    """A sync pulse at the first edge, off by what it says."""
    true, off = float(scene.truth[0]), float(np.random.default_rng(seed).uniform(-1, 1))
    return (Anchor(scene.edges[0].ticks, true + off * math.sqrt(3) * u_sample, u_sample),)


@pytest.mark.parametrize("layers", [STEADY, LAYERS])
@pytest.mark.parametrize("period_s", [51.2e-6, 204.8e-6, 819.2e-6])
def test_a_sync_pulse_is_not_led_astray_by_what_hides_at_the_edges(layers: tuple[Layer, ...], period_s: float) -> None:
    scenes = [make_scene(seed, FIVE, layers=layers, period_s=period_s) for seed in range(40)]
    fits = [fit(scene, syncs=synced(scene, seed, 0.05)) for seed, scene in enumerate(scenes)]
    pairs = list(zip(scenes, fits, strict=True))
    assert rms([place_ratio(*pair) for pair in pairs]) < AT_MOST
    assert rms([length_ratio(*pair) for pair in pairs]) < AT_MOST
    assert np.median([base.sample(scene.edges[0].ticks)[1] for scene, base in pairs]) < 0.08


@pytest.mark.parametrize(("layers", "period_s"), [(STEADY, 51.2e-6), (STEADY, 819.2e-6), (LAYERS, 819.2e-6)])
def test_steps_alone_never_claim_too_much(layers: tuple[Layer, ...], period_s: float) -> None:
    scenes = [make_scene(seed, FIVE, layers=layers, period_s=period_s) for seed in range(40)]
    pairs = [(scene, fit(scene)) for scene in scenes]
    assert rms([place_ratio(*pair) for pair in pairs]) < AT_MOST
    assert rms([length_ratio(*pair) for pair in pairs]) < AT_MOST


def test_a_flat_trace_has_no_steps() -> None:
    scene = make_scene(1, (0.3, 0.3))
    flat = np.random.default_rng(1).standard_normal(len(scene.samples)).astype("f4")
    with pytest.raises(TimebaseError, match="not seen clearly"):
        search_steps(replace(signal_of(scene, 1.0), read=lambda a, b: flat[a:b]), scene.edges, 0.1)


def test_edges_that_span_more_than_the_trace_are_refused() -> None:
    with pytest.raises(TimebaseError, match="span"):
        align(lambda a, b: np.zeros(b - a, "f4"), 100, [-60.0, 60.0], 1e-4, (0.0, 100.0))


def test_a_long_fast_trace_is_searched_in_means_and_then_finely() -> None:
    rows, places = 3_000_000, np.array([-1_000_000.0, -400_000.0, 500_000.0, 1_000_000.0])
    signal = 0.05 * np.random.default_rng(5).standard_normal(rows).astype("f4")
    middle = 1_234_567
    for begin, end in ((0, 1), (2, 3)):
        signal[int(middle + places[begin]) : int(middle + places[end])] += 1
    found = align(lambda a, b: signal[a:b], rows, places.tolist(), 1e-7, (0.0, float(rows)))
    assert abs(found.middle - middle) <= 1


def record_scene(folder: Path, scene: Scene, *, sync: SyncPulse | None = None) -> Trace:
    meta = make_meta(tick_rate_hz=scene.tick_rate_hz, sample_clock_ppm=50.0, tick_clock_ppm=50.0)
    writer = TraceWriter.create(folder, meta)
    if sync is not None:
        writer.journal(sync)
    samples: npt.NDArray[np.float32] = scene.samples
    writer.write(Block(0, {I: samples, V: np.full_like(samples, 3.0)}))
    for number, (opening, closing) in enumerate(zip(scene.edges[::2], scene.edges[1::2], strict=True)):
        inferences = round((closing.ticks - opening.ticks) / scene.tick_rate_hz / scene.inference_s)
        writer.journal(TrialStarted(index=number, input="x", inferences=inferences, warmups=1, at=WHEN))
        for order, edge in enumerate((opening, closing)):
            for level in (0, 1):
                seen = Edge(0, level, edge.ticks + level * edge.pulse, 4 * number + 2 * order + level)
                writer.journal(EdgeSeen.of(seen))
        writer.journal(TrialEnded(index=number, at=WHEN))
    return Trace.open(writer.close().folder)


def test_a_trace_folder_alone_gives_its_timebase(tmp_path: Path) -> None:
    scene = make_scene(3, (0.5, 0.7, 0.6))
    trace = record_scene(tmp_path, scene)
    assert window_edges(trace) == scene.edges
    base = trace_timebase(trace)
    for edge, true in zip(scene.edges, scene.truth, strict=True):
        assert base.sample(edge.ticks)[0] == pytest.approx(true, abs=0.1)


def test_a_sync_pulse_ties_a_trace_whose_current_tells_nothing(tmp_path: Path) -> None:
    scene = make_scene(3, (0.5, 0.7))
    silent = replace(scene, samples=np.full_like(scene.samples, 0.01))
    start = scene.edges[0].ticks - round(scene.truth[0] * scene.period_s * scene.tick_rate_hz)
    with pytest.raises(TimebaseError):
        trace_timebase(record_scene(tmp_path / "without", silent))
    pulse = SyncPulse(pin=1, ticks=start, sequence=99, u_latency_s=1e-6)
    base = trace_timebase(record_scene(tmp_path / "with", silent, sync=pulse))
    for edge, true in zip(scene.edges, scene.truth, strict=True):
        index, u = base.sample(edge.ticks)
        assert abs(index - true) < 4 * u
