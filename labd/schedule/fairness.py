"""How much of the boards each requester has had, and whose turn it is: start-time fair queueing on faded board time.

After P. Goyal, H. Vin, H. Cheng, "Start-time Fair Queueing" (SIGCOMM 1996): a requester's virtual time is the board
time that it was charged, divided by its weight; the one with the least is served next; and one that comes back from a
pause begins at the virtual time that the others have reached, so that a pause earns nothing. Here the board time fades
too: it counts half after each half life, so that a lab forgets what was last month.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Account:
    """What a requester has had of the boards.

    Args:
        used_s: Board time, faded, as of `at_s`, s.
        at_s: When that was, s.
    """

    used_s: float
    at_s: float


def faded(used_s: float, elapsed_s: float, half_life_s: float) -> float:
    """What board time counts for after `elapsed_s`, s. A clock that was set back fades nothing."""
    return used_s * math.exp2(-max(elapsed_s, 0.0) / half_life_s)


def virtual_time(used_s: float, weight: float) -> float:
    """Board time for each unit of weight, s: equal for two requesters that have had their shares."""
    return used_s / weight


def charged(account: Account, now_s: float, least_s: float, cost_s: float, half_life_s: float) -> Account:
    """The account after a start, or after a correction of what a start was charged.

    Args:
        account: As it stands.
        now_s: Time of the start or of the correction, s.
        least_s: What the account counts at least before the charge (`Assignment.least_used_s`), s; 0 in a correction.
        cost_s: The estimate of a run at its start; what it took more than that (or less: negative) at its end, s.
        half_life_s: As lab.toml says, s.

    Returns:
        Never less than nothing.
    """
    used_s = max(faded(account.used_s, now_s - account.at_s, half_life_s), least_s)
    return Account(max(used_s + cost_s, 0.0), max(now_s, account.at_s))
