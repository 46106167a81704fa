"""Top-1 accuracy, with the number of inputs it was counted on and what that number allows to say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from labd.errors import ScoreError
from labd.model.causes import Cause
from labd.score.coverage import COVERAGE
from labd.score.rules import Finding, Judged, Rule

SCORER = "labd-accuracy/1"


class AccuracyScore(Judged):
    """Accuracy of a run.

    Args:
        correct: Inputs whose largest result was the true class.
        samples: Inputs in all.
        top1: correct / samples.
        interval: Clopper and Pearson's interval for the accuracy on inputs like these, 95 % at least.
    """

    scorer: str = SCORER
    correct: int
    samples: int
    top1: float
    interval: tuple[float, float]
    coverage: float = COVERAGE
    method: str = "Clopper-Pearson"


def score_accuracy(
    results: Sequence[Sequence[float]],
    labels: Sequence[int],
    *,
    top1_target: float,
    inputs: Mapping[str, str] | None = None,
) -> AccuracyScore:
    """Count the inputs that the board classified rightly. Of equal largest results the first counts.

    Args:
        results: The board's results, one list a sample, shape (n, classes).
        labels: True classes, shape (n,).
        top1_target: Smallest accuracy of a valid run.
        inputs: Names and digests of what the results came from.

    Raises:
        ScoreError: no results, or not one for each label, or of different lengths, or not numbers.
    """
    if not results or len(results) != len(labels):
        raise ScoreError(
            f"{len(results)} results for {len(labels)} inputs",
            where="accuracy",
            remedy="an accuracy run takes every input once; read the run's log for the ones that are missing",
        )
    if len({len(result) for result in results}) != 1 or not np.all(np.isfinite(table := np.asarray(results))):
        raise ScoreError("results differ in length or are not numbers", where="accuracy")
    correct = int(np.count_nonzero(np.argmax(table, axis=1) == np.asarray(labels)))
    samples = len(labels)
    top1 = correct / samples
    missed = Finding(
        rule=Rule.TOP1_TARGET,
        cause=Cause.QUALITY_MISSED,
        detail=f"top-1 is {top1:.4f} on {samples} inputs, the rule asks for {top1_target:g}",
    )
    interval = stats.binomtest(correct, samples).proportion_ci(COVERAGE, method="exact")
    return AccuracyScore(
        inputs=dict(inputs or {}),
        correct=correct,
        samples=samples,
        top1=top1,
        interval=(float(interval.low), float(interval.high)),
        findings=(missed,) if top1 < top1_target else (),
    )
