"""Reading in other shapes than windows: in pieces, as tables, edges of a pin, from afar; and only what is needed."""

from __future__ import annotations

import os
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.api import Block, Edge, Quantity
from labd.errors import TraceError
from labd.trace.digital import digital_edges
from labd.trace.files import LocalFiles
from labd.trace.journal import EdgeSeen, SyncPulse
from labd.trace.layout import PYRAMID, pyramid_row
from labd.trace.meta import read_meta
from labd.trace.reader import Trace
from labd.trace.seal import seal, verify
from labd.trace.timing.edges import Polarity, hold_off
from labd.trace.writer import TraceWriter
from tests.trace.recording import D, I, V, make_meta, make_signal, record

ROWS = 600_123
SIGNAL = make_signal(ROWS, quantities=(I, V, D))


class Asked(LocalFiles):
    """The files of a folder, and which of them were asked for."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.names: set[str] = set()

    def has(self, name: str) -> bool:
        self.names.add(name)
        return super().has(name)

    def size(self, name: str) -> int:
        self.names.add(name)
        return super().size(name)

    def read(self, name: str) -> bytes:
        self.names.add(name)
        return super().read(name)

    def span(self, name: str, start: int, stop: int) -> memoryview:
        self.names.add(name)
        return super().span(name, start, stop)

    def source(self, name: str) -> pa.NativeFile:
        self.names.add(name)
        return super().source(name)


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sealed trace of ten samples."""
    folder = record(tmp_path_factory.mktemp("short"), make_signal(10))
    seal(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("hot"), SIGNAL, [10, 100_000])


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = record(tmp_path_factory.mktemp("sealed"), SIGNAL)
    seal(folder)
    return folder


@pytest.fixture(params=["hot", "sealed"])
def trace(request: pytest.FixtureRequest, folder: Path, sealed: Path) -> Trace:
    return Trace.open(folder if request.param == "hot" else sealed)


def test_an_overview_of_a_sealed_trace_touches_one_level_of_the_pyramid(sealed: Path) -> None:
    files = Asked(sealed)
    trace = Trace.open(files)
    opened = files.names.copy()
    assert opened == {"meta.json", "seal.json", "journal.jsonl"}
    trace.overview(0, trace.duration_s, 30)
    assert files.names - opened == {PYRAMID[1]}
    trace.overview(0, trace.duration_s, 1000)
    assert files.names - opened == {PYRAMID[0], PYRAMID[1]}


def test_an_overview_of_a_closed_trace_touches_one_level_and_not_the_samples(folder: Path) -> None:
    files = Asked(folder)
    trace = Trace.open(files)
    opened = files.names.copy()
    trace.overview(0, trace.duration_s, 30)
    assert files.names - opened == {PYRAMID[1]}


def test_the_end_of_a_closed_traces_level_is_made_again_where_it_is_not_what_belongs_there(
    tmp_path: Path, folder: Path
) -> None:
    true = Trace.open(folder).overview(0, ROWS * 204.8e-6, 30)
    torn = shutil.copytree(folder, tmp_path / "torn")
    with (torn / PYRAMID[1]).open("r+b") as file:
        size = pyramid_row(read_meta(folder)).itemsize
        file.seek(-size, os.SEEK_END)
        file.write(bytes(size))
    found = Trace.open(torn).overview(0, ROWS * 204.8e-6, 30)
    np.testing.assert_array_equal(found.limits_s, true.limits_s)
    np.testing.assert_allclose(found.envelopes["power"].mean, true.envelopes["power"].mean, rtol=1e-13)


def test_the_energy_of_whole_blocks_needs_no_samples(sealed: Path) -> None:
    files = Asked(sealed)
    trace = Trace.open(files)
    power = SIGNAL[I].astype(np.float64) * SIGNAL[V]
    assert trace.energy(3000, 590_000) == pytest.approx(power[3000:590_000].sum() * trace.period_s, rel=1e-13)
    assert "samples.parquet" not in files.names


def test_a_trace_is_verified_where_it_lies(sealed: Path) -> None:
    assert verify(LocalFiles(sealed)).rows == ROWS


@pytest.mark.parametrize(("start", "stop", "size"), [(0, None, 256_000), (7, 600_000, 99_999), (5, 5, 1), (0, 10, 3)])
def test_pieces_follow_one_another_and_make_the_whole(trace: Trace, start: int, stop: int | None, size: int) -> None:
    pieces = list(trace.pieces(start, stop, size))
    end = ROWS if stop is None else stop
    assert [piece.first for piece in pieces] == list(range(start, end, size))
    for quantity, values in SIGNAL.items():
        found = [piece.columns[quantity] for piece in pieces]
        np.testing.assert_array_equal(np.concatenate([values[:0], *found]), values[start:end])


