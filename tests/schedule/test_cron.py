"""Cron lines over changes of the clocks: each time on the wall is due once, and time never goes back."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labd.schedule.cron import CronError, schedule

ZONES = (
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kolkata",
    "UTC",
    "Africa/Casablanca",
    "America/St_Johns",
)


def local(moment: datetime, zone: str) -> str:
    return f"{moment.astimezone(ZoneInfo(zone)):%d %H:%M %z}"


def dues(line: str, zone: str, begin: datetime, count: int) -> list[str]:
    return [local(due, zone) for due in islice(schedule(line, zone).after(begin), count)]


def test_a_skipped_time_is_due_right_after_the_gap() -> None:
    assert dues("30 2 * * *", "Europe/Berlin", datetime(2026, 3, 28, 0, tzinfo=UTC), 3) == [
        "28 02:30 +0100",
        "29 03:00 +0200",
        "30 02:30 +0200",
    ]


def test_two_skipped_times_and_the_one_at_the_end_of_the_gap_are_due_once() -> None:
    assert dues("0,15,45 2,3 * * *", "America/New_York", datetime(2026, 3, 8, 6, 30, tzinfo=UTC), 4) == [
        "08 03:00 -0400",
        "08 03:15 -0400",
        "08 03:45 -0400",
        "09 02:00 -0400",
    ]


def test_a_repeated_time_is_due_the_first_time_only() -> None:
    assert dues("30 2 * * *", "Europe/Berlin", datetime(2026, 10, 24, 12, tzinfo=UTC), 2) == [
        "25 02:30 +0200",
        "26 02:30 +0100",
    ]


def test_a_look_from_inside_the_repeated_hour_does_not_go_back() -> None:
    # 02:10 for the second time
    assert dues("30 2 * * *", "Europe/Berlin", datetime(2026, 10, 25, 1, 10, tzinfo=UTC), 1) == ["26 02:30 +0100"]


def test_a_zone_that_shifts_by_half_an_hour() -> None:
    zone = "Australia/Lord_Howe"
    assert dues("15 2 * * *", zone, datetime(2026, 10, 3, 12, tzinfo=UTC), 2) == ["04 02:30 +1100", "05 02:15 +1100"]
    assert dues("45 1 * * *", zone, datetime(2026, 4, 4, 12, tzinfo=UTC), 2) == ["05 01:45 +1100", "06 01:45 +1030"]
    assert dues("0 */2 * * *", zone, datetime(2026, 4, 4, 13, tzinfo=UTC), 2) == ["05 02:00 +1030", "05 04:00 +1030"]


def test_a_zone_without_changes_off_the_full_hour() -> None:
    assert schedule("30 1 * * *", "Asia/Kolkata").next_after(datetime(2026, 3, 28, tzinfo=UTC)) == datetime(
        2026, 3, 28, 20, 0, tzinfo=UTC
    )


def test_a_line_of_every_quarter_is_silent_while_an_hour_is_repeated() -> None:
    found = dues("*/15 * * * *", "Europe/Berlin", datetime(2026, 10, 25, 0, 29, tzinfo=UTC), 3)
    assert found == ["25 02:30 +0200", "25 02:45 +0200", "25 03:00 +0100"]


def test_the_last_day_and_leap_days_are_found() -> None:
    schedule_of_leap_days = schedule("0 0 29 2 *", "UTC")
    assert schedule_of_leap_days.next_after(datetime(2026, 1, 1, tzinfo=UTC)).date() == date(2028, 2, 29)
    assert schedule("0 4 L * *", "UTC").next_after(datetime(2026, 2, 1, tzinfo=UTC)).date() == date(2026, 2, 28)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("30 2 30 2 *", "never fires"),
        ("0 0 31 4,6,9,11 *", "never fires"),
        ("0 0 31 2 */2", "never fires"),
        ("* * * * * *", "seconds are not served"),
        ("@daily", "has 1 field, not 5"),
        ("", "has 0 fields, not 5"),
        ("30 25 * * *", "cannot read the hour, '25'"),
        ("60 2 * * *", "cannot read the minute, '60'"),
        ("30 2 32 * *", "cannot read the day of the month, '32'"),
        ("30 2 * nov-feb *", "cannot read the month"),
        ("30 2 * * 9", "cannot read the day of the week"),
        ("*/0 2 * * *", "cannot read the minute"),
        ("-1 2 * * *", "cannot read the minute"),
        ("1-2-3 ٣ * * *", "cannot read the minute"),
        ("1 ٣ * * *", "cannot read the hour"),
        ("1" * 200 + " 2 * * *", "at most 128"),
    ],
)
def test_lines_that_never_fire_or_cannot_be_read_are_refused_with_a_remedy(line: str, message: str) -> None:
    with pytest.raises(CronError, match=message) as refused:
        schedule(line, "UTC")
    assert refused.value.where == "cron"
    assert refused.value.remedy


@pytest.mark.parametrize(
    ("zone", "near"),
    [
        ("Europe/Berln", "Europe/Berlin"),
        ("europe/berlin", "Europe/Berlin"),
        ("Berlin", "Europe/Berlin"),
        ("America/NewYork", "America/New_York"),
    ],
)
def test_an_unknown_zone_is_named_with_its_nearest(zone: str, near: str) -> None:
    with pytest.raises(CronError) as refused:
        schedule("0 1 * * *", zone)
    assert refused.value.where == "zone"
    assert near in refused.value.remedy


@pytest.mark.parametrize("zone", ["", "../../etc/passwd", "/etc/localtime", "x" * 300, "Europe/\x00"])
def test_a_hostile_zone_is_refused(zone: str) -> None:
    with pytest.raises(CronError) as refused:
        schedule("0 1 * * *", zone)
    assert refused.value.remedy


@st.composite
def lines(draw: st.DrawFn) -> str:
    def field(low: int, high: int) -> str:
        values = draw(st.lists(st.integers(low, high), min_size=1, max_size=3, unique=True))
        step = draw(st.integers(1, high))
        return draw(st.sampled_from(["*", f"*/{step}", ",".join(map(str, sorted(values)))]))

    day = draw(st.sampled_from(["*", "1,15,28", "L"]))
    return f"{field(0, 59)} {field(0, 23)} {day} * {draw(st.sampled_from(['*', '1-5', '0']))}"


@given(
    line=lines(),
    zone=st.sampled_from(ZONES),
    begin=st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1)),  # noqa: DTZ001 - made aware below
)
@settings(deadline=None, max_examples=200)
def test_dues_only_grow_and_no_time_on_the_wall_is_due_twice(line: str, zone: str, begin: datetime) -> None:
    moment, made = begin.replace(tzinfo=UTC), schedule(line, zone)
    found = list(islice(made.after(moment), 200))
    assert all(earlier < later for earlier, later in zip([moment, *found], found, strict=False))
    on_the_wall = [due.astimezone(ZoneInfo(zone)).replace(tzinfo=None, fold=0) for due in found]
    assert len(set(on_the_wall)) == len(on_the_wall)
    # looked up one by one, from anywhere before, they are the same
    assert [made.next_after(each) for each in [moment, *found[:20]]] == found[:21]
    middle = moment + (found[0] - moment) / 2
    assert made.next_after(middle) == found[0]


@given(day=st.dates(date(2024, 1, 1), date(2030, 12, 31)), zone=st.sampled_from(ZONES), minute=st.integers(0, 1439))
@settings(deadline=None, max_examples=200)
def test_a_daily_line_is_due_once_a_local_day(day: date, zone: str, minute: int) -> None:
    made = schedule(f"{minute % 60} {minute // 60} * * *", zone)
    midnight = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)).astimezone(UTC)
    after = day + timedelta(days=7)
    end = datetime(after.year, after.month, after.day, tzinfo=ZoneInfo(zone)).astimezone(UTC)
    found = list(made.between(midnight - timedelta(seconds=1), end - timedelta(seconds=1)))
    assert len(found) == 7
