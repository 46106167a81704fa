"""Which board a person's reservation gets: the oldest wish first, of those that a free board meets. Pure.

A wish has one text, its canonical JSON: reservations with equal texts want the same boards, so a thousand that wait for
one board cost a decision as much as one.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from labd.config import Board, LabConfig
from labd.config.derived import BoardFacts
from labd.schedule.expression import holds, why_not
from labd.schedule.grammar import parse


@dataclass(frozen=True, slots=True)
class Wish:
    """What a reservation asks of a board.

    Args:
        board_id: This board and no other; None for any.
        tags: Tags that the board must have, all of them.
        require: What the board's facts have to meet, in the canonical text of the requirement language; empty for
            nothing.
    """

    board_id: str | None = None
    tags: frozenset[str] = frozenset()
    require: str = ""

    def canonical(self) -> str:
        """The one text that all equal wishes have."""
        said = {"board_id": self.board_id, "require": self.require or None, "tags": sorted(self.tags) or None}
        return json.dumps({key: value for key, value in said.items() if value is not None}, separators=(",", ":"))

    @staticmethod
    def parse(text: str) -> Wish:
        """The wish whose canonical text this is."""
        said = json.loads(text)
        return Wish(said.get("board_id"), frozenset(said.get("tags", ())), said.get("require", ""))

    def __str__(self) -> str:
        parts = [f"board {self.board_id}"] if self.board_id is not None else []
        parts += [f"tag {tag}" for tag in sorted(self.tags)]
        return ", ".join([*parts, self.require] if self.require else parts) or "any board"


@dataclass(frozen=True, slots=True)
class Grant:
    """Give this board to the oldest reservation that wishes for `wish`."""

    reservation_id: int
    board_id: str


def refusal(wish: Wish, board: Board, facts: BoardFacts) -> str | None:
    """Why `board` does not meet the wish, as what follows its name; None if it does."""
    missing = wish.tags - set(board.tags)
    if wish.board_id is not None and wish.board_id != board.id:
        return "is another board"
    if missing:
        return f"lacks {', '.join(sorted(missing))}"
    if wish.require and not holds(parse(wish.require), facts):
        return why_not(parse(wish.require), facts)
    return None


def candidates(wish: Wish, config: LabConfig, facts: Mapping[str, BoardFacts]) -> tuple[str, ...]:
    """Ids of all boards that meet the wish, in the order of lab.toml."""
    return tuple(board.id for board in config.board if refusal(wish, board, facts[board.id]) is None)


def decide(
    waiting: Mapping[str, Sequence[int]],
    free: Iterable[str],
    held: Iterable[str],
    fits: Callable[[str], Iterable[str]],
    resources: Callable[[str], frozenset[str]],
) -> Iterator[Grant]:
    """Give free boards to the reservations that wait, the oldest first; one that finds none is passed over.

    Args:
        waiting: Numbers of waiting reservations, lowest first, by the text of their wish. Of each wish as many as there
            are free boards are enough.
        free: Boards that may be given away.
        held: Names of the things that leases hold.
        fits: Boards that meet a wish, by its text.
        resources: Names of the things that a board needs for itself.
    """
    left, taken = set(free), set(held)
    heads = [(numbers[0], 0, text) for text, numbers in waiting.items() if numbers]
    heapq.heapify(heads)
    while heads and left:
        number, place, text = heapq.heappop(heads)
        board_id = next((each for each in fits(text) if each in left and taken.isdisjoint(resources(each))), None)
        if board_id is None:  # nor will it find one for those behind it
            continue
        left.remove(board_id)
        taken |= resources(board_id)
        yield Grant(number, board_id)
        if place + 1 < len(waiting[text]):
            heapq.heappush(heads, (waiting[text][place + 1], place + 1, text))
