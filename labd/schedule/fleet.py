"""The boards of a lab as jobs see them, every answer remembered: which fit a requirement, which exclude each other.

A set of boards is an integer with a bit for each board, in the order of lab.toml: what many jobs are held against many
boards costs one operation on two numbers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from labd.benchmarks import Mode
from labd.config import Board, LabConfig, resources_of
from labd.config.derived import BoardFacts, lab_facts
from labd.schedule.match import Requirement, candidates, refusal

Boards = int
"""A set of boards: bit i stands for the i-th board of lab.toml."""
REMEMBERED_MAX = 100_000
"""So many different requirements are remembered; beyond that all are forgotten and asked again."""


class Fleet:
    """The boards of one configuration; a reload makes a new one.

    Args:
        config: The lab.
        facts: What is known of each board, by id; None for what `lab.toml` alone tells.
    """

    def __init__(self, config: LabConfig, facts: Mapping[str, BoardFacts] | None = None) -> None:
        self.config = config
        self.facts = lab_facts(config, {}) if facts is None else facts
        self.board_ids = tuple(board.id for board in config.board)
        self.everything: Boards = (1 << len(self.board_ids)) - 1
        self._bits = {board_id: 1 << index for index, board_id in enumerate(self.board_ids)}
        self._boards = {board.id: board for board in config.board}
        self._resources = {board.id: frozenset(resources_of(board)) | {f"board {board.id}"} for board in config.board}
        self._weights = {user.name: user.share for user in config.user}
        users: defaultdict[str, Boards] = defaultdict(int)
        for board_id, resources in self._resources.items():
            for resource in resources:
                users[resource] |= self._bits[board_id]
        self._users = dict(users)
        self._rivals = {
            self._bits[board_id]: self.union(users[resource] for resource in resources)
            for board_id, resources in self._resources.items()
        }
        self._fits: dict[Requirement, Boards] = {}
        self._images: dict[tuple[Mode, str, str | None, str], str] = {}

    def board(self, board_id: str) -> Board | None:
        """The board of that id."""
        return self._boards.get(board_id)

    def weight(self, requester: str) -> float:
        """The share of a requester against others': as lab.toml says, else 1."""
        return self._weights.get(requester, 1.0)

    def fits(self, requirement: Requirement) -> Boards:
        """All boards that can serve a requirement."""
        found = self._fits.get(requirement)
        if found is None:
            found = self.boards(candidates(requirement, self.config, self.facts))
            if len(self._fits) >= REMEMBERED_MAX:
                self._fits.clear()
            self._fits[requirement] = found
        return found

    def refusal(self, requirement: Requirement, board_id: str) -> str | None:
        """Why a board cannot serve a requirement; None if it can."""
        refused = refusal(requirement, self._boards[board_id], self.config, self.facts[board_id])
        return None if refused is None else refused[1]

    def resources(self, board_id: str) -> frozenset[str]:
        """Every exclusive thing that a run on the board takes."""
        return self._resources[board_id]

    def sharing(self, resources: Iterable[str]) -> Boards:
        """All boards that need one of the resources."""
        return self.union(self._users.get(resource, 0) for resource in resources)

    def rivals(self, board: Boards) -> Boards:
        """One board and all that cannot run beside it, since they share a resource."""
        return self._rivals[board]

    def wired_to(self, instruments: Iterable[str], mode: Mode) -> Boards:
        """All boards that need one of the instruments for a run of `mode`."""
        wanted = set(instruments)
        return self.boards(board.id for board in self._boards.values() if wanted & instruments_of(board, mode))

    def image(self, requirement: Requirement, board_id: str) -> str:
        """What names the firmware that a run needs on a board; equal names need no flashing. Empty if there is none."""
        asked = requirement
        key = (asked.mode.image, asked.benchmark, asked.firmware, board_id)
        if key not in self._images:
            path = self.config.firmware_for(self._boards[board_id], asked.benchmark, asked.mode, asked.firmware)
            self._images[key] = "" if path is None else str(path)
        return self._images[key]

    def boards(self, board_ids: Iterable[str]) -> Boards:
        """The set of some boards; those that the lab does not have are left out."""
        return self.union(self._bits.get(board_id, 0) for board_id in board_ids)

    def ids(self, boards: Boards) -> Iterator[str]:
        """The ids of a set of boards, in the order of lab.toml."""
        while boards:
            lowest = boards & -boards
            yield self.id(lowest)
            boards ^= lowest

    def id(self, board: Boards) -> str:
        """The id of one board."""
        return self.board_ids[board.bit_length() - 1]

    @staticmethod
    def union(sets: Iterable[Boards]) -> Boards:
        """All boards of some sets."""
        union = 0
        for each in sets:
            union |= each
        return union


def instruments_of(board: Board, mode: Mode) -> frozenset[str]:
    """The instruments that a run of `mode` needs: the supply, and for a capture what measures and what times it."""
    needed = {board.supply.instrument}
    if mode is Mode.ENERGY:
        needed |= {each.instrument for each in (board.measure, board.timing) if each is not None}
    return frozenset(needed)
