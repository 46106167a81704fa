"""Each state machine has its own transitions, even where two machines use the same words."""

import pytest

from labd.errors import StateError
from labd.model.states import BoardState, InstrumentState, JobState, RunState, TrialState, check_transition


def test_machines_that_share_words_do_not_share_transitions() -> None:
    assert check_transition("b1", BoardState.ONLINE, BoardState.BUSY) is BoardState.BUSY
    assert check_transition("job 1", JobState.RUNNING, JobState.QUEUED) is JobState.QUEUED
    assert check_transition("run 1", RunState.RUNNING, RunState.INTERRUPTED) is RunState.INTERRUPTED
    assert check_transition("trial 1", TrialState.RUNNING, TrialState.MEASURED) is TrialState.MEASURED


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (BoardState.OFFLINE, BoardState.BUSY),
        (InstrumentState.OFFLINE, InstrumentState.OFFLINE),
        (JobState.COMPLETED, JobState.QUEUED),
        (JobState.QUEUED, JobState.COMPLETED),
        (RunState.COMPLETED, RunState.RUNNING),
        (TrialState.REFUSED, TrialState.MEASURED),
    ],
)
def test_a_transition_that_does_not_exist_is_a_fault(old: JobState, new: JobState) -> None:
    with pytest.raises(StateError, match=f"from {old} to {new}"):
        check_transition("x", old, new)
