"""Inferences per second from windows that a clock timed: the board's own lap timer, or a timestamper's edges."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from labd.errors import ScoreError
from labd.score.rules import Finding, Judged, Rules
from labd.score.uncertainty import (
    Distribution,
    Estimate,
    Frozen,
    Scope,
    Term,
    TermName,
    limits_of_error,
    run_estimates,
)

SCORER = "labd-performance/2"
"""Since 2, the interval is made of the terms' distributions, and trials may be correlated."""


@dataclass(frozen=True, slots=True)
class TimedWindow:
    """One window as a clock saw it.

    Args:
        trial: Number of the trial.
        inferences: N.
        duration_s: Later reading less the earlier one, s.
        resolution_s: Step of the clock, s.
    """

    trial: int
    inferences: int
    duration_s: float
    resolution_s: float


class WindowRate(Frozen):
    """Throughput of one window; the estimate is in inferences per second."""

    trial: int
    inferences: int
    duration_s: float
    inferences_per_s: Estimate


class PerformanceScore(Judged):
    """Throughput of a run.

    Args:
        windows: The windows.
        inferences_per_s: Median of these windows, inferences/s; None if none could be timed.
        board_inferences_per_s: The same with the spread of the trials; None with fewer than two.
    """

    scorer: str = SCORER
    windows: tuple[WindowRate, ...]
    inferences_per_s: Estimate | None
    board_inferences_per_s: Estimate | None


def score_performance(
    windows: Sequence[TimedWindow],
    *,
    clock_ppm: float,
    rules: Rules,
    inputs: Mapping[str, str] | None = None,
) -> PerformanceScore:
    """Score a run's throughput.

    Args:
        windows: The timed windows.
        clock_ppm: Half width of the error of the clock that timed them, ppm.
        rules: What the run must fulfil.
        inputs: Names and digests of what the windows came from.

    Raises:
        ScoreError: a window has no length, or no inferences.
    """
    findings: list[Finding] = []
    rates = []
    for window in windows:
        if window.duration_s <= 0 or window.inferences <= 0:
            raise ScoreError(
                f"a window of {window.duration_s} s with {window.inferences} inferences has no rate",
                where=f"trial {window.trial}",
                remedy="check the board's lap lines in the run's log",
            )
        findings.extend(rules.length_findings(window.trial, duration_s=window.duration_s, inferences=window.inferences))
        rates.append(_rate(window, clock_ppm))
    findings.extend(rules.trial_findings(len(rates)))
    of_windows, of_board = run_estimates([rate.inferences_per_s for rate in rates])
    return PerformanceScore(
        inputs=dict(inputs or {}),
        windows=tuple(rates),
        inferences_per_s=of_windows,
        board_inferences_per_s=of_board,
        findings=tuple(findings),
    )


def _rate(window: TimedWindow, clock_ppm: float) -> WindowRate:
    rate = window.inferences / window.duration_s
    terms = (
        Term(
            # Each reading is late by up to one step: the difference of two such is a triangle of that half width.
            name=TermName.TIMER_RESOLUTION,
            standard_uncertainty=rate * window.resolution_s / (math.sqrt(6) * window.duration_s),
            distribution=Distribution.TRIANGULAR,
            scope=Scope.WINDOW,
            source=f"clock step of {window.resolution_s:g} s",
        ),
        limits_of_error(TermName.CLOCK, rate * clock_ppm * 1e-6, f"clock within ±{clock_ppm:g} ppm"),
    )
    return WindowRate(
        trial=window.trial,
        inferences=window.inferences,
        duration_s=window.duration_s,
        inferences_per_s=Estimate.combine(rate, terms),
    )
