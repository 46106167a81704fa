"""One decision: requesters take turns at the free boards, each with its next job, until no board is left to give.

The rules and their bounds stand in `labd.schedule.order`.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import NamedTuple, Self

from labd.benchmarks import Mode
from labd.schedule.fairness import Account, faded, virtual_time
from labd.schedule.fleet import Boards, Fleet
from labd.schedule.queue import JobClass, Place, Queue, Waiting
from labd.schedule.snapshot import Snapshot

SCARCE = 32
"""So many sets of boards, the smallest, are left to those who have no others."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """Start this job on this board.

    Args:
        job_id: The job.
        board_id: The board.
        least_used_s: What the account of the job's requester is raised to before the start is charged, s: what others
            have reached while it paused; 0 for as it stands. It is committed with the start, or a restart of the
            daemon would give credit for the pause. See `labd.schedule.fairness.charged`.
    """

    job_id: int
    board_id: str
    least_used_s: float = 0.0


class Offer(NamedTuple):
    """The next job of a class, in the order within its requester.

    Args:
        later: 0 for a job that is near its deadline, 1 for any other.
        place: Its deadline or its rank, less a head start, s.
        job_id: Its number.
        settled: 0 if it is offered to boards that hold its firmware, 1 if to any.
        number: Number of its class in this decision.
    """

    later: int
    place: float
    job_id: int
    settled: int
    number: int


class Heads:
    """The next job of each class, without those that were given a board; on leaving, the queue is as it was.

    Args:
        queue: What waits.
        gone: Jobs that are not to be started.
    """

    def __init__(self, queue: Queue, gone: Iterable[int] = ()) -> None:
        self.queue = queue
        self.gone = set(gone)
        self._aside: list[tuple[list[Place], Place]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for heap, place in self._aside:
            heapq.heappush(heap, place)

    def next(self, members: JobClass, now_s: float) -> Waiting | None:
        """The next job of a class: the nearest deadline if it is near, else the least rank."""
        soonest = self._top(members, members.by_deadline, deadline=True)
        if soonest is not None and is_near(self.queue, soonest, now_s):
            return soonest
        return self._top(members, members.by_rank, deadline=False)

    def _top(self, members: JobClass, heap: list[Place], *, deadline: bool) -> Waiting | None:
        while heap:
            job_id = heap[0][1]
            if not self.queue.waits_in(members, heap[0], deadline=deadline):
                heapq.heappop(heap)
            elif job_id in self.gone:
                self._aside.append((heap, heapq.heappop(heap)))
            else:
                return self.queue.get(job_id)
        return None


def used_s(queue: Queue, snapshot: Snapshot, requester: str) -> float:
    """What the account of a requester counts in a decision: its faded board time, s."""
    account_s, entry_s = _account_and_entry_s(queue, snapshot, requester)
    return max(account_s, entry_s)


def _account_and_entry_s(queue: Queue, snapshot: Snapshot, requester: str) -> tuple[float, float]:
    """What a requester has had, and what it counts at least since it came back from a pause; both faded, s."""
    party = queue.parties.get(requester)
    half_life_s = queue.fleet.config.queue.half_life_s

    def now_s(account: Account | None) -> float:
        return 0.0 if account is None else faded(account.used_s, snapshot.now_s - account.at_s, half_life_s)

    return now_s(snapshot.accounts.get(requester)), now_s(None if party is None else party.entry)


def is_near(queue: Queue, job: Waiting, now_s: float) -> bool:
    """Whether a job has to start so soon that it goes first among its requester's."""
    return job.deadline_s is not None and job.deadline_s - now_s <= queue.fleet.config.queue.ageing_s


@dataclass(slots=True)
class Reach:
    """Which boards the jobs of a class may have, in one decision.

    Args:
        members: The class.
        boards: Those that were free when the decision began.
        holding: Those of them that hold its firmware, each with since when, s.
    """

    members: JobClass
    boards: Boards
    holding: dict[Boards, float]


@dataclass(slots=True)
class _Turn:
    """One requester in one decision."""

    name: str
    weight: float
    used_s: float
    least_s: float
    """What its account has to be raised to at its next start, s; 0 if it counts as much anyway."""
    offers: list[Offer] = field(default_factory=list)


