"""Energies from the pyramid against brute force, hot and sealed; windows and overviews of a trace."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.api import Quantity
from labd.errors import TraceError
from labd.trace.reader import Trace
from labd.trace.seal import seal
from tests.trace.recording import I, V, make_signal, record

ROWS = 263_123  # more than one row group, and a partial block at the end
SIGNAL = make_signal(ROWS)
POWER = SIGNAL[I].astype(np.float64) * SIGNAL[V]


@pytest.fixture(scope="module")
def hot(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    return Trace.open(record(tmp_path_factory.mktemp("hot"), SIGNAL, [1, 333, 100_000]))


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    folder = record(tmp_path_factory.mktemp("sealed"), SIGNAL)
    seal(folder)
    return Trace.open(folder)


def brute(start: float, stop: float) -> float:
    """Energy by the definition, sample by sample, summed exactly."""
    first, end = math.floor(start), math.ceil(stop)
    at = np.arange(first, end)
    shares = np.minimum(at + 1, stop) - np.maximum(at, start)
    return math.fsum(shares * POWER[first:end]) * 204.8e-6


bounds = st.one_of(
    st.floats(0, ROWS),
    st.integers(0, ROWS).map(float),
    st.integers(0, ROWS // 1000).map(lambda k: 1000.0 * k),
)


@settings(max_examples=40, deadline=None)
@given(windows=st.lists(st.tuples(bounds, bounds).map(sorted), max_size=6))
def test_energies_are_those_of_brute_force(hot: Trace, sealed: Trace, windows: list[list[float]]) -> None:
    asked = np.array(windows, dtype=np.float64).reshape(-1, 2)
    expected = [brute(*window) for window in windows]
    np.testing.assert_allclose(hot.energies(asked), expected, rtol=1e-12, atol=1e-22)
    np.testing.assert_array_equal(sealed.energies(asked), hot.energies(asked))


@settings(max_examples=50, deadline=None)
@given(cuts=st.lists(st.floats(0, ROWS), min_size=3, max_size=3).map(sorted))
def test_two_halves_make_a_whole(hot: Trace, cuts: list[float]) -> None:
    low, middle, high = cuts
    parts = hot.energy(low, middle) + hot.energy(middle, high)
    assert parts == pytest.approx(hot.energy(low, high), rel=1e-11, abs=1e-16)


@pytest.mark.parametrize(
    "window", [(-0.1, 5), (5, 4), (0, ROWS + 0.1), (math.nan, 5), (0, math.nan), (0, math.inf), (-math.inf, 1)]
)
def test_a_window_outside_the_trace_is_refused(hot: Trace, window: tuple[float, float]) -> None:
    with pytest.raises(TraceError, match="do not lie in the trace"):
        hot.energy(*window)
    with pytest.raises(TraceError, match="do not lie in the trace"):
        hot.window(window[0] * hot.period_s, window[1] * hot.period_s)


def test_windows_of_the_wrong_shape_are_refused(hot: Trace) -> None:
    with pytest.raises(TraceError, match="shape"):
        hot.energies(np.zeros(4))


def test_a_window_holds_every_sample_that_it_touches(hot: Trace, sealed: Trace) -> None:
    for trace in (hot, sealed):
        found = trace.window(999.5 * trace.period_s, 251_000 * trace.period_s)
        assert found.first == 999
        for quantity in (I, V):
            np.testing.assert_array_equal(found.columns[quantity], SIGNAL[quantity][999:251_000])


def test_a_time_made_of_an_index_comes_back_as_that_index(hot: Trace) -> None:
    for index in range(0, ROWS, 997):
        assert hot.window(index * hot.period_s, hot.duration_s).first == index


@pytest.mark.parametrize(("start", "stop", "pixels"), [(0, ROWS, 50), (0, ROWS, 10_000), (1500, 9000, 3), (7, 8, 1)])
def test_an_overview_is_exact_over_the_limits_it_states(sealed: Trace, start: int, stop: int, pixels: int) -> None:
    view = sealed.overview(start * sealed.period_s, stop * sealed.period_s, pixels)
    limits = np.round(view.limits_s / sealed.period_s).astype(int)
    assert limits[0] <= start
    assert limits[-1] >= stop
    assert len(view.counts) <= pixels
    np.testing.assert_array_equal(np.diff(limits), view.counts)
    values = {"current": SIGNAL[I].astype(np.float64), "voltage": SIGNAL[V].astype(np.float64), "power": POWER}
    for name, signal in values.items():
        for k, (low, high) in enumerate(pairwise(limits.tolist())):
            envelope, part = view.envelopes[name], signal[low:high]
            assert envelope.min[k] == np.float32(part.min())
            assert envelope.max[k] == np.float32(part.max())
            assert envelope.mean[k] == pytest.approx(part.mean(), rel=1e-12)


def test_an_overview_opens_the_pyramid_alone(tmp_path: Path) -> None:
    folder = record(tmp_path, make_signal(5000))
    seal(folder)
    (folder / "samples.parquet").unlink()
    trace = Trace.open(folder)
    assert trace.overview(0, trace.duration_s, 5).counts.tolist() == [1000] * 5
    with pytest.raises(TraceError, match=r"samples\.parquet.*missing"):
        trace.samples(I)


def test_a_trace_without_samples_can_be_read(tmp_path: Path) -> None:
    folder = record(tmp_path, make_signal(0))
    for _ in range(2):
        trace = Trace.open(folder)
        assert trace.rows == 0
        assert trace.energy(0, 0) == 0
        assert len(trace.samples(I)) == 0
        assert len(trace.overview(0, 0, 10).counts) == 0
        seal(folder)


def test_a_column_that_was_not_recorded_is_named(hot: Trace) -> None:
    with pytest.raises(TraceError, match="'digital'"):
        hot.samples(Quantity.DIGITAL)
