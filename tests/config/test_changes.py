"""What a reload tells of a file that was changed, and what it refuses."""

from __future__ import annotations

from pathlib import Path

from labd.config import LabConfig, resources_of
from labd.config.changes import changes, fixed_changes
from labd.config.reading import load
from tests.config.bench_drivers import DRIVERS

GOOD = (Path(__file__).parent / "good.toml").read_text()


def read(folder: Path, text: str) -> LabConfig:
    path = folder / "lab.toml"
    path.write_text(text)
    return load(path, DRIVERS)


def test_the_same_file_differs_in_nothing(tmp_path: Path) -> None:
    lab = read(tmp_path, GOOD)
    found = changes(lab, read(tmp_path, GOOD + "# a remark\n"))
    assert str(found) == ""
    assert fixed_changes(lab, lab) == ()


def test_every_table_that_is_different_is_told_by_its_name(tmp_path: Path) -> None:
    text = GOOD.replace('id = "two"', 'id = "three"').replace('tags = ["cortex-m4f"]', 'tags = ["m4"]')
    text = text.replace("192.0.2.10", "192.0.2.11").replace("[store]", "[queue]\nbatch_s = 1\n[store]")
    text += '[[user]]\nname = "ada"\nrole = "admin"\n'
    found = changes(read(tmp_path, GOOD), read(tmp_path, text))
    assert (found.boards.added, found.boards.removed, found.boards.changed) == (("three",), ("two",), ("one",))
    assert str(found) == (
        "boards: three added, two removed, one changed; instruments: psu-1 changed; users: ada added; queue changed"
    )


def test_two_boards_that_swap_their_ids_are_both_changed(tmp_path: Path) -> None:
    text = GOOD.replace('id = "one"', 'id = "x"').replace('id = "two"', 'id = "one"').replace('id = "x"', 'id = "two"')
    found = changes(read(tmp_path, GOOD), read(tmp_path, text))
    assert (found.boards.added, found.boards.removed, found.boards.changed) == ((), (), ("two", "one"))


def test_what_only_a_restart_can_take_up_is_named(tmp_path: Path) -> None:
    text = GOOD.replace('name = "paper"', 'name = "pulp"').replace(":1883", ":1884").replace("var/labd.db", "v/labd.db")
    fixed = fixed_changes(read(tmp_path, GOOD), read(tmp_path, text))
    assert fixed == ("lab.name", "mqtt.url", "store.database_url")


def test_boards_wired_to_one_thing_hold_one_name_for_it(tmp_path: Path) -> None:
    text = GOOD.replace("/dev/ttyPaper1", "/dev/ttyPaper0")
    text = text.replace('tags = ["cortex-m4f"]', 'resources = ["mux-1"]').replace(
        'id = "two"', 'id = "two"\nresources = ["mux-1"]'
    )
    one, two = map(resources_of, read(tmp_path, text).board)
    assert one & two == {"mux-1", "port /dev/ttyPaper0"}
    assert {"channel psu-1/1", "timing pin 0 of stamps-1"} <= one