def test_pieces_outside_the_trace_or_of_nothing_are_refused(trace: Trace) -> None:
    with pytest.raises(TraceError, match="do not lie in the trace"):
        next(trace.pieces(0, ROWS + 1))
    with pytest.raises(TraceError, match="0 samples"):
        next(trace.pieces(size=0))


@pytest.mark.parametrize(("first", "stop"), [(0, ROWS), (123, 123), (255_000, 513_000)])
def test_tables_arrays_and_frames_hold_the_samples_of_a_span(trace: Trace, first: int, stop: int) -> None:
    span = first * trace.period_s, stop * trace.period_s
    table, arrays, frame = trace.to_arrow(*span), trace.to_numpy(*span), trace.to_pandas(*span)
    assert table.schema.metadata[b"labd.first"] == str(first).encode()
    assert b"noise_rms" in table.schema.field("current").metadata[b"labd.column"]
    for quantity, values in SIGNAL.items():
        for found in (table.column(quantity.value).to_numpy(), arrays[quantity], frame[quantity.value].to_numpy()):
            assert found.dtype == values.dtype
            np.testing.assert_array_equal(found, values[first:stop])
    np.testing.assert_allclose(frame.index.to_numpy(), np.arange(first, stop) * trace.period_s)


def test_samples_of_a_long_stretch_are_those_of_the_short_ones(trace: Trace) -> None:
    np.testing.assert_array_equal(trace.samples(I, 1, 600_001), SIGNAL[I][1:600_001])


@settings(max_examples=60, deadline=None)
@given(
    pin=st.integers(0, 7),
    hold=st.integers(0, 9),
    size=st.integers(1, 50),
    values=st.lists(st.sampled_from([0, 1, 128, 255]), max_size=120),
    polarity=st.sampled_from(Polarity),
)
def test_edges_of_a_column_are_those_of_the_rule(
    pin: int, hold: int, size: int, values: list[int], polarity: Polarity
) -> None:
    column: npt.NDArray[np.uint8] = np.array(values, dtype=np.uint8)
    pieces = [(at, column[at : at + size]) for at in range(0, len(column), size)]
    bits = [value >> pin & 1 for value in values]
    changes = [k for k in range(1, len(bits)) if bits[k] != bits[k - 1]]
    every = [Edge(pin, bits[k], k, number) for number, k in enumerate(changes)]
    expected = hold_off(every, pin=pin, polarity=polarity, tick_rate_hz=1.0, hold_off_s=hold)
    assert digital_edges(pieces, pin=pin, polarity=polarity, hold_off=hold) == expected


def test_a_trace_without_an_edge_source_has_its_edges_in_the_digital_column(tmp_path: Path) -> None:
    digital = np.ones(700_000, dtype=np.uint8)
    for start, stop in ((100, 110), (112, 120), (256_000, 256_010), (650_000, 700_000)):
        digital[start:stop] = 0
    meta = make_meta(
        quantities=(I, D), edge_source=None, tick_rate_hz=None, tick_clock_ppm=None, period_s=1e-6, hold_off_s=50e-6
    )
    writer = TraceWriter.create(tmp_path, meta)
    current = np.zeros(len(digital), dtype="f4")
    writer.write(Block(0, {I: current[:300_000], D: digital[:300_000]}))
    writer.write(Block(400_000, {I: current[400_000:], D: digital[400_000:]}))  # the zeros between are no pin's
    trace = Trace.open(writer.close().folder)
    assert [edge.ticks for edge in trace.edges()] == [100, 256_000, 650_000]
    assert [edge.ticks for edge in trace.edges(hold_off_s=0)] == [100, 112, 256_000, 650_000]
    assert [edge.ticks for edge in trace.edges(polarity=Polarity.RISING)] == [110, 256_010]
    with pytest.raises(TraceError, match="pin 8"):
        trace.edges(pin=8)


def test_long_windows_are_summed_exactly_through_all_levels(tmp_path: Path) -> None:
    import math

    rows = 4_600_321
    watts = np.random.default_rng(5).random(rows).astype("f4")
    folder = record(tmp_path, {Quantity.POWER: watts})
    windows = np.array([[0, rows], [1, rows - 1], [15_999.5, 4_112_000.25], [256_000, 4_352_000]])
    expected = []
    for start, stop in windows:
        low, high = math.floor(start), math.ceil(stop)
        whole = watts[low:high].astype(np.float64).tolist()
        whole[0] *= low + 1 - start
        whole[-1] *= stop - (high - 1)
        expected.append(math.fsum(whole) * 204.8e-6)
    np.testing.assert_allclose(Trace.open(folder).energies(windows), expected, rtol=1e-13)
    seal(folder)
    np.testing.assert_allclose(Trace.open(folder).energies(windows), expected, rtol=1e-13)


