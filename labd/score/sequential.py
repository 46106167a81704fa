"""When did a figure that is measured night by night change? A sequential test at a stated rate of false alarms.

Each cell has a chart: its figures, the baseline that they are held against, and for every night j on which a change may
have begun an e-process E_j: evidence that the nights since j lie above those before by more than the stated
uncertainties explain. Their sum over j is a Shiryaev-Roberts e-detector (Shin, Ramdas, Rinaldo: E-detectors, New
England Journal of Statistics in Data Science 2 (2), 2024). Without a change its mean grows by at most one a night; so
does the mean over K charts, however they depend on each other; and an alarm of a chart that has reached K times A comes
no more often than once in A nights on average.

E_j is the Bayes factor of the two-sample t-test (Gönen, Johnson, Lu, Westfall: The American Statistician 59, 2005), one
sided, with right-Haar priors on level and spread: under normal noise of any level and spread it is a martingale from
the first watched night on (Pérez-Ortiz, Lardy, de Heide, Grünwald: E-statistics, group invariance and anytime-valid
testing, Annals of Statistics 52, 2024), so that a baseline of few nights costs power and never validity. Four things
make it smaller, and so leave it valid: a guard band of what the stated uncertainties explain (JCGM 106:2012), an
allowance for nights that resemble each other, a least spread, and the removal of the most striking night: one night
alone, however wild, is no change. An alarm also needs a change that is large enough to matter. The proof sketch stands
in docs/reference/reports.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr, stdtrit

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

_EFFECT_VARIANCES = (4.0, 64.0, 1024.0)
"""Prior variances of a change over that of a night: changes of about 2, 8 and 32 times the spread."""
_LEAST_SPREAD_SHARE = 0.1
"""Least spread of a night, as a share of the effect that matters: a simulator repeats its digits."""
_BATCH = 64
"""Charts that are worked on at once: bounds the memory."""


class BaselineKind(StrEnum):
    """What the nights of a chart are held against."""

    FIRST = "first"
    """The first nights of the chart: they stay the baseline."""
    LAST = "last"
    """The nights just before the change: what lasts becomes the baseline in time."""


@dataclass(frozen=True, slots=True)
class Watch:
    """How closely a sweep is watched.

    Args:
        nights_per_false_alarm: A: average number of nights between two false alarms of all charts together, at least.
        min_effect: Smallest change that matters: relative, or absolute for figures on a linear scale.
        guard_factor: How many standard uncertainties of a comparison are taken as explained (2: about 95 %).
        likeness: Correlation of one night with the next that is allowed for, 0 to below 1.
        window: On how many of the latest nights a change may have begun.
    """

    nights_per_false_alarm: float = 30.0
    min_effect: float = 0.01
    guard_factor: float = 2.0
    likeness: float = 0.3
    window: int = 30


@dataclass(frozen=True, slots=True)
class Episode:
    """A change of one chart, told by columns of its figures.

    Args:
        start: Column on which it most likely began.
        alarm: Column on which the evidence was enough.
        end: First of the two columns in a row that were within the margin again; None while it lasts.
        evidence: E-value of the detector at the alarm.
        shift: Mean since the start less the baseline's, in the figures' unit, positive in the watched direction.
        half_width: Of its 95 % interval: Student's t and the guarded uncertainty together.
    """

    start: int
    alarm: int
    end: int | None
    evidence: float
    shift: float
    half_width: float

    def at(self, columns: Indices) -> Episode:
        """The same change where the chart's columns are these ones of another."""
        end = None if self.end is None else int(columns[self.end])
        return replace(self, start=int(columns[self.start]), alarm=int(columns[self.alarm]), end=end)


