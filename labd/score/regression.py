"""What the nights of a sweep say: which cells became worse or better, since when and by how much, and which unsteady.

The golden jobs of the boards, which are measured more often than a sweep, are looked at for drift.

Pure: readings in, findings out, and the same findings from the same readings whenever they are made. Nothing is kept
from one report to the next, so a restart or a report that is made again tells the same.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from scipy import stats

from labd.errors import ScoreError
from labd.score.sequential import BaselineKind, Charts, Episode, Watch, charts_seen

UNSTEADY_NIGHTS = 5
"""Latest nights whose spread is looked at."""
UNSTEADY_RATIO = 2.0
"""A spread that has grown less than this is not worth a look."""
DRIFT_NIGHTS_MIN = 4
"""With fewer nights a slope has no interval."""
_LOG_MAX = 100.0
"""End of an interval that says nothing: its exponential is still a number."""
_BASELINE = re.compile(r"(first|last):([1-9][0-9]{0,2})")


class Quantity(StrEnum):
    """What a cell is judged by."""

    ENERGY = "energy_j_per_inference"
    THROUGHPUT = "inferences_per_s"
    ACCURACY = "top1"

    @property
    def worse_when_larger(self) -> bool:
        """Whether an increase is the worse direction."""
        return self is Quantity.ENERGY

    @property
    def relative(self) -> bool:
        """Whether changes are told as a share of the baseline; those of a share itself are told in points."""
        return self is not Quantity.ACCURACY


@dataclass(frozen=True, slots=True, order=True)
class CellKey:
    """Something that is measured alike every night, on one board."""

    cell: str
    board: str
    quantity: Quantity


@dataclass(frozen=True, slots=True)
class Reading:
    """One figure of one night.

    Args:
        key: What was measured.
        night: Number of the night; later nights have larger ones.
        value: In the quantity's unit; above zero where changes are relative.
        standard_uncertainty: Of the value, in its unit.

    Raises:
        ScoreError: it is no figure that can be compared.
    """

    key: CellKey
    night: int
    value: float
    standard_uncertainty: float = 0.0

    def __post_init__(self) -> None:
        usable = math.isfinite(self.value) and (self.value > 0 or not self.key.quantity.relative)
        if not usable or not (math.isfinite(self.standard_uncertainty) and self.standard_uncertainty >= 0):
            raise ScoreError(
                f"{self.value} ± {self.standard_uncertainty} cannot be compared", where=f"{self.key.cell}, {self.night}"
            )

    @property
    def level(self) -> float:
        """The value on the scale on which changes add up: its logarithm where they are relative."""
        return math.log(self.value) if self.key.quantity.relative else self.value

    @property
    def level_uncertainty(self) -> float:
        """The standard uncertainty on that scale."""
        return self.standard_uncertainty / (self.value if self.key.quantity.relative else 1.0)


@dataclass(frozen=True, slots=True)
class Baseline:
    """Which nights a cell is held against: its first n, the last n before a change, or one night.

    A cell that was not measured in the chosen night is held against its first night after that.
    """

    kind: BaselineKind = BaselineKind.FIRST
    nights: int = 5
    chosen: int | None = None

    @classmethod
    def parse(cls, text: str | int) -> Baseline:
        """Read `first:5`, `last:10` or the number of a night.

        Raises:
            ScoreError: it is none of these.
        """
        if isinstance(text, int) or text.isdecimal():
            return cls(BaselineKind.FIRST, 1, int(text))
        match = _BASELINE.fullmatch(text)
        if match is None:
            raise ScoreError(
                f"{text!r} names no baseline", where="baseline", remedy="write first:N, last:N or the id of a night"
            )
        return cls(BaselineKind(match[1]), int(match[2]))

    def of(self, readings: Sequence[Reading]) -> tuple[Sequence[Reading], int]:
        """The readings that count, of one cell in the order of its nights, and how many of them are the baseline."""
        if self.chosen is None:
            return readings, self.nights
        return [reading for reading in readings if reading.night >= self.chosen], 1


class Direction(StrEnum):
    """Which way a cell changed."""

    WORSE = "worse"
    BETTER = "better"


@dataclass(frozen=True, slots=True)
class Change:
    """A cell that changed.

    Args:
        key: Which one.
        direction: Which way.
        since: Night on which it most likely began.
        alarmed: Night on which the evidence was enough.
        ended: First night on which it was as before; None while it lasts.
        change: Relative, 0.03 for 3 % more than the baseline, or in points of a share; its sign is the figure's.
        interval: Of the change, 95 %, uncertainties of the measurement included.
        evidence: E-value at the alarm.
        threshold: What it had to reach.
        baseline_nights: Nights that it was held against.
        baseline_value: Their level, in the quantity's unit.
    """

    key: CellKey
    direction: Direction
    since: int
    alarmed: int
    ended: int | None
    change: float
    interval: tuple[float, float]
    evidence: float
    threshold: float
    baseline_nights: tuple[int, ...]
    baseline_value: float


@dataclass(frozen=True, slots=True)
class Unsteady:
    """A cell whose nights differ more than they did: spreads are standard deviations on the scale of its changes."""

    key: CellKey
    spread: float
    usual_spread: float
    p_value: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found; changes in the order of their cells, oldest first.

    Args:
        changes: All, also those that have ended.
        unsteady: Cells to look at.
        charts: How many cells were watched.
        waiting: How many had too few nights for it.
    """

    changes: tuple[Change, ...]
    unsteady: tuple[Unsteady, ...]
    charts: int
    waiting: int