def test_a_trace_of_energies_with_edges_in_milliseconds_works_throughout(tmp_path: Path) -> None:
    """As a published session is: joules a sample from elsewhere, edges stamped by a 1 kHz clock."""
    joules = np.linspace(1e-9, 2e-9, 40_000, dtype="f4")
    meta = make_meta(quantities=(Quantity.ENERGY,), tick_rate_hz=1000.0, tick_clock_ppm=100.0, period_s=1e-3)
    writer = TraceWriter.create(tmp_path, meta)
    writer.journal(SyncPulse(pin=1, ticks=0, sequence=0, u_latency_s=1e-3))
    for number, ticks in enumerate((10_000, 20_000)):
        writer.journal(EdgeSeen(pin=0, level=0, ticks=ticks, sequence=number))
    writer.write(Block(0, {Quantity.ENERGY: joules}))
    folder = writer.close().folder
    for _ in range(2):
        trace = Trace.open(folder)
        assert [edge.ticks for edge in trace.edges()] == [10_000, 20_000]
        assert trace.energy(10_000, 20_000) == pytest.approx(joules[10_000:20_000].astype(np.float64).sum(), rel=1e-12)
        assert set(trace.overview(0, 40, 10).envelopes) == {"energy", "power"}
        seal(folder)
    verify(folder)


def test_a_span_that_is_none_is_refused_by_every_face(trace: Trace) -> None:
    faces: tuple[Any, ...] = (trace.to_arrow, trace.to_numpy, trace.to_pandas, trace.window)
    for span in ((-1.0, 1.0), (0.0, float("nan")), (float("nan"), 1.0), (0.0, float("inf")), (2.0, 1.0)):
        for face in (*faces, lambda a, b: trace.overview(a, b, 10)):
            with pytest.raises(TraceError, match="do not lie in the trace"):
                face(*span)


@settings(max_examples=200, deadline=None)
@given(
    rows=st.sampled_from([10**4, 10**9, 10**10]),
    period_s=st.sampled_from([1e-6, 5e-7, 2.048e-5, 204.8e-6, 1e-5 / 3, 1 / 31_250]),
    shares=st.tuples(st.floats(0, 1), st.one_of(st.floats(0, 1), st.just(1.0))),
)
def test_a_time_that_was_made_of_an_index_is_that_index_up_to_ten_billion(
    short: Path, rows: int, period_s: float, shares: tuple[float, float]
) -> None:
    long = Trace.open(short)
    assert long.seal is not None
    long.seal = long.seal.model_copy(update={"rows": rows})
    long.meta = long.meta.model_copy(update={"period_s": period_s})
    start, upto = sorted(int(share * rows) for share in shares)
    assert long.span(start * period_s, upto * period_s) == (start, upto)
    if upto - start > 2:
        assert long.span((start + 0.5) * period_s, (upto - 0.5) * period_s) == (start, upto)


@pytest.mark.parametrize("rows", [100, 10**9, 10**10])
def test_a_sample_beyond_an_end_is_outside_however_long_the_trace_is(short: Path, rows: int) -> None:
    long = Trace.open(short)
    assert long.seal is not None
    long.seal = long.seal.model_copy(update={"rows": rows})
    for span in ((-0.5, 10), (0, rows + 0.5), (rows + 0.5, rows + 1)):
        with pytest.raises(TraceError, match="do not lie in the trace"):
            long.span(span[0] * long.period_s, span[1] * long.period_s)


class Copied(LocalFiles):
    """The files of a folder, handed out as copies: as those of a place far away are."""

    def span(self, name: str, start: int, stop: int) -> memoryview:
        return memoryview(bytes(super().span(name, start, stop)))


def test_memory_does_not_grow_with_a_hot_trace_that_lies_elsewhere(tmp_path: Path) -> None:
    writer = TraceWriter.create(tmp_path, make_meta(quantities=(V,)))
    part = np.ones(256_000, dtype="f4")
    for first in range(0, 40 * len(part), len(part)):
        writer.write(Block(first, {V: part}))
    trace = Trace.open(Copied(writer.close().folder))
    tracemalloc.start()
    try:
        assert sum(float(piece.columns[V].sum()) for piece in trace.pieces()) == trace.rows
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < trace.rows * 4 / 2


def test_infinities_of_both_signs_are_named_not_warned_of(tmp_path: Path) -> None:
    signal = {q: values.copy() for q, values in make_signal(3000).items()}
    signal[I][[10, 1010]], signal[I][[12, 1012]] = np.inf, -np.inf
    trace = Trace.open(record(tmp_path, signal))
    for window in ((5.0, 20.5), (0.5, 3000.0), (10.0, 13.0)):
        with pytest.raises(TraceError, match="not numbers"):
            trace.energy(*window)
