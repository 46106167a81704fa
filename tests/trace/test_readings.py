"""One bad record, in a window and outside: every output shows NaN, one sample less, and figures of all the others.

What each output should show is worked out here with numpy, from the arrays that the test made before it spoilt a
record, and from where it did: nothing asks whether a number is finite.
"""

from __future__ import annotations

import csv
import math
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pyjls
import pytest

from drivers.analyzers.elog import ElogReader
from drivers.api import Block, Interval, IntervalKind, Quantity
from labd.cli.picture.signal import make_bins
from labd.errors import TraceError
from labd.trace.export.formats import Format
from labd.trace.journal import Marked
from labd.trace.layout import BLOCK, BLOCKS, LEVELS, SAMPLES
from labd.trace.reader import Trace
from labd.trace.readings import STRETCHES_MAX
from labd.trace.seal import seal, verify
from labd.trace.writer import TraceWriter
from tests.trace.export.traces import made
from tests.trace.recording import ACCURACY, D, I, V, column, cut, make_meta, make_signal, rows_of

Floats = npt.NDArray[np.float64]

ROWS = 2 * BLOCKS[1] + 3 * BLOCK + 123
OUTSIDE, INSIDE = 1_234, 20_000
"""Where records are spoilt: between the windows, and at the start of a block in the second window."""
WINDOWS = ((5_000.25, 15_999.5), (17_500.5, 24_321.75), (25_000.0, 34_000.0))
BAD = [9.91e37, -9.91e37, math.nan, -9.9e37, math.inf, -math.inf]
SPOILT = {I: (OUTSIDE, INSIDE), V: (INSIDE + 1,)}
"""Which samples of each column are none; the second of two neighbours is one of the voltage."""


@dataclass(frozen=True)
class Known:
    """What was recorded, and which samples of it are readings: of each name float64 and flags of shape (ROWS,)."""

    values: dict[str, Floats]
    good: dict[str, npt.NDArray[np.bool_]]

    def shown(self, name: str) -> Floats:
        """The samples as they should be shown."""
        return np.where(self.good[name], self.values[name], np.nan)

    def of(self, name: str, start: int, stop: int) -> Floats:
        """The readings of a stretch."""
        return self.values[name][start:stop][self.good[name][start:stop]]


def known() -> Known:
    signal = make_signal(ROWS)
    values = {q.value: signal[q].astype(np.float64) for q in (I, V)}
    good = {q.value: np.ones(ROWS, dtype=bool) for q in (I, V)}
    for quantity, places in SPOILT.items():
        good[quantity.value][list(places)] = False
    values["power"] = values["current"] * values["voltage"]
    good["power"] = good["current"] & good["voltage"]
    return Known(values, good)


KNOWN = known()


def spoilt(bad: float) -> dict[Quantity, npt.NDArray[Any]]:
    """The signal with the bad records in it, as an instrument would send them."""
    signal = dict(make_signal(ROWS))
    for quantity, places in SPOILT.items():
        signal[quantity][list(places)] = bad
    return signal


def by_the_elog(bad: float) -> Iterable[Block]:
    """Through the reader of an external data log."""
    signal, reader = spoilt(bad), ElogReader({I: 0.1, V: 20.0})
    records = np.stack([signal[I], signal[V]], axis=1).astype("<f4")
    for part in np.array_split(records, [100, OUTSIDE, INSIDE + 1, ROWS - 1]):
        block = reader.read(np.frombuffer(part.tobytes(), np.uint8))
        assert block is not None
        yield block


def by_a_driver_that_lets_all_through(bad: float) -> Iterable[Block]:
    """As they are, without a mark."""
    return cut(spoilt(bad), [100, 7_000, INSIDE - 7_100])


@pytest.fixture(
    scope="module",
    params=[
        *[pytest.param((by_the_elog, bad), id=f"elog-{bad}") for bad in BAD[:3]],
        *[pytest.param((by_a_driver_that_lets_all_through, bad), id=f"any-{bad}") for bad in BAD],
    ],
)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    way, bad = request.param
    writer = TraceWriter.create(tmp_path_factory.mktemp("spoilt"), make_meta(period_s=1e-3))
    for block in way(bad):
        writer.write(block)
    folder = writer.close().folder
    with pa.memory_map(str(folder / SAMPLES)) as data, pa.ipc.open_stream(data) as stream:
        hot = stream.read_all()
    for quantity in (I, V):
        np.testing.assert_array_equal(hot[quantity.value].to_numpy(), KNOWN.shown(quantity.value).astype(np.float32))
    assert Trace.open(folder).energies(np.array([WINDOWS[0]])) == pytest.approx(energy(*WINDOWS[0]), rel=1e-12)
    seal(folder)
    verify(folder)
    return folder


