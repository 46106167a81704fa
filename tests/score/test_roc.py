"""The area under the ROC curve is the chance that an anomaly scores above a normal input."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labd.errors import ScoreError
from labd.score.roc import roc_auc


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30))
def test_it_is_the_share_of_pairs_in_the_right_order(cases: list[tuple[int, bool]]) -> None:
    above = [score for score, positive in cases if positive]
    below = [score for score, positive in cases if not positive]
    if not above or not below:
        with pytest.raises(ScoreError, match="no ROC curve"):
            roc_auc([score for score, _ in cases], [positive for _, positive in cases])
        return
    pairs = [(a > b) + 0.5 * (a == b) for a in above for b in below]
    area = roc_auc([score for score, _ in cases], [positive for _, positive in cases])
    assert area == pytest.approx(sum(pairs) / len(pairs))


def test_scores_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(ScoreError, match="not a number"):
        roc_auc([1.0, float("nan")], [True, False])
