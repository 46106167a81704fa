"""`labctl trace pull --format`: files for other tools, made of a folder here or of what a lab serves."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labd.cli.trace.pull import PullFormat
from labd.keep.store import TraceStore
from labd.trace.export.formats import Format
from labd.trace.reader import Trace
from labd.trace.seal import seal
from labd.web.server import serve_traces
from tests.cli.served import Ended, labctl, labctl_here, served_lab
from tests.deadline import HUNG_S
from tests.trace.export.traces import D, I, V, recorded, same, signal, with_windows

PERIOD_S = 204.8e-6


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A trace's folder, of 50,000 samples."""
    recorded(tmp_path / "lab", signal(50_000, (I, V, D)))
    return tmp_path / "lab" / "t1"


def left(folder: Path) -> list[Path]:
    """What an export would have made there."""
    return list(folder.glob("t.sr*"))


def pulled(*arguments: object) -> dict[str, Any]:
    return the_only(labctl_here("trace", "pull", *map(str, arguments), "--json"))


def the_only(ended: Ended) -> dict[str, Any]:
    """What is told of the one trace that was pulled."""
    assert ended.status == 0, ended.err
    (document,) = ended.document["traces"]
    return dict(document)


def test_every_format_of_an_export_can_be_asked_for() -> None:
    assert [form.value for form in PullFormat] == ["folder", *(form.value for form in Format)]


@pytest.mark.parametrize("form", list(Format))
def test_a_folder_becomes_a_file_without_any_lab(tmp_path: Path, folder: Path, form: Format) -> None:
    out = tmp_path / "here"
    out.mkdir()
    document = pulled(folder, "--format", form, "--out", out)
    path = out / f"t1{form.suffix}"
    assert document["path"] == str(path)
    assert document["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (document["id"], document["format"], document["samples"]) == ("t1", form.value, 50_000)
    assert document["rate_hz"] == pytest.approx(1 / PERIOD_S)


def test_a_window_at_a_lower_rate_goes_into_a_file_of_any_name(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "deep" / "down.csv.gz"
    document = pulled(folder, "--format", "csv", "--window", "2:", "--rate", "500", "--out", path)
    assert document["path"] == str(path)
    assert document["rate_hz"] == pytest.approx(488.28125)
    assert document["start_s"] == pytest.approx(2.0, abs=PERIOD_S)
    assert path.read_bytes()[:2] == b"\x1f\x8b"


def test_the_window_of_a_trial_is_pulled_with_a_margin(tmp_path: Path) -> None:
    with_windows(tmp_path, 5000, [(1000, 2000), (3000, 4000)])
    document = pulled(
        tmp_path / "t1", "--format", "npz", "--trial", "1", "--margin", "0.5", "--out", tmp_path / "t.npz"
    )
    assert document["start_s"] == pytest.approx(2.5, abs=2e-3)
    assert document["samples"] == pytest.approx(2000, abs=3)


def test_what_the_format_cannot_say_exactly_is_told_on_standard_error(tmp_path: Path, folder: Path) -> None:
    ended = labctl_here("trace", "pull", str(folder), "--format", "jls", "--out", str(tmp_path / "t.jls"))
    assert ended.status == 0
    assert "the file says 4883 Hz" in ended.err
    assert str(tmp_path / "t.jls") in ended.out


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (("--window", "9:99"), 1, "does not lie in the trace"),
        (("--window", "2:1"), 1, "is no stretch of time"),
        (("--window", "nan:1"), 1, "is no stretch of time"),
        (("--window", "1"), 2, "give START:STOP"),
        (("--rate", "0"), 1, "is no rate"),
        (("--rate", "1e9"), 1, "more than was recorded"),
        (("--rate", "0.001"), 1, "whole numbers of samples a second"),
        (("--trial", "0"), 1, "trial 0 has no window"),
        (("--trial", "0", "--window", "1:2"), 2, "cannot go together"),
    ],
)
def test_what_cannot_be_exported_is_refused(
    tmp_path: Path, folder: Path, options: tuple[str, ...], status: int, words: str
) -> None:
    out = tmp_path / "t.sr"
    ended = labctl_here("trace", "pull", str(folder), "--format", "sr", "--out", str(out), *options)
    assert (ended.status, ended.out) == (status, "")
    assert words in " ".join(ended.err.replace("│", " ").split())
    assert not left(tmp_path)


def test_no_file_takes_the_place_of_a_device_or_has_a_name_that_none_can_have(tmp_path: Path, folder: Path) -> None:
    device = tmp_path / "device"
    os.mkfifo(device)
    for out, words in ((device, "is not an ordinary file"), (tmp_path / ("a" * 300), "File name too long")):
        ended = labctl_here("trace", "pull", str(folder), "--format", "csv", "--out", str(out))
        assert (ended.status, ended.out) == (1, "")
        assert words in " ".join(ended.err.split())
    assert device.is_fifo()


def test_an_address_that_is_none_is_told_by_name() -> None:
    ended = labctl_here("trace", "pull", "t1", "--format", "csv", "--url", "http://[::1")
    assert (ended.status, ended.out) == (1, "")
    assert "is not an http address" in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("options", [("--window", "1:2"), ("--rate", "10"), ("--trial", "0")])
def test_a_part_of_a_trace_needs_a_format(options: tuple[str, ...]) -> None:
    ended = labctl_here("trace", "pull", "t1", *options)
    assert ended.status == 2
    assert "--format" in ended.err


async def test_a_lab_is_asked_for_no_more_than_the_window(tmp_path: Path) -> None:
    recorded(tmp_path / "lab", signal(2_000_000, (I, V)))
    seal(tmp_path / "lab" / "t1")
    samples = Trace.open(tmp_path / "lab" / "t1").samples(I, 1_000_000, 1_001_000)
    async with serve_traces(TraceStore(tmp_path / "lab"), "127.0.0.1:0") as served:
        window = f"{1_000_000 * PERIOD_S!r}:{1_001_000 * PERIOD_S!r}"
        asked = ("--url", served.url, "--format", "npz", "--window", window, "--out", str(tmp_path / "t.npz"))
        document = the_only(await labctl("trace", "pull", "t1", *asked, "--json"))
    assert document["samples"] == 1000
    with np.load(tmp_path / "t.npz") as arrays:
        assert same(arrays["current"], samples)


async def test_all_traces_of_a_job_become_files(tmp_path: Path) -> None:
    recorded(tmp_path / "lab", signal(1000))
    seal(tmp_path / "lab" / "t1")
    async with (
        serve_traces(TraceStore(tmp_path / "lab"), "127.0.0.1:0") as traces,
        served_lab(tmp_path, traces_url=traces.url) as lab,
    ):
        await labctl(*lab.options, "submit", "digits01", "energy")
        run_id = await lab.start_run(1)
        await lab.measured(run_id, "t1", {})
        await lab.end_run(run_id)
        out = tmp_path / "here"
        out.mkdir()
        ended = await labctl(*lab.options, "trace", "pull", "1", "--format", "hdf5", "--out", str(out), "--json")
        assert ended.status == 0, ended.err
        assert [trace["path"] for trace in ended.document["traces"]] == [str(out / "t1.hdf5")]


def test_a_shell_completes_the_format() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", "from labd.cli.operator import app; app(prog_name='labctl')"],
        env={
            "_LABCTL_COMPLETE": "complete_bash",
            "COMP_WORDS": "labctl trace pull t1 --format h",
            "COMP_CWORD": "5",
        },
        capture_output=True,
        text=True,
        timeout=HUNG_S,
        check=False,
    )
    assert ended.stdout.split() == ["hdf5"]
