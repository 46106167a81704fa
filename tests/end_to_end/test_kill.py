"""kill -9 of the daemon costs the runs under way, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from labd.benchmarks import Mode
from tests.end_to_end.campaign import ORDERS, play


async def test_after_a_kill_in_two_runs_both_jobs_complete_once_and_nothing_is_left(tmp_path: Path) -> None:
    outcome = await play(tmp_path, kills=1, seed=1, speed=8.0, orders=((Mode.ENERGY,), (Mode.PERFORMANCE,)))
    assert outcome.broken == ()
    (kill,) = outcome.kills
    assert "measure" in kill.steps
    assert (outcome.record.completed, outcome.record.interrupted) == (2, len(kill.steps))
    assert (outcome.restarts_all_off, outcome.restarts) == (2, 2)


@pytest.mark.slow
@pytest.mark.timeout(3600)
async def test_twenty_kills_cost_a_campaign_of_twelve_jobs_nothing_but_time(tmp_path: Path) -> None:
    outcome = await play(tmp_path, kills=20, seed=3, speed=4.0, orders=ORDERS)
    assert outcome.broken == ()
    assert len(outcome.kills) == 20
    assert (outcome.record.completed, outcome.record.leases_left) == (12, 0)
