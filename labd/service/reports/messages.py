"""The morning report: what a night of a sweep brought, as one document that everything else is made from.

The same document stands in the database, at the broker, in the files and in the terminal. Its lists are cut to what a
person reads, and `omitted` says how much more there was.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

from labd.config.models import Name
from labd.model.causes import Cause
from labd.model.states import BoardState, InstrumentState, JobState
from labd.score.regression import Direction, Quantity
from labd.service.messages import Message, Number

RETAINED_MAX_BYTES = 65_536
"""Largest report that is kept at the broker, bytes of JSON."""
LISTED_MAX = 200
"""Most entries of a list of the whole report."""
JOBS_MAX = 20
"""Most jobs that are named for one reason."""


class Mood(StrEnum):
    """Did the night go well?"""

    WELL = "well"
    LOOK = "look"
    """All that matters was measured, and something asks for a look."""
    BAD = "bad"
    """A regression was found, or a good part of the jobs was not done."""


class SweepReportQuery(Message):
    """Asks for the report of a night; of the last one that has a report, if none is named."""

    name: Name
    night: Number | None = None


class Counts(Message):
    """How the jobs of the night ended; `left_over` waits for a person or is under way again."""

    total: int
    done: int
    failed: int
    invalid: int
    expired: int
    cancelled: int
    left_over: int


class Reason(Message):
    """Jobs that ended for the same cause: their number, and the first of them."""

    state: JobState
    cause: Cause | None
    sentence: str
    remedy: str
    count: int
    jobs: tuple[int, ...]
    boards: tuple[str, ...]
    """Boards that they failed on, most often first."""


class BrokenRule(Message):
    """Jobs that were measured and do not stand, by the rule that they break."""

    rule: str
    detail: str
    """Of the first of them."""
    count: int
    jobs: tuple[int, ...]
    said: tuple[str, ...] = ()
    """What each witness of the windows' place said, of the first of them: `steps disagrees: ...`."""


class Remarked(Message):
    """Jobs whose figures a reader should know more of: `steps alone`, `noise`, `trials`. No rule is broken by it."""

    about: str
    detail: str
    """Of the first of them."""
    count: int
    jobs: tuple[int, ...]


class BoardNight(Message):
    """What a board did; runs of other jobs are not counted. `own_failures` are runs that ended by the board's fault."""

    id: str
    state: BoardState
    runs: int
    done: int
    failed: int
    invalid: int
    interrupted: int
    own_failures: int
    busy_s: float
    utilisation: float


class Point(NamedTuple):
    """A figure of a chart: the night, or days before the report for a golden job; value and standard uncertainty.

    In JSON it is a list of the three.
    """

    at: float
    value: float
    standard_uncertainty: float


class ChangeFound(Message):
    """A cell that changed against its baseline.

    `change` is relative (0.03: 3 % more), or in points of a share for `top1`; `interval` is 95 % with the uncertainty
    of the measurement in it. `evidence` is the detector's at the alarm, `threshold` what it had to reach.
    """

    cell: str
    board: str
    quantity: Quantity
    direction: Direction
    change: float
    interval: tuple[float, float]
    since_night: int
    alarm_night: int
    new: bool
    """Whether this night brought the alarm."""
    ended_night: int | None
    evidence: float
    threshold: float
    baseline_value: float
    baseline_nights: tuple[int, ...]
    value: float
    """The latest figure, in the quantity's unit."""
    points: tuple[Point, ...] = ()
    """The nights of its chart, oldest first."""
    steps_alone: tuple[int, ...] = ()
    """Nights of its chart with windows that were placed by the steps of the current alone."""


class UnsteadyCell(Message):
    """A cell whose nights differ more than they did; spreads as shares of the value."""

    cell: str
    board: str
    quantity: Quantity
    spread: float
    usual_spread: float


class GoldenDrift(Message):
    """How the golden job of a board moves; shares of its median."""

    board: str
    runs: int
    deviation: float
    slope_per_week: float | None
    interval: tuple[float, float] | None
    band: float
    outside: bool
    drifting: bool
    points: tuple[Point, ...] = ()
    steps_alone: tuple[float, ...] = ()
    """When, as in `points`, windows were placed by the steps of the current alone."""