def evidence(difference: Array, squares: Array, freedom: Array, pairs: Array) -> Array:
    """One-sided Bayes factor for a positive difference of two normal means, under right-Haar priors.

    Args:
        difference: Observed difference of the means.
        squares: Sum of the squared deviations from the groups' own means.
        freedom: Degrees of freedom of `squares`; with less than one there is no evidence, 1.
        pairs: n·m / (n + m) of the groups' sizes.

    Returns:
        The mean over the prior variances, of the shape of the arguments; finite, 0 or more.
    """
    known = freedom >= 1
    nu = np.where(known, freedom, 1.0)
    spread = np.sqrt(np.maximum(squares, 1e-300) / nu)
    with np.errstate(over="ignore"):
        t = np.clip(difference * np.sqrt(pairs) / spread, -1e100, 1e100)
    total = np.zeros(np.broadcast_shapes(t.shape, nu.shape))
    for variance in _EFFECT_VARIANCES:
        gain = 1.0 + pairs * variance
        log_factor = 0.5 * (nu + 1) * (np.log1p(t * t / nu) - np.log1p(t * t / (nu * gain))) - 0.5 * np.log(gain)
        # of the t-distributed posterior of the difference, the part above zero
        place = t * np.sqrt((gain - 1) / gain) / np.sqrt((nu + t * t / gain) / (nu + 1))
        total += np.exp(np.minimum(log_factor, 600.0)) * 2.0 * stdtr(nu + 1, place)
    return np.where(known, total / len(_EFFECT_VARIANCES), 1.0)


@dataclass(frozen=True, slots=True)
class _Pairs:
    """All (j, t) of a chart: a change that began on watched night j, seen on night t; equal shapes (pairs,)."""

    begin: Indices
    seen: Indices


def _pairs(watched: int, window: int) -> _Pairs:
    seen, begin = np.nonzero(np.tri(watched, dtype=bool) & ~np.tri(watched, k=-window, dtype=bool))
    return _Pairs(begin, seen)


@dataclass(frozen=True, slots=True)
class Charts:
    """The evidence of several charts of one length in one direction.

    Args:
        figures: In the watched direction, shape (charts, nights).
        uncertainties: Standard uncertainty of each, same shape.
        kind: What they are held against.
        baseline: Nights of the baseline, n: the first n columns are never watched.
        watch: How closely.
    """

    figures: Array
    uncertainties: Array
    kind: BaselineKind
    baseline: int
    watch: Watch

    def detect(self, thresholds: Array) -> list[list[Episode]]:
        """The changes of each chart, oldest first.

        Args:
            thresholds: Evidence that an alarm takes on each night, shape (charts, nights).
        """
        found: list[list[Episode]] = []
        for low in range(0, len(self.figures), _BATCH):
            rows = slice(low, low + _BATCH)
            firsts = self._part(rows, slice(None))._first_changes(thresholds[rows], 0)
            found.extend(
                [] if first is None else self._follow(low + row, thresholds[low + row], first)
                for row, first in enumerate(firsts)
            )
        return found

    def _part(self, rows: slice, columns: slice | Indices) -> Charts:
        """Some of the charts, and some of their nights."""
        return Charts(
            self.figures[rows][:, columns], self.uncertainties[rows][:, columns], self.kind, self.baseline, self.watch
        )

    def _follow(self, row: int, thresholds: Array, first: Episode) -> list[Episode]:
        """All changes of one chart: after each the detector begins anew, without the nights of a change that went."""
        found = [first]
        columns = np.arange(self.figures.shape[1])
        while (end := found[-1].end) is not None:
            if not self._lasted(found[-1]):
                columns = columns[(columns < found[-1].start) | (columns >= end)]
            rest = self._part(slice(row, row + 1), columns)
            since = int(np.searchsorted(columns, end)) - self.baseline
            (following,) = rest._first_changes(thresholds[None, columns], since)
            if following is None:
                break
            found.append(following.at(columns))
        return found

    def _lasted(self, change: Episode) -> bool:
        """Whether a change ended because it became the baseline."""
        return self.kind is BaselineKind.LAST and change.end is not None and change.end - change.start >= self.baseline

    def _first_changes(self, thresholds: Array, since: int) -> list[Episode | None]:
        """The first change of each chart that began on watched night `since` or later."""
        watched = self.figures.shape[1] - self.baseline
        if watched < 2:
            return [None] * len(self.figures)
        pairs = _pairs(watched, self.watch.window)
        processes = _Groups.of(self, pairs).processes(self.watch)
        return [
            _first_change(_Chart(self, row, pairs, processes[row]), thresholds[row, self.baseline :], max(since, 0))
            for row in range(len(self.figures))
        ]


