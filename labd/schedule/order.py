"""Which waiting job starts on which free board now: a pure function of the queue and a snapshot of the lab.

Between requesters it is start-time fair queueing, and within one it is the rank of `labd.schedule.queue`. In detail:

- Whose turn it is: the requester with the least `(used_s - level_s * priority - head_start_s) / weight` among those
  that have a job for a free board; `used_s` is the faded board time of its account, `priority` that of its next job.
- Its next job: one whose deadline is less than `ageing_s` away, the nearest deadline first; else the least rank.
- A head start of `batch_s`, in rank and in board time, is given to a job on a board that holds its firmware already,
  as long as the board has not held that for longer than `batch_s` when the job is done.

Starvation. Let job J of requester r wait for a board that becomes free again and again. (1) Within r, only a job with
a lesser rank passes J: one submitted at most 20 * ageing_s + batch_s after it, since priorities differ by 20 at most;
or one of r's own near its deadline. (2) Between requesters: while J is first of r and waits, nothing that r is charged
is for such a board, so let its virtual time v_r stand. Whoever q takes such a board has a virtual time of at most
v_r + (20 * level_s + batch_s) * (1 / w_q + 1 / w_r) when it does, and each start raises v_q by its cost over w_q. One
that comes anew begins at what those that are served have reached, and brings no credit. So before J starts, q gets at
most w_q * (v_r - v_q) + (20 * level_s + batch_s) * (1 + w_q / w_r) and one run of board time, and all others together
the sum of that: `starvation_s`.

Fair share. For two requesters that always have jobs for the same boards, the same inequality, both ways, bounds the
difference of their virtual times by (20 * level_s + batch_s) * (1 / w_q + 1 / w_r) and one run of each over its weight,
however long it goes on: their shares of the board time come as near to w_q : w_r as one likes.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from typing import NamedTuple

from labd.benchmarks import Mode
from labd.config import LabConfig
from labd.schedule.fairness import Account, faded, virtual_time
from labd.schedule.fleet import Boards, Fleet
from labd.schedule.match import Requirement, candidates
from labd.schedule.queue import JobClass, Place, Queue, Waiting
from labd.schedule.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Assignment:
    """Start this job on this board.

    Args:
        job_id: The job.
        board_id: The board.
        least_used_s: What the account of the job's requester counts at least before the start is charged, s: what
            others have reached while it paused. See `labd.schedule.fairness.charged`.
    """

    job_id: int
    board_id: str
    least_used_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now.

    Args:
        assignments: Jobs to start, in the order in which they were chosen.
        expired: Jobs to end, since their deadline has passed.
        next_change_s: When to decide again even if nothing happens, s; None for never.
    """

    assignments: tuple[Assignment, ...] = ()
    expired: tuple[int, ...] = ()
    next_change_s: float | None = None


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


def decide(queue: Queue, snapshot: Snapshot) -> Decision:
    """Fill the free boards.

    Costs time in proportion to the classes of the queue, and to the boards that are free, but not to the jobs. The
    queue stays as it is: what is started or has expired is to be removed once that is committed. Only who was new is
    noted in it, with what its account begins at.

    Args:
        queue: What waits.
        snapshot: The lab now.

    Returns:
        Assignments of which no two need one resource.
    """
    queue.wake(snapshot.now_s)
    greet(queue, snapshot)
    expired = queue.expired(snapshot.now_s)
    chosen = [] if snapshot.stopped else _Round(queue, snapshot, set(expired)).assignments()
    return Decision(tuple(chosen), tuple(expired), queue.next_change_s())


def greet(queue: Queue, snapshot: Snapshot) -> None:
    """Note where each requester begins that has come since the last decision, so that a pause earned it nothing.

    One whose account was charged since its oldest job came has not paused: that is how they are found after a restart.
    """
    rules, now_s, fleet = queue.fleet.config.queue, snapshot.now_s, queue.fleet

    def at(name: str, entry: Account | None) -> float:
        accounts = [each for each in (snapshot.accounts.get(name), entry) if each is not None]
        used_s = max((faded(each.used_s, now_s - each.at_s, rules.half_life_s) for each in accounts), default=0.0)
        return virtual_time(used_s, fleet.weight(name))

    new = []
    served = {name: at(name, None) for name in snapshot.running}
    for name, party in queue.parties.items():
        account = snapshot.accounts.get(name)
        if party.entry is None and name not in served and (account is None or account.at_s < party.since_s):
            new.append(name)
            continue
        party.entry = party.entry or Account(0.0, now_s)
        served[name] = at(name, party.entry)
    reached = queue.reached
    reached_s = faded(reached.used_s, now_s - reached.at_s, rules.half_life_s)
    reached_s = max(reached_s, min(served.values(), default=0.0))
    queue.reached = Account(reached_s, now_s)
    for name in new:
        queue.parties[name].entry = Account(reached_s * fleet.weight(name), now_s)


