"""Which reservation gets which board: in the order of asking, never one board or one thing twice."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from labd.config.derived import lab_facts
from labd.schedule.wishes import Wish, candidates, decide, refusal
from tests.schedule.rack import BOARDS, rack

LAB = rack()
FACTS = lab_facts(LAB, {})

wishes = st.builds(
    Wish,
    board_id=st.none() | st.sampled_from(BOARDS),
    tags=st.frozensets(st.sampled_from(["m4", "m7", "fpu"]), max_size=2),
    require=st.sampled_from(["", 'tag("m4")', "current_max_a >= 0.1"]),
)


@given(wishes)
def test_a_wish_has_one_text(wish: Wish) -> None:
    assert Wish.parse(wish.canonical()) == wish
    assert Wish.parse(wish.canonical()).canonical() == wish.canonical()


def test_a_board_that_does_not_do_says_why() -> None:
    first, _, last = LAB.board
    assert refusal(Wish(), first, FACTS["b1"]) is None
    assert refusal(Wish(board_id="b2"), first, FACTS["b1"]) == "is another board"
    assert refusal(Wish(tags=frozenset({"m4", "fpu"})), last, FACTS["b3"]) == "lacks fpu, m4"
    assert refusal(Wish(require="current_max_a > 1"), first, FACTS["b1"]) is not None
    assert candidates(Wish(tags=frozenset({"m4"})), LAB, FACTS) == ("b1", "b2")


@given(
    st.lists(wishes, max_size=12),
    st.sets(st.sampled_from(BOARDS)),
    st.dictionaries(st.sampled_from(BOARDS), st.frozensets(st.sampled_from(["mux", "hub"])), max_size=3),
    st.sets(st.sampled_from(["mux", "hub"])),
)
def test_grants_keep_the_order_and_give_nothing_twice(
    asked: list[Wish], free: set[str], shared: dict[str, frozenset[str]], held: set[str]
) -> None:
    waiting: defaultdict[str, list[int]] = defaultdict(list)
    for number, wish in enumerate(asked, start=1):
        waiting[wish.canonical()].append(number)

    def fits(text: str) -> tuple[str, ...]:
        return candidates(Wish.parse(text), LAB, FACTS)

    def resources(board_id: str) -> frozenset[str]:
        return shared.get(board_id, frozenset())

    grants = list(decide(waiting, free, held, fits, resources))
    boards = [grant.board_id for grant in grants]
    numbers = [grant.reservation_id for grant in grants]
    assert len(set(boards)) == len(boards)
    assert set(boards) <= free
    assert numbers == sorted(set(numbers)), "the oldest is served first"
    taken = [thing for board in boards for thing in resources(board)]
    assert len(set(taken)) == len(taken)
    assert held.isdisjoint(taken)
    left = {board for board in free - set(boards) if resources(board).isdisjoint(held | set(taken))}
    for number, wish in enumerate(asked, start=1):
        if number not in numbers:
            assert left.isdisjoint(fits(wish.canonical())), "nobody is left waiting for a board that is left"
    for grant in grants:
        earlier = [asked[number - 1] for number in range(1, grant.reservation_id) if number not in numbers]
        assert all(grant.board_id not in fits(wish.canonical()) for wish in earlier), "nobody is passed by a later one"
