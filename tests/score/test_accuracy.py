"""Top-1 accuracy and its interval."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from labd.errors import ScoreError
from labd.model.causes import Cause
from labd.score.accuracy import AccuracyScore, score_accuracy
from labd.score.rules import Rule


def one_hot(classes: list[int]) -> list[list[float]]:
    return [list(np.eye(10)[k]) for k in classes]


def test_counts_what_was_right() -> None:
    score = score_accuracy(one_hot([0, 1, 2, 3]), [0, 1, 2, 9], top1_target=0.7, inputs={"inputs": "ab"})
    assert (score.correct, score.samples, score.top1) == (3, 4, 0.75)
    assert score.valid
    assert score.interval[0] < 0.75 < score.interval[1]
    assert AccuracyScore.model_validate_json(score.model_dump_json()) == score


def test_a_missed_target_is_a_finding() -> None:
    (finding,) = score_accuracy(one_hot([0, 1]), [0, 2], top1_target=0.95).findings
    assert finding.rule is Rule.TOP1_TARGET
    assert finding.cause is Cause.QUALITY_MISSED
    assert "0.5000 on 2 inputs" in finding.detail


def test_all_right_still_leaves_doubt() -> None:
    score = score_accuracy(one_hot([3] * 100), [3] * 100, top1_target=0.95)
    assert score.interval == (pytest.approx(0.025 ** (1 / 100)), 1.0)


@pytest.mark.parametrize("results", [[], [[0.1, 0.9], [0.2]], [[0.1, float("nan")], [0.5, 0.5]], [[0.1, 0.9]]])
def test_results_that_cannot_be_counted_are_refused(results: list[list[float]]) -> None:
    with pytest.raises(ScoreError):
        score_accuracy(results, [0, 1], top1_target=0.5)


@pytest.mark.parametrize("accuracy", [0.5, 0.9, 0.97])
def test_the_interval_covers_at_least_what_it_says(accuracy: float) -> None:
    samples = 60
    covered = 0.0
    for correct in range(samples + 1):
        results = one_hot([0] * correct + [1] * (samples - correct))
        low, high = score_accuracy(results, [0] * samples, top1_target=0).interval
        if low <= accuracy <= high:
            covered += float(stats.binom.pmf(correct, samples, accuracy))
    assert covered >= 0.95