@pytest.fixture(scope="module")
def trace(folder: Path) -> Trace:
    return Trace.open(folder)


def energy(start: float, stop: float) -> float:
    """Energy of a window by its definition, J."""
    at = np.arange(math.floor(start), math.ceil(stop))
    shares = np.minimum(at + 1, stop) - np.maximum(at, start)
    return math.fsum(shares * KNOWN.values["power"][at]) * 1e-3


def test_the_journal_marks_each_stretch_once(trace: Trace) -> None:
    marked = {k for mark in trace.marked() for k in range(mark.start, mark.stop)}
    assert {mark.kind for mark in trace.marked()} == {IntervalKind.NO_READING}
    assert marked == {OUTSIDE, INSIDE, INSIDE + 1}
    assert sum(mark.stop - mark.start for mark in trace.marked()) == len(marked)


def test_windows_without_it_have_their_energy_and_the_one_with_it_has_none(trace: Trace) -> None:
    for window, touched in zip(WINDOWS, (False, True, False), strict=True):
        assert bool(trace.marked(*window)) is touched
        if touched:
            with pytest.raises(TraceError, match="not numbers"):
                trace.energy(*window)
        else:
            assert trace.energy(*window) == pytest.approx(energy(*window), rel=1e-12)
            # the pyramid's whole blocks and the samples alone tell the same
            first, stop = math.ceil(window[0]), math.floor(window[1])
            alone = math.fsum(trace.power(first, stop)) * trace.period_s
            assert trace.energy(first, stop) == pytest.approx(alone, rel=1e-12)
    with pytest.raises(TraceError, match="not numbers"):
        trace.energy(OUTSIDE + 0.5, OUTSIDE + 0.75)
    assert trace.energy(0, OUTSIDE) == pytest.approx(energy(0, OUTSIDE), rel=1e-12)


