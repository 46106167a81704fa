"""What is exported is read back by the tools that it was made for: every sample equal, bit by bit."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pyjls
import pytest

from labd.trace.export.formats import Format
from labd.trace.export.selection import Span
from labd.trace.reader import PIECE, Trace
from labd.trace.writer import TraceWriter
from tests.deadline import HUNG_S
from tests.trace.export.traces import D, E, I, P, Signal, V, made, recorded, same, signal, unlimited, with_windows
from tests.trace.recording import cut, make_meta

SIZES = (1, 7, 1000, PIECE, 2 * PIECE + 13)

CASES = [
    pytest.param(signal, id="current, voltage and levels"),
    pytest.param(lambda rows: signal(rows, (I, V), gap=(rows // 3, rows // 2)), id="with a gap"),
    pytest.param(lambda rows: signal(rows, (E,)), id="energy only"),
    pytest.param(lambda rows: signal(rows, (D,)), id="levels only"),
    pytest.param(lambda rows: signal(rows, (P, D)), id="power and levels"),
]

sizes = pytest.mark.parametrize("rows", SIZES)
cases = pytest.mark.parametrize("columns_of", CASES)


def read_jls(path: Path, name: str) -> npt.NDArray[Any]:
    with pyjls.Reader(str(path)) as reader:
        definition = reader.signal_lookup(name)
        samples = reader.fsr(definition.signal_id, 0, definition.length)
        if definition.data_type == pyjls.DataType.U1:
            samples = np.unpackbits(samples, bitorder="little")[: definition.length]
        return np.asarray(samples)


def read_csv(path: Path) -> dict[str, list[str]]:
    text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
    lines = list(csv.reader(text.splitlines()))
    return {name: list(column) for name, *column in zip(*lines, strict=True)}


@sizes
@cases
def test_numpy_loads_every_sample(tmp_path: Path, columns_of: Any, rows: int) -> None:
    columns: Signal = columns_of(rows)
    made(recorded(tmp_path, columns), Format.NPZ, tmp_path / "t.npz")
    with np.load(tmp_path / "t.npz") as arrays:
        for quantity, samples in columns.items():
            assert same(arrays[quantity.value], samples)
        assert json.loads(str(arrays["about"]))["samples"] == rows


@sizes
@cases
def test_h5py_reads_every_sample(tmp_path: Path, columns_of: Any, rows: int) -> None:
    columns: Signal = columns_of(rows)
    made(recorded(tmp_path, columns), Format.HDF5, tmp_path / "t.hdf5")
    with h5py.File(tmp_path / "t.hdf5") as file:
        for quantity, samples in columns.items():
            assert same(file[quantity.value][:], samples)
            assert file[quantity.value].attrs["period_s"] == 204.8e-6
        assert file.attrs["trace_id"] == "t1"


@sizes
@cases
def test_pyjls_reads_every_sample(tmp_path: Path, columns_of: Any, rows: int) -> None:
    columns: Signal = columns_of(rows)
    made(recorded(tmp_path, columns), Format.JLS, tmp_path / "t.jls")
    for quantity, samples in columns.items():
        if quantity is not D:
            assert same(read_jls(tmp_path / "t.jls", quantity.value), samples)
            continue
        for pin in range(8):
            levels = read_jls(tmp_path / "t.jls", f"gpi[{pin}]")
            assert same(levels[:rows], (samples >> pin) & 1)
            assert len(levels) < rows + 8
            assert set(levels[rows:].tolist()) <= {int(levels[rows - 1])}


@sizes
@cases
def test_sigrok_reads_every_sample(tmp_path: Path, columns_of: Any, rows: int) -> None:
    if shutil.which("sigrok-cli") is None:
        pytest.skip("sigrok-cli is not installed")
    columns: Signal = columns_of(rows)
    made(recorded(tmp_path, columns), Format.SR, tmp_path / "t.sr")
    # what libsigrok has read it writes again, float32 as they are: the only output of its that rounds nothing
    subprocess.run(
        ["sigrok-cli", "-i", tmp_path / "t.sr", "-O", "srzip", "-o", tmp_path / "again.sr"], check=True, timeout=HUNG_S
    )
    begin = 9 if D in columns else 1
    with zipfile.ZipFile(tmp_path / "again.sr") as again:
        analog = [quantity for quantity in columns if quantity is not D]
        for place, quantity in enumerate(analog):
            assert same(joined(again, f"analog-1-{begin + place}").view("<f4"), columns[quantity])
        if D in columns:
            assert same(joined(again, "logic-1"), columns[D])
        assert "samplerate=4.883 kHz" in again.read("metadata").decode()


def joined(archive: zipfile.ZipFile, channel: str) -> npt.NDArray[np.uint8]:
    """A channel's chunks in their order."""
    names = [name for name in archive.namelist() if name.rpartition("-")[0] == channel]
    data = b"".join(archive.read(name) for name in sorted(names, key=lambda name: int(name.rpartition("-")[2])))
    return np.frombuffer(data, dtype=np.uint8)


