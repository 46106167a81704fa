"""`labctl session score` as its user meets it: no lab, a table or one JSON document, and a telling exit status."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from labd.cli.operator import app
from tests.trace.sessions.published_folders import (
    EnergyRunnerSession,
    MlcommonsSession,
    StreamingSession,
    reference,
)

KEYS = [
    "format",
    "windows",
    "inferences_per_window",
    "median_uj_per_inference",
    "published_median_uj_per_inference",
    "accuracy",
    "throughput",
    "as_published",
    "figures",
    "findings",
]
WINDOW_KEYS = [
    "index",
    "start_s",
    "duration_s",
    "energy_uj",
    "published_uj",
    "energy_own_uj",
    "standard_uncertainty_uj",
    "uncertainty_uj",
]


def _score(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["session", "score", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_json_of_one_benchmark_is_one_document(tmp_path: Path) -> None:
    made = EnergyRunnerSession(tmp_path / "kws")
    made.write_energy()
    status, out, _ = _score(str(tmp_path / "kws"), "--json")
    document = json.loads(out)
    assert status == 0
    assert list(document) == [*KEYS, "left_out"]
    assert document["format"] == "energyrunner"
    assert [list(window) for window in document["windows"]] == [WINDOW_KEYS] * 3
    assert [window["index"] for window in document["windows"]] == [2, 4, 6]
    assert all(window["energy_uj"] == window["published_uj"] for window in document["windows"])
    assert all(window["standard_uncertainty_uj"] > 0 for window in document["windows"])
    assert all(window["uncertainty_uj"] == window["standard_uncertainty_uj"] for window in document["windows"])
    assert document["windows"][0]["start_s"] == made.times_s[1]
    assert document["accuracy"] is None


def test_json_of_several_benchmarks_names_each(tmp_path: Path) -> None:
    EnergyRunnerSession(tmp_path / "ic").write_performance([10_000_000])
    MlcommonsSession(tmp_path / "kws" / "energy").write()
    status, out, _ = _score(str(tmp_path), "--json")
    document = json.loads(out)
    assert status == 0
    assert (document["format"], [each["session"] for each in document["sessions"]]) == (None, ["ic", "kws"])
    assert [list(each) for each in document["sessions"]] == [["session", *KEYS]] * 2
    assert document["sessions"][0]["windows"] == []
    assert document["sessions"][0]["median_uj_per_inference"] is None


def test_the_table_has_published_ours_and_labds_own_with_its_uncertainty(tmp_path: Path) -> None:
    MlcommonsSession(tmp_path / "kws" / "energy").write()
    status, out, err = _score(str(tmp_path / "kws"))
    assert status == 0
    for words in ("published, µJ", "differs, µJ", "0.000", " ± ", "median energy per inference", "µJ"):
        assert words in out
    assert out.count("± standard uncertainty, k = 1") == 2, "each of the two tables says what stands behind its ±"
    assert "UM2243" in err
    assert "UM2243" not in out


def test_a_window_that_does_not_come_out_is_named_and_fails_the_command(tmp_path: Path) -> None:
    folder = EnergyRunnerSession(tmp_path / "kws").write_energy()
    results = folder / "results.txt"
    line = next(line for line in results.read_text().splitlines() if "Energy       :" in line)
    results.write_text(results.read_text().replace(line, line.replace(" uJ", "1 uJ"), 1))
    status, out, err = _score(str(folder), "--json")
    assert status == 1
    assert len(json.loads(out)["windows"]) == 3
    assert "window 2 is published as" in err


def test_a_damaged_session_is_one_line_that_names_the_file(tmp_path: Path) -> None:
    folder = EnergyRunnerSession(tmp_path / "kws").write_energy()
    (folder / "trace1-energy.bin").write_bytes(b"RIFF....")
    status, out, err = _score(str(folder), "--json")
    assert (status, out) == (1, "")
    assert "trace1-energy.bin: it is no energy trace" in err


def test_what_is_left_out_of_a_tree_is_named_and_fails_the_command_and_the_rest_is_scored(tmp_path: Path) -> None:
    EnergyRunnerSession(tmp_path / "board" / "kws").write_energy()
    StreamingSession(tmp_path / "board" / "sww" / "performance").write()
    lost = MlcommonsSession(tmp_path / "board" / "vww" / "energy").write()
    assert _score(str(tmp_path))[0] == 0
    (lost / "results.json").unlink()
    status, out, err = _score(str(tmp_path), "--json")
    document = json.loads(out)
    assert status == 1
    assert [each["session"] for each in document["sessions"]] == ["board/kws", "board/sww"]
    reason = f"{lost}/results.json: results.json is missing"
    assert document["left_out"] == [{"path": str(lost), "reason": reason}]
    assert f"left out: {reason}" in err
    status, out, err = _score(str(tmp_path))
    assert (status, "board/kws: the session" in out, f"left out: {reason}" in err) == (1, True, True)


def test_of_several_sets_that_cannot_be_read_each_is_named(tmp_path: Path) -> None:
    for name in ("ad", "kws"):
        (EnergyRunnerSession(tmp_path / name).write_energy() / "log.txt").unlink()
    status, out, err = _score(str(tmp_path), "--json")
    assert (status, out) == (1, "")
    assert [f"{name}/energy/log.txt: log.txt is missing" in err for name in ("ad", "kws")] == [True, True]


def test_a_finding_fails_the_command_and_an_echoed_figure_is_marked(tmp_path: Path) -> None:
    made = EnergyRunnerSession(tmp_path / "vww")
    made.write_accuracy([("000000343218.bin", (0.1, 0.9))], ["Top-1: 85.4%", "AUC: 0.9"])
    status, out, err = _score(str(tmp_path))
    assert status == 0
    assert "as published" in out
    assert "does not tell the classes" in err
    assert json.loads(_score(str(tmp_path), "--json")[1])["figures"]["accuracy"] == {
        "metric": "top-1",
        "value": 0.854,
        "published": 0.854,
        "as_published": True,
    }
    results = made.accuracy / "results.txt"
    results.write_text(results.read_text().replace("Top-1", "Top-9"))
    status, out, err = _score(str(tmp_path), "--json")
    assert (status, json.loads(out)["accuracy"]) == (1, None)
    assert "vww: its results print no top-1" in err


def _renamed(name: str) -> Callable[[Path], object]:
    return lambda energy: energy.rename(energy.with_name(name))


def _edited(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda energy: [
        path.write_bytes(change(path.read_bytes())) for path in energy.iterdir() if path.name == "results.txt"
    ]


def _without_lines(words: bytes, count: int) -> Callable[[bytes], bytes]:
    def cut(text: bytes) -> bytes:
        lines = text.splitlines(keepends=True)
        at = next(number for number, line in enumerate(lines) if words in line)
        return b"".join(lines[:at] + lines[at + count :])

    return cut


DAMAGES: list[tuple[Callable[[Path], object], int]] = [
    (_renamed("power"), 0),
    (_renamed("Energy"), 0),
    (_renamed("enegy"), 0),
    (_edited(lambda text: b"\xef\xbb\xbf" + text), 0),
    (_edited(_without_lines(b"Energy data for", 1)), 1),
    (_edited(_without_lines(b"Energy data for", 4)), 1),
    (_edited(_without_lines(b"Energy data for", 6)), 1),
    (_edited(_without_lines(b"Median energy", 1)), 1),
    (_edited(lambda text: text.decode().encode("utf-16")), 1),
    (lambda energy: [path.unlink() for path in energy.iterdir() if path.name == "results.txt"], 1),
    (lambda energy: [path.unlink() for path in energy.iterdir() if path.suffix == ".json"], 1),
    (lambda energy: [path.unlink() for path in energy.iterdir()], 1),
]


def _check_damage(made: Path, work: Path, damage: Callable[[Path], object], status: int) -> None:
    """A damage that takes nothing away gives the same windows; any other is named, and the exit status is not 0."""
    benchmark = work / "damaged" / made.name
    shutil.copytree(made, benchmark)
    before = json.loads(_score(str(benchmark), "--json")[1])
    damage(benchmark / "energy")
    left, out, err = _score(str(benchmark), "--json")
    assert left == status
    if status == 0:
        assert json.loads(out)["windows"] == before["windows"] != []
    else:
        assert benchmark.name in err


@pytest.mark.parametrize("runner", ["energyrunner", "mlcommons"])
@pytest.mark.parametrize(("damage", "status"), DAMAGES)
def test_no_session_that_is_damaged_passes_in_silence(
    tmp_path: Path, runner: str, damage: Callable[[Path], object], status: int
) -> None:
    made = EnergyRunnerSession(tmp_path / "kws")
    if runner == "energyrunner":
        made.write_energy()
        made.write_performance([10_000_000, 10_300_000])
    else:
        MlcommonsSession(made.energy).write()
    _check_damage(made.folder, tmp_path, damage, status)


@pytest.mark.parametrize(("damage", "status"), DAMAGES)
def test_no_reference_session_that_is_damaged_passes_in_silence(
    tmp_path: Path, damage: Callable[[Path], object], status: int
) -> None:
    _check_damage(reference() / "eembc-v0.5-nucleo-l4r5zi" / "ad", tmp_path, damage, status)


def test_a_path_that_is_no_folder_is_wrong_usage(tmp_path: Path) -> None:
    assert _score(str(tmp_path / "nowhere"))[0] == 2


def test_every_reference_session_scores_in_both_forms() -> None:
    root = reference()
    for path in (*sorted(root.glob("*/*")), *sorted(root.glob("*/*/*")), root):
        status, out, _ = _score(str(path), "--json")
        assert status == 0, path
        assert "NaN" not in out
        assert "Infinity" not in out
    assert _score(str(root))[0] == 0
