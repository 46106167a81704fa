"""The truth of a window is exact, however long it lasts, and takes a bounded memory."""

from __future__ import annotations

import numpy as np
import pytest

from labd.virtual.activity import KEEP_S, ActivityRecord
from labd.virtual.truth import KEPT_WINDOWS, Truth


def test_a_window_may_last_longer_than_the_record_keeps() -> None:
    record = ActivityRecord()
    truth = Truth("board-1", record.energy)
    rng = np.random.default_rng(3)
    expected = 0.0
    truth.falling(1.0, 100)
    for second in range(1, int(4 * KEEP_S)):
        amps = rng.uniform(1e-3, 2e-2, 500)
        record.extend(second + np.arange(500) / 500, amps, np.full(500, 3.0))
        expected += float(np.sum(amps)) * 3.0 / 500
        truth.advance(second + 1.0)
    assert record.start_s > 1.0
    truth.falling(4 * KEEP_S, 200)
    (window,) = truth.windows
    assert window.energy_j == pytest.approx(expected, rel=1e-12)
    assert window.duration_s == 4 * KEEP_S - 1.0
    assert (window.opened_ticks, window.closed_ticks) == (100, 200)


def test_only_the_newest_windows_are_kept() -> None:
    truth = Truth("board-1", lambda from_s, to_s: to_s - from_s)
    for second in range(3 * KEPT_WINDOWS):
        truth.falling(float(second), None)
    assert len(truth.windows) == KEPT_WINDOWS
    assert truth.windows[-1].opened_s == 3 * KEPT_WINDOWS - 2
