"""Area under the ROC curve: how well a score tells anomalies from what is normal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from labd.errors import ScoreError


def roc_auc(scores: Sequence[float], positive: Sequence[bool]) -> float:
    """Chance that a positive has a larger score than a negative, ties counted half (Hanley and McNeil 1982).

    Args:
        scores: Finite, shape (n,).
        positive: Which of them belong to positives, shape (n,).

    Raises:
        ScoreError: the lengths differ, a score is not a number, or one of the two kinds is missing.
    """
    values = np.asarray(scores, dtype=np.float64)
    flags = np.asarray(positive, dtype=bool)
    positives = int(flags.sum())
    negatives = len(flags) - positives
    if values.shape != flags.shape or not np.isfinite(values).all():
        raise ScoreError("scores and labels differ in number, or a score is not a number", where="auc")
    if positives == 0 or negatives == 0:
        raise ScoreError(f"{positives} positives and {negatives} negatives have no ROC curve", where="auc")
    ranks = stats.rankdata(values)
    return float((ranks[flags].sum() - positives * (positives + 1) / 2) / (positives * negatives))