@dataclass(frozen=True, slots=True)
class _Series:
    key: CellKey
    readings: tuple[Reading, ...]
    baseline: int


def merged(readings: Iterable[Reading]) -> list[Reading]:
    """One reading a cell and night: the mean of its repetitions.

    Its uncertainty is the largest of theirs: what the repetitions share does not average out.
    """
    groups: defaultdict[tuple[CellKey, int], list[Reading]] = defaultdict(list)
    for reading in readings:
        groups[reading.key, reading.night].append(reading)
    return [
        replace(
            group[0],
            value=math.fsum(reading.value for reading in group) / len(group),
            standard_uncertainty=max(reading.standard_uncertainty for reading in group),
        )
        for group in (groups[place] for place in sorted(groups))
    ]


def judge(readings: Iterable[Reading], baseline: Baseline, watch: Watch) -> Verdict:
    """Judge all cells of a sweep together, so that the rate of false alarms holds for all of them together.

    Args:
        readings: Of all nights up to the one of the report, in any order; repetitions are merged.
        baseline: What the cells are held against.
        watch: How closely.
    """
    by_key: defaultdict[CellKey, list[Reading]] = defaultdict(list)
    for reading in merged(readings):
        by_key[reading.key].append(reading)
    chosen = {key: baseline.of(nights) for key, nights in by_key.items()}
    series = [_Series(key, tuple(nights), count) for key, (nights, count) in chosen.items() if len(nights) > count]
    charts = _charts_by_night(series)
    changes: list[Change] = []
    by_shape: defaultdict[tuple[int, int], list[_Series]] = defaultdict(list)
    for one in series:
        by_shape[len(one.readings), one.baseline].append(one)
    for alike in by_shape.values():
        changes.extend(_changes(alike, baseline, watch, charts))
    level = 1.0 / (watch.nights_per_false_alarm * max(len(series), 1))
    unsteady = [found for one in series if (found := _unsteady(one, level, watch)) is not None]
    return Verdict(
        changes=tuple(sorted(changes, key=lambda change: (change.key, change.alarmed))),
        unsteady=tuple(unsteady),
        charts=len(series),
        waiting=len(chosen) - len(series),
    )


def _charts_by_night(series: Sequence[_Series]) -> Mapping[int, int]:
    """K of every night: two directions of every cell that was watched by then."""
    added: defaultdict[int, int] = defaultdict(int)
    for one in series:
        for reading in one.readings[one.baseline :]:
            added[reading.night] += 0
        added[one.readings[one.baseline].night] += len(Direction)
    nights = sorted(added)
    return dict(zip(nights, charts_seen([added[night] for night in nights]), strict=True))


def _changes(alike: Sequence[_Series], baseline: Baseline, watch: Watch, charts: Mapping[int, int]) -> list[Change]:
    """The changes of cells with equally many nights."""
    levels = np.array([[reading.level for reading in one.readings] for one in alike])
    spreads = np.array([[reading.level_uncertainty for reading in one.readings] for one in alike])
    needed = np.array(
        [[watch.nights_per_false_alarm * charts.get(reading.night, 1) for reading in one.readings] for one in alike]
    )
    found: list[Change] = []
    for sign in (1.0, -1.0):
        rows = Charts(sign * levels, spreads, baseline.kind, alike[0].baseline, watch).detect(needed)
        found.extend(
            _change(one, episode, sign, baseline, float(needed[row, episode.alarm]))
            for row, (one, episodes) in enumerate(zip(alike, rows, strict=True))
            for episode in episodes
        )
    return found


