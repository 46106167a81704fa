"""When a waiting job may start: the queue is played forward with the estimates of its runs, as far as is worth it.

Nothing new comes in a forecast, no run fails, and no estimate is wrong: it is a guess for people.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace

from labd.model.states import BoardState, LeasePurpose
from labd.schedule.fairness import Account, charged
from labd.schedule.queue import Queue, Waiting
from labd.schedule.snapshot import BoardNow, Holder, Snapshot
from labd.schedule.turns import Assignment, Heads, Round

WORK_MAX = 20_000
"""A forecast looks at no more classes than this, all its decisions together."""
STARTS_MAX = 2_000
"""Nor does it start more jobs."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """When a job may start.

    Args:
        start_s: When, s; None if nobody can tell.
        exact: Whether the forecast came to its start; else it comes later than `start_s`.
        reason: Why there is no better answer; empty if there is one.
    """

    start_s: float | None
    exact: bool
    reason: str = ""


def forecast(job: Waiting, queue: Queue, snapshot: Snapshot) -> Forecast:
    """Play the queue forward until the job starts; the queue stays as it is.

    Args:
        job: A job of the queue that does not rest.
        queue: What waits.
        snapshot: The lab now.
    """
    play = _Play(queue, snapshot)
    with Heads(queue, queue.expired(snapshot.now_s)) as heads:
        starts = work = 0
        while True:
            for start in Round(heads, play.snapshot).assignments():
                if start.job_id == job.job_id:
                    return Forecast(play.now_s, exact=True)
                play.begin(start)
                starts += 1
            work += max(queue.classes, 1)
            if not play.pass_on():
                return Forecast(None, exact=False, reason="nobody can tell when a board that it fits is free")
            if work > WORK_MAX or starts > STARTS_MAX:
                return Forecast(play.now_s, exact=False, reason=f"{starts} others start before it")


class _Play:
    """The lab as it goes on from a snapshot."""

    def __init__(self, queue: Queue, snapshot: Snapshot) -> None:
        self._queue = queue
        self._fleet = queue.fleet
        self._boards = {board_id: now for board_id, now in snapshot.boards.items() if self._fleet.board(board_id)}
        self._held = dict(snapshot.held)
        self._accounts = dict(snapshot.accounts)
        self._first = snapshot
        self.now_s = snapshot.now_s
        self._ends = [
            (max(now.holder.until_s, self.now_s), board_id)
            for board_id, now in self._boards.items()
            if now.holder is not None and now.holder.until_s is not None
        ]
        heapq.heapify(self._ends)

    @property
    def snapshot(self) -> Snapshot:
        """The lab at this point of the play."""
        return replace(self._first, now_s=self.now_s, boards=self._boards, held=self._held, accounts=self._accounts)

    def begin(self, start: Assignment) -> None:
        """Start a job: its board is busy for as long as the estimate says, and its requester is charged."""
        job = self._queue.get(start.job_id)
        assert job is not None, "only waiting jobs are started"
        board_id, now_s = start.board_id, self.now_s
        until_s = now_s + job.estimate_s
        board = self._boards[board_id]
        image = self._fleet.image(job.requirement, board_id)
        since_s = board.firmware_since_s if board.firmware == image else now_s
        holder = Holder(LeasePurpose.RUN, job.requester, until_s, job.job_id)
        self._boards[board_id] = BoardNow(BoardState.BUSY, "", holder, board.wanted, image, since_s)
        self._held |= dict.fromkeys(self._fleet.resources(board_id), board_id)
        account = self._accounts.get(job.requester, Account(0.0, now_s))
        half_life_s = self._fleet.config.queue.half_life_s
        self._accounts[job.requester] = charged(account, now_s, start.least_used_s, job.estimate_s, half_life_s)
        heapq.heappush(self._ends, (until_s, board_id))

    def pass_on(self) -> bool:
        """Let time pass until a board is free again; False if none will be."""
        if not self._ends:
            return False
        self.now_s, board_id = heapq.heappop(self._ends)
        self._free(board_id)
        while self._ends and self._ends[0][0] <= self.now_s:
            self._free(heapq.heappop(self._ends)[1])
        return True

    def _free(self, board_id: str) -> None:
        board = self._boards[board_id]
        for resource in self._fleet.resources(board_id):
            self._held.pop(resource, None)
        if board.wanted is not None:  # whoever waits for it has it next
            next_holder, self._boards[board_id] = board.wanted, replace(board, holder=board.wanted, wanted=None)
            self._held |= dict.fromkeys(self._fleet.resources(board_id), next_holder.owner)
            if next_holder.until_s is not None and next_holder.until_s > self.now_s:
                heapq.heappush(self._ends, (next_holder.until_s, board_id))
            return
        serving = board.state in (BoardState.BUSY, BoardState.ONLINE)
        state = BoardState.ONLINE if serving else board.state
        self._boards[board_id] = replace(board, state=state, holder=None)
