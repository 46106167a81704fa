"""build.py as a person meets it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from .conftest import run_build


def test_the_manifest_lists_both_images_with_their_digests(images: Path) -> None:
    out = images.parent
    entries = json.loads((out / "manifest.json").read_text())
    assert {(entry["name"], entry["benchmark"], entry["mode"], entry["target"]) for entry in entries} == {
        ("digits01-performance", "digits01", "performance", "native"),
        ("digits01-energy", "digits01", "energy", "native"),
    }
    for entry in entries:
        assert hashlib.sha256((out / entry["path"]).read_bytes()).hexdigest() == entry["sha256"]
    assert len({entry["sha256"] for entry in entries}) == 2


def test_the_same_compiler_gives_the_same_bytes_in_another_folder(images: Path, tmp_path: Path) -> None:
    done = run_build(tmp_path / "somewhere" / "else")
    assert done.returncode == 0
    assert "compiler: " in done.stdout
    again = tmp_path / "somewhere" / "else" / "manifest.json"
    assert again.read_text() == (images.parent / "manifest.json").read_text()


def test_nothing_is_built_twice(images: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in images.iterdir()}
    done = run_build(images.parent)
    assert done.returncode == 0
    assert "up to date" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in images.iterdir()} == before


def test_a_damaged_image_is_built_again(tmp_path: Path) -> None:
    assert run_build(tmp_path).returncode == 0
    image = tmp_path / "native" / "digits01-energy.elf"
    whole = image.read_bytes()
    image.write_bytes(whole[:-1])
    assert "built" in run_build(tmp_path).stdout
    assert image.read_bytes() == whole


def test_a_compiler_that_does_not_run_is_named(tmp_path: Path) -> None:
    done = run_build(tmp_path, CC="no-such-compiler -m32")
    assert done.returncode == 1
    assert "CC is set to 'no-such-compiler -m32', which does not run" in done.stderr


def test_the_compiler_in_the_ziglang_package_serves_where_there_is_no_other(tmp_path: Path) -> None:
    done = run_build(tmp_path, PATH="", CC="")
    assert done.returncode == 0, done.stderr
    assert "ziglang" in done.stdout
