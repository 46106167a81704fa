"""`labctl trace verify`: what is as it was sealed, what is not, and which file it is."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from labd.cli.operator import app
from labd.keep.store import TraceStore
from labd.trace.seal import SEALED_FILES
from labd.web.server import serve_traces
from tests.cli.served import labctl
from tests.cli.staged_run import StagedRun
from tests.trace.recording import make_signal, record


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A folder with two sealed traces and something else."""
    for name in ("t1", "t2"):
        StagedRun(trials=1, inferences=4, meta={"trace_id": name}).record(tmp_path / "traces")
    (tmp_path / "traces" / "notes").mkdir()
    return tmp_path / "traces"


def verify(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["trace", "verify", *map(str, arguments)])


def verdicts(*arguments: object) -> tuple[int, dict[str, Any]]:
    result = verify(*arguments, "--json")
    return result.exit_code, {each["trace"]: each for each in json.loads(result.stdout)["traces"]}


def damage(path: Path, seed: int = 1) -> None:
    data = bytearray(path.read_bytes())
    data[random.Random(seed).randrange(len(data))] ^= 1 << (seed % 8)
    path.write_bytes(data)


def test_sealed_traces_are_what_was_sealed(store: Path) -> None:
    result = verify(store / "t1", store / "t2")
    assert result.exit_code == 0
    assert [line.split()[:2] for line in result.stdout.splitlines() if " ok " in line] == [["t1", "ok"], ["t2", "ok"]]


def test_a_folder_of_traces_is_checked_whole(store: Path) -> None:
    status, found = verdicts(store)
    assert (status, sorted(found)) == (0, ["t1", "t2"])
    assert found["t1"]["rows"] > 1000
    assert found["t1"]["where"] == str(store / "t1")


@pytest.mark.parametrize("name", [*SEALED_FILES, "seal.json"])
def test_a_changed_bit_is_found_and_its_file_named(store: Path, name: str) -> None:
    if (store / "t1" / name).stat().st_size == 0:
        pytest.skip("a trace this short has nothing there")
    for seed in range(5):
        copy = store / f"copy-{seed}"
        shutil.copytree(store / "t1", copy)
        damage(copy / name, seed)
        status, found = verdicts(store / "t2", copy)
        assert status == 1
        assert (found["t2"]["ok"], found[copy.name]["ok"]) == (True, False)
        assert found[copy.name]["verdict"] == "damaged"
        # the seal names a file's digest, so of the two it is the file that no longer fits
        assert name == "seal.json" or name in found[copy.name]["detail"]


@pytest.mark.parametrize("name", SEALED_FILES)
def test_a_missing_file_is_named(store: Path, name: str) -> None:
    (store / "t1" / name).unlink()
    status, found = verdicts(store / "t1")
    assert (status, found["t1"]["verdict"]) == (1, "damaged")
    assert name in found["t1"]["detail"]


@pytest.mark.parametrize("name", ["meta.json", "seal.json", "samples.parquet"])
def test_among_others_a_trace_that_lacks_a_file_is_not_passed_over(store: Path, name: str) -> None:
    (store / "t1" / name).unlink()
    status, found = verdicts(store)
    assert (status, sorted(found)) == (1, ["t1", "t2"])
    assert (found["t1"]["ok"], found["t2"]["ok"]) == (False, True)


def test_a_trace_that_is_not_sealed_is_said_to_be(tmp_path: Path) -> None:
    folder = record(tmp_path, make_signal(2000))
    result = verify(folder)
    assert result.exit_code == 1
    assert "not sealed" in result.stdout
    assert "sealed at its end" in result.stderr


def test_a_folder_without_traces_is_refused(tmp_path: Path) -> None:
    result = verify(tmp_path)
    assert (result.exit_code, result.stdout) == (3, "")
    assert "there is no trace in this folder" in result.stderr


async def test_a_trace_of_a_lab_is_checked_where_it_lies(store: Path) -> None:
    damage(store / "t2" / "samples.parquet")
    async with serve_traces(TraceStore(store), "127.0.0.1:0") as served:
        checked = await labctl("trace", "verify", "t1", "t2", "--url", served.url, "--json")
    found = {each["trace"]: each for each in checked.document["traces"]}
    assert (checked.status, checked.document["ok"]) == (1, False)
    assert (found["t1"]["verdict"], found["t2"]["verdict"]) == ("ok", "damaged")
    assert found["t2"]["detail"].startswith("samples.parquet: ")


async def test_a_lab_that_does_not_answer_is_no_damage(tmp_path: Path) -> None:
    checked = await labctl("trace", "verify", "t1", "--url", "http://127.0.0.1:9/v1/traces", "--json")
    assert (checked.status, checked.out) == (4, "")
