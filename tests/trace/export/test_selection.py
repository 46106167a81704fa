"""Which samples go into a file: windows, trials, fewer samples a second; and what is refused before it is begun."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.api import Quantity
from labd.errors import TraceError
from labd.trace.export.formats import Format
from labd.trace.export.placing import trial_span
from labd.trace.export.reduction import Levels, Means, Reducer, Totals
from labd.trace.export.selection import Selection, SeriesName, Span, select
from labd.trace.export.writing import export
from labd.trace.reader import PIECE, Trace
from labd.trace.writer import TraceWriter
from tests.trace.export.traces import D, E, I, V, made, recorded, same, signal, with_windows
from tests.trace.recording import make_meta


def exported(selection: Selection) -> dict[SeriesName, np.ndarray]:
    """All of a selection in arrays."""
    pieces = list(selection.pieces(selection.series))
    assert [piece.first for piece in pieces] == [k * PIECE for k in range(len(pieces))]
    return {s.name: np.concatenate([piece.values[s.name] for piece in pieces]) for s in selection.series}


@pytest.fixture
def trace(tmp_path: Path) -> Trace:
    return recorded(tmp_path, signal(10_000), period_s=1e-3)


@pytest.mark.parametrize(
    ("start_s", "stop_s", "samples"),
    [
        (0.0, 10.0, (0, 10_000)),
        (1.0, 2.0, (1000, 2000)),
        (1.0005, 1.0015, (1000, 1002)),
        (1.0001, 1.0002, (1000, 1001)),
        (9.9995, 10.0, (9999, 10_000)),
        (0.1 + 0.2, 0.4, (300, 400)),
    ],
)
def test_a_window_is_all_samples_that_it_touches(
    trace: Trace, start_s: float, stop_s: float, samples: tuple[int, int]
) -> None:
    selection = select(trace, window=Span(start_s, stop_s))
    assert (selection.first, selection.stop) == samples
    assert same(exported(selection)[SeriesName.CURRENT], trace.samples(I, *samples))


@pytest.mark.parametrize(
    ("start_s", "stop_s"),
    [(2.0, 1.0), (1.0, 1.0), (-1.0, 1.0), (9.0, 10.1), (math.nan, 1.0), (0.0, math.nan), (0.0, math.inf)],
)
def test_a_window_that_is_none_is_refused(trace: Trace, start_s: float, stop_s: float) -> None:
    with pytest.raises(TraceError, match=r"is no stretch of time|does not lie in the trace"):
        select(trace, window=Span(start_s, stop_s))


@pytest.mark.parametrize("rate_hz", [0.0, -1.0, math.nan, math.inf, 1001.0])
def test_a_rate_that_cannot_be_made_is_refused(trace: Trace, rate_hz: float) -> None:
    with pytest.raises(TraceError, match=r"is no rate|more than was recorded"):
        select(trace, rate_hz=rate_hz)


@pytest.mark.parametrize(("asked", "factor"), [(1000.0, 1), (500.0, 2), (300.0, 3), (1e-9, 10**12)])
def test_the_nearest_whole_number_of_samples_makes_a_reduced_one(trace: Trace, asked: float, factor: int) -> None:
    selection = select(trace, rate_hz=asked)
    assert selection.factor == factor
    assert selection.rate_hz == 1000 / factor


def test_a_trace_without_samples_is_refused(tmp_path: Path) -> None:
    writer = TraceWriter.create(tmp_path, make_meta())
    empty = Trace.open(writer.close().folder)
    with pytest.raises(TraceError, match="no samples to export"):
        select(empty)


def test_the_window_of_a_trial_is_chosen_with_a_margin(tmp_path: Path) -> None:
    trace = with_windows(tmp_path, 5000, [(1000, 2000), (3000, 4000)])
    span = trial_span(trace, 1, 0.5)
    assert (span.start_s, span.stop_s) == pytest.approx((2.5, 4.5), rel=1e-4)
    wide = trial_span(trace, 0, 100.0)
    assert (wide.start_s, wide.stop_s) == (0.0, 5.0)


@pytest.mark.parametrize(("trial", "margin_s"), [(2, 0.0), (0, -1.0), (0, math.nan)])
def test_a_trial_that_has_no_window_is_refused(tmp_path: Path, trial: int, margin_s: float) -> None:
    with pytest.raises(TraceError, match=r"has no window|is no margin"):
        trial_span(with_windows(tmp_path, 5000, [(1000, 2000)]), trial, margin_s)


def test_a_reduced_sample_is_the_mean_of_what_is_a_number(tmp_path: Path) -> None:
    columns = {
        I: np.array([1, 2, 3, np.nan, 5, np.nan, np.nan, np.nan, 9], dtype=np.float32),
        V: np.array([2, 2, 4, 4, 6, 6, 8, 8, 1], dtype=np.float32),
        D: np.zeros(9, dtype=np.uint8),
    }
    got = exported(select(recorded(tmp_path, columns, period_s=1e-3), rate_hz=500.0))
    np.testing.assert_array_equal(got[SeriesName.CURRENT], [1.5, 3.0, 5.0, np.nan, 9.0])
    np.testing.assert_array_equal(got[SeriesName.VOLTAGE], [2, 4, 6, 8, 1])
    np.testing.assert_array_equal(got[SeriesName.POWER], [3.0, 12.0, 30.0, np.nan, 9.0])  # not 1.5 A times 2 V
    np.testing.assert_array_equal(got[SeriesName.COUNT], [2, 1, 1, 0, 1])


def test_energy_adds_up_at_any_rate(tmp_path: Path) -> None:
    energy = np.abs(np.random.default_rng(1).standard_normal(10_007)).astype(np.float32)
    trace = recorded(tmp_path, {E: energy}, period_s=1e-3)
    reduced = exported(select(trace, rate_hz=13.0))[SeriesName.ENERGY]
    assert reduced.astype(np.float64).sum() == pytest.approx(energy.astype(np.float64).sum(), rel=1e-6)


@pytest.mark.parametrize("factor", [2, 3, 1000, PIECE // 3, PIECE + 1, 10 * PIECE])
def test_bins_do_not_care_for_pieces(tmp_path: Path, factor: int) -> None:
    rows = 2 * PIECE + 11
    columns = signal(rows, (I,), gap=(5, 5000))
    selection = select(recorded(tmp_path, columns, period_s=1e-3), rate_hz=1000.0 / factor)
    assert selection.factor == factor
    got = exported(selection)[SeriesName.CURRENT]
    bins = np.pad(columns[I].astype(np.float64), (0, -rows % factor), constant_values=np.nan).reshape(-1, factor)
    counts = np.isfinite(bins).sum(axis=1)
    wanted = np.divide(np.nansum(bins, axis=1), counts, out=np.full(len(bins), np.nan), where=counts > 0)
    np.testing.assert_allclose(got, wanted, rtol=1e-6)
    assert len(got) == selection.rows


def fed(reducer: Reducer, samples: np.ndarray, cuts: list[int]) -> np.ndarray:
    parts = np.split(samples, sorted(cut % (len(samples) + 1) for cut in cuts))
    return np.concatenate([*(reducer.feed(part) for part in parts), reducer.finish()])


@given(st.lists(st.integers(0, 255), min_size=1), st.integers(1, 9), st.lists(st.integers(0, 99), max_size=5))
def test_levels_show_every_pulse_and_no_other(levels: list[int], factor: int, cuts: list[int]) -> None:
    samples = np.array(levels, dtype=np.uint8)
    shown = fed(Levels(factor), samples, cuts)
    assert len(shown) == -(-len(samples) // factor)
    for pin in range(8):
        before = levels[0] >> pin & 1
        for number, level in enumerate((shown >> pin) & 1):
            part = (samples[number * factor : (number + 1) * factor] >> pin) & 1
            steady = part.min() == part.max()
            assert level == (part[0] if steady else 1 - before)
            before = int(level)


@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1), st.integers(1, 9), st.lists(st.integers(0, 99), max_size=5)
)
def test_means_and_totals_do_not_care_how_samples_come(values: list[float], factor: int, cuts: list[int]) -> None:
    samples = np.array(values, dtype=np.float32)
    bins = [samples[at : at + factor].astype(np.float64) for at in range(0, len(samples), factor)]
    np.testing.assert_allclose(fed(Means(factor), samples, cuts), [b.mean() for b in bins], rtol=1e-5, atol=0.2)
    np.testing.assert_allclose(fed(Totals(factor), samples, cuts), [b.sum() for b in bins], rtol=1e-5, atol=2)


@pytest.mark.parametrize("form", [Format.JLS, Format.SR])
@pytest.mark.parametrize("period_s", [2.5, 0.7])
def test_a_rate_that_a_format_cannot_say_is_refused(tmp_path: Path, form: Format, period_s: float) -> None:
    trace = recorded(tmp_path, signal(10, (Quantity.CURRENT,)), period_s=period_s)
    with pytest.raises(TraceError, match="whole numbers of samples a second"):
        made(trace, form, tmp_path / "t.out")
    assert not list(tmp_path.glob("t.out*"))


@pytest.mark.parametrize("form", list(Format))
def test_every_format_holds_a_window_at_a_lower_rate(tmp_path: Path, form: Format) -> None:
    trace = recorded(tmp_path, signal(10_000), period_s=1e-3)
    done: list[tuple[int, int]] = []
    selection = select(trace, window=Span(1.0, 3.0005), rate_hz=100.0)
    written = export(selection, form, tmp_path / f"t{form.suffix}", lambda *state: done.append(state))
    assert written.paths[0].stat().st_size > 0
    assert selection.rows == 201
    assert done[-1] == (201, 201)
    assert sorted(done) == done
