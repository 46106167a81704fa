"""Shares of the boards: what fades, who is next, and what a pause earns."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labd.config.models import Queue as Rules
from labd.schedule.fairness import Account, charged, faded, virtual_time
from tests.schedule.simulation import Simulation, fleet, job

PLAIN = Rules(level_s=0.0, batch_s=0.0, half_life_s=1e12)
"""Nothing but shares."""

seconds = st.floats(0, 1e6)


@given(used_s=seconds, first_s=seconds, second_s=seconds, half_life_s=st.floats(1.0, 1e6))
def test_board_time_fades_the_same_in_one_step_or_two(
    used_s: float, first_s: float, second_s: float, half_life_s: float
) -> None:
    at_once = faded(used_s, first_s + second_s, half_life_s)
    assert at_once == pytest.approx(faded(faded(used_s, first_s, half_life_s), second_s, half_life_s), abs=1e-9)
    assert faded(used_s, half_life_s, half_life_s) == pytest.approx(used_s / 2)
    assert faded(used_s, -first_s, half_life_s) == used_s, "a clock that was set back fades nothing"


def test_a_start_is_charged_and_its_end_corrects_it() -> None:
    begun = charged(Account(0.0, 0.0), 10.0, 500.0, 60.0, 1e12)
    assert begun.used_s == pytest.approx(560.0), "what it paused is not credited"
    ended = charged(begun, 40.0, 0.0, -30.0, 1e12)
    assert (ended.used_s, ended.at_s) == (pytest.approx(530.0), 40.0)
    assert charged(Account(5.0, 0.0), 1.0, 0.0, -60.0, 1e12).used_s == 0.0
    assert virtual_time(100.0, 4.0) == 25.0


@settings(max_examples=10, deadline=None)
@given(
    shares=st.dictionaries(st.sampled_from("abcd"), st.sampled_from([0.5, 1.0, 2.0, 4.0]), min_size=2),
    lengths=st.lists(st.floats(5.0, 120.0), min_size=4, max_size=4),
    wrong=st.floats(0.5, 2.0),
    count=st.integers(1, 5),
    rules=st.sampled_from([PLAIN, Rules(batch_s=60.0), Rules(half_life_s=20_000.0, batch_s=0.0)]),
)
def test_everybody_gets_the_share_of_its_weight(
    shares: dict[str, float], lengths: list[float], wrong: float, count: int, rules: Rules
) -> None:
    """Unequal lengths, unequal weights, estimates that are wrong: within 10 % over a long run.

    The half life is long against the runs, as the bound asks that `labd.schedule.order` states.
    """
    lab = Simulation(fleet(count, rules, shares))
    names = sorted(shares)
    number = 0
    total_s = 0.0
    end_s = 300.0 * max(lengths) * len(names) / min(1.0, *shares.values())
    while total_s < end_s:
        for place, name in enumerate(names):  # everybody always has work for any board
            while lab.queue.count(name) < count:
                number += 1
                estimate_s = lengths[place]
                lab.submit([job(number, name, estimate_s=estimate_s, submitted_s=lab.now_s)])
                lab.took_s[number] = estimate_s * wrong
        lab.decide()
        lab.end_next()
        total_s = sum(lab.board_s.values())
    weight = sum(shares.values())
    for name in names:
        assert lab.board_s[name] / total_s == pytest.approx(shares[name] / weight, rel=0.1)


def test_a_pause_earns_nothing_and_costs_nothing() -> None:
    """`late` comes when `early` has had the lab for hours; from then on both have the same, at once."""
    lab = Simulation(fleet(2, PLAIN))
    lab.submit(job(number, "early", submitted_s=0.0) for number in range(1, 1001))
    lab.decide()
    while lab.now_s < 2000.0:
        lab.end_next()
        lab.decide()
    lab.submit(job(number, "late", submitted_s=lab.now_s) for number in range(2001, 2201))
    before = len(lab.started)
    for _ in range(200):
        lab.end_next()
        lab.decide()
    whose = [each.requester for _, each, _ in lab.started[before:]]
    assert abs(whose.count("early") - whose.count("late")) <= 4
    longest = max(len(part) for part in "".join(name[0] for name in whose).split("e"))
    assert longest <= 4, "late has no credit to use up"


def test_what_a_pause_did_not_earn_is_remembered_over_a_restart() -> None:
    lab = Simulation(fleet(1, PLAIN))
    lab.submit(job(number, "early", submitted_s=0.0) for number in range(1, 301))
    lab.decide()
    while lab.now_s < 1000.0:
        lab.end_next()
        lab.decide()
    lab.submit(job(number, "late", submitted_s=lab.now_s) for number in range(401, 501))
    for _ in range(4):
        lab.end_next()
        lab.decide()
    again = Simulation(lab.fleet)  # only what is committed is left: jobs, accounts, boards
    again.now_s, again.accounts = lab.now_s + 1.0, lab.accounts
    again.submit(sorted(lab.queue, key=lambda each: each.job_id))
    again.decide()
    for _ in range(40):
        again.end_next()
        again.decide()
    whose = [each.requester for _, each, _ in again.started]
    assert abs(whose.count("early") - whose.count("late")) <= 3
