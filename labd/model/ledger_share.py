"""What requesters have had of the boards: an account each, in board seconds that fade with a half life."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session, select

from labd.model.prepared import Insertion
from labd.model.rows import Rows
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


_ADD = Insertion("share")
_SHARES = Rows(Share, Account)


def charge(session: Session, requester: str, board_s: float, now: datetime, half_life_s: float) -> None:
    """Add board seconds to a requester's account."""
    account = _SHARES.get(session, requester)
    _put(session, requester, account, _faded(account, now, half_life_s) + board_s, now)


def raise_to(session: Session, requester: str, least_s: float, now: datetime, half_life_s: float) -> None:
    """Let a requester's account count at least so many board seconds: those that the others had while it paused."""
    account = _SHARES.get(session, requester)
    if _faded(account, now, half_life_s) < least_s:
        _put(session, requester, account, least_s, now)


def _faded(account: Account | None, now: datetime, half_life_s: float) -> float:
    return 0.0 if account is None else account.faded(now, half_life_s)


def _put(session: Session, requester: str, before: Account | None, used_s: float, now: datetime) -> None:
    if before is None:
        _ADD.add(session.connection(), {"requester": requester, "used_s": used_s, "at": now})
    else:
        _SHARES.change(session, requester, used_s=used_s, at=now)


def accounts(session: Session) -> Mapping[str, Account]:
    """The accounts of all requesters that ever had a board."""
    return {share.requester: Account(share.used_s, share.at) for share in session.exec(select(Share))}
