"""The fortnight: its calendar, and its first days, as long as a test may take."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.fortnight.__main__ import fortnight
from tests.fortnight.calendar import DAYS, SWEEPS, due_times


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_the_ledger_of_the_first_days_balances() -> None:
    assert [line for line in await fortnight(3) if not line.balanced] == []


def test_a_sweep_in_the_hour_that_is_skipped_is_due_when_the_gap_ends() -> None:
    evening, small_hours = (due_times(at, DAYS) for at in SWEEPS.values())
    assert len(evening) == len(small_hours) == DAYS
    assert datetime(2026, 3, 29, 1, 0, tzinfo=UTC) in small_hours
    assert {moment.hour for moment in evening} == {21, 20}  # before and after the change, in UTC
