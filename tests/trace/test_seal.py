"""Sealing, verifying, salvaging: nothing is lost, a cut at any step is made good, every changed byte is found."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.api import Block, Interval, IntervalKind
from labd.errors import TraceError
from labd.trace.layout import LEVELS
from labd.trace.reader import Trace
from labd.trace.seal import SEALED_FILES, SealState, salvage, seal, verify
from labd.trace.writer import TraceWriter
from tests.trace.recording import D, I, V, cut, make_meta, make_signal, record, rows_of

SEALED = {*SEALED_FILES, "seal.json"}
ROWS = 130_123
SIGNAL = make_signal(ROWS, quantities=(I, V, D))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_sealed_trace_reads_as_the_hot_one_did(tmp_path: Path) -> None:
    folder = record(tmp_path, SIGNAL, [77, 50_000])
    made = seal(folder)
    assert names(folder) == SEALED
    assert (made.state, made.rows) == (SealState.SEALED, ROWS)
    assert verify(folder) == seal(folder) == salvage(folder) == made
    trace = Trace.open(folder)
    for quantity, values in SIGNAL.items():
        np.testing.assert_array_equal(trace.samples(quantity), values)
        np.testing.assert_array_equal(trace.samples(quantity, 63_999, 64_001), values[63_999:64_001])


def test_any_parquet_reader_can_read_it_and_floats_are_split_by_byte(tmp_path: Path) -> None:
    folder = record(tmp_path, SIGNAL)
    seal(folder)
    file = pq.ParquetFile(folder / "samples.parquet")
    column = file.metadata.row_group(0).column(0)
    assert column.compression == "ZSTD"
    assert "BYTE_STREAM_SPLIT" in column.encodings
    assert file.read().num_rows == ROWS


def test_nan_of_a_gap_survive_sealing(tmp_path: Path) -> None:
    writer = TraceWriter.create(tmp_path, make_meta())
    writer.write(Block(10, make_signal(5)))
    folder = writer.close().folder
    seal(folder)
    trace = Trace.open(folder)
    assert np.isnan(trace.samples(I)[:10]).all()
    assert trace.marked() == (Interval(IntervalKind.GAP, 0, 10),)


def test_a_trace_of_no_samples_is_sealed(tmp_path: Path) -> None:
    folder = record(tmp_path, make_signal(0))
    assert seal(folder).rows == 0
    assert verify(folder).rows == 0


def test_a_trace_that_is_being_recorded_is_left_alone(tmp_path: Path) -> None:
    writer = TraceWriter.create(tmp_path, make_meta())
    for step in (seal, salvage):
        with pytest.raises(TraceError, match="right now"):
            step(writer.folder)
    with pytest.raises(TraceError, match="not sealed"):
        verify(writer.folder)
    writer.close()


def test_every_changed_byte_is_found_and_the_file_named(tmp_path: Path) -> None:
    folder = record(tmp_path, make_signal(1500))
    seal(folder)
    random = np.random.default_rng(3)
    for name in sorted(SEALED):
        path = folder / name
        data = path.read_bytes()
        places = random.integers(0, max(1, len(data)), 200 if name == "seal.json" else 40).tolist()
        for place in places:
            if not data:
                continue
            torn = bytearray(data)
            torn[place] ^= 1 << int(random.integers(8))
            path.write_bytes(torn)
            with pytest.raises(TraceError) as caught:
                verify(folder)
            if name != "seal.json":
                assert name in caught.value.where
        for other in (data + b"\n", data + b"\0", data[:-1], b""):
            if other != data:
                path.write_bytes(other)
                with pytest.raises(TraceError):
                    verify(folder)
        path.write_bytes(data)
    verify(folder)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    folder = record(tmp_path, make_signal(5))
    seal(folder)
    (folder / "journal.jsonl").unlink()
    with pytest.raises(TraceError, match=r"journal\.jsonl"):
        verify(folder)


class Killed(BaseException):
    """Stands for kill -9: nothing in the code under test may catch it and go on."""


def test_sealing_cut_off_before_any_system_call_on_a_file_is_made_good(tmp_path: Path) -> None:
    """An audit hook counts every open, rename and remove in the folder, and cuts the sealing off at each in turn."""
    import sys

    original = record(tmp_path / "original", SIGNAL)
    state = {"left": -1, "folder": "", "on": False}

    def hook(event: str, args: tuple[object, ...]) -> None:
        if not state["on"] or event not in {"open", "os.rename", "os.remove"}:
            return
        if str(state["folder"]) in str(args[0]):
            state["left"] = int(state["left"]) - 1
            if state["left"] == 0:
                state["on"] = False
                raise Killed

    sys.addaudithook(hook)
    cuts = 0
    while True:
        folder = tmp_path / f"cut{cuts}"
        shutil.copytree(original, folder)
        state.update(left=cuts + 1, folder=str(folder), on=True)
        try:
            seal(folder)
        except Killed:
            cuts += 1
        else:
            break
        finally:
            state["on"] = False
        trace = Trace.open(folder)  # readable at every moment
        np.testing.assert_array_equal(trace.samples(I), SIGNAL[I])
        del trace
        assert seal(folder).state is SealState.SEALED
        assert names(folder) == SEALED
        assert verify(folder).rows == ROWS
        shutil.rmtree(folder)
    assert cuts > 10


@settings(max_examples=30, deadline=None)
@given(lost=st.integers(1, 2_000_000), pyramid_lost=st.integers(0, 3000), whole_pyramid=st.booleans())
def test_salvage_takes_every_whole_batch_and_makes_the_pyramid_again(
    tmp_path_factory: pytest.TempPathFactory, lost: int, pyramid_lost: int, whole_pyramid: bool
) -> None:
    base = tmp_path_factory.mktemp("torn")
    writer = TraceWriter.create(base, make_meta(quantities=(I, V, D)), coalesce_s=0.0)
    ends = [0]
    for block in cut(SIGNAL, [10, 20_000, 1, 64_000]):
        writer.write(block)
        ends.append(writer.samples)
    folder = writer.close().folder
    size = (folder / "samples.arrow").stat().st_size
    os.truncate(folder / "samples.arrow", max(0, size - lost))
    if not whole_pyramid:
        os.truncate(folder / "pyramid-0.bin", max(0, (folder / "pyramid-0.bin").stat().st_size - pyramid_lost))
    seen = Trace.open(folder).rows
    with pytest.raises(TraceError, match="cut off"):
        seal(folder)
    made = salvage(folder)
    assert made.state is SealState.SALVAGED
    assert made.rows == seen
    trace = Trace.open(folder)
    for quantity, values in SIGNAL.items():
        np.testing.assert_array_equal(trace.samples(quantity), values[: made.rows])
    for level in range(LEVELS):
        assert int(rows_of(folder, level)["count"].sum()) == made.rows
    power = SIGNAL[I][: made.rows].astype(np.float64) * SIGNAL[V][: made.rows]
    assert trace.energy(0, made.rows) == pytest.approx(power.sum() * trace.period_s, rel=1e-12)
    verify(folder)
    shutil.rmtree(base)


def test_a_batch_of_zeros_ends_what_a_power_cut_has_left(tmp_path: Path) -> None:
    """A file may have grown on the disk before any of its new sectors were written."""
    writer = TraceWriter.create(tmp_path, make_meta(quantities=(I, V, D)), coalesce_s=0.0)
    ends = []
    for block in cut(SIGNAL, [30_000, 20_000]):
        writer.write(block)
        ends.append((writer.samples, writer.progress.bytes))
    folder = writer.close().folder
    (kept, good), path = ends[0], folder / "samples.arrow"
    size = path.stat().st_size
    os.truncate(path, good)
    os.truncate(path, size)
    os.truncate(folder / "samples.index", 3 * 64)  # the entry that knows all to be durable came later
    assert Trace.open(folder).rows == kept
    assert salvage(folder).rows == kept
    np.testing.assert_array_equal(Trace.open(folder).samples(I), SIGNAL[I][:kept])


def test_a_recording_killed_before_its_first_file_is_an_empty_trace(tmp_path: Path) -> None:
    folder = record(tmp_path, make_signal(10))
    for name in ("samples.arrow", "samples.index", "pyramid-0.bin", "journal.jsonl"):
        (folder / name).unlink()
    assert salvage(folder).rows == 0
    assert verify(folder).state is SealState.SALVAGED


def test_a_folder_without_a_sidecar_cannot_be_salvaged(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"meta\.json"):
        salvage(tmp_path)
    with pytest.raises(TraceError, match=r"meta\.json"):
        Trace.open(tmp_path / "absent")