@pytest.mark.parametrize(("rows", "name"), [(1, "t.csv"), (7, "t.csv.gz"), (3000, "t.csv"), (3000, "t.csv.gz")])
@cases
def test_csv_gives_every_sample_back(tmp_path: Path, columns_of: Any, rows: int, name: str) -> None:
    _compare_csv(tmp_path, columns_of(rows), name)


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
def test_csv_of_several_pieces_gives_every_sample_back(tmp_path: Path, name: str) -> None:
    _compare_csv(tmp_path, signal(PIECE + 1, (I, D)), name)


def _compare_csv(tmp_path: Path, columns: Signal, name: str) -> None:
    made(recorded(tmp_path, columns), Format.CSV, tmp_path / name)
    table = read_csv(tmp_path / name)
    headers = {I: "current_a", V: "voltage_v", P: "power_w", E: "energy_j", D: "digital"}
    assert list(table) == ["time_s", *(headers[quantity] for quantity in columns)]
    for quantity, samples in columns.items():
        kind = np.uint8 if quantity is D else np.float32
        assert same(np.array(table[headers[quantity]], dtype=kind), samples)
    last = len(table["time_s"]) - 1
    assert (table["time_s"][0], table["time_s"][last]) == ("0.0000000", f"{last * 2048 / 1e7:.7f}")


@sizes
@cases
def test_parquet_gives_every_sample_back(tmp_path: Path, columns_of: Any, rows: int) -> None:
    columns: Signal = columns_of(rows)
    made(recorded(tmp_path, columns), Format.PARQUET, tmp_path / "t.parquet")
    table = pq.read_table(tmp_path / "t.parquet")
    for quantity, samples in columns.items():
        assert same(table[quantity.value].to_numpy(), samples)


@pytest.mark.parametrize(
    ("period_s", "index", "text"),
    [
        (1e-6, 3, "0.000003"),
        (204.8e-6, 999_999, "204.7997952"),
        (1.0, 12, "12"),
        (0.1, 3, "0.3"),
        (5e-7, 1, "0.0000005"),
        (1 / 3, 2, "0.666666666666"),
        (1 / 300_000, 900_000, "2.999999999999"),
    ],
)
def test_times_are_exact_decimals(tmp_path: Path, period_s: float, index: int, text: str) -> None:
    trace = recorded(tmp_path, {I: np.zeros(index + 1, dtype=np.float32)}, period_s=period_s)
    made(trace, Format.CSV, tmp_path / "t.csv", window=Span((index - 0.5) * period_s, (index + 1) * period_s))
    assert read_csv(tmp_path / "t.csv")["time_s"][-1] == text


def test_the_joulescope_ui_finds_its_signals_on_the_right_time(tmp_path: Path) -> None:
    rows = 100_000
    made(recorded(tmp_path, signal(rows)), Format.JLS, tmp_path / "t.jls")
    with pyjls.Reader(str(tmp_path / "t.jls")) as reader:
        (source,) = [source for source in reader.sources.values() if source.source_id == 1]
        assert (source.vendor, source.model, source.serial_number) == ("Keysight", "N6705C", "MY1")
        units = {s.name: (s.units, s.sample_rate) for s in reader.signals.values() if s.signal_id}
        assert units == {
            "current": ("A", 4883),
            "voltage": ("V", 4883),
            "power": ("W", 4883),
            **{f"gpi[{pin}]": ("", 4883) for pin in range(8)},
        }
        first, last = (reader.sample_id_to_timestamp(1, sample) for sample in (0, rows - 1))
    # the rate is a whole number, the time is not: the last sample is where it belongs to a nanosecond
    assert (last - first) / 2**30 == pytest.approx((rows - 1) * 204.8e-6, abs=2e-9)
    assert pyjls.jls_to_utc(first) == pytest.approx(1735787045, abs=1e-6)


