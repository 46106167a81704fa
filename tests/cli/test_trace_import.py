"""`labctl trace import` as its user meets it: into a lab on this host, or into folders with no lab."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from labd.cli.operator import app
from labd.trace.seal import verify
from tests.cli.served import labctl, served_lab
from tests.trace.sessions.published_folders import EnergyRunnerSession, MlcommonsSession, StreamingSession


def _made(folder: Path) -> Path:
    EnergyRunnerSession(folder / "sub" / "ad").write_energy()
    MlcommonsSession(folder / "sub" / "kws" / "energy").write()
    return folder / "sub"


async def test_a_submission_is_brought_into_the_lab_and_again_gives_the_same_jobs(tmp_path: Path) -> None:
    sessions = _made(tmp_path)
    data = tmp_path / "lab"
    data.mkdir()
    (data / "lab.toml").write_text('[lab]\nname = "bench-1"\ndata_dir = "."\n')
    async with served_lab(data) as served:
        options = ("--config", str(data / "lab.toml"), "--broker", str(served.broker.endpoint))
        first = await labctl(*options, "trace", "import", str(sessions), "--json")
        assert first.status == 0, first.err
        assert [(each["session"], each["jobs"]) for each in first.document["sessions"]] == [("ad", [1]), ("kws", [2])]
        again = await labctl(*options, "trace", "import", str(sessions / "kws"), str(sessions / "ad"), "--json")
        assert [each["jobs"] for each in again.document["sessions"]] == [[2], [1]]
        shown = await labctl(*options, "job", "show", "2", "--json")
        assert shown.document["spec"]["labels"]["session"] == "kws"
        assert len(shown.document["runs"][0]["traces"]) == 3
        words = await labctl(*options, "job", "show", "2")
        assert "Imported" in words.out
        assert "mlcommons-published/1" in words.out
    assert list((data / "inbox").iterdir()) == []


def test_without_a_lab_the_folders_are_sealed_traces(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app, ["trace", "import", str(_made(tmp_path)), "--out", str(tmp_path / "out"), "--json"]
    )
    assert result.exit_code == 0, result.stderr
    traces = json.loads(result.stdout)["traces"]
    assert [trace["session"] for trace in traces] == ["ad", "kws", "kws", "kws"]
    for trace in traces:
        verify(Path(trace["folder"]))
    assert len(list((tmp_path / "out").iterdir())) == 4


@pytest.mark.parametrize("options", [[], ["--lab", "bench-1"]])
def test_an_import_needs_the_labs_data_directory_or_a_folder(tmp_path: Path, options: list[str]) -> None:
    result = CliRunner().invoke(app, [*options, "trace", "import", str(_made(tmp_path))])
    assert result.exit_code == 2
    assert "--out" in result.stderr


def test_a_damaged_session_is_named_and_left_out_and_the_others_are_made(tmp_path: Path) -> None:
    sessions = _made(tmp_path)
    (sessions / "ad" / "energy" / "trace1-energy.bin").write_bytes(b"RIFF....")
    result = CliRunner().invoke(app, ["trace", "import", str(sessions), "--out", str(tmp_path / "out"), "--json"])
    assert result.exit_code == 1
    assert "left out:" in result.stderr
    assert "trace1-energy.bin: it is no energy trace" in result.stderr
    assert [each["session"] for each in json.loads(result.stdout)["traces"]] == ["kws"] * 3


def test_where_nothing_can_be_read_nothing_is_made(tmp_path: Path) -> None:
    sessions = _made(tmp_path)
    for path in sessions.rglob("results.txt"):
        path.unlink()
    result = CliRunner().invoke(app, ["trace", "import", str(sessions), "--out", str(tmp_path / "out")])
    assert result.exit_code == 1
    for name in ("ad", "kws"):
        assert f"{name}/energy/results.txt: results.txt is missing" in result.stderr
    assert not (tmp_path / "out").exists()


def test_parts_that_disagree_are_named_and_the_import_is_not_taken_as_whole(tmp_path: Path) -> None:
    folder = EnergyRunnerSession(tmp_path / "kws").write_energy()
    log = folder / "log.txt"
    log.write_text(log.read_text() + '\r\n00101.000 parser: Command "io dut infer 100 1"')
    result = CliRunner().invoke(app, ["trace", "import", str(tmp_path), "--out", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert "kws: energy: it prints 3 windows, the board was asked 4 times" in result.stderr


async def test_a_streaming_benchmark_is_left_out_of_an_import_and_the_rest_comes_in(tmp_path: Path) -> None:
    sessions = _made(tmp_path)
    StreamingSession(sessions / "sww" / "energy").write()
    data = tmp_path / "lab"
    data.mkdir()
    (data / "lab.toml").write_text('[lab]\nname = "bench-1"\ndata_dir = "."\n')
    async with served_lab(data) as served:
        options = ("--config", str(data / "lab.toml"), "--broker", str(served.broker.endpoint))
        asked = await labctl(*options, "trace", "import", str(sessions), "--json")
    assert asked.status == 1
    assert [each["session"] for each in asked.document["sessions"]] == ["ad", "kws"]
    assert "sww/energy: a streaming benchmark's results are scored, not imported" in asked.err
