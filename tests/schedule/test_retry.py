"""What becomes of a job after a run, by whose fault the end was."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labd.model.attempts import Attempt, Sequel, Verdict
from labd.model.causes import Blame, Cause
from labd.model.states import RunState
from labd.schedule.retry import Patience

PATIENCE = Patience(flaky_retries=2, interruptions_max=3)
FLAKY = [cause for cause in Cause if cause.meaning.blame in (Blame.BOARD, Blame.INSTRUMENT)]
FINAL = [
    cause
    for cause in Cause
    if cause.meaning.blame not in (Blame.BOARD, Blame.INSTRUMENT) and cause.meaning.state is not RunState.INTERRUPTED
]


def judged(*attempts: tuple[str, Cause | None], well: frozenset[str] = frozenset()) -> Verdict:
    return PATIENCE.judge([Attempt(board_id, cause, board_id in well) for board_id, cause in attempts])


def test_a_board_that_fails_has_the_job_tried_elsewhere() -> None:
    verdict = judged(("b1", Cause.BOARD_SILENT))
    assert verdict == Verdict(Sequel.QUEUED, "attempt 2 of 3, on another board if one fits", ("b1",))


def test_a_job_that_fails_on_a_second_board_is_parked_with_both_named() -> None:
    verdict = judged(("b1", Cause.BOARD_SILENT), ("b2", Cause.EDGES_MISSING))
    assert verdict.sequel is Sequel.PARKED
    assert verdict.reason == "it failed on several boards: b1 (board_silent), b2 (edges_missing)"


def test_a_lone_board_that_fails_to_the_end_fails_the_job() -> None:
    assert judged(*[("b1", Cause.BOARD_SILENT)] * 3).sequel is Sequel.ENDED


def test_a_lone_board_that_serves_others_well_has_the_job_parked() -> None:
    assert judged(*[("b1", Cause.BOARD_SILENT)] * 3, well=frozenset({"b1"})).sequel is Sequel.PARKED


def test_failing_instruments_on_several_boards_make_no_poison() -> None:
    cause = Cause.INSTRUMENT_SILENT
    assert judged(("b1", cause), ("b2", cause)).sequel is Sequel.QUEUED
    assert judged(("b1", cause), ("b2", cause), ("b3", cause)).sequel is Sequel.ENDED


def test_a_job_that_the_daemon_dies_with_again_and_again_is_parked() -> None:
    died = ("b1", Cause.DAEMON_DIED)
    assert judged(died, died).sequel is Sequel.QUEUED
    assert judged(died, died, died).sequel is Sequel.PARKED
    assert judged(died, died, ("b1", Cause.DAEMON_STOPPED), died).sequel is Sequel.QUEUED


def test_a_stop_never_parks() -> None:
    assert judged(*[("b1", Cause.DAEMON_STOPPED)] * 20).sequel is Sequel.QUEUED


def test_an_interruption_keeps_the_board_in_mind_that_failed() -> None:
    assert judged(("b1", Cause.BOARD_SILENT), ("b2", Cause.DAEMON_DIED)).avoid == ("b1",)


@pytest.mark.parametrize("cause", FINAL)
def test_what_a_retry_cannot_mend_is_final(cause: Cause) -> None:
    assert judged(("b1", cause)).sequel is Sequel.ENDED


@given(
    st.lists(st.tuples(st.sampled_from(["b1", "b2", "b3"]), st.sampled_from(list(Cause)), st.booleans()), max_size=40)
)
def test_nothing_is_tried_for_ever(histories: list[tuple[str, Cause, bool]]) -> None:
    """However runs end, the failures and the cut-offs in a row that a job survives are bounded."""
    attempts: list[Attempt] = []
    for board_id, cause, recovered in histories:
        attempts.append(Attempt(board_id, cause, recovered))
        if PATIENCE.judge(attempts).sequel is not Sequel.QUEUED:
            break
    else:
        assert sum(attempt.cause in FLAKY for attempt in attempts) <= 2
        assert not any(
            all(attempt.cause in (Cause.DAEMON_DIED, Cause.STORE_FAILED) for attempt in attempts[start : start + 3])
            for start in range(len(attempts) - 2)
        )
