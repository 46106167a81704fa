"""`labctl session score` as its user meets it: no lab, a table or one JSON document, and a telling exit status."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from labd.cli.operator import app
from tests.trace.sessions.published_folders import EnergyRunnerSession, MlcommonsSession, reference

KEYS = [
    "format",
    "windows",
    "inferences_per_window",
    "median_uj_per_inference",
    "published_median_uj_per_inference",
    "accuracy",
    "throughput",
]
WINDOW_KEYS = ["index", "start_s", "duration_s", "energy_uj", "published_uj", "energy_own_uj", "uncertainty_uj"]


def _score(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["session", "score", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_json_of_one_benchmark_is_one_document(tmp_path: Path) -> None:
    made = EnergyRunnerSession(tmp_path / "kws")
    made.write_energy()
    status, out, _ = _score(str(tmp_path / "kws"), "--json")
    document = json.loads(out)
    assert status == 0
    assert list(document) == KEYS
    assert document["format"] == "energyrunner"
    assert [list(window) for window in document["windows"]] == [WINDOW_KEYS] * 3
    assert [window["index"] for window in document["windows"]] == [2, 4, 6]
    assert all(window["energy_uj"] == window["published_uj"] for window in document["windows"])
    assert all(window["uncertainty_uj"] > 0 for window in document["windows"])
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
