"""Which nights of a sweep begin now: a pure function of its cron line, when it was due, and the time.

A time that is due is never fired twice, since the next one always lies after it and the ledger has each night once.
A daemon that was down, or a clock that was set forward, finds times that were missed; the sweep says what becomes of
them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from labd.schedule.cron import Schedule

LATE = timedelta(minutes=10)
"""What begins later than this was missed."""
STRANDED = timedelta(hours=22)
"""So long after its beginning a night waits for boards that are out of work: the next night of a daily sweep finds it
ended, also on the day on which the clocks go forward."""


class CatchUp(StrEnum):
    """What becomes of nights that were missed."""

    SKIP = "skip"
    ONCE = "once"
    """The latest of them is made up for."""
    ALL = "all"
    """Each of them is, up to a number."""


class Overlap(StrEnum):
    """What becomes of a night that is due while one before it is still under way."""

    SKIP = "skip"
    QUEUE = "queue"
    """Its jobs wait behind the others."""
    CANCEL = "cancel"
    """The jobs of the earlier one that have not started are cancelled."""


@dataclass(frozen=True, slots=True)
class Terms:
    """When a sweep is run.

    Args:
        schedule: Its cron line; None if it is only run by hand.
        not_after: The time of day by which the jobs of a night have to start; None for any time.
        catch_up: What becomes of missed nights.
        catch_up_max: Most of them that are made up for.
        overlap: What becomes of a night that is due while one before it is under way.
    """

    schedule: Schedule | None = None
    not_after: Schedule | None = None
    catch_up: CatchUp = CatchUp.ONCE
    catch_up_max: int = 7
    overlap: Overlap = Overlap.SKIP

    def deadline(self, night_due: datetime) -> datetime | None:
        """By when the jobs of a night have to start; None for no deadline."""
        return None if self.not_after is None else self.not_after.next_after(night_due)


@dataclass(frozen=True, slots=True)
class DueNight:
    """A night that is due: it begins, or is noted as skipped.

    Args:
        due_at: When it was due.
        begins: Whether it begins.
        reason: Why it is late or skipped; empty for a night in time.
    """

    due_at: datetime
    begins: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Firing:
    """What happens now, oldest first, and when the sweep is due next."""

    nights: tuple[DueNight, ...]
    next_due: datetime


def fire(terms: Terms, schedule: Schedule, due_at: datetime, now: datetime, under_way: str) -> Firing:
    """What is due of a sweep whose time `due_at` has come.

    Args:
        terms: The sweep's.
        schedule: Its cron line.
        due_at: When it was due first among what has not been fired; not after `now`.
        now: The time.
        under_way: What an earlier night still has to do, as people say it; empty if there is none.
    """
    count = terms.catch_up_max if terms.catch_up is CatchUp.ALL else 1
    dues = schedule.latest(due_at - timedelta(seconds=1), now, count) or [due_at]
    nights = tuple(_night(terms, due, now, under_way) for due in dues)
    return Firing(nights, schedule.next_after(max(now, dues[-1])))


def next_due(schedule: Schedule, now: datetime, had: Callable[[datetime], bool]) -> datetime:
    """The first time after `now` that was not fired yet.

    Args:
        schedule: The cron line.
        now: The time; it may have been set back.
        had: Whether there is a night that was due then.
    """
    return next(due for due in schedule.after(now) if not had(due))


def _night(terms: Terms, due: datetime, now: datetime, under_way: str) -> DueNight:
    late = now - due
    deadline = terms.deadline(due)
    if deadline is not None and deadline <= now:
        return DueNight(due, begins=False, reason=f"missed: its jobs had to start by {deadline.isoformat()}")
    if late > LATE and terms.catch_up is CatchUp.SKIP:
        return DueNight(due, begins=False, reason=f"missed: noticed {_span(late)} late")
    if under_way and terms.overlap is Overlap.SKIP:
        return DueNight(due, begins=False, reason=under_way)
    return DueNight(due, begins=True, reason=f"caught up {_span(late)} late" if late > LATE else "")


def _span(span: timedelta) -> str:
    minutes = round(span.total_seconds() / 60)
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes / 60:.0f} h" if minutes < 48 * 60 else f"{minutes / 1440:.0f} days"
