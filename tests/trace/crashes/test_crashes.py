"""Traces outlive crashes: kill -9 and power cuts at random moments, judged by what the recorder had said before."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.deadline import HUNG_S
from tests.trace.crashes.cuts import cuts
from tests.trace.crashes.disk import Disk
from tests.trace.crashes.kills import kills
from tests.trace.crashes.nursery import Nursery, build_watcher
from tests.trace.crashes.script import Style

SEED = 1


QUICK = Style(rows_most=150_000, sync_s=(0.02, 0.05), pauses_s=(0.1, 0.3))


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as raised:
        yield raised


@pytest.fixture
def watching(nursery: Nursery) -> Nursery:
    if nursery.watcher is None:
        pytest.skip("no C compiler, or not Linux: nothing can watch what a process does to the disk")
    return nursery


def test_what_was_written_outlives_kill_9(nursery: Nursery, tmp_path: Path) -> None:
    deaths = list(kills(nursery, tmp_path, 3, SEED, QUICK))
    assert [death.broken for death in deaths] == [()] * 3
    assert sum(death.rows_said for death in deaths) > 0


def test_what_was_synced_outlives_a_power_cut(watching: Nursery, tmp_path: Path) -> None:
    outcomes = list(cuts(watching, tmp_path, 8, SEED, style=QUICK))
    assert [outcome.broken for outcome in outcomes] == [()] * 8
    assert any(outcome.lost_s > 0 for outcome in outcomes)


def test_a_disk_that_ignores_syncs_is_found_out(watching: Nursery, tmp_path: Path) -> None:
    """The judge itself is judged: on this disk what the recorder holds for durable is not."""
    outcomes = list(
        cuts(watching, tmp_path, 8, SEED, style=QUICK, deaf=("samples.arrow", "samples.index", "journal.jsonl"))
    )
    assert sum(bool(outcome.broken) for outcome in outcomes) >= 2


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_200_kills(nursery: Nursery, tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    for number, death in enumerate(kills(nursery, tmp_path, 200, seed)):
        assert death.broken == (), f"kill {number} of seed {seed}, {death.stage}"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_200_power_cuts(watching: Nursery, tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    for number, outcome in enumerate(cuts(watching, tmp_path, 200, seed)):
        assert outcome.broken == (), f"cut {number} of seed {seed}, {outcome.stage}, {outcome.moods}"


WATCHED = """
import ctypes, os, sys
root, log, grave = sys.argv[1:]
watcher = ctypes.CDLL(None)
assert watcher.power_cut_watch(root.encode(), log.encode(), grave.encode()) == 0
os.mkdir(f"{root}/t")
folder = os.open(f"{root}/t", os.O_RDONLY)
with open(f"{root}/t/synced", "wb", buffering=0) as file:
    file.write(b"s" * 700)
    os.fsync(file.fileno())
    file.write(b"u" * 2000)
with open(f"{root}/t/part", "wb", buffering=0) as file:
    file.write(b"new" * 400)
    os.fdatasync(file.fileno())
with open(f"{root}/t/whole", "wb", buffering=0) as file:
    file.write(b"old" * 500)
    os.fdatasync(file.fileno())
os.fsync(folder)
top = os.open(root, os.O_RDONLY)
os.fsync(top)
os.replace(f"{root}/t/part", f"{root}/t/whole")
with open(f"{root}/t/synced", "r+b", buffering=0) as file:
    file.write(b"o" * 600)
os.unlink(f"{root}/t/synced")
"""


@pytest.fixture
def watched(tmp_path: Path) -> Disk:
    watcher = build_watcher(tmp_path)
    if watcher is None:
        pytest.skip("no C compiler, or not Linux: nothing can watch what a process does to the disk")
    for name in ("root", "grave"):
        (tmp_path / name).mkdir()
    places = [str(tmp_path / name) for name in ("root", "log", "grave")]
    subprocess.run(
        [sys.executable, "-c", WATCHED, *places],
        env={**os.environ, "LD_PRELOAD": str(watcher)},
        check=True,
        timeout=HUNG_S,
    )
    return Disk(tmp_path / "root", tmp_path / "log", tmp_path / "grave")


def test_a_cut_leaves_what_was_synced_and_anything_of_the_rest(watched: Disk, tmp_path: Path) -> None:
    """Durable bytes and names are in every cut; of a rename and a removal that are not durable either side is seen."""
    seen: dict[str, set[bytes | None]] = {"synced": set(), "whole": set(), "part": set()}
    for number in range(80):
        place = tmp_path / f"cut{number}"
        watched.cut(len(watched.lines), place, Random(number))
        for name, contents in seen.items():
            path = place / "t" / name
            contents.add(path.read_bytes() if path.exists() else None)
    old, new = b"old" * 500, b"new" * 400
    assert seen["whole"] == {old, new}
    assert seen["part"] == {new, None}
    left = seen["synced"]
    assert None in left
    texts = [content for content in left if content is not None]
    assert {len(content) for content in texts} >= {700, 2700}
    for content in texts:
        assert content[:512] in (b"s" * 512, b"o" * 512)  # a sector is never half of each
        assert content[600:700] == b"s" * 100
        assert len(content) <= 2700
    assert any(content[:512] == b"o" * 512 for content in texts)
    assert len({content[1024:] for content in texts}) > 10


def test_a_cut_before_the_folder_was_durable_may_leave_nothing(watched: Disk, tmp_path: Path) -> None:
    left = set()
    for number in range(20):
        place = tmp_path / f"cut{number}"
        place.mkdir()
        watched.cut(3, place, Random(number))
        left.add((place / "t").exists())
    assert left == {True, False}
