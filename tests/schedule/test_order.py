"""Which job starts where: nothing twice, nothing idle, nobody forgotten, and no order that changes its mind."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from labd.benchmarks import Mode
from labd.config.models import Queue as Rules
from labd.model.states import BoardState
from labd.schedule.fairness import Account
from labd.schedule.match import Requirement
from labd.schedule.order import decide
from labd.schedule.queue import Queue, Waiting
from labd.schedule.snapshot import BoardNow, Snapshot
from tests.schedule.simulation import BENCHMARKS, Simulation, fleet, job

RULES = Rules(ageing_s=100.0, level_s=50.0, batch_s=30.0, half_life_s=10_000.0)
LAB = fleet(6, RULES, {"ann": 2.0}, mux=3)
ALONE = fleet(1, Rules(batch_s=0.0))
BOARDS = LAB.board_ids

requirements = st.builds(
    Requirement,
    benchmark=st.sampled_from(BENCHMARKS),
    mode=st.sampled_from(Mode),
    board_id=st.none() | st.none() | st.sampled_from(BOARDS),
    tags=st.sampled_from([frozenset[str](), frozenset({"even"})]),
    require=st.sampled_from(["", "memory_kb >= 128", "fpu and memory_kb >= 256"]),
)
waiting = st.builds(
    job,
    st.integers(1, 1000),
    st.sampled_from(["ann", "bob", "cyd"]),
    requirement=requirements,
    submitted_s=st.floats(0, 500),
    priority=st.integers(-10, 10),
    estimate_s=st.floats(1, 100),
    deadline_s=st.none() | st.floats(400, 1500),
    avoid=st.frozensets(st.sampled_from(BOARDS), max_size=2),
    not_before_s=st.sampled_from([0.0, 0.0, 600.0]),
)
queues = st.lists(waiting, max_size=25, unique_by=lambda each: each.job_id).map(
    lambda jobs: sorted(jobs, key=lambda each: each.job_id)
)
boards_now = st.builds(
    BoardNow,
    state=st.sampled_from([BoardState.ONLINE, BoardState.ONLINE, BoardState.ONLINE, *BoardState]),
    firmware=st.sampled_from(["", "alpha/p.elf", "beta/e.elf"]),
    firmware_since_s=st.floats(450, 500),
)
snapshots = st.builds(
    Snapshot,
    now_s=st.just(500.0),
    boards=st.fixed_dictionaries(dict.fromkeys(BOARDS, boards_now)),
    held=st.dictionaries(st.sampled_from(["channel psu/1", "mux-1", "elsewhere"]), st.just("somebody"), max_size=1),
    accounts=st.dictionaries(st.sampled_from(["ann", "bob"]), st.builds(Account, st.floats(0, 1e4), st.just(400.0))),
    out=st.sampled_from([{}, {}, {"stamps": "unplugged"}]),
    no_captures=st.sampled_from(["", "the disk is full"]),
)


def queue_of(jobs: list[Waiting]) -> Queue:
    queue = Queue(LAB)
    for each in jobs:
        queue.add(each)
    return queue


def may_run(each: Waiting, board_id: str, snapshot: Snapshot) -> bool:
    """Whether a job could start on a board, by the rules read one by one."""
    need, now_s = each.requirement, snapshot.now_s
    fits = [board for board in BOARDS if LAB.refusal(need, board) is None]
    others = [board for board in fits if board not in each.avoid and snapshot.boards[board].serves]
    return (
        board_id in (others or fits)
        and snapshot.boards[board_id].free
        and not LAB.resources(board_id) & snapshot.held.keys()
        and not (need.captures and (snapshot.no_captures or "stamps" in snapshot.out))
        and each.not_before_s <= now_s
        and (each.deadline_s is None or each.deadline_s >= now_s)
    )


@given(jobs=queues, snapshot=snapshots)
def test_no_resource_is_given_twice_and_no_board_is_left_that_a_job_could_have(
    jobs: list[Waiting], snapshot: Snapshot
) -> None:
    queue = queue_of(jobs)
    decision = decide(queue, snapshot)
    told = {each.job_id: each for each in jobs}
    taken = Counter(resource for start in decision.assignments for resource in LAB.resources(start.board_id))
    assert max(taken.values(), default=0) <= 1
    assert len({start.job_id for start in decision.assignments}) == len(decision.assignments)
    for start in decision.assignments:
        assert may_run(told[start.job_id], start.board_id, snapshot)
    started = {start.job_id for start in decision.assignments}
    for each in jobs:
        for board_id in BOARDS:
            if each.job_id not in started and may_run(each, board_id, snapshot):
                assert taken.keys() & LAB.resources(board_id), f"job {each.job_id} could have {board_id}"
    gone = {each.job_id for each in jobs if each.deadline_s is not None and each.deadline_s < snapshot.now_s}
    assert set(decision.expired) == gone
    assert len(queue) == len(jobs)


@given(jobs=queues, snapshot=snapshots, removed=st.sets(st.integers(1, 1000)))
def test_the_same_queue_and_lab_give_the_same_decision(
    jobs: list[Waiting], snapshot: Snapshot, removed: set[int]
) -> None:
    queue = queue_of(jobs)
    first = decide(queue, snapshot)
    assert decide(queue, snapshot) == first, "a decision changes nothing"
    assert decide(queue_of(jobs), snapshot) == first
    for each in jobs:  # a queue that has had much else in it decides as one that has not
        if each.job_id in removed:
            queue.remove(each.job_id)
            queue.add(replace(each, priority=-each.priority))
            queue.add(each)
    queue.refit(LAB)
    assert decide(queue, snapshot) == first


@given(jobs=queues, snapshot=snapshots)
def test_nothing_starts_in_a_lab_that_is_stopped(jobs: list[Waiting], snapshot: Snapshot) -> None:
    assert decide(queue_of(jobs), replace(snapshot, stopped="emergency")).assignments == ()


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_nobody_starves(data: st.DataObject) -> None:
    """A job of the lowest priority waits no longer than the bound, whatever others submit meanwhile."""
    names = ("ann", "bob", "cyd")
    lab = Simulation(fleet(1, RULES, {"ann": 2.0}))
    rules = lab.fleet.config.queue
    lab.submit([job(1, "ann", priority=-10, submitted_s=0.0, estimate_s=10.0)])
    number, own_s, others_s = 1, 0.0, 0.0
    longest_s = 40.0
    before = 20 * rules.ageing_s + rules.batch_s
    weights = {"ann": 2.0, "bob": 1.0, "cyd": 1.0}
    lead_s = 20 * rules.level_s + rules.batch_s
    # each other requester: what the bound of labd.schedule.order says, with what ann is charged for her earlier jobs
    while not any(each.job_id == 1 for _, each, _ in lab.started):
        assert lab.now_s < 50_000
        name = data.draw(st.sampled_from(names))
        number += 1
        fresh = job(
            number,
            name,
            submitted_s=lab.now_s,
            priority=data.draw(st.sampled_from([10, 10, 0, -10])) if name == "ann" else 10,
            estimate_s=data.draw(st.sampled_from([5.0, 20.0, longest_s])),
            benchmark=data.draw(st.sampled_from(BENCHMARKS)),
        )
        lab.submit([fresh])
        seen = len(lab.started)
        lab.decide()
        for at_s, each, _ in lab.started[seen:]:
            if each.requester == "ann":
                own_s += each.estimate_s
                assert each.job_id == 1 or each.submitted_s <= before, "only who came in time passes"
            else:
                others_s += each.estimate_s
            assert at_s >= 0
        bound = sum(
            own_s * weights[other] / weights["ann"] + lead_s * (1 + weights[other] / weights["ann"]) + longest_s
            for other in ("bob", "cyd")
        )
        assert others_s <= bound + 2 * longest_s
        lab.end_next()


def test_priority_ages_and_the_order_of_two_jobs_never_changes() -> None:
    queue = Queue(ALONE)
    ageing_s = ALONE.config.queue.ageing_s
    old, urgent, new = (
        job(1, submitted_s=0.0),
        job(2, priority=1, submitted_s=ageing_s - 1),
        job(3, priority=1, submitted_s=ageing_s + 1),
    )
    for each in (old, urgent, new):
        queue.add(each)
    assert sorted([old, urgent, new], key=queue.rank) == [urgent, old, new]


def order_of(lab: Simulation) -> list[int]:
    lab.run()
    return [each.job_id for _, each, _ in lab.started]


def test_first_come_first_served_but_for_priority() -> None:
    lab = Simulation(ALONE)
    lab.submit([job(1), job(2), job(3, priority=1), job(4, priority=-1)])
    assert order_of(lab) == [3, 1, 2, 4]


def test_a_level_of_priority_brings_a_requester_forward_by_so_much_board_time_and_no_more() -> None:
    lab = Simulation(fleet(1, Rules(level_s=40.0, batch_s=0.0, half_life_s=1e12)))
    lab.submit(job(number, "ann", priority=1, submitted_s=0.0) for number in range(1, 11))
    lab.submit(job(number, "bob", submitted_s=0.0) for number in range(11, 21))
    lab.run()
    whose = [each.requester for _, each, _ in lab.started]
    assert whose[:5] == ["ann"] * 5, "40 s of board time are four jobs"
    assert whose[5:10].count("bob") >= 2, "and then they take turns"


def test_a_job_near_its_deadline_goes_first_and_a_late_one_expires() -> None:
    lab = Simulation(fleet(1, Rules(ageing_s=100.0, batch_s=0.0)))
    lab.submit([job(1, priority=10), job(2, deadline_s=90.0), job(3, deadline_s=15.0), job(4, deadline_s=15.0)])
    lab.submit([job(5, deadline_s=5000.0), job(6)])
    assert order_of(lab) == [3, 4, 2, 1, 5, 6]
    late = Simulation(ALONE)
    late.submit([job(1), job(2, deadline_s=9.0)])
    late.now_s = 9.5
    late.run()
    assert late.expired == [2]
    assert [each.job_id for _, each, _ in late.started] == [1]


def test_a_job_rests_until_its_time_and_a_decision_says_when_to_look_again() -> None:
    lab = Simulation(ALONE)
    lab.submit([job(1, not_before_s=100.0, deadline_s=700.0)])
    decision = lab.decide()
    assert (decision.assignments, decision.next_change_s) == ((), 100.0)
    assert lab.queue.rests(1)
    lab.now_s = 100.0
    assert [start.job_id for start in lab.decide().assignments] == [1]
    assert len(lab.queue) == 0


def test_a_job_goes_to_another_board_than_it_failed_on_as_long_as_another_takes_runs() -> None:
    boards = fleet(2)
    for state, first in ((BoardState.SUSPECT, ()), (BoardState.QUARANTINED, ("b0",)), (BoardState.ONLINE, ("b1",))):
        lab = Simulation(boards)
        lab.boards["b1"] = BoardNow(state)
        lab.submit([job(1, avoid=frozenset({"b0"}))])
        assert tuple(start.board_id for start in lab.decide().assignments) == first


def test_a_job_with_a_choice_leaves_the_only_board_of_another_to_it() -> None:
    lab = Simulation(fleet(3))
    picky = Requirement("alpha", Mode.PERFORMANCE, board_id="b0")
    lab.submit([job(1), job(2), job(3, requirement=picky)])
    starts = {start.job_id: start.board_id for start in lab.decide().assignments}
    assert starts[3] == "b0"
    assert set(starts) == {1, 2, 3}


def test_a_board_keeps_its_firmware_for_a_bounded_time() -> None:
    """Two firmwares take turns in the queue: without batches every run flashes, with them few do."""
    rules = Rules(batch_s=100.0)
    lab = Simulation(fleet(1, rules))
    lab.submit(job(number, benchmark=BENCHMARKS[number % 2], submitted_s=0.0) for number in range(1, 101))
    lab.run()
    images = [each.requirement.benchmark for _, each, _ in lab.started]
    flashes = sum(1 for one, other in pairwise(images) if one != other)
    assert flashes <= 12
    stint = longest = 0
    for one, other in pairwise(images):
        stint = stint + 1 if one == other else 0
        longest = max(longest, stint)
    assert longest * 10.0 <= rules.batch_s, "who is first in order waits no longer than that"


def test_a_batch_passes_nobody_who_came_much_earlier_and_no_other_requester_by_much() -> None:
    rules = Rules(batch_s=30.0, half_life_s=1e12)
    lab = Simulation(fleet(1, rules))
    lab.boards["b0"] = BoardNow(BoardState.ONLINE, firmware="alpha/p.elf", firmware_since_s=1000.0)
    lab.now_s = 1000.0
    lab.submit([job(1, benchmark="beta", submitted_s=900.0), job(2, benchmark="alpha", submitted_s=931.0)])
    assert [start.job_id for start in lab.decide().assignments] == [1], "a batch is no older than it is long"
    lab = Simulation(fleet(1, rules))
    lab.submit(job(number, "ann", benchmark="alpha", submitted_s=0.0) for number in range(1, 21))
    lab.submit(job(number, "bob", benchmark="beta", submitted_s=0.0) for number in range(21, 41))
    lab.decide()
    lead_s = 0.0
    while lab.ends and (lab.queue.count("ann") and lab.queue.count("bob")):
        lab.end_next()
        lab.decide()
        lead_s = max(lead_s, abs(lab.accounts["ann"].used_s - lab.accounts.get("bob", Account(0, 0)).used_s))
    assert lead_s <= rules.batch_s + 10.0


@given(steps=st.lists(st.sampled_from([5.0, 0.0, -3600.0, 86_400.0, -86_400.0]), min_size=2, max_size=12))
def test_a_clock_that_is_set_lets_no_later_job_overtake(steps: list[float]) -> None:
    queue = Queue(ALONE)
    now_s, jobs = 1e6, []
    for number, step in enumerate(steps, start=1):
        now_s += step
        jobs.append(job(number, submitted_s=now_s))
        queue.add(jobs[-1])
    assert sorted(jobs, key=lambda each: (queue.rank(each), each.job_id)) == jobs
    back = jobs[len(jobs) // 2]
    rank = queue.rank(back)
    queue.remove(back.job_id)
    queue.add(back)
    assert queue.rank(back) == rank, "a job that is queued again has its old place"


def test_jobs_of_one_kind_are_one_class_whatever_their_texts() -> None:
    queue = Queue(LAB)
    for number in range(1, 501):
        need = Requirement("alpha", Mode.PERFORMANCE, require=f"memory_kb >= {number}")
        queue.add(job(number, requirement=need))
    assert queue.classes == 5, "64, 128, 192, 256 kB, and none"
    assert queue.counts() == {"ann": 500}
    for number in range(1, 501):
        queue.remove(number)
    assert (len(queue), queue.classes, queue.counts()) == (0, 0, {})
