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
however long it goes on: their shares of the board time come as near to w_q : w_r as one likes. What fades is forgiven:
a requester whose share of the boards is s holds it within half of one of its runs over `s * half_life_s / ln 2`, as the
account is that large and a run is charged whole. With a half life of a day, a share of a ninth and runs of ten minutes
that is 2 %.
"""

from __future__ import annotations

from dataclasses import dataclass

from labd.schedule.fairness import Account, faded, virtual_time
from labd.schedule.queue import Queue
from labd.schedule.snapshot import Snapshot
from labd.schedule.turns import Assignment, Heads, Round

__all__ = ["Assignment", "Decision", "decide", "greet"]


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
    with Heads(queue, expired) as heads:
        chosen = Round(heads, snapshot).assignments()
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
