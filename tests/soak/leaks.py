"""Whether a process grows: its memory, files, threads and tasks over the time that it was at work."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from tests.light.books import Line
from tests.light.vitals import Vitals
from tests.soak.week import DAY_S

WARM_UP = 0.2
"""This share of the time is not looked at: caches fill, code is loaded."""
SLOPE_MAX_MB = 1.0
"""Most that the memory may grow in a simulated day, MB."""
DAYS_MIN = 1.0
"""A shorter time after the warm-up tells no slope a day."""
REST = 3
"""Looks at the end, when all work has ended."""
SLACK = 5
"""What may come and go at rest: a look at an instrument, a reader of the database that was not needed before."""
BATCHES = 12
"""Neighbouring looks are alike: the line is fitted through the means of so many stretches of time."""


@dataclass(frozen=True, slots=True)
class Slope:
    """How fast something grows in a simulated day, and the standard uncertainty of that."""

    a_day: float
    uncertainty: float


def slope(times_d: Sequence[float], values: Sequence[float]) -> Slope:
    """A line through the means of stretches of time; ordinary least squares.

    Args:
        times_d: When each value was seen, simulated days; at least two for each of the stretches.
        values: What was seen.
    """
    size = len(times_d) // BATCHES
    parts = range(0, size * BATCHES, size)
    x = [statistics.fmean(times_d[first : first + size]) for first in parts]
    y = [statistics.fmean(values[first : first + size]) for first in parts]
    fit = statistics.linear_regression(x, y)
    left = sum((b - fit.slope * a - fit.intercept) ** 2 for a, b in zip(x, y, strict=True))
    spread = sum((a - statistics.fmean(x)) ** 2 for a in x)
    return Slope(fit.slope, math.sqrt(left / (BATCHES - 2) / spread))


def leak_lines(quiet: Vitals, looks: Sequence[Vitals], speed: float) -> list[Line]:
    """One line each for memory, files, threads and tasks.

    Args:
        quiet: What the daemon held before it had any work.
        looks: What it held since, second by second, until all work had ended.
        speed: Simulated seconds in one of the host's.
    """
    settled = looks[int(WARM_UP * len(looks)) :]
    if len(settled) < 2 * BATCHES:
        return [Line("leaks", f"{len(settled)} looks are too few to judge", True)]
    times_d = [look.at_s * speed / DAY_S for look in settled]
    memory = slope(times_d, [look.rss_anon_mb for look in settled])
    days = times_d[-1] - times_d[0]
    judged = "" if days >= DAYS_MIN else f", not judged after {days:.2g} days"
    return [
        Line(
            "memory",
            f"RssAnon {settled[0].rss_anon_mb:.1f} to {settled[-1].rss_anon_mb:.1f} MB, "
            f"{memory.a_day:+.2f} ± {memory.uncertainty:.2f} MB a day{judged}",
            days < DAYS_MIN or memory.a_day < SLOPE_MAX_MB,
        ),
        _level("files", quiet.files, [look.files for look in settled]),
        _level("threads", len(quiet.threads), [len(look.threads) for look in settled]),
        _level("tasks", quiet.task_count, [look.task_count for look in settled]),
    ]


def _level(what: str, before: int, counts: Sequence[int]) -> Line:
    """Work makes it go up and down; what leaks is still there when all work has ended, as it has at the last looks."""
    after = min(counts[-REST:])
    return Line(what, f"{before} before the work, {after} after it, most {max(counts)}", after <= before + SLACK)