def used_s(queue: Queue, snapshot: Snapshot, requester: str) -> float:
    """What the account of a requester counts in a decision: its faded board time, s."""
    half_life_s = queue.fleet.config.queue.half_life_s
    account = snapshot.accounts.get(requester)
    used = 0.0 if account is None else faded(account.used_s, snapshot.now_s - account.at_s, half_life_s)
    return max(used, _entry_s(queue, snapshot, requester))


def _entry_s(queue: Queue, snapshot: Snapshot, requester: str) -> float:
    party = queue.parties.get(requester)
    if party is None or party.entry is None:
        return 0.0
    elapsed_s = snapshot.now_s - party.entry.at_s
    return faded(party.entry.used_s, elapsed_s, queue.fleet.config.queue.half_life_s)


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
    offers: list[Offer] = field(default_factory=list)


class _Round:
    """One decision: it fills boards until none is left that anybody can use."""

    def __init__(self, queue: Queue, snapshot: Snapshot, gone: set[int]) -> None:
        self._queue = queue
        self._fleet = queue.fleet
        self._snapshot = snapshot
        self._rules = queue.fleet.config.queue
        self._gone = gone
        self._free = free_boards(queue.fleet, snapshot)
        self._reaches: list[Reach] = []
        self._aside: list[tuple[list[Place], Place]] = []
        self._firmware: dict[tuple[object, ...], dict[Boards, float]] = {}

    def assignments(self) -> list[Assignment]:
        """All starts, in order."""
        chosen: list[Assignment] = []
        try:
            turns = self._turns()
            wanted = Fleet.union(board for reach in self._reaches for board in reach.holding)
            while self._free and turns:
                turns = [turn for turn in turns if self._settle(turn)]
                if not turns:
                    break
                turn = min(turns, key=self._key)
                offer = heapq.heappop(turn.offers)
                chosen.append(self._start(turn, offer, wanted))
                self._offer(turn, offer.number)
        finally:
            for heap, place in self._aside:
                heapq.heappush(heap, place)
        return chosen

    def _turns(self) -> list[_Turn]:
        turns: list[_Turn] = []
        if not self._free:
            return turns
        reachable = Reachable(self._fleet, self._snapshot)
        for name, party in self._queue.parties.items():
            turn = _Turn(name, self._fleet.weight(name), used_s(self._queue, self._snapshot, name))
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
        job = self._head(reach.members)
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
        if job.deadline_s is not None and job.deadline_s - self._snapshot.now_s <= self._rules.ageing_s:
            return 0, job.deadline_s
        return 1, self._queue.rank(job)

    def _head(self, members: JobClass) -> Waiting | None:
        """The next job of a class: the nearest deadline if it is near, else the least rank."""
        soonest = self._top(members, members.by_deadline, deadline=True)
        if soonest is not None and self._place(soonest)[0] == 0:
            return soonest
        return self._top(members, members.by_rank, deadline=False)

    def _top(self, members: JobClass, heap: list[Place], *, deadline: bool) -> Waiting | None:
        while heap:
            job_id = heap[0][1]
            if not self._queue.waits_in(members, heap[0], deadline=deadline):
                heapq.heappop(heap)
            elif job_id in self._gone:
                self._aside.append((heap, heapq.heappop(heap)))
            else:
                return self._queue.get(job_id)
        return None

    def _settle(self, turn: _Turn) -> bool:
        """Drop offers that no board is left for, or whose job has got one; whether one is left."""
        while turn.offers:
            offer = turn.offers[0]
            if offer.job_id not in self._gone and self._open(offer):
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

    def _start(self, turn: _Turn, offer: Offer, wanted: Boards) -> Assignment:
        boards = self._open(offer)
        # one that needs flashing anyway leaves the boards to others whose firmware they hold
        boards = boards & ~wanted or boards if offer.settled else boards
        board = boards & -boards
        job = self._queue.get(offer.job_id)
        assert job is not None, "settled offers are of jobs that wait"
        self._free &= ~self._fleet.rivals(board)
        self._gone.add(job.job_id)
        turn.used_s += job.estimate_s
        least_s = _entry_s(self._queue, self._snapshot, turn.name)
        return Assignment(job.job_id, self._fleet.id(board), least_s)


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


def assign(waiting: Iterable[Waiting], free: Set[str], config: LabConfig) -> list[Assignment]:
    """Give each job, oldest first, the first free board that can serve it.

    Args:
        waiting: Queued jobs, oldest first.
        free: Ids of boards that are online and without a lease.
        config: The lab.

    Returns:
        At most one assignment a board; a job that finds no board free is passed over, and keeps its place.
    """
    left = set(free)
    fits: dict[Requirement, list[str]] = {}
    chosen: list[Assignment] = []
    for job in waiting:
        if not left:
            break
        if job.requirement not in fits:
            fits[job.requirement] = candidates(job.requirement, config)
        board_id = next((board_id for board_id in fits[job.requirement] if board_id in left), None)
        if board_id is not None:
            left.remove(board_id)
            chosen.append(Assignment(job.job_id, board_id))
    return chosen
