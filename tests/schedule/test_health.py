"""Decisions on a board's health, told as histories: what is checked when, who is quarantined, and who never is."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labd.model.checks import Outcome
from labd.model.states import BoardState, CheckTrigger
from labd.schedule.health import (
    RETRY_MAX_S,
    SUSPECT_PAUSE_S,
    Elsewhere,
    Failure,
    Golden,
    Rules,
    Standing,
    Verdict,
    after_check,
    due_at_s,
    failing_jobs,
    golden_drift,
    trigger_of,
)

RULES = Rules(check_every_s=3600.0, quarantine_after=3, retry_s=900.0)
rules = st.builds(
    Rules,
    check_every_s=st.floats(60.0, 1e6),
    quarantine_after=st.integers(1, 10),
    retry_s=st.floats(1.0, 2e5),
)
outcomes = st.sampled_from(Outcome)


def then(standing: Standing, verdict: Verdict, now_s: float) -> Standing:
    """The board after a verdict, as the ledger keeps it."""
    return Standing(
        verdict.state, verdict.strikes, now_s if verdict.well else standing.well_at_s, due_at_s=verdict.due_at_s
    )


def test_a_board_is_due_so_long_after_it_was_last_seen_well() -> None:
    assert due_at_s(Standing(BoardState.ONLINE, well_at_s=100.0), RULES) == 3700.0
    assert due_at_s(Standing(BoardState.ONLINE, well_at_s=100.0, due_at_s=200.0), RULES) == 200.0


@pytest.mark.parametrize("state", [BoardState.OFFLINE, BoardState.MAINTENANCE, BoardState.BUSY])
def test_a_board_that_is_gone_busy_or_in_a_persons_hands_is_not_due_by_itself(state: BoardState) -> None:
    assert due_at_s(Standing(state), RULES) is None


def test_a_board_in_maintenance_is_checked_when_asked_and_stays_there() -> None:
    asked = Standing(BoardState.MAINTENANCE, due_at_s=5.0, wanted=CheckTrigger.ASKED)
    assert due_at_s(asked, RULES) == 5.0
    assert trigger_of(asked) is CheckTrigger.ASKED
    for outcome in Outcome:
        assert after_check(asked, RULES, outcome, now_s=6.0).state is BoardState.MAINTENANCE


def test_a_suspect_board_that_passes_is_online_and_owes_nothing() -> None:
    verdict = after_check(Standing(BoardState.SUSPECT, strikes=2), RULES, Outcome.PASSED, now_s=10.0)
    assert verdict == Verdict(BoardState.ONLINE, "", 0, None, True)


def test_what_endangers_hardware_is_quarantined_at_once() -> None:
    verdict = after_check(Standing(BoardState.ONLINE), RULES, Outcome.DANGEROUS, reason="rail_off", now_s=10.0)
    assert (verdict.state, verdict.due_at_s) == (BoardState.QUARANTINED, 910.0)


def test_the_pause_of_a_quarantined_board_doubles_up_to_a_day() -> None:
    standing, now_s, pauses = Standing(BoardState.SUSPECT, strikes=2), 0.0, []
    for _ in range(12):
        verdict = after_check(standing, RULES, Outcome.FAILED, now_s=now_s)
        assert verdict.due_at_s is not None
        pauses.append(verdict.due_at_s - now_s)
        standing, now_s = then(standing, verdict, now_s), verdict.due_at_s
    assert pauses[:4] == [900.0, 1800.0, 3600.0, 7200.0]
    assert pauses[-1] == RETRY_MAX_S
    assert after_check(standing, RULES, Outcome.PASSED, now_s=now_s).state is BoardState.ONLINE


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.HINDERED])
def test_a_board_that_a_person_or_failing_jobs_quarantined_waits_as_long_as_others(outcome: Outcome) -> None:
    """Neither of them leaves strikes."""
    verdict = after_check(Standing(BoardState.QUARANTINED), RULES, outcome, now_s=0.0)
    assert (verdict.state, verdict.due_at_s) == (BoardState.QUARANTINED, 900.0)


def test_an_instrument_in_the_way_is_no_strike() -> None:
    verdict = after_check(
        Standing(BoardState.ONLINE, strikes=2), RULES, Outcome.HINDERED, reason="waits for psu-1", now_s=0.0
    )
    assert (verdict.state, verdict.strikes, verdict.reason) == (BoardState.SUSPECT, 2, "waits for psu-1")


@given(rules, st.integers(1, 40))
def test_a_broken_board_is_in_quarantine_after_as_many_failed_checks_as_stated(rules: Rules, checks: int) -> None:
    standing, now_s = Standing(BoardState.SUSPECT), 0.0
    for number in range(1, checks + 1):
        verdict = after_check(standing, rules, Outcome.FAILED, now_s=now_s)
        assert (verdict.state is BoardState.QUARANTINED) == (number >= rules.quarantine_after)
        assert verdict.due_at_s is not None
        standing, now_s = then(standing, verdict, now_s), verdict.due_at_s


@given(rules, st.lists(outcomes, max_size=60))
def test_no_board_flaps_faster_than_its_pauses(rules: Rules, history: list[Outcome]) -> None:
    """Between two entries into quarantine lie as many failed checks as stated, each after its pause."""
    standing, now_s = Standing(BoardState.ONLINE, well_at_s=0.0), 0.0
    entered: list[float] = []
    for outcome in history:
        due = due_at_s(standing, rules)
        assert due is not None, "a board that is neither gone nor in maintenance is always looked at again"
        now_s = max(now_s, due)
        verdict = after_check(standing, rules, outcome, reason="seen", now_s=now_s)
        if verdict.state is BoardState.QUARANTINED and standing.state is not BoardState.QUARANTINED:
            entered.append(now_s)
        if verdict.due_at_s is not None:
            assert verdict.due_at_s - now_s >= min(SUSPECT_PAUSE_S, rules.retry_s) * 0.999
        assert (verdict.state is BoardState.ONLINE) == (outcome is Outcome.PASSED)
        assert verdict.strikes == 0 or outcome is not Outcome.PASSED
        standing = then(standing, verdict, now_s)
    gaps = [later - sooner for sooner, later in itertools.pairwise(entered)]
    assert all(gap >= min(rules.retry_s, rules.check_every_s) * 0.999 for gap in gaps)


@given(rules, st.lists(st.integers(1, 30), max_size=60))
def test_poison_jobs_of_others_never_quarantine_a_well_board(rules: Rules, jobs: list[int]) -> None:
    """They fail everywhere; until that is known they are still to be tried elsewhere."""
    row: list[Failure] = []
    for number, job in enumerate(jobs):
        row.append(Failure(job, Elsewhere.PENDING if number % 2 else Elsewhere.FAILED))
        verdict = after_check(
            Standing(BoardState.SUSPECT), rules, Outcome.PASSED, failing_jobs=failing_jobs(row, rules), now_s=0.0
        )
        assert verdict.state is BoardState.ONLINE


@given(rules, st.sampled_from([Elsewhere.COMPLETED, Elsewhere.UNTRIED]), st.integers(1, 30))
def test_a_board_on_which_every_job_fails_is_quarantined_though_its_checks_pass(
    rules: Rules, elsewhere: Elsewhere, jobs: int
) -> None:
    row = [Failure(job, elsewhere) for job in range(1, jobs + 1)]
    named = failing_jobs([*row, *row], rules)
    verdict = after_check(Standing(BoardState.SUSPECT), rules, Outcome.PASSED, failing_jobs=named, now_s=7.0)
    assert (verdict.state is BoardState.QUARANTINED) == (jobs >= rules.quarantine_after)
    if named:
        assert str(jobs) in verdict.reason
        assert verdict.due_at_s == 7.0 + rules.retry_s
        back = after_check(then(Standing(BoardState.SUSPECT), verdict, 7.0), rules, Outcome.PASSED, now_s=8.0)
        assert back.state is BoardState.ONLINE


def test_a_golden_result_is_judged_by_the_boards_own_earlier_ones_and_its_uncertainty() -> None:
    earlier = [Golden(1.00e-6, 1e-9), Golden(1.01e-6, 1e-9), Golden(0.99e-6, 1e-9)]
    assert golden_drift(Golden(2e-6, 0.0), earlier[:2], 3.0) is None
    drift = golden_drift(Golden(1.05e-6, 1e-9), earlier, 3.0)
    assert drift is not None
    assert drift.beyond
    assert drift.percent == pytest.approx(5.0)
    poor = golden_drift(replace(Golden(1.05e-6, 0.0), expanded_j=3e-8), earlier, 3.0)
    assert poor is not None
    assert not poor.beyond
