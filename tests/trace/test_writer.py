"""Recording: any block sizes give the same trace, gaps keep the clock, nonsense is refused."""

from __future__ import annotations

import os
import resource
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.api import Block, Interval, IntervalKind, Quantity
from labd.errors import TraceError
from labd.trace.layout import BLOCK, LEVELS, SAMPLES
from labd.trace.reader import Trace
from labd.trace.writer import TraceWriter
from tests.trace.recording import D, I, V, cut, make_meta, make_signal, record, rows_of


@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.integers(1, 70_000), max_size=12), rows=st.integers(0, 150_000))
def test_any_block_sizes_give_the_same_samples_and_pyramid(sizes: list[int], rows: int) -> None:
    signal = make_signal(rows, quantities=(I, V, D))
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        a, b = record(Path(one), signal, sizes), record(Path(two), signal)
        for level in range(LEVELS):
            np.testing.assert_array_equal(rows_of(a, level), rows_of(b, level))
        for quantity, values in signal.items():
            np.testing.assert_array_equal(Trace.open(a).samples(quantity), values)
            np.testing.assert_array_equal(Trace.open(b).samples(quantity), values)


def test_the_pyramid_holds_what_numpy_says_of_each_block(tmp_path: Path) -> None:
    signal = make_signal(2 * BLOCK + 7)
    folder = record(tmp_path, signal, [1, 2, 3, 1500])
    rows = rows_of(folder)
    power = signal[I].astype(np.float64) * signal[V]
    assert rows["first"].tolist() == [0, 1000, 2000]
    assert rows["count"].tolist() == [1000, 1000, 7]
    for name, values in {"current": signal[I], "voltage": signal[V], "power": power}.items():
        for k, part in enumerate((values[:1000], values[1000:2000], values[2000:])):
            wide = part.astype(np.float64)
            assert rows[f"{name}_min"][k] == np.float32(part.min())
            assert rows[f"{name}_max"][k] == np.float32(part.max())
            assert rows[f"{name}_sum"][k] == pytest.approx(wide.sum(), rel=1e-13)
            assert rows[f"{name}_sumsq"][k] == pytest.approx((wide**2).sum(), rel=1e-13)


def test_a_jump_of_the_index_is_a_gap_of_nan_and_the_clock_goes_on(tmp_path: Path) -> None:
    writer = TraceWriter.create(tmp_path, make_meta(quantities=(I, V, D)))
    signal = make_signal(2000, quantities=(I, V, D))
    writer.write(Block(0, {q: values[:500] for q, values in signal.items()}))
    writer.write(Block(1500, {q: values[1500:] for q, values in signal.items()}))
    summary = writer.close()
    trace = Trace.open(summary.folder)
    assert summary.rows == trace.rows == 2000
    assert summary.marked == 1
    assert trace.marked() == (Interval(IntervalKind.GAP, 500, 1500),)
    assert trace.marked(0, 500) == ()
    assert trace.marked(0, 500.5) == trace.marked(1499, 1501) == trace.marked()
    assert np.isnan(trace.samples(I, 500, 1500)).all()
    assert not trace.samples(D, 500, 1500).any()
    np.testing.assert_array_equal(trace.samples(I, 1500), signal[I][1500:])
    rows = rows_of(summary.folder)
    assert rows["power_finite"].tolist() == [500, 500]
    assert np.isfinite(rows["power_sum"]).all()
    with pytest.raises(TraceError, match="not numbers"):
        trace.energy(400.0, 600.0)
    assert trace.energy(1500.25, 1999.5) > 0


def test_a_hole_that_the_instrument_declares_is_marked_once(tmp_path: Path) -> None:
    writer = TraceWriter.create(tmp_path, make_meta())
    lost = Interval(IntervalKind.OVERFLOW, 0, 100)
    writer.write(Block(100, make_signal(10), (lost,)))
    assert Trace.open(writer.close().folder).marked() == (lost,)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (Block(99, make_signal(5)), "expected was 100"),
        (Block(10**15, make_signal(5)), "expected was 100"),
        (Block(100, make_signal(5, quantities=(I,))), "columns"),
        (Block(100, {I: np.zeros(5, "f4"), V: np.zeros(4, "f4")}), "shape"),
        (Block(100, {I: np.zeros(5, "f4"), V: np.zeros(5, "i4")}), "int32"),
    ],
)
def test_a_wrong_block_is_refused_and_costs_nothing_that_was_written(
    tmp_path: Path, block: Block, message: str
) -> None:
    writer = TraceWriter.create(tmp_path, make_meta())
    writer.write(Block(0, make_signal(100)))
    with pytest.raises(TraceError, match=message):
        writer.write(block)
    assert writer.close().rows == 100