class Round:
    """One decision: it fills boards until none is left that anybody can use.

    Args:
        heads: The next jobs of the queue.
        snapshot: The lab now.
    """

    def __init__(self, heads: Heads, snapshot: Snapshot) -> None:
        self._heads = heads
        self._queue = heads.queue
        self._fleet = heads.queue.fleet
        self._snapshot = snapshot
        self._rules = self._fleet.config.queue
        self._free = 0 if snapshot.stopped else free_boards(self._fleet, snapshot)
        self._reaches: list[Reach] = []
        self._firmware: dict[tuple[Mode, str, str | None], dict[Boards, float]] = {}

    def assignments(self) -> list[Assignment]:
        """All starts, in order."""
        chosen: list[Assignment] = []
        turns = self._turns()
        wanted = self._wanted()
        while turns := [turn for turn in turns if self._settle(turn)]:
            turn = min(turns, key=self._key)
            offer = heapq.heappop(turn.offers)
            chosen.append(self._start(turn, offer, wanted))
            self._offer(turn, offer.number)
        return chosen

    def _wanted(self) -> list[Boards]:
        """Boards that are left to others where there is a choice: those with their firmware, and their only ones."""
        held = Fleet.union(board for reach in self._reaches for board in reach.holding)
        return [held, *heapq.nsmallest(SCARCE, {reach.boards for reach in self._reaches}, key=int.bit_count)]

    def _turns(self) -> list[_Turn]:
        turns: list[_Turn] = []
        if not self._free:
            return turns
        reachable = Reachable(self._fleet, self._snapshot)
        for name, party in self._queue.parties.items():
            account_s, entry_s = _account_and_entry_s(self._queue, self._snapshot, name)
            least_s = entry_s if entry_s > account_s else 0.0
            turn = _Turn(name, self._fleet.weight(name), max(account_s, entry_s), least_s)
            for members in party.classes.values():
                boards = reachable.now(members) & self._free
                if boards:
                    self._reaches.append(Reach(members, boards, self._holding(members, boards)))
                    self._offer(turn, len(self._reaches) - 1)
            if turn.offers:
                turns.append(turn)
        return turns

    def _holding(self, members: JobClass, boards: Boards) -> dict[Boards, float]:
        """The free boards that hold the firmware of a class, each with since when."""
        kind = members.kind
        needed = (kind.mode, kind.benchmark, kind.build)
        if needed not in self._firmware:
            self._firmware[needed] = {
                self._fleet.boards((board_id,)): now.firmware_since_s
                for board_id in self._fleet.ids(self._free)
                if (now := self._snapshot.boards[board_id]).firmware
                and now.firmware == self._fleet.image(members.sample, board_id)
            }
        return {board: since_s for board, since_s in self._firmware[needed].items() if board & boards}

    def _offer(self, turn: _Turn, index: int) -> None:
        """Offer the next job of a class to any board it may have, and before that to those that hold its firmware."""
        reach = self._reaches[index]
        job = self._heads.next(reach.members, self._snapshot.now_s)
        if job is None:
            return
        later, place = self._place(job)
        if later and self._batching(reach, job):
            heapq.heappush(turn.offers, Offer(later, place - self._rules.batch_s, job.job_id, 0, index))
        heapq.heappush(turn.offers, Offer(later, place, job.job_id, 1, index))

    def _batching(self, reach: Reach, job: Waiting) -> Boards:
        """The free boards on which a job has a head start."""
        end_s = self._snapshot.now_s + job.estimate_s
        boards = (board for board, since_s in reach.holding.items() if end_s - since_s <= self._rules.batch_s)
        return Fleet.union(boards) & self._free

    def _place(self, job: Waiting) -> tuple[int, float]:
        if job.deadline_s is not None and is_near(self._queue, job, self._snapshot.now_s):
            return 0, job.deadline_s
        return 1, self._queue.rank(job)

    def _settle(self, turn: _Turn) -> bool:
        """Drop offers that no board is left for, or whose job has got one; whether one is left."""
        while turn.offers:
            offer = turn.offers[0]
            if offer.job_id not in self._heads.gone and self._open(offer):
                return True
            heapq.heappop(turn.offers)
        return False

    def _open(self, offer: Offer) -> Boards:
        reach = self._reaches[offer.number]
        if offer.settled:
            return reach.boards & self._free
        job = self._queue.get(offer.job_id)
        return 0 if job is None else self._batching(reach, job)

    def _key(self, turn: _Turn) -> tuple[float, Offer, str]:
        offer = turn.offers[0]
        job = self._queue.get(offer.job_id)
        assert job is not None, "settled offers are of jobs that wait"
        head_start_s = 0.0 if offer.settled else self._rules.batch_s
        counted_s = turn.used_s - self._rules.level_s * job.priority - head_start_s
        return virtual_time(counted_s, turn.weight), offer, turn.name

    def _start(self, turn: _Turn, offer: Offer, wanted: list[Boards]) -> Assignment:
        boards = self._open(offer)
        reach = self._reaches[offer.number].boards
        for others in wanted[1 - offer.settled :]:
            if others != reach:
                boards = boards & ~others or boards
        board = boards & -boards
        job = self._queue.get(offer.job_id)
        assert job is not None, "settled offers are of jobs that wait"
        self._free &= ~self._fleet.rivals(board)
        self._heads.gone.add(job.job_id)
        turn.used_s += job.estimate_s
        return Assignment(job.job_id, self._fleet.id(board), turn.least_s)


class Reachable:
    """Which boards may serve the jobs of a class: for good, and as things are.

    Args:
        fleet: The boards.
        snapshot: The lab now.
    """

    def __init__(self, fleet: Fleet, snapshot: Snapshot) -> None:
        self._captures = not snapshot.no_captures
        self._serving = fleet.boards(board_id for board_id, now in snapshot.boards.items() if now.serves)
        self._unmeasured = fleet.wired_to(snapshot.out, Mode.ENERGY)

    def ever(self, members: JobClass) -> Boards:
        """Boards that jobs of the class wait for: not those that they failed on, if another one takes runs."""
        kind = members.kind
        others = kind.fits & ~kind.avoid
        return others if others & self._serving else kind.fits

    def now(self, members: JobClass) -> Boards:
        """Those of them that have their instruments; none if there is no room for what they would record."""
        if not members.captures:
            return self.ever(members)
        return self.ever(members) & ~self._unmeasured if self._captures else 0


def free_boards(fleet: Fleet, snapshot: Snapshot) -> Boards:
    """Boards on which some run can start now: free themselves, and with them all that they need."""
    free = fleet.boards(board_id for board_id, now in snapshot.boards.items() if now.free)
    return free & ~fleet.sharing(snapshot.held) & ~fleet.wired_to(snapshot.out, Mode.PERFORMANCE)
