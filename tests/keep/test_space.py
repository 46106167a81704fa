"""When there is too little room, captures do not start, and the lab says so once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labd.config import Keep
from labd.errors import StoreError
from labd.keep.space import GB, SpaceState, SpaceWatch, free_bytes, judge
from tests.keep.small_disk import fill_up, small_disk

KEEP = Keep(low_gb=5, critical_gb=2)
ENOUGH, LOW, CRITICAL = SpaceState.ENOUGH, SpaceState.LOW, SpaceState.CRITICAL


def watched(*free_gb: float, keep: Keep = KEEP) -> Iterator[tuple[bool, SpaceWatch]]:
    """Looks at a disk that has so much room, one after the other."""
    measured = iter(free_gb)
    watch = SpaceWatch(keep, lambda: int(next(measured) * GB))
    for _ in free_gb:
        yield watch.look(), watch


def test_captures_stop_below_the_first_mark_and_start_again_well_above_it() -> None:
    seen = [(changed, watch.captures_start) for changed, watch in watched(6, 4.9, 5.1, 5.49, 5.51, 5.1)]
    assert seen == [(False, True), (True, False), (False, False), (False, False), (True, True), (False, True)]


def test_each_change_is_told_with_the_figures_that_made_it() -> None:
    notices = [watch.seen.notice for changed, watch in watched(4.2, 4.1, 1.9, 2.1, 2.3, 9) if changed]
    assert notices == [
        "4.2 GB are free, less than low_gb = 5: no capture starts",
        "1.9 GB are free, less than critical_gb = 2: no capture starts, and only local copies of archived traces go",
        "2.3 GB are free, less than low_gb = 5: no capture starts",
        "",
    ]


def test_room_is_made_on_a_critical_disk_until_captures_start() -> None:
    assert [watch.seen.reclaim_bytes / GB for _, watch in watched(9, 4, 1.5, 1, 2.1, 3, 9)] == [0, 0, 4, 4.5, 3.4, 0, 0]


def test_marks_of_zero_hold_nothing_back() -> None:
    (changed, watch), *_ = list(watched(0, keep=Keep(low_gb=0, critical_gb=0)))
    assert (changed, watch.captures_start) == (False, True)


@given(st.lists(st.integers(0, 10 * GB), min_size=1), st.sampled_from(SpaceState))
def test_a_disk_that_stays_as_it_is_changes_its_state_at_most_once(free: list[int], before: SpaceState) -> None:
    state = before
    for each in free:
        state = judge(each, state, KEEP)
        assert judge(each, state, KEEP) is state
        assert (state is ENOUGH) <= (each >= 5 * GB)
        assert (state is CRITICAL) >= (each < 2 * GB)


def test_the_room_of_a_real_disk_is_measured(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1_000_000) as disk:
        assert 500_000 < free_bytes(disk) <= 1_003_520
        hog = fill_up(disk)
        assert free_bytes(disk) == 0
        hog.unlink()
        assert free_bytes(disk) > 500_000


def test_a_disk_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="free space cannot be told"):
        free_bytes(tmp_path / "gone")