@dataclass(frozen=True, slots=True)
class _Reference:
    """Nights that others are held against, for all (j, t): shapes (charts, pairs), sizes (pairs,)."""

    level: Array
    squares: Array
    """Squared deviations from the level."""
    size: Array
    freedom: Array

    def with_spread_of(self, other: _Reference) -> _Reference:
        """The same level; how much nights differ is learned from the other ones too."""
        return _Reference(self.level, self.squares + other.squares, self.size, self.freedom + other.freedom)


@dataclass(frozen=True, slots=True)
class _Groups:
    """What the t-tests of all (j, t) are made of; shapes (charts, pairs) or (pairs,)."""

    references: tuple[_Reference, ...]
    count: Array
    """Nights from j to t."""
    total: Array
    """Sum of their figures."""
    squared: Array
    highest: Array
    opening: Array
    """The figure of night j."""
    guard: Array
    """What a difference has to exceed."""

    @classmethod
    def of(cls, charts: Charts, pairs: _Pairs) -> _Groups:
        n = charts.baseline
        # figures lie close together: their sums are taken from the first baseline's level on
        figures = charts.figures - charts.figures[:, :n].mean(axis=1, keepdims=True)
        sums, squares = _running(figures), _running(figures**2)
        variances = _running(charts.uncertainties**2)
        after = figures[:, n:]
        high = np.maximum.accumulate(
            np.where(np.tri(after.shape[1], dtype=bool).T, after[:, None, :], -np.inf), axis=2
        )[:, pairs.begin, pairs.seen]
        begin, end = pairs.begin + n, pairs.seen + n + 1
        first = begin - n if charts.kind is BaselineKind.LAST else np.zeros_like(begin)

        def span(running: Array, low: Indices, up: Indices) -> Array:
            return running[:, up] - running[:, low]

        def reference(low: Indices, up: Indices) -> _Reference:
            size = np.maximum(up - low, 1).astype(np.float64)
            level = span(sums, low, up) / size
            return _Reference(level, np.maximum(span(squares, low, up) - size * level**2, 0.0), size, size - 1)

        chosen, whole = reference(first, first + n), reference(first, begin)
        count = (end - begin).astype(np.float64)
        explained = np.sqrt(span(variances, begin, end) / count + span(variances, first, first + n) / n)
        return cls(
            references=(chosen.with_spread_of(reference(first + n, begin)), whole),
            count=count,
            total=span(sums, begin, end),
            squared=span(squares, begin, end),
            highest=high,
            opening=after[:, pairs.begin],
            guard=charts.watch.guard_factor * explained,
        )

    def processes(self, watch: Watch) -> Array:
        """E_j(t) of all pairs, shape (charts, pairs): 1 on the first night, later without the most striking one.

        Without night j it is an e-process of the nights after it; what is less than that is one too.
        """
        least = np.minimum(self._without(self.highest, watch), self._without(self.opening, watch))
        return np.where(self.count > 1, least, 1.0)

    def _without(self, night: Array, watch: Watch) -> Array:
        """Evidence of the nights from j to t but one: the mean over what they are held against."""
        count = np.maximum(self.count - 1, 1.0)
        total = self.total - night
        squares = np.maximum(self.squared - night**2 - total**2 / count, 0.0)
        likeness = (1 + watch.likeness) / (1 - watch.likeness)
        least = (_LEAST_SPREAD_SHARE * watch.min_effect) ** 2
        found = np.zeros_like(total)
        for reference in self.references:
            freedom = reference.freedom + count - 1
            difference = total / count - reference.level - self.guard
            around = squares + reference.squares
            # More spread is less evidence for a difference in the watched direction, but not against the other one.
            around = np.where(difference > 0, (around + freedom * least) * likeness, around)
            found += evidence(difference, around, freedom, reference.size * count / (reference.size + count))
        return found / len(self.references)