def test_every_level_of_the_pyramid_counts_the_readings_and_no_other(folder: Path) -> None:
    for level in range(LEVELS):
        rows = rows_of(folder, level)
        assert len(rows) == -(-ROWS // BLOCKS[level])
        for name in KNOWN.values:
            for k, row in enumerate(rows):
                part = KNOWN.of(name, k * BLOCKS[level], (k + 1) * BLOCKS[level])
                assert row[f"{name}_finite"] == len(part)
                assert row[f"{name}_min"] == np.float32(part.min())
                assert row[f"{name}_max"] == np.float32(part.max())
                assert row[f"{name}_sum"] == pytest.approx(math.fsum(part), rel=1e-12)
                assert row[f"{name}_sumsq"] == pytest.approx(math.fsum(part**2), rel=1e-12)
    assert rows_of(folder)["current_finite"].tolist()[1] == rows_of(folder)["count"].tolist()[1] - 1


@pytest.mark.parametrize("pixels", [3, 40, 1000])
def test_a_plot_shows_the_extremes_and_means_of_the_readings(trace: Trace, pixels: int) -> None:
    for quantity in (I, V, Quantity.POWER):
        bins = make_bins(trace, quantity, 0.0, trace.duration_s, pixels)
        cuts = np.round(bins.limits_s / trace.period_s).astype(int)
        parts = [KNOWN.of(quantity.value, *limits) for limits in pairwise(cuts)]
        assert all(len(part) for part in parts)
        np.testing.assert_allclose(bins.low, [part.min() for part in parts], rtol=1e-6)
        np.testing.assert_allclose(bins.high, [part.max() for part in parts], rtol=1e-6)
        np.testing.assert_allclose(bins.mean, [part.mean() for part in parts], rtol=1e-9)
    near = make_bins(trace, I, (OUTSIDE - 3) * 1e-3, (OUTSIDE + 4) * 1e-3, 1000)
    np.testing.assert_array_equal(near.mean, KNOWN.shown("current")[OUTSIDE - 3 : OUTSIDE + 4])


def test_the_sealed_file_holds_nan_and_its_statistics_leave_it_out(folder: Path) -> None:
    file = pq.ParquetFile(folder / "samples.parquet")
    for place, name in enumerate(("current", "voltage")):
        np.testing.assert_array_equal(file.read()[name].to_numpy(), KNOWN.shown(name).astype(np.float32))
        statistics = file.metadata.row_group(0).column(place).statistics
        part = KNOWN.of(name, 0, ROWS)
        assert (statistics.min, statistics.max) == (np.float32(part.min()), np.float32(part.max()))


def jls(path: Path, name: str) -> npt.NDArray[Any]:
    with pyjls.Reader(str(path)) as reader:
        signal = reader.signal_lookup(name)
        return reader.fsr(signal.signal_id, 0, signal.length)


def sigrok(path: Path, name: str) -> npt.NDArray[Any]:
    with zipfile.ZipFile(path) as archive:
        lines = dict(line.split("=") for line in archive.read("metadata").decode().splitlines() if "=" in line)
        number = next(key[6:] for key, value in lines.items() if key[:6] == "analog" and value.startswith(name))
        return np.frombuffer(archive.read(f"analog-1-{number}-1"), "<f4")


def text(path: Path, name: str) -> npt.NDArray[Any]:
    with path.open(newline="") as file:
        heading, *lines = csv.reader(file)
    place = next(k for k, each in enumerate(heading) if each.startswith(name))
    return np.array([line[place] for line in lines], dtype=np.float32)


READERS = {
    Format.NPZ: lambda path, name: np.load(path)[name],
    Format.HDF5: lambda path, name: h5py.File(path)[name][:],
    Format.PARQUET: lambda path, name: pq.read_table(path)[name].to_numpy(),
    Format.JLS: jls,
    Format.SR: sigrok,
    Format.CSV: text,
}
COUNTLESS = (Format.JLS, Format.SR)
"""Formats without a count of readings."""


@pytest.mark.parametrize("form", READERS)
def test_every_format_holds_nan_there_and_every_reading_as_it_was(trace: Trace, tmp_path: Path, form: Format) -> None:
    path = tmp_path / f"t.{form}"
    made(trace, form, path)
    names = ["current", "voltage", *(["power"] if form is Format.JLS else [])]
    for name in names:
        np.testing.assert_array_equal(READERS[form](path, name), KNOWN.shown(name).astype(np.float32))
    if form is Format.JLS:
        _statistics_leave_it_out(path, names)
    if form in (Format.NPZ, Format.HDF5):
        marked = READERS[form](path, "marked")
        assert set(marked["kind"].tolist()) == {b"no_reading"}


def _statistics_leave_it_out(path: Path, names: list[str]) -> None:
    """JLS's own, of which the UI shows energies: they are about right, as JLS cuts at its own blocks."""
    with pyjls.Reader(str(path)) as reader:
        for name in names:
            number = reader.signal_lookup(name).signal_id
            ((mean, deviation, least, greatest),) = reader.fsr_statistics(number, 0, ROWS, 1)
            part = KNOWN.of(name, 0, ROWS)
            assert mean == pytest.approx(part.mean(), rel=0.01)
            assert deviation == pytest.approx(part.std(), rel=0.02)
            assert (least, greatest) == (pytest.approx(part.min(), rel=1e-6), pytest.approx(part.max(), rel=1e-6))


@pytest.mark.parametrize(("form", "factor"), [(Format.NPZ, 7), (Format.NPZ, 1500), *((form, 50) for form in READERS)])
def test_reduced_samples_are_means_of_the_readings_and_count_them(
    trace: Trace, tmp_path: Path, form: Format, factor: int
) -> None:
    path = tmp_path / f"t.{form}"
    selection, _ = made(trace, form, path, rate_hz=1000 / factor)
    assert selection.factor == factor
    starts = range(0, ROWS, factor)
    for name in KNOWN.values:
        means = np.array([part.mean() if len(part := KNOWN.of(name, k, k + factor)) else np.nan for k in starts])
        np.testing.assert_allclose(READERS[form](path, name), means, rtol=2e-7)
    if form not in COUNTLESS:
        whole = [int(KNOWN.good["power"][k : k + factor].sum()) for k in starts]
        np.testing.assert_array_equal(READERS[form](path, "count"), whole)


def test_energy_a_sample_makes_up_for_one_that_is_missing(tmp_path: Path) -> None:
    values = np.linspace(1e-6, 2e-6, 1000, dtype=np.float32)
    spoilt = values.copy()
    spoilt[503] = 9.91e37
    writer = TraceWriter.create(tmp_path, make_meta(quantities=(Quantity.ENERGY,), period_s=1e-3))
    writer.write(Block(0, {Quantity.ENERGY: spoilt}))
    made(Trace.open(writer.close().folder), Format.NPZ, tmp_path / "t.npz", rate_hz=100.0)
    sums = values.astype(np.float64).reshape(-1, 10).sum(axis=1)
    sums[50] = np.delete(values[500:510].astype(np.float64), 3).sum() * 10 / 9
    with np.load(tmp_path / "t.npz") as arrays:
        np.testing.assert_allclose(arrays["energy"], sums, rtol=2e-7)
        assert arrays["count"].tolist() == [9 if k == 50 else 10 for k in range(100)]


@pytest.mark.parametrize(
    ("value", "taken"), [(0.1, True), (0.119, True), (-0.119, True), (0.125, False), (-3.0, False)]
)
def test_a_reading_beyond_what_the_range_can_show_is_none(tmp_path: Path, value: float, taken: bool) -> None:
    signal = make_signal(10)
    signal[I][4] = value
    writer = TraceWriter.create(tmp_path, make_meta())
    writer.write(Block(0, signal))
    trace = Trace.open(writer.close().folder)
    assert trace.samples(I)[4] == np.float32(value) if taken else math.isnan(trace.samples(I)[4])
    assert trace.marked() == (() if taken else (Interval(IntervalKind.NO_READING, 4, 5),))
    assert signal[I][4] == np.float32(value)  # a block's arrays are the driver's


def test_a_column_without_a_range_takes_every_finite_number(tmp_path: Path) -> None:
    unlimited = replace(column(I), accuracy=replace(ACCURACY, range_max=0.0))
    values = np.array([1e30, -1e30, 3e38, np.inf, 1.0], dtype=np.float32)
    writer = TraceWriter.create(tmp_path, make_meta(columns=(unlimited,)))
    writer.write(Block(0, {I: values}))
    trace = Trace.open(writer.close().folder)
    np.testing.assert_array_equal(trace.samples(I), [*values[:3], np.nan, 1.0])
    assert trace.marked() == (Interval(IntervalKind.NO_READING, 3, 4),)


def test_what_a_driver_marks_itself_is_marked_once_whichever_way_it_says_so(tmp_path: Path) -> None:
    gone = Interval(IntervalKind.GAP, 10, 20)
    writer = TraceWriter.create(tmp_path, make_meta())
    signal = make_signal(100)
    signal[I][8:20] = np.nan
    signal[V][70:80] = np.nan
    writer.journal(Marked.of(Interval(IntervalKind.OVERFLOW, 70, 75)))
    writer.journal(Marked.of(Interval(IntervalKind.CLIPPED, 70, 80)))
    for block in cut(signal, [15, 30], (gone,)):
        writer.write(block)
    marked = Trace.open(writer.close().folder).marked()
    assert [mark for mark in marked if mark.kind is IntervalKind.NO_READING] == [
        Interval(IntervalKind.NO_READING, 8, 10),
        Interval(IntervalKind.NO_READING, 75, 80),
    ]


def test_an_input_that_flickers_does_not_flood_the_journal(tmp_path: Path) -> None:
    signal = make_signal(10 * STRETCHES_MAX)
    signal[I][5::4] = np.nan
    writer = TraceWriter.create(tmp_path, make_meta())
    writer.write(Block(0, signal))
    assert Trace.open(writer.close().folder).marked() == (Interval(IntervalKind.NO_READING, 5, 10 * STRETCHES_MAX - 2),)


def test_pins_beside_a_missing_reading_keep_their_levels_and_edges(tmp_path: Path) -> None:
    signal = make_signal(1000, quantities=(I, V, D))
    signal[D][:] = np.arange(1000) // 100 % 2
    signal[I][399:402] = 9.91e37
    meta = make_meta(quantities=signal, tick_rate_hz=None, tick_clock_ppm=None, edge_source=None, hold_off_s=0.0)
    writer = TraceWriter.create(tmp_path, meta)
    writer.write(Block(0, signal))
    trace = Trace.open(writer.close().folder)
    np.testing.assert_array_equal(trace.samples(D), signal[D])
    assert [edge.ticks for edge in trace.edges(pin=0)] == [200, 400, 600, 800]
