"""`labctl sweep` against a lab on a real broker, and the faults of sweep files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from labd.cli.sweep.file import read_sweep
from labd.errors import ConfigError
from labd.service.sweeps.messages import SweepCreate
from tests.cli.served import labctl, labctl_here, served_lab

GUIDE = Path(__file__).parent.parent.parent / "docs" / "guides" / "night-sweep.toml"
SWEEP = """
name = "nightly"
cron = "30 1 * * *"
zone = "Europe/Berlin"
repetitions = 2

[axes]
mode = ["energy", "performance"]
board = ["b1", "b2"]

[job]
benchmark = "digits01"
"""


async def test_a_sweep_is_previewed_created_listed_shown_paused_resumed_run_and_removed(tmp_path: Path) -> None:
    file = tmp_path / "night.toml"
    file.write_text(SWEEP)
    async with served_lab(tmp_path) as lab:
        preview = await labctl(*lab.options, "sweep", "preview", str(file))
        assert preview.status == 0, preview.err
        for words in ("6 jobs a night (2 mode × 2 board)", "b2 is not wired for energy", "digits01/energy/b1/rep1"):
            assert words in preview.out
        created = await labctl(*lab.options, "sweep", "create", str(file))
        assert created.status == 0, created.err
        assert created.out.startswith("sweep nightly is active, 6 jobs a night, next on ")
        assert "2 cells left out" in created.err
        again = await labctl(*lab.options, "sweep", "create", str(file))
        assert (again.status, again.out) == (3, "")
        assert "replace" in again.err
        replaced = await labctl(*lab.options, "sweep", "create", str(file), "--replace", "--json")
        assert (replaced.status, replaced.document["jobs"]) == (0, 6)
        assert "nightly" in (await labctl(*lab.options, "sweep", "list")).out
        assert (await labctl(*lab.options, "sweep", "pause", "nightly")).out == "sweep nightly is paused\n"
        assert (await labctl(*lab.options, "sweep", "resume", "nightly", "--json")).document["state"] == "active"
        run = await labctl(*lab.options, "sweep", "run", "nightly")
        assert (run.status, run.out) == (0, "night 1 of sweep nightly is expanding\n")
        late = await labctl(*lab.options, "sweep", "run", "nightly")
        assert late.status == 3
        shown = await labctl(*lab.options, "sweep", "show", "nightly")
        assert "asked for by" in shown.out
        document = (await labctl(*lab.options, "sweep", "show", "nightly", "--json")).document
        assert document["nights"][0]["state"] == "expanding"
        assert (await labctl(*lab.options, "sweep", "remove", "nightly")).out == "sweep nightly is removed\n"
        assert (await labctl(*lab.options, "sweep", "show", "nightly")).status == 3


async def test_a_limit_bounds_the_waiting_for_a_night(tmp_path: Path) -> None:
    file = tmp_path / "night.toml"
    file.write_text(SWEEP.replace("[axes]", 'overlap = "queue"\n[axes]'))
    async with served_lab(tmp_path) as lab:
        await labctl(*lab.options, "sweep", "create", str(file))
        overdue = await labctl(*lab.options, "sweep", "run", "nightly", "--wait", "--for", "0.5")
        assert overdue.status == 5
        assert "labctl sweep show nightly" in overdue.err
        assert (await labctl(*lab.options, "sweep", "run", "nightly", "--for", "1")).status == 2


def test_the_faults_of_a_file_are_named_with_line_key_and_remedy(tmp_path: Path) -> None:
    file = tmp_path / "night.toml"
    file.write_text(
        SWEEP.replace("zone =", "zoen =").replace('["b1", "b2"]', '["b1", { tagz = ["m4"] }]') + 'trials = "5"\n'
    )
    result = labctl_here("--lab", "bench-1", "sweep", "create", str(file))
    assert result.status == 2
    for words in ("line 4: zoen: is not a key", "did you mean 'zone'?", "line 9: axes.board", "line 13: job.trials"):
        assert words in result.err
    assert labctl_here("--lab", "bench-1", "sweep", "create", str(tmp_path / "none.toml")).status == 2


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.toml", "name = ", "line 1"),
        ("a.json", '{"name": ', "line 1"),
        ("a.json", "[1]", "no JSON object"),
        ("a.toml", "", "name: is missing"),
        ("a.toml", 'name = "../x"', "line 1: name"),
    ],
)
def test_files_that_are_no_sweeps_are_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError) as refused:
        read_sweep(tmp_path / name)
    assert message in str(refused.value)


def test_json_and_toml_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(SWEEP)
    read = read_sweep(tmp_path / "a.toml")
    (tmp_path / "a.json").write_text(json.dumps(read.model_dump(mode="json", exclude_unset=True)))
    assert read_sweep(tmp_path / "a.json") == read
    assert read_sweep(tmp_path / "a.toml", name="other").name == "other"


@pytest.mark.parametrize("name", ["a.toml", "a.json"])
def test_a_byte_order_mark_before_a_sweep_is_no_fault(tmp_path: Path, name: str) -> None:
    (tmp_path / "plain.toml").write_text(SWEEP)
    read = read_sweep(tmp_path / "plain.toml")
    text = SWEEP if name == "a.toml" else json.dumps(read.model_dump(mode="json", exclude_unset=True))
    (tmp_path / name).write_text("\ufeff" + text, encoding="utf-8")
    assert read_sweep(tmp_path / name) == read


def test_the_guides_sweep_can_be_read() -> None:
    sweep = read_sweep(GUIDE)
    assert isinstance(sweep, SweepCreate)
    assert (sweep.name, sweep.cron, sweep.repetitions) == ("nightly", "30 1 * * *", 5)
