"""What the lab looks like at the moment of a decision. Times are seconds on one clock, such as since the epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from labd.model.states import BoardState, LeasePurpose
from labd.schedule.fairness import Account


@dataclass(frozen=True, slots=True)
class Holder:
    """Who has a board.

    Args:
        purpose: What for.
        owner: The requester whose job runs on it, the person who reserved it, or `labd` for its checks.
        until_s: When it should be free: start and estimate of a run, end of a reservation; None if nobody can tell.
        job_id: The job that runs on it; None for another purpose.
    """

    purpose: LeasePurpose
    owner: str
    until_s: float | None = None
    job_id: int | None = None


@dataclass(frozen=True, slots=True)
class BoardNow:
    """One board.

    Args:
        state: How it is.
        reason: Why.
        holder: Who has it; None if nobody does.
        wanted: Who is to have it as soon as nobody has it, such as a reservation that waits for it; None if no one.
        firmware: What it was flashed with last, as `Fleet.image` names it; empty if nobody knows.
        firmware_since_s: Since when, s.
    """

    state: BoardState
    reason: str = ""
    holder: Holder | None = None
    wanted: Holder | None = None
    firmware: str = ""
    firmware_since_s: float = 0.0

    @property
    def free(self) -> bool:
        """Whether a run can start on it now."""
        return self.state is BoardState.ONLINE and self.holder is None and self.wanted is None

    @property
    def serves(self) -> bool:
        """Whether it takes runs, now or when whoever has it is done."""
        return self.state in (BoardState.ONLINE, BoardState.BUSY, BoardState.SUSPECT)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a decision depends on beside the queue.

    Args:
        now_s: The time, s.
        boards: Each board by its id; one that is missing counts as offline.
        held: Resources that are held, each with who holds it in words: `run 7 of job 3 on b2`.
        accounts: What each requester has had; one that is missing had nothing.
        out: Instruments that cannot be used now, each with the reason.
        no_captures: Why no capture may start now, such as a full disk; empty if captures may.
        stopped: Why nothing at all may start now; empty if jobs may.
    """

    now_s: float
    boards: Mapping[str, BoardNow]
    held: Mapping[str, str] = field(default_factory=dict)
    accounts: Mapping[str, Account] = field(default_factory=dict)
    out: Mapping[str, str] = field(default_factory=dict)
    no_captures: str = ""
    stopped: str = ""

    @property
    def running(self) -> frozenset[str]:
        """Requesters that have a job on a board."""
        holders = (board.holder for board in self.boards.values())
        return frozenset(each.owner for each in holders if each is not None and each.purpose is LeasePurpose.RUN)
