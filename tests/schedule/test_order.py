"""First come, first served among the boards that fit; nobody gets what does not fit."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from labd.benchmarks import Mode
from labd.config import LabConfig
from labd.schedule.match import Requirement, can_ever_match, candidates
from labd.schedule.order import Waiting, assign
from tests.schedule.rack import BOARDS, rack

requirements = st.builds(
    Requirement,
    benchmark=st.just("digits01"),
    mode=st.sampled_from(Mode),
    board_id=st.none() | st.sampled_from([*BOARDS, "nowhere"]),
    tags=st.frozensets(st.sampled_from(["m4", "m7", "fpu"]), max_size=2),
    voltage_v=st.none() | st.floats(1.0, 6.0),
)
queues = st.lists(requirements, max_size=12).map(
    lambda needs: [Waiting(number, need) for number, need in enumerate(needs, start=1)]
)


@given(queue=queues, free=st.sets(st.sampled_from(BOARDS)))
def test_each_board_gets_one_fitting_job_and_no_job_is_overtaken_on_a_board_it_could_have(
    queue: list[Waiting], free: set[str]
) -> None:
    config = rack()
    chosen = assign(queue, free, config)
    boards = [assignment.board_id for assignment in chosen]
    assert len(set(boards)) == len(boards)
    assert set(boards) <= free
    need = {job.job_id: job.requirement for job in queue}
    given_to = {assignment.job_id: assignment.board_id for assignment in chosen}
    for job_id, board_id in given_to.items():
        assert board_id in candidates(need[job_id], config)
    for job in queue:
        if job.job_id not in given_to:
            fitting = set(candidates(job.requirement, config)) & free
            taken_by_older = {board for other, board in given_to.items() if other < job.job_id}
            assert fitting <= taken_by_older


def test_a_job_waits_for_its_board_while_younger_ones_pass_it() -> None:
    anywhere = Requirement("digits01", Mode.PERFORMANCE)
    first = Requirement("digits01", Mode.PERFORMANCE, board_id="b1")
    chosen = assign([Waiting(1, first), Waiting(2, anywhere)], {"b2"}, rack())
    assert [(assignment.job_id, assignment.board_id) for assignment in chosen] == [(2, "b2")]


def test_what_can_never_match_names_the_field_and_every_board() -> None:
    config: LabConfig = rack()
    assert can_ever_match(Requirement("digits01", Mode.ENERGY), config) is None
    mismatch = can_ever_match(Requirement("digits01", Mode.ENERGY, tags=frozenset({"m7"})), config)
    assert mismatch is not None
    assert mismatch.field == "mode", "the only board with the tag has no analyzer"
    assert set(mismatch.reasons) == set(BOARDS)
    nowhere = can_ever_match(Requirement("digits01", Mode.ACCURACY, board_id="nowhere"), config)
    assert nowhere is not None
    assert nowhere.field == "board.id"
    dear = can_ever_match(Requirement("digits01", Mode.ACCURACY, voltage_v=5.5), config)
    assert dear is not None
    assert dear.field == "voltage_v"
    unknown = can_ever_match(Requirement("digits01", Mode.ACCURACY, firmware="other"), config)
    assert unknown is not None
    assert unknown.field == "firmware.name"


def test_an_empty_lab_serves_nobody() -> None:
    empty = rack().model_copy(update={"board": ()})
    mismatch = can_ever_match(Requirement("digits01", Mode.ACCURACY), empty)
    assert mismatch is not None
    assert "no boards" in mismatch.message