def test_a_trace_is_never_written_over(tmp_path: Path) -> None:
    record(tmp_path, make_signal(10))
    with pytest.raises(TraceError, match="exists already"):
        TraceWriter.create(tmp_path, make_meta())


def test_a_closed_writer_takes_nothing_more_and_says_the_same_again(tmp_path: Path) -> None:
    writer = TraceWriter.create(tmp_path, make_meta())
    summary = writer.close()
    assert writer.close() == summary
    with pytest.raises(TraceError, match="closed"):
        writer.write(Block(0, make_signal(1)))


def test_the_hot_file_is_plain_arrow_and_declares_its_columns(tmp_path: Path) -> None:
    folder = record(tmp_path, make_signal(10, quantities=(I, D)))
    with pa.memory_map(str(folder / SAMPLES)) as data, pa.ipc.open_stream(data) as stream:
        table = stream.read_all()
    assert [str(field.type) for field in table.schema] == ["float", "uint8"]
    assert b'"noise_rms": 2e-06' in table.schema.field("current").metadata[b"labd.column"]


def test_a_reader_sees_what_was_written_so_far(tmp_path: Path) -> None:
    writer = TraceWriter.create(tmp_path, make_meta(), coalesce_s=0.0)
    signal = make_signal(150_500)
    for block in cut(signal, [700, 1, 64_000, 50_000]):
        writer.write(block)
        trace = Trace.open(writer.folder)
        assert trace.rows == writer.samples
        np.testing.assert_array_equal(trace.samples(I), signal[I][: trace.rows])
        power = signal[I][: trace.rows].astype(np.float64) * signal[V][: trace.rows]
        assert trace.energy(0, trace.rows) == pytest.approx(power.sum() * trace.period_s, rel=1e-12)
        assert trace.overview(0, trace.duration_s, 10).counts.sum() == trace.rows
    assert writer.progress.samples == 150_500
    assert writer.progress.bytes > 8 * 150_500
    writer.close()


def test_a_column_of_power_or_energy_is_the_power_of_the_trace(tmp_path: Path) -> None:
    watts = np.linspace(1, 2, 2500, dtype="f4")
    for name, values in ((Quantity.POWER, watts), (Quantity.ENERGY, watts * np.float32(204.8e-6))):
        folder = record(tmp_path, {name: values}, trace_id=name.value)
        assert Trace.open(folder).energy(10, 2400) == pytest.approx(
            watts[10:2400].astype(np.float64).sum() * 204.8e-6, rel=1e-6
        )
    lone = Trace.open(record(tmp_path, make_signal(10, quantities=(I,)), trace_id="lone"))
    with pytest.raises(TraceError, match="does not follow"):
        lone.energy(0, 1)


def test_a_trace_that_cannot_be_begun_leaves_no_file_open(tmp_path: Path) -> None:
    """As when a daemon has used up its files: each refused recording must not use up more."""
    before = _open_files()
    free = [number for number in range(len(before) + 40) if number not in before]
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    refused = 0
    for more in range(1, 20):
        resource.setrlimit(resource.RLIMIT_NOFILE, (free[more], limits[1]))
        try:
            TraceWriter.create(tmp_path, make_meta(f"t{more}")).close()
        except TraceError:
            refused += 1
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert _open_files() == before
    assert 5 < refused < 19


def _open_files() -> set[int]:
    """Numbers of the files that this process has open, but for the one that this takes itself."""
    return {int(name) for name in os.listdir("/proc/self/fd") if Path(f"/proc/self/fd/{name}").exists()}


def test_levels_of_more_than_eight_pins_are_refused_rather_than_cut(tmp_path: Path) -> None:
    writer = TraceWriter.create(tmp_path, make_meta(quantities=(D,)))
    with pytest.raises(TraceError, match="uint16"):
        writer.write(Block(0, {D: np.array([0x100], dtype=np.uint16)}))
    assert writer.close().rows == 0