def test_power_in_a_recording_is_that_of_each_sample(tmp_path: Path) -> None:
    columns = signal(5000, (I, V))
    made(recorded(tmp_path, columns), Format.JLS, tmp_path / "t.jls")
    power = (columns[I].astype(np.float64) * columns[V]).astype(np.float32)
    assert same(read_jls(tmp_path / "t.jls", "power"), power)


def annotations(path: Path) -> list[tuple[int, int, str]]:
    found: list[tuple[int, int, str]] = []

    def take(sample: int, y: float, kind: int, group: int, text: str) -> bool:
        found.append((sample, kind, text))
        return False

    with pyjls.Reader(str(path)) as reader:
        reader.annotations(1, 0, take)
    return found


def test_windows_and_gaps_are_markers_of_the_joulescope_ui(tmp_path: Path) -> None:
    trace = with_windows(tmp_path, 5000, [(1000, 2000), (3000, 4000)])
    _, written = made(trace, Format.JLS, tmp_path / "t.jls")
    assert written.paths == (tmp_path / "t.jls", tmp_path / "t.anno.jls")
    text, vertical = pyjls.AnnotationType.TEXT, pyjls.AnnotationType.VMARKER
    for path in written.paths:
        assert annotations(path) == [
            (50, text, "gap: 10 samples"),
            (1000, vertical, "1a"),
            (1000, text, "trial 0: 10 inferences"),
            (2000, vertical, "1b"),
            (3000, vertical, "2a"),
            (3000, text, "trial 1: 10 inferences"),
            (4000, vertical, "2b"),
        ]


@pytest.mark.parametrize("form", [Format.NPZ, Format.HDF5])
def test_the_story_of_a_trace_goes_with_its_samples(tmp_path: Path, form: Format) -> None:
    trace = with_windows(tmp_path, 5000, [(1000, 2000)])
    made(trace, form, tmp_path / "t")
    tables = load(tmp_path / "t", form)
    edges, marked, trials = tables["edges"], tables["marked"], tables["trials"]
    assert edges["ticks"].tolist() == [1_000_000, 2_000_000]
    assert edges["time_s"].tolist() == pytest.approx([1.0, 2.0], rel=1e-4)  # within the clocks' ppm
    assert marked.tolist() == [(b"gap", 50, 60)]
    assert trials[["index", "input", "inferences"]].tolist() == [(0, b"0.bin", 10)]
    assert trials["start_s"][0] == pytest.approx(1.0, rel=1e-4)
    assert len(tables["journal"].splitlines()) == len(trace.records)


def load(path: Path, form: Format) -> dict[str, Any]:
    if form is Format.HDF5:
        with h5py.File(path) as file:
            return {"journal": file["journal"].asstr()[()], **{n: file[n][:] for n in ("edges", "marked", "trials")}}
    with np.load(path) as arrays:
        return {"journal": str(arrays["journal"]), **{n: arrays[n] for n in ("edges", "marked", "trials")}}


def test_a_trace_that_is_being_recorded_is_exported_as_far_as_it_is(tmp_path: Path) -> None:
    columns = signal(600_000, (I, V))
    writer = TraceWriter.create(tmp_path, make_meta(columns=unlimited(columns)))
    try:
        for block in cut(columns, [100_000] * 6):
            writer.write(block)
        trace = Trace.open(writer.folder)
        assert 0 < trace.rows < 600_000
        made(trace, Format.NPZ, tmp_path / "t.npz")
    finally:
        writer.close()
    with np.load(tmp_path / "t.npz") as arrays:
        assert same(arrays["current"], columns[I][: trace.rows])
