"""Throughput from timed windows."""

from __future__ import annotations

import math

import pytest

from labd.benchmarks import BENCHMARKS
from labd.dut.protocol import lap_resolution_us
from labd.errors import ScoreError
from labd.model.causes import Cause
from labd.score.performance import PerformanceScore, TimedWindow, score_performance
from labd.score.rules import Rule, Rules
from labd.score.uncertainty import TermName

RULES = Rules.of(BENCHMARKS["digits01"])


def windows(*durations_s: float, inferences: int = 100) -> list[TimedWindow]:
    return [
        TimedWindow(trial=trial, inferences=inferences, duration_s=duration_s, resolution_s=1e-6)
        for trial, duration_s in enumerate(durations_s)
    ]


def test_median_rate_with_timer_and_clock() -> None:
    score = score_performance(windows(2.0, 2.1, 1.9, 2.0, 2.0), clock_ppm=50.0, rules=RULES, inputs={"trace": "ab"})
    assert score.valid
    assert score.inferences_per_s is not None
    assert score.inferences_per_s.value == pytest.approx(50.0)
    assert score.inferences_per_s.part(TermName.CLOCK) == pytest.approx(50 * 50e-6 / math.sqrt(3))
    assert score.windows[0].inferences_per_s.part(TermName.TIMER_RESOLUTION) == pytest.approx(
        50 * 0.5e-6 / math.sqrt(6)
    )
    assert score.board_inferences_per_s is not None
    assert 0.94 < score.board_inferences_per_s.standard_uncertainty < 0.96
    assert PerformanceScore.model_validate_json(score.model_dump_json()) == score


def test_a_single_trial_has_the_uncertainty_of_a_millisecond_counter_and_not_of_its_own_window() -> None:
    """680/s over 10 s: each reading is late by up to 1 ms, a triangle of that half width."""
    step_us = lap_resolution_us([12_345, 10_012_345])
    window = TimedWindow(trial=0, inferences=6800, duration_s=10.0, resolution_s=step_us * 1e-6)
    score = score_performance([window], clock_ppm=0.0, rules=RULES)
    assert score.inferences_per_s is not None
    assert score.inferences_per_s.standard_uncertainty == pytest.approx(680 * 1e-3 / 10 / math.sqrt(6))
    assert score.board_inferences_per_s is None


def test_a_short_window_keeps_its_figure_and_makes_the_run_invalid() -> None:
    score = score_performance(windows(2.0, 2.0, 2.0, 2.0, 0.999), clock_ppm=50.0, rules=RULES)
    assert [(finding.rule, finding.cause, finding.trial) for finding in score.findings] == [
        (Rule.MIN_WINDOW, Cause.WINDOW_SHORT, 4)
    ]
    assert not score.valid
    assert len(score.windows) == 5


def test_too_few_inferences_and_too_few_trials_are_named() -> None:
    score = score_performance(windows(2.0, 2.0, inferences=9), clock_ppm=50.0, rules=RULES)
    assert [finding.rule for finding in score.findings] == [Rule.MIN_INFERENCES, Rule.MIN_INFERENCES, Rule.TRIALS]
    assert score.findings[-1].cause is Cause.TRIALS_MISSING


def test_no_windows_make_no_median() -> None:
    score = score_performance([], clock_ppm=50.0, rules=RULES)
    assert score.inferences_per_s is None
    assert score.board_inferences_per_s is None
    assert not score.valid


def test_a_window_without_length_is_refused() -> None:
    with pytest.raises(ScoreError, match="trial 0"):
        score_performance(windows(0.0), clock_ppm=50.0, rules=RULES)
