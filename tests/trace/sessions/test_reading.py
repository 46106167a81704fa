"""Published sessions are read as what they are, and anything else is refused by file and field."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labd.benchmarks import Mode
from labd.trace.sessions import energy_file
from labd.trace.sessions.energy_file import EnergyFile, samples_before
from labd.trace.sessions.folders import find_sessions
from labd.trace.sessions.published import SessionError, SessionFormat
from tests.trace.sessions.published_folders import EnergyRunnerSession, MlcommonsSession, write_trace


def test_an_energyrunner_session_says_who_ran_what_and_when(tmp_path: Path) -> None:
    made = EnergyRunnerSession(tmp_path / "kws")
    made.write_energy()
    (session,) = find_sessions(tmp_path / "kws")
    read = session.sets[Mode.ENERGY]
    assert (session.name, session.format, session.model) == ("kws", SessionFormat.ENERGYRUNNER, "kws01")
    assert (read.board, read.profile, read.voltage_v) == ("Made Up", "Firmware V0", 3.0)
    assert read.monitor is not None
    assert read.monitor.model == "X-NUCLEO-LPM01A"
    assert read.began is not None
    assert f"{read.began:%Y-%m-%d %H:%M}" == "2024-03-11 15:27"
    assert [(each.input, each.expected, each.inferences, each.warmups) for each in read.inferences[:2]] == [
        ("tst_000000_Stop_7.bin", 7, 100, 1),
        ("tst_000001_Left_2.bin", 2, 100, 1),
    ]
    (capture,) = read.captures
    assert capture.samples.rows == len(made.samples_uj)
    assert list(capture.edges) == [round(1000 * time) for time in made.times_s]
    assert [span.index for span in capture.windows] == [2, 4, 6]


def test_an_mlcommons_session_has_a_recording_for_each_trial(tmp_path: Path) -> None:
    made = MlcommonsSession(tmp_path / "kws" / "energy")
    made.write()
    (session,) = find_sessions(tmp_path)
    read = session.sets[Mode.ENERGY]
    assert (session.format, read.board, read.model) == (SessionFormat.MLCOMMONS, "Made Up", "kws01")
    assert [len(capture.edges) for capture in read.captures] == [3, 2, 2]
    assert [span.index for _, span in read.spans] == [0, 1, 2]
    assert [each.expected for each in read.inferences] == [7, 2, 6]


def test_a_tree_of_benchmarks_is_read_whole_and_named_by_its_folders(tmp_path: Path) -> None:
    for name in ("system-a/kws", "system-b/kws"):
        EnergyRunnerSession(tmp_path / "results" / name, trials=1).write_energy()
    (tmp_path / "notes").mkdir()
    names = [session.name for session in find_sessions(tmp_path)]
    assert names == ["results/system-a/kws", "results/system-b/kws"]


def test_of_several_traces_the_one_that_fits_the_windows_is_taken(tmp_path: Path) -> None:
    made = EnergyRunnerSession(tmp_path / "kws")
    folder = made.write_energy()
    for name in ("trace1-energy.bin", "trace1-timestamps.json"):
        (folder / name).rename(folder / name.replace("trace1", "trace2"))
    write_trace(folder / "trace1-energy.bin", 1000.0, [30.0] * 100)
    (folder / "trace1-timestamps.json").write_text("[0.01, 0.05]")
    (session,) = find_sessions(folder)
    assert session.sets[Mode.ENERGY].files["energy"].name == "trace2-energy.bin"


def _edit(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda folder: _rewrite(folder / name, change)


def _rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def _rate(rate_hz: float) -> Callable[[bytes], bytes]:
    return lambda data: data[:1] + struct.pack("<f", rate_hz) + data[5:]


def _sample(value: float) -> Callable[[bytes], bytes]:
    return lambda data: data[:405] + struct.pack("<f", value) + data[409:]


BIN, TIMES, RESULTS, LOG = "trace1-energy.bin", "trace1-timestamps.json", "results.txt", "log.txt"


@pytest.mark.parametrize(
    ("damage", "file", "words"),
    [
        (_edit(BIN, lambda data: data[:-2]), BIN, "cut off"),
        (_edit(BIN, lambda data: data[:5]), BIN, "no samples"),
        (_edit(BIN, lambda data: data[:3]), BIN, "no energy trace"),
        (_edit(BIN, lambda data: b"RIFF" + data[4:]), BIN, "no energy trace"),
        (_edit(BIN, lambda data: data[:4005]), BIN, "the trace ends at 1 s"),
        (_edit(BIN, _rate(0.0)), BIN, "sample rate is 0.0"),
        (_edit(BIN, _rate(-1000.0)), BIN, "sample rate is -1000.0"),
        (_edit(BIN, _rate(float("inf"))), BIN, "sample rate is inf"),
        (_edit(BIN, _rate(float("nan"))), BIN, "sample rate is nan"),
        (_edit(BIN, _sample(float("nan"))), BIN, "sample 100 is nan"),
        (_edit(BIN, _sample(float("-inf"))), BIN, "sample 100 is -inf"),
        (lambda folder: (folder / BIN).unlink(), BIN, "missing"),
        (lambda folder: (folder / TIMES).unlink(), TIMES, "missing"),
        (lambda folder: (folder / RESULTS).unlink(), RESULTS, "missing"),
        (lambda folder: (folder / LOG).unlink(), LOG, "missing"),
        (_edit(TIMES, lambda data: data[:-3]), TIMES, "not JSON"),
        (_edit(TIMES, lambda data: b"[NaN]"), TIMES, "timestamp 1 is NaN"),
        (_edit(TIMES, lambda data: b"[-1.0]"), TIMES, "timestamp 1 is -1.0"),
        (_edit(TIMES, lambda data: b"[1e999999999]"), TIMES, "timestamp 1 is 1E+999999999"),
        (_edit(TIMES, lambda data: b"[" + b"9" * 5000 + b"]"), TIMES, "not JSON"),
        (_edit(TIMES, lambda data: b'[0.1, "0.2"]'), TIMES, "timestamp 2 is '0.2'"),
        (_edit(TIMES, lambda data: b"{}"), TIMES, "no list"),
        (_edit(TIMES, lambda data: b"[1.0, 0.9]"), TIMES, "timestamp 2 is 0.9 s, before"),
        (_edit(TIMES, lambda data: b"[0.018]"), TIMES, "a window 2, and there are 1 timestamps"),
        (_edit(TIMES, lambda data: b"\xff\xfe"), TIMES, "not JSON"),
        (_edit(RESULTS, lambda data: data.replace(b"window 6 at", b"window 9 at")), TIMES, "a window 9"),
        (_edit(RESULTS, lambda data: data.replace(b"window 6 at", b"window 4 at")), RESULTS, "twice"),
        (_edit(RESULTS, lambda data: data[:300]), RESULTS, "lacks 'Energy'"),
        (_edit(RESULTS, lambda data: b""), RESULTS, "nothing that a runner prints"),
        (_edit(RESULTS, lambda data: b"\xff" + data), RESULTS, "no text"),
        (_edit(RESULTS, lambda data: data.replace(b" uJ\r", b"nan uJ\r")), RESULTS, "'Energy' of window 2"),
        (_edit(LOG, lambda data: b"hello\n"), LOG, "no line of an EnergyRunner log"),
        (_edit(LOG, lambda data: data.replace(b"[0.000,", b"[oops,")), LOG, "not numbers"),
        (_edit(LOG, lambda data: data.replace(b"[0.000,", b"[nan,")), LOG, "not all finite"),
        (_edit(LOG, lambda data: data.replace(b'infer 100 1"', b'infer 0 1"')), LOG, "asked for 0 inferences"),
    ],
)
def test_a_damaged_energyrunner_session_is_refused_by_file_and_field(
    tmp_path: Path, damage: Callable[[Path], None], file: str, words: str
) -> None:
    folder = EnergyRunnerSession(tmp_path / "kws").write_energy()
    damage(folder)
    with pytest.raises(SessionError) as caught:
        find_sessions(folder)
    assert caught.value.where == str(folder / file)
    assert words in caught.value.message


def test_edges_that_are_not_those_of_the_printed_windows_are_refused(tmp_path: Path) -> None:
    made = EnergyRunnerSession(tmp_path / "kws")
    folder = made.write_energy()
    moved = [made.times_s[0], *(time + 0.1 for time in made.times_s[1:])]
    (folder / TIMES).write_text(json.dumps(moved))
    with pytest.raises(SessionError, match="window 2 opens at"):
        find_sessions(folder)


def _power(key: str, value: object) -> Callable[[list[dict[str, object]]], object]:
    def change(entries: list[dict[str, object]]) -> None:
        power = entries[1]["power"]
        assert isinstance(power, dict)
        power[key] = value

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_power("samples", [1e-5, float("nan")]), "[1].power.samples[1]"),
        (_power("samples", []), "[1].power.samples"),
        (_power("samples", [1e-5, 1e300]), "[1].power.samples[1]"),
        (_power("samples", [1e-5] * 20), "does not lie in 20 samples"),
        (_power("timestamps", [["0", 5], ["1", 4]]), "[1].power.timestamps go back"),
        (_power("timestamps", [["0", -5], ["1", 4]]), "[1].power.timestamps[0][1]"),
        (_power("timestamps", [["0", 5]]), "1 events"),
        (_power("timestamps", [["0", 5], ["1", 9]]), "0.004 s apart"),
        (lambda entries: entries.clear(), "no trial"),
        (lambda entries: entries.pop(), "no samples of it"),
        (lambda entries: entries[0].update(mode="p"), "several modes"),
    ],
)
def test_a_damaged_mlcommons_session_is_refused_by_file_and_field(
    tmp_path: Path, change: Callable[[list[dict[str, object]]], object], words: str
) -> None:
    made = MlcommonsSession(tmp_path / "energy")
    folder = made.write()
    change(made.entries)
    (folder / "results.json").write_text(json.dumps(made.entries))
    with pytest.raises(SessionError) as caught:
        find_sessions(folder)
    assert caught.value.where == str(folder / "results.json")
    assert words in caught.value.message


@pytest.mark.parametrize("name", ["results.json", "results.txt", "log.txt"])
def test_a_file_that_an_mlcommons_session_lacks_is_named(tmp_path: Path, name: str) -> None:
    folder = MlcommonsSession(tmp_path / "energy").write()
    (folder / name).unlink()
    with pytest.raises(SessionError, match=f"{name} is missing"):
        find_sessions(folder)


def test_a_torn_results_json_is_refused(tmp_path: Path) -> None:
    folder = MlcommonsSession(tmp_path / "energy").write()
    _rewrite(folder / "results.json", lambda data: data[: len(data) // 2])
    with pytest.raises(SessionError, match="not what the runner writes"):
        find_sessions(folder)


def test_a_folder_without_sessions_and_a_folder_of_another_mode_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SessionError, match="no published session"):
        find_sessions(tmp_path)
    with pytest.raises(SessionError, match="no such folder"):
        find_sessions(tmp_path / "nowhere")
    folder = EnergyRunnerSession(tmp_path / "kws").write_energy()
    folder.rename(folder.with_name("accuracy"))
    with pytest.raises(SessionError, match="'accuracy' holds results of energy"):
        find_sessions(tmp_path / "kws")


@given(
    rate_hz=st.floats(1.0, 1e6, width=32),
    rows=st.integers(1, 3000),
    places=st.lists(st.floats(0.0, 1.2), min_size=1, max_size=4),
    piece=st.integers(1, 700),
)
def test_the_time_axis_is_that_of_adding_up_wherever_it_is_cut(
    rate_hz: float, rows: int, places: list[float], piece: int
) -> None:
    period_s = 1.0 / rate_hz
    times = [place * rows * period_s for place in places]
    expected = [0] * len(times)
    clock = 0.0
    for _ in range(rows):
        for number, time in enumerate(times):
            expected[number] += clock < time
        clock += period_s
    assert list(samples_before(times, rows=rows, period_s=period_s, piece=piece)) == expected


def test_samples_are_read_in_pieces_as_they_were_written(tmp_path: Path) -> None:
    values = np.linspace(0, 50, 1001, dtype=np.float32)
    write_trace(tmp_path / BIN, 1000.0, [float(value) for value in values])
    file = EnergyFile.open(tmp_path / BIN)
    read = [file.read(start, stop) for start, stop in energy_file.pieces(0, file.rows)]
    assert np.array_equal(np.concatenate(read), values)
    assert np.array_equal(file.read(17, 23), values[17:23])
    with pytest.raises(SessionError, match="shrunk"):
        file.read(990, 1005)
