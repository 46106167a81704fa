"""What the dispatcher knows beside the queue, and a snapshot of it for one decision.

Two things are in memory alone: what each requester was charged since the start for runs that are still on, and what
each board was flashed with. A restart forgets both; the accounts begin again as the ledger has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from labd.model.ledger_queue import HeldBoard, RackNow
from labd.model.ledger_share import Account as StoredAccount
from labd.model.states import BoardState, LeasePurpose
from labd.schedule.fairness import Account, charged
from labd.schedule.fleet import Fleet
from labd.schedule.match import Requirement
from labd.schedule.snapshot import BoardNow, Holder, Snapshot


class Accounts:
    """What each requester has had, with the runs that are on charged as estimated.

    Args:
        stored: As the ledger has them.
    """

    def __init__(self, stored: Mapping[str, StoredAccount]) -> None:
        self.now = {name: Account(account.used_s, account.at.timestamp()) for name, account in stored.items()}
        """By requester."""

    def charge(self, requester: str, cost_s: float, now_s: float, half_life_s: float, *, least_s: float = 0.0) -> None:
        """Charge a start its estimate, or correct it at the end; arguments as of `fairness.charged`."""
        account = self.now.get(requester, Account(0.0, now_s))
        self.now[requester] = charged(account, now_s, least_s, cost_s, half_life_s)


class Flashed:
    """Which firmware each board was given last."""

    def __init__(self) -> None:
        self._images: dict[str, tuple[str, float]] = {}

    def note(self, fleet: Fleet, requirement: Requirement, board_id: str, now_s: float) -> None:
        """A run of such a job begins on the board."""
        if fleet.board(board_id) is None:
            return
        image = fleet.image(requirement, board_id)
        if self.of(board_id)[0] != image:
            self._images[board_id] = (image, now_s)

    def of(self, board_id: str) -> tuple[str, float]:
        """What the board holds, and since when, s; empty if nobody knows."""
        return self._images.get(board_id, ("", 0.0))


def snapshot_of(
    rack: RackNow,
    fleet: Fleet,
    now: datetime,
    *,
    accounts: Accounts,
    flashed: Flashed,
    wanted: Mapping[str, Holder],
    no_captures: str,
    stopped: str,
) -> Snapshot:
    """The lab as a decision sees it.

    Args:
        rack: As the ledger has it.
        fleet: The boards of lab.toml.
        now: The time.
        accounts: What requesters have had.
        flashed: What the boards hold.
        wanted: Who is to have a board next, by its id.
        no_captures: Why no capture may start; empty if captures may.
        stopped: Why nothing may start; empty if jobs may.
    """
    holders = {lease.board_id: _holder(lease) for lease in rack.leases}
    held = {
        resource: f"{lease.purpose} on {lease.board_id}"
        for lease in rack.leases
        if fleet.board(lease.board_id) is not None
        for resource in fleet.resources(lease.board_id)
    }
    boards = {}
    for board_id in fleet.board_ids:
        state, reason = rack.boards.get(board_id, (BoardState.OFFLINE, "not seen yet"))
        image, since_s = flashed.of(board_id)
        boards[board_id] = BoardNow(
            state,
            reason,
            holders.get(board_id),
            wanted.get(board_id),
            firmware=image,
            firmware_since_s=since_s,
        )
    return Snapshot(
        now_s=now.timestamp(),
        boards=boards,
        held={resource: f"the lease of {board_id}" for resource, board_id in rack.holds.items()} | held,
        accounts=accounts.now,
        out=rack.out,
        no_captures=no_captures,
        stopped=stopped,
    )


def _holder(lease: HeldBoard) -> Holder:
    granted_s, expires_s = lease.granted_at.timestamp(), lease.expires_at.timestamp()
    runs = lease.purpose is LeasePurpose.RUN
    until_s = granted_s + lease.estimate_s if runs and lease.estimate_s > 0 else expires_s
    return Holder(lease.purpose, lease.owner, until_s, lease.job_id)
