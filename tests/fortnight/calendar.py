"""The fortnight on the calendar: when it is, when its sweeps are due, and what happens when.

It is the last one of March 2026 in Berlin, where the clocks go forward on the 29th: the hour from 2 to 3 is not there.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

BERLIN = ZoneInfo("Europe/Berlin")
START = datetime(2026, 3, 20, 12, tzinfo=BERLIN)
DAYS = 14

EVENING, SKIPPED_HOUR = time(22, 0), time(2, 30)
SWEEPS = {"evening": EVENING, "small-hours": SKIPPED_HOUR}


def cron_line(at: time) -> str:
    """Every day at this time."""
    return f"{at.minute} {at.hour} * * *"


def berlin(day: int, hour: int, minute: int = 0) -> datetime:
    """A time of the fortnight; day 0 is the one on which it starts."""
    moment = datetime.combine(START.date() + timedelta(days=day), time(hour, minute), BERLIN)
    return moment.astimezone(UTC)


def due_times(at: time, days: int) -> list[datetime]:
    """When a sweep of this time is due, from the start on, for so many days, in UTC.

    A time that the zone skips is due at the first moment after the gap, as labd promises. It is found here by walking
    over the minutes of the day, not as labd finds it.
    """
    end = (START + timedelta(days=days)).astimezone(UTC)
    dates = [START.date() + timedelta(days=number) for number in range(days + 1)]
    found = [_first_at_or_after(each, at) for each in dates]
    return [moment for moment in found if START.astimezone(UTC) < moment <= end]


def _first_at_or_after(day: date, at: time) -> datetime:
    moment = datetime.combine(day, time(0), BERLIN).astimezone(UTC)
    while True:
        here = moment.astimezone(BERLIN)
        if here.date() > day or here.time() >= at:
            return moment
        moment += timedelta(minutes=1)