def _running(figures: Array) -> Array:
    """Sums up to each column, with a zero before the first: shape (charts, nights + 1)."""
    return np.concatenate([np.zeros((len(figures), 1)), np.cumsum(figures, axis=1)], axis=1)


@dataclass(frozen=True, slots=True)
class _Chart:
    """One chart of a batch, with its e-processes."""

    charts: Charts
    row: int
    pairs: _Pairs
    processes: Array

    @property
    def watched(self) -> int:
        """Nights that are held against the baseline."""
        return int(self.charts.figures.shape[1]) - self.charts.baseline

    def seen_on(self, night: int, since: int) -> Indices:
        """Pairs that are seen on watched night `night`, of changes that began on `since` or later."""
        return np.nonzero((self.pairs.seen == night) & (self.pairs.begin >= since))[0]

    def within(self, night: int, start: int) -> bool:
        """Whether one night lies within the margin around the baseline that a change from `start` is held against."""
        n, figures, spreads = self.charts.baseline, self.charts.figures[self.row], self.charts.uncertainties[self.row]
        base = self._baseline(start)
        explained = float(np.sqrt(np.mean(spreads[base] ** 2) + spreads[night + n] ** 2))
        margin = self.charts.watch.min_effect + self.charts.watch.guard_factor * explained
        return float(figures[night + n] - np.mean(figures[base])) <= margin

    def _baseline(self, start: int) -> slice:
        first = start if self.charts.kind is BaselineKind.LAST else 0
        return slice(first, first + self.charts.baseline)

    def shift(self, start: int, last: int) -> tuple[float, float]:
        """Mean of the watched nights `start` to `last` less the baseline's, and half of its 95 % interval."""
        n, figures, spreads = self.charts.baseline, self.charts.figures[self.row], self.charts.uncertainties[self.row]
        base, since = self._baseline(start), slice(start + n, last + n + 1)
        inside, after = figures[base], figures[since]
        freedom = max(len(inside) + len(after) - 2, 1)
        squares = float(np.sum((inside - inside.mean()) ** 2) + np.sum((after - after.mean()) ** 2))
        error = np.sqrt(squares / freedom * (1 / len(inside) + 1 / len(after)))
        explained = np.sqrt(np.mean(spreads[base] ** 2) + np.mean(spreads[since] ** 2))
        half = float(np.hypot(_student(freedom) * error, self.charts.watch.guard_factor * explained))
        return float(after.mean() - inside.mean()), half


def _student(freedom: int) -> float:
    return float(stdtrit(freedom, 0.975))


def _first_change(chart: _Chart, thresholds: Array, since: int) -> Episode | None:
    """Follow one chart night by night until a change is told."""
    for night in range(since, chart.watched):
        seen = chart.seen_on(night, since)
        weight = float(np.sum(chart.processes[seen]))
        if weight < thresholds[night]:
            continue
        start = int(chart.pairs.begin[seen[int(np.argmax(chart.processes[seen]))]])
        if chart.shift(start, night)[0] < chart.charts.watch.min_effect:  # there is a change, and it does not matter
            continue
        end = _end(chart, start, night)
        shift, half_width = chart.shift(start, (chart.watched if end is None else end) - 1)
        n = chart.charts.baseline
        return Episode(start + n, night + n, None if end is None else end + n, weight, shift, half_width)
    return None


def _end(chart: _Chart, start: int, alarm: int) -> int | None:
    """First of two nights in a row that are within the margin, or the night on which the change is the baseline."""
    for night in range(alarm + 1, chart.watched):
        if chart.charts.kind is BaselineKind.LAST and night - start >= chart.charts.baseline:
            return night
        if night > alarm + 1 and chart.within(night, start) and chart.within(night - 1, start):
            return night - 1
    return None


def charts_seen(counts: Sequence[int]) -> list[int]:
    """K of each night from the charts that each night adds to those of the nights before: it never shrinks.

    A mean over fewer charts would make the evidence of those that stay grow by itself.
    """
    return [max(1, int(total)) for total in np.cumsum(counts)]
