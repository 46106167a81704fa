"""`labctl trace plot`: pictures of a folder and of a served trace, what it prints, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from drivers.api import Interval, IntervalKind
from labd.cli.operator import app
from labd.keep.store import TraceStore
from labd.web.server import serve_traces
from tests.cli.served import labctl
from tests.cli.staged_run import StagedRun

RUN = StagedRun(trials=2, marks=(Interval(IntervalKind.GAP, 900, 1000),))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return RUN.record(tmp_path_factory.mktemp("runs"))


def plot(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["trace", "plot", *map(str, arguments)])


def shown(folder: Path, out: Path, *arguments: object) -> dict[str, Any]:
    result = plot(folder, "--out", out, "--json", *arguments)
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def test_a_folder_is_drawn_without_a_daemon(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = plot(folder)
    assert (result.exit_code, result.stdout.strip()) == (0, "t1.png")
    assert (tmp_path / "t1.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("name", "begins"), [("a.png", b"\x89PNG"), ("a.SVG", b"<?xml")])
def test_the_suffix_says_what_is_drawn(folder: Path, tmp_path: Path, name: str, begins: bytes) -> None:
    assert plot(folder, "--out", tmp_path / name, "--log", "--dark", "--width", 800, "--height", 400).exit_code == 0
    assert (tmp_path / name).read_bytes().startswith(begins)


def test_json_tells_what_is_shown(folder: Path, tmp_path: Path) -> None:
    document = shown(folder, tmp_path / "a.svg", "--quantity", "power")
    assert document["picture"] == str(tmp_path / "a.svg")
    assert (document["trace_id"], document["quantity"]) == ("t1", "power")
    assert (document["start_s"], document["inference"]) == (0.0, None)
    bins = document["bins"]
    assert len(bins["limits_s"]) == len(bins["mean"]) + 1
    assert None in bins["mean"]
    assert [window["trial"] for window in document["windows"]] == [0, 1]
    for window in document["windows"]:
        assert window["energy_j_per_inference"] == pytest.approx(RUN.energy_j, rel=1e-3)
        assert window["standard_uncertainty_j_per_inference"] > 0
        assert window["uncertainty_j_per_inference"] == window["standard_uncertainty_j_per_inference"]
        assert window["refused"] is None
    assert [mark["kind"] for mark in document["marked"]] == ["gap"]
    assert len(document["edges"]) == 4
    assert document["sync_s"] == [0.0]
    assert document["remarks"] == []


def test_a_picture_says_what_placed_its_windows_and_who_disputes_it(folder: Path, tmp_path: Path) -> None:
    wired = shown(folder, tmp_path / "a.svg")
    assert wired["placement"] == "pulse"
    assert ("steps", "agrees") in [(each["witness"], each["verdict"]) for each in wired["testimonies"]]
    assert "placed by sync pulse (agreeing: steps, lengths)" in (tmp_path / "a.svg").read_text()
    alone = shown(StagedRun(trials=2, synced=False).record(tmp_path / "alone"), tmp_path / "b.svg")
    assert alone["placement"] == "steps"
    assert alone["remarks"] == [
        "steps alone: only the board's own current says where the windows lie, and no wire confirms it"
    ]
    assert "no wire confirms it" in (tmp_path / "b.svg").read_text()
    late = shown(StagedRun(trials=2, sync_late_s=0.05).record(tmp_path / "late"), tmp_path / "c.svg")
    assert [remark.partition(":")[0] for remark in late["remarks"]] == ["place disputed by the steps"]


def test_a_window_an_inference_or_a_stretch_is_shown(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.png"
    window = shown(folder, out, "--trial", 1)
    assert [each["trial"] for each in window["windows"]] == [1]
    inference = shown(folder, out, "--inference", 3, "--trial", 1)["inference"]
    assert (inference["trial"], inference["number"]) == (1, 3)
    assert inference["energy_j"] == pytest.approx(RUN.energy_j, rel=1e-2)
    assert shown(folder, out, "--inference", 0)["inference"]["trial"] == 0
    stretch = shown(folder, out, "--window", "0.5:0.75")
    assert (stretch["start_s"], stretch["stop_s"]) == (0.5, 0.75)


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("--trial", "7"), 1, "trial 7 has no window in this trace"),
        (("--inference", "40"), 1, "trial 0 has no inference 40; they count from 0 to 39"),
        (("--window", "1:99"), 1, "does not lie in the trace; it lasts"),
        (("--window", "2:1"), 2, "no stretch of time"),
        (("--window", "soon"), 2, "not START:STOP"),
        (("--window", "0:1", "--trial", "0"), 2, "neither"),
        (("--quantity", "digital"), 1, "no digital to plot"),
        (("--out", "a.jpeg"), 2, "cannot be drawn"),
        (("--out", "/proc/nowhere/a.png"), 1, "cannot be written"),
    ],
)
def test_what_cannot_be_drawn_is_refused_by_name(
    folder: Path, tmp_path: Path, arguments: tuple[str, ...], status: int, says: str
) -> None:
    result = plot(folder, "--out", tmp_path / "a.png", *arguments)
    assert result.exit_code == status
    assert says in " ".join(result.output.replace("│", " ").split())
    assert result.stdout == ""
    assert not (tmp_path / "a.png").exists()


def test_a_folder_that_is_not_there_or_no_trace_is_named(tmp_path: Path) -> None:
    missing = plot(tmp_path / "nothing")
    assert (missing.exit_code, "there is no such folder" in missing.output) == (3, True)
    empty = plot(tmp_path)
    assert (empty.exit_code, "meta.json" in empty.output) == (1, True)


async def test_a_trace_of_a_lab_is_drawn_where_it_lies(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.svg"
    async with serve_traces(TraceStore(folder.parent), "127.0.0.1:0") as served:
        drawn = await labctl(
            "trace", "plot", folder.name, "--url", served.url, "--out", str(out), "--trial", "0", "--json"
        )
        missing = await labctl("trace", "plot", "no-such-trace", "--url", served.url, "--out", str(out))
    assert drawn.status == 0, drawn.err
    assert [window["trial"] for window in drawn.document["windows"]] == [0]
    assert out.read_bytes().startswith(b"<?xml")
    assert missing.status == 1
    assert "no-such-trace" in missing.err