class BoardToSee(Message):
    """A board that somebody should look at, and why."""

    id: str
    state: BoardState
    reasons: tuple[str, ...]


class InstrumentToSee(Message):
    """An instrument that is not online, or was not all the time."""

    id: str
    state: InstrumentState
    times_lost: int
    reason: str


class Watched(Message):
    """How the cells were judged."""

    baseline: str
    nights: int
    cells: int
    waiting: int
    """Cells with too few nights to be judged."""
    unusable: int
    """Figures that could not be compared."""
    nights_per_false_alarm: float
    min_effect: float


class MorningReport(Message):
    """What a night of a sweep brought."""

    lab: str
    sweep: str
    night: int
    due_at: datetime
    started_at: datetime
    ended_at: datetime
    made_at: datetime
    mood: Mood
    headline: str
    counts: Counts
    retried: int
    """Jobs that took more than one attempt."""
    attempts: int
    regressions: tuple[ChangeFound, ...]
    improvements: tuple[ChangeFound, ...]
    recovered: tuple[ChangeFound, ...]
    """Changes for the worse that are over."""
    reasons: tuple[Reason, ...]
    broken_rules: tuple[BrokenRule, ...]
    remarks: tuple[Remarked, ...] = ()
    """What to know of figures that stand."""
    boards_to_see: tuple[BoardToSee, ...]
    instruments_to_see: tuple[InstrumentToSee, ...]
    golden: tuple[GoldenDrift, ...]
    unsteady: tuple[UnsteadyCell, ...]
    boards: tuple[BoardNight, ...]
    notices: tuple[str, ...]
    """What was noted of the lab itself: space, archive, clock, configuration."""
    watched: Watched
    note: str = ""
    """What the night itself was noted with: why it was late, which cells were left out."""
    omitted: Annotated[dict[str, int], Field(default_factory=dict)]
    """How many entries of a list were cut off."""
    coverage_factor: Literal[1] = 1
    """k of the uncertainties of all points: they are standard uncertainties."""

    @property
    def duration_s(self) -> float:
        """From the start to the end of the night, s."""
        return (self.ended_at - self.started_at).total_seconds()


_CHARTED = (ChangeFound, GoldenDrift)
_LISTS = (
    "regressions",
    "improvements",
    "recovered",
    "reasons",
    "broken_rules",
    "remarks",
    "boards_to_see",
    "instruments_to_see",
    "golden",
    "unsteady",
    "boards",
    "notices",
)


def cut(report: MorningReport, entries: int, charts: int) -> MorningReport:
    """The same report with at most `entries` in each list, and the points of at most `charts` charts of a list."""
    update: dict[str, Any] = {}
    omitted = dict(report.omitted)
    for name in _LISTS:
        listed = getattr(report, name)
        kept = [
            entry.model_copy(update={"points": ()}) if place >= charts and isinstance(entry, _CHARTED) else entry
            for place, entry in enumerate(listed[:entries])
        ]
        update[name] = tuple(kept)
        if len(listed) > entries:
            omitted[name] = omitted.get(name, 0) + len(listed) - entries
    return report.model_copy(update={**update, "omitted": omitted})


def fitted(report: MorningReport, most_bytes: int = RETAINED_MAX_BYTES) -> MorningReport:
    """The report with as much of its lists as fits into so many bytes of JSON; the most important entries stay."""
    for entries, charts in ((LISTED_MAX, LISTED_MAX), (100, 12), (50, 6), (25, 3), (12, 0), (5, 0), (0, 0)):
        smaller = cut(report, entries, charts)
        if len(smaller.model_dump_json().encode()) <= most_bytes:
            return smaller
    return smaller


def read_report(document: Mapping[str, Any]) -> MorningReport:
    """A report as the database or a client has it.

    Raises:
        ValidationError: it is none, or of another version.
    """
    return MorningReport.model_validate(document, strict=False)
