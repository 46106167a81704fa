"""What a person is told who asks why a job waits."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labd.benchmarks import Mode
from labd.config.models import Queue as Rules
from labd.model.states import BoardState, JobState, LeasePurpose
from labd.schedule import forecast as playing
from labd.schedule.explain import Explanation, why, why_not_waiting
from labd.schedule.match import Requirement
from labd.schedule.obstacle import Obstacle
from labd.schedule.snapshot import BoardNow, Holder, Snapshot
from tests.schedule.simulation import Simulation, fleet, job


def explained(lab: Simulation, job_id: int, snapshot: Snapshot | None = None) -> Explanation:
    waiting = lab.queue.get(job_id)
    assert waiting is not None
    return why(waiting, lab.queue, snapshot or lab.snapshot())


def obstacles(told: Explanation) -> dict[str, Obstacle]:
    return {board.board_id: board.obstacle for board in told.boards}


def test_each_board_of_the_lab_says_what_stands_before_the_job() -> None:
    lab = Simulation(fleet(10, mux=2))
    lab.now_s = 1000.0
    run = Holder(LeasePurpose.RUN, "bob", 1060.0, 7)
    lab.boards |= {
        "b0": BoardNow(BoardState.BUSY, "", run),
        "b2": BoardNow(BoardState.BUSY, "", Holder(LeasePurpose.RESERVATION, "cyd", 5000.0)),
        "b3": BoardNow(BoardState.QUARANTINED, "it failed three checks"),
        "b4": BoardNow(BoardState.BUSY, "", Holder(LeasePurpose.CHECK, "labd")),
        "b5": BoardNow(BoardState.ONLINE, wanted=Holder(LeasePurpose.RESERVATION, "dan", 9000.0)),
        "b6": BoardNow(BoardState.OFFLINE),
    }
    lab.submit(
        [
            job(
                1,
                requirement=Requirement("alpha", Mode.ENERGY, require='id != "b7"'),
                avoid=frozenset({"b8"}),
                submitted_s=900.0,
            )
        ]
    )
    told = explained(lab, 1, replace(lab.snapshot(), held={"mux-0": "run 3 on b0", "mux-4": "run 9"}))
    assert obstacles(told) == {
        "b0": Obstacle.BUSY,
        "b1": Obstacle.RESOURCE,
        "b2": Obstacle.RESERVED,
        "b3": Obstacle.STATE,
        "b4": Obstacle.CHECKED,
        "b5": Obstacle.RESERVED,
        "b6": Obstacle.STATE,
        "b7": Obstacle.UNFIT,
        "b8": Obstacle.AVOIDED,
        "b9": Obstacle.RESOURCE,
    }
    reasons = {board.board_id: board.reason for board in told.boards}
    assert reasons["b0"] == "is busy with job 7 of bob"
    assert reasons["b1"] == "needs what is taken: mux-0 is held by run 3 on b0"
    assert reasons["b2"] == "is reserved by cyd"
    assert reasons["b3"] == "is quarantined: it failed three checks"
    assert reasons["b5"] == "is kept for dan, who waits for it"
    assert reasons["b7"] == 'says id = "b7", not != "b7"'
    assert [board.until_s for board in told.boards if board.board_id in ("b0", "b2")] == [1060.0, 5000.0]
    assert "b0 is busy with job 7 of bob" in told.sentence
    assert (told.place, told.of, told.state) == (1, 1, JobState.QUEUED)


def test_what_the_lab_lacks_for_a_capture_is_told() -> None:
    lab = Simulation(fleet(2))
    lab.submit([job(1, requirement=Requirement("alpha", Mode.ENERGY))])
    full = replace(lab.snapshot(), no_captures="the disk is full")
    assert set(obstacles(explained(lab, 1, full)).values()) == {Obstacle.SPACE}
    unplugged = replace(lab.snapshot(), out={"stamps": "it does not answer"})
    told = explained(lab, 1, unplugged)
    assert set(obstacles(told).values()) == {Obstacle.INSTRUMENT}
    assert "stamps: it does not answer" in told.boards[0].reason
    assert told.starts is not None
    assert told.starts.start_s is None
    stopped = explained(lab, 1, replace(lab.snapshot(), stopped="emergency off by ann"))
    assert stopped.sentence == "nothing starts: emergency off by ann"


def test_place_and_the_others_before_it() -> None:
    lab = Simulation(fleet(1, Rules(batch_s=0.0)))
    lab.submit([job(1, "ann"), job(2, "ann"), job(3, "ann", priority=1), job(4, "bob"), job(5, "bob")])
    lab.decide()  # job 3
    told = explained(lab, 2)
    assert (told.place, told.of) == (2, 2)
    assert [(each.requester, each.waiting, each.lead_s) for each in told.ahead] == [("bob", 2, 10.0)]
    assert explained(lab, 4).ahead == ()


def test_a_resting_job_and_one_whose_deadline_comes_first() -> None:
    lab = Simulation(fleet(1))
    lab.submit([job(1, not_before_s=500.0), job(2, deadline_s=40.0)])
    lab.submit(job(number, "bob", estimate_s=100.0) for number in range(3, 5))
    told = explained(lab, 1)
    assert told.starts is not None
    assert (told.starts.start_s, told.starts.exact) == (500.0, False)
    lab.boards["b0"] = BoardNow(BoardState.BUSY, "", Holder(LeasePurpose.RUN, "eve", 60.0, 99))
    late = explained(lab, 2)
    assert late.starts is not None
    assert late.starts.reason == "its deadline comes first"


@settings(max_examples=60, deadline=None)
@given(
    asked=st.integers(1, 30),
    jobs=st.lists(
        st.tuples(
            st.sampled_from(["ann", "bob"]), st.integers(-3, 3), st.floats(5, 100), st.sampled_from(["alpha", "beta"])
        ),
        min_size=30,
        max_size=30,
    ),
    mux=st.sampled_from([0, 2]),
)
def test_with_true_estimates_the_forecast_comes_true(
    asked: int, jobs: list[tuple[str, int, float, str]], mux: int
) -> None:
    lab = Simulation(fleet(3, Rules(half_life_s=1e12), mux=mux))
    lab.submit(
        job(number, name, priority=priority, estimate_s=estimate_s, benchmark=benchmark, submitted_s=float(number))
        for number, (name, priority, estimate_s, benchmark) in enumerate(jobs, start=1)
    )
    lab.now_s = 50.0
    before = lab.decide()
    if asked in {start.job_id for start in before.assignments}:
        return
    starts = explained(lab, asked).starts
    assert starts is not None
    assert starts.exact
    lab.run()
    found = next(at_s for at_s, each, _ in lab.started if each.job_id == asked)
    assert starts.start_s == pytest.approx(found)


def test_a_forecast_that_is_far_off_says_not_before() -> None:
    lab = Simulation(fleet(1))
    count = playing.STARTS_MAX + 500
    lab.submit(job(number, estimate_s=10.0, submitted_s=0.0) for number in range(1, count + 1))
    lab.decide()
    starts = explained(lab, count).starts
    assert starts is not None
    assert not starts.exact
    assert starts.start_s == pytest.approx(10.0 * playing.STARTS_MAX, rel=0.01)
    assert "start before it" in starts.reason
    assert len(lab.queue) == count - 1
    assert lab.decide().assignments == ()


def test_nobody_can_tell_when_a_board_comes_back_from_quarantine() -> None:
    lab = Simulation(fleet(1))
    lab.boards["b0"] = BoardNow(BoardState.QUARANTINED, "silent")
    lab.submit([job(1)])
    starts = explained(lab, 1).starts
    assert starts is not None
    assert (starts.start_s, starts.reason) == (None, "nobody can tell when a board that it fits is free")


def test_jobs_that_do_not_wait_are_explained_in_short() -> None:
    assert why_not_waiting(3, JobState.RUNNING, "run 4 on b1").sentence == "it runs: run 4 on b1"
    assert "release or cancel" in why_not_waiting(3, JobState.PARKED, "it failed on b1, b2").sentence
    assert why_not_waiting(3, JobState.COMPLETED).sentence == "it has ended as completed"