def _change(one: _Series, episode: Episode, sign: float, baseline: Baseline, needed: float) -> Change:
    nights = [reading.night for reading in one.readings]
    first = episode.start - one.baseline if baseline.kind is BaselineKind.LAST else 0
    before = one.readings[first : first + one.baseline]
    base = math.fsum(reading.level for reading in before) / len(before)
    shift, half = sign * episode.shift, episode.half_width
    relative = one.key.quantity.relative
    low, high = max(shift - half, -_LOG_MAX), min(shift + half, _LOG_MAX)
    return Change(
        key=one.key,
        direction=Direction.WORSE if (sign > 0) is one.key.quantity.worse_when_larger else Direction.BETTER,
        since=nights[episode.start],
        alarmed=nights[episode.alarm],
        ended=None if episode.end is None else nights[episode.end],
        change=math.expm1(min(shift, _LOG_MAX)) if relative else shift,
        interval=(math.expm1(low), math.expm1(high)) if relative else (low, high),
        evidence=episode.evidence,
        threshold=needed,
        baseline_nights=tuple(reading.night for reading in before),
        baseline_value=math.exp(base) if relative else base,
    )


def _unsteady(one: _Series, level: float, watch: Watch) -> Unsteady | None:
    """Whether the latest nights differ more than the earlier ones.

    Spreads are taken from the differences of nights that follow each other (von Neumann 1941), which a step leaves
    alone, without the largest of the latest ones, which a single wild night makes; they are compared by an F-test.
    """
    steps = np.diff([reading.level for reading in one.readings]) ** 2 / 2
    earlier, latest = steps[:-UNSTEADY_NIGHTS], np.sort(steps[-UNSTEADY_NIGHTS:])[:-1]
    if len(earlier) < UNSTEADY_NIGHTS:
        return None
    usual, spread = math.sqrt(float(np.mean(earlier))), math.sqrt(float(np.mean(latest)))
    explained = watch.guard_factor * max(reading.level_uncertainty for reading in one.readings)
    if spread <= max(UNSTEADY_RATIO * usual, watch.min_effect / 2, explained):
        return None
    ratio = math.inf if usual == 0 else (spread / usual) ** 2
    # Neighbouring differences share a night: two thirds of them count (von Neumann's efficiency).
    p_value = float(stats.f.sf(ratio, len(latest) * 2 / 3, len(earlier) * 2 / 3))
    return Unsteady(one.key, spread, usual, p_value) if p_value < level else None


@dataclass(frozen=True, slots=True)
class DriftPoint:
    """The golden job of a board, once.

    Args:
        day: When it ended, days from any origin.
        value: Its figure.
        standard_uncertainty: Of the figure, in its unit.
    """

    day: float
    value: float
    standard_uncertainty: float = 0.0


@dataclass(frozen=True, slots=True)
class Drift:
    """How the golden job of a board moves; changes are relative.

    Args:
        points: How many there were.
        deviation: The latest less the median of those before, over that median.
        slope_per_week: Theil and Sen's slope; None with too few points.
        interval: Of the slope, 95 %, by Kendall's test (Sen 1968).
        band: How far it may be off, relative.
    """

    points: int
    deviation: float
    slope_per_week: float | None
    interval: tuple[float, float] | None
    band: float

    @property
    def outside(self) -> bool:
        """Whether the latest lies outside its band."""
        return abs(self.deviation) > self.band

    @property
    def drifting(self) -> bool:
        """Whether the slope is told from none, and leaves the band within four weeks."""
        if self.slope_per_week is None or self.interval is None:
            return False
        told = self.interval[0] > 0 or self.interval[1] < 0
        return told and 4 * abs(self.slope_per_week) > self.band


def drift(points: Sequence[DriftPoint], band: float) -> Drift | None:
    """The drift of a golden job on one board; None with fewer than two usable points.

    Args:
        points: In the order of time; the median of all but the last is what the last is held against.
        band: How far it may be off, relative.
    """
    usable = [point for point in points if math.isfinite(point.value) and point.value > 0]
    if len(usable) < 2:
        return None
    values = np.array([point.value for point in usable])
    usual = float(np.median(values[:-1]))
    deviation = float(values[-1]) / usual - 1
    weeks = np.array([point.day for point in usable]) / 7
    if len(usable) < DRIFT_NIGHTS_MIN or float(np.ptp(weeks)) == 0.0:
        return Drift(len(usable), deviation, None, None, band)
    slope, _, low, high = stats.theilslopes(values / usual, weeks, alpha=0.95)
    if not all(map(math.isfinite, (slope, low, high))):
        return Drift(len(usable), deviation, None, None, band)
    return Drift(len(usable), deviation, float(slope), (float(low), float(high)), band)
