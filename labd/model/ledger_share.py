"""What requesters have had of the boards: an account each, in board seconds that fade with a half life."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session, select

from labd.model.tables import Share


@dataclass(frozen=True, slots=True)
class Account:
    """What one requester has had.

    Args:
        used_s: Board seconds, faded up to `at`.
        at: As of when.
    """

    used_s: float
    at: datetime

    def faded(self, now: datetime, half_life_s: float) -> float:
        """The same as of `now`, s; a clock that was set back fades nothing."""
        elapsed_s = max(0.0, (now - self.at).total_seconds())
        return float(self.used_s * 0.5 ** (elapsed_s / half_life_s))


def charge(session: Session, requester: str, board_s: float, now: datetime, half_life_s: float) -> None:
    """Add board seconds to a requester's account."""
    share = session.get(Share, requester) or Share(requester=requester, at=now)
    share.used_s = Account(share.used_s, share.at).faded(now, half_life_s) + board_s
    share.at = now
    session.add(share)


def raise_to(session: Session, requester: str, least_s: float, now: datetime, half_life_s: float) -> None:
    """Let a requester's account count at least so many board seconds: those that the others had while it paused."""
    share = session.get(Share, requester) or Share(requester=requester, at=now)
    used_s = Account(share.used_s, share.at).faded(now, half_life_s)
    if used_s < least_s:
        share.used_s, share.at = least_s, now
        session.add(share)


def accounts(session: Session) -> Mapping[str, Account]:
    """The accounts of all requesters that ever had a board."""
    return {share.requester: Account(share.used_s, share.at) for share in session.exec(select(Share))}
