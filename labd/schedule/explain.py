"""Why a job has not started: its place, who is before it, what each board is to it, and when it may start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from labd.benchmarks import Mode
from labd.model.states import BoardState, JobState, LeasePurpose
from labd.schedule.fairness import virtual_time
from labd.schedule.fleet import instruments_of
from labd.schedule.forecast import Forecast, forecast
from labd.schedule.obstacle import Obstacle
from labd.schedule.queue import Queue, Waiting
from labd.schedule.snapshot import BoardNow, Holder, Snapshot
from labd.schedule.turns import is_near, used_s


@dataclass(frozen=True, slots=True)
class BoardOutlook:
    """One board, as one job sees it.

    Args:
        board_id: The board.
        obstacle: What stands between them.
        reason: The same in words, as what follows the board's name.
        until_s: When that should be over, s; None if nobody can tell.
    """

    board_id: str
    obstacle: Obstacle
    reason: str
    until_s: float | None = None

    @property
    def can(self) -> bool:
        """Whether the board can serve the job, now or later."""
        return self.obstacle not in (Obstacle.UNFIT, Obstacle.AVOIDED)


@dataclass(frozen=True, slots=True)
class Ahead:
    """A requester whose turn comes first.

    Args:
        requester: Its name.
        waiting: How many jobs of it wait.
        lead_s: How much less board time it has had for its weight, s.
    """

    requester: str
    waiting: int
    lead_s: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a job is where it is.

    Args:
        job_id: The job.
        state: How it is.
        sentence: The answer in short.
        place: Which one it is among the waiting jobs of its requester, from 1 on; None if it does not wait.
        of: How many those are.
        ahead: Other requesters whose turn comes first, the first one first.
        boards: Every board of the lab, in the order of lab.toml; empty if the job does not wait.
        starts: When it may start; None if it does not wait.
    """

    job_id: int
    state: JobState
    sentence: str
    place: int | None = None
    of: int = 0
    ahead: tuple[Ahead, ...] = ()
    boards: tuple[BoardOutlook, ...] = ()
    starts: Forecast | None = None


def why_not_waiting(job_id: int, state: JobState, detail: str = "") -> Explanation:
    """The short answer for a job that does not wait: it runs, is parked, or has ended; `detail` in its own words."""
    if state is JobState.RUNNING:
        sentence = "it runs"
    elif state is JobState.PARKED:
        sentence = "it is parked, and waits for somebody to release or cancel it"
    else:
        sentence = f"it has ended as {state}"
    return Explanation(job_id, state, f"{sentence}: {detail}" if detail else sentence)


def why(job: Waiting, queue: Queue, snapshot: Snapshot) -> Explanation:
    """Why a waiting job has not started.

    Costs time in proportion to the jobs of its requester, and a bounded time for the forecast.

    Args:
        job: A job of the queue.
        queue: What waits.
        snapshot: The lab now.
    """
    queue.wake(snapshot.now_s)
    boards = _outlooks(job, queue, snapshot)
    own = _order(job, queue, snapshot)
    place = 1 + sum(1 for other in queue if other.requester == job.requester and _order(other, queue, snapshot) < own)
    return Explanation(
        job_id=job.job_id,
        state=JobState.QUEUED,
        sentence=_sentence(job, boards, queue, snapshot),
        place=place,
        of=queue.count(job.requester),
        ahead=_ahead(job, queue, snapshot),
        boards=boards,
        starts=_starts(job, boards, queue, snapshot),
    )


def _order(job: Waiting, queue: Queue, snapshot: Snapshot) -> tuple[bool, bool, float, int]:
    """What jobs of one requester are sorted by, head starts aside."""
    near = is_near(queue, job, snapshot.now_s)
    place_s = job.deadline_s if near and job.deadline_s is not None else queue.rank(job)
    return queue.rests(job.job_id), not near, place_s, job.job_id


def _ahead(job: Waiting, queue: Queue, snapshot: Snapshot) -> tuple[Ahead, ...]:
    """Requesters with less board time for their weight, that wait for a board that the job fits."""
    fleet = queue.fleet
    fits = fleet.fits(job.requirement)

    def at_s(requester: str) -> float:
        return virtual_time(used_s(queue, snapshot, requester), fleet.weight(requester))

    own_s = at_s(job.requester)
    found = [
        Ahead(name, party.size, lead_s)
        for name, party in queue.parties.items()
        if name != job.requester
        and (lead_s := own_s - at_s(name)) > 0
        and any(kind.fits & fits for kind in party.classes)
    ]
    return tuple(sorted(found, key=lambda ahead: -ahead.lead_s))


def _outlooks(job: Waiting, queue: Queue, snapshot: Snapshot) -> tuple[BoardOutlook, ...]:
    fleet = queue.fleet
    offline = BoardNow(BoardState.OFFLINE, "it was never seen")
    now = {board_id: snapshot.boards.get(board_id, offline) for board_id in fleet.board_ids}
    refused = {board_id: fleet.refusal(job.requirement, board_id) for board_id in fleet.board_ids}
    others = any(
        now[board_id].serves and board_id not in job.avoid for board_id, reason in refused.items() if reason is None
    )
    outlooks = []
    for board_id, reason in refused.items():
        if reason is not None:
            outlooks.append(BoardOutlook(board_id, Obstacle.UNFIT, reason))
        elif others and board_id in job.avoid:
            outlooks.append(BoardOutlook(board_id, Obstacle.AVOIDED, "was tried; the job goes to another one"))
        else:
            outlooks.append(_outlook(board_id, now[board_id], job, queue, snapshot))
    return tuple(outlooks)


_HELD: Mapping[LeasePurpose, tuple[Obstacle, str]] = MappingProxyType(
    {
        LeasePurpose.RUN: (Obstacle.BUSY, "is busy with job {job_id} of {owner}"),
        LeasePurpose.RESERVATION: (Obstacle.RESERVED, "is reserved by {owner}"),
        LeasePurpose.CHECK: (Obstacle.CHECKED, "has its health checked"),
    }
)


def _outlook(board_id: str, now: BoardNow, job: Waiting, queue: Queue, snapshot: Snapshot) -> BoardOutlook:
    """A board that fits, by what stands before the job there first."""
    holder = now.holder
    if holder is not None:
        obstacle, words = _HELD[holder.purpose]
        reason = words.format(job_id=holder.job_id, owner=holder.owner)
        return BoardOutlook(board_id, obstacle, reason, holder.until_s)
    if now.state is not BoardState.ONLINE:
        reason = f"is {now.state}: {now.reason}" if now.reason else f"is {now.state}"
        return BoardOutlook(board_id, Obstacle.STATE, reason)
    if now.wanted is not None:
        return BoardOutlook(board_id, Obstacle.RESERVED, _kept(now.wanted), now.wanted.until_s)
    return _shared(board_id, job, queue, snapshot)


def _kept(wanted: Holder) -> str:
    return f"is kept for {wanted.owner}, who waits for it"


def _shared(board_id: str, job: Waiting, queue: Queue, snapshot: Snapshot) -> BoardOutlook:
    """A board that nobody has, by what it needs for a run."""
    fleet = queue.fleet
    board = fleet.board(board_id)
    assert board is not None, "outlooks are of boards of the lab"
    held = sorted(fleet.resources(board_id) & snapshot.held.keys())
    out = sorted(instruments_of(board, job.requirement.mode) & snapshot.out.keys())
    if held:
        told = "; ".join(f"{resource} is held by {snapshot.held[resource]}" for resource in held)
        return BoardOutlook(board_id, Obstacle.RESOURCE, f"needs what is taken: {told}")
    if out:
        told = "; ".join(f"{name}: {snapshot.out[name]}" for name in out)
        return BoardOutlook(board_id, Obstacle.INSTRUMENT, f"needs an instrument that cannot be used: {told}")
    if snapshot.no_captures and job.requirement.mode is Mode.ENERGY:
        return BoardOutlook(board_id, Obstacle.SPACE, f"may record nothing now: {snapshot.no_captures}")
    return BoardOutlook(board_id, Obstacle.NONE, "is free")


def _sentence(job: Waiting, boards: tuple[BoardOutlook, ...], queue: Queue, snapshot: Snapshot) -> str:
    fit = [board for board in boards if board.can]
    if snapshot.stopped:
        sentence = f"nothing starts: {snapshot.stopped}"
    elif job.deadline_s is not None and job.deadline_s < snapshot.now_s:
        sentence = "its deadline has passed: it is about to be ended"
    elif queue.rests(job.job_id):
        sentence = "it rests before its next attempt"
    elif not fit:
        sentence = "no board of the lab can serve it any more"
    elif any(board.obstacle is Obstacle.NONE for board in fit):
        sentence = "a board is free for it: it starts with the next decision, or those before it do"
    else:
        sentence = "it waits for a board: " + "; ".join(f"{board.board_id} {board.reason}" for board in fit[:3])
        sentence += f"; and {len(fit) - 3} more" if len(fit) > 3 else ""
    return sentence


def _starts(job: Waiting, boards: tuple[BoardOutlook, ...], queue: Queue, snapshot: Snapshot) -> Forecast:
    if snapshot.stopped:
        return Forecast(None, exact=False, reason=snapshot.stopped)
    if queue.rests(job.job_id):
        return Forecast(job.not_before_s, exact=False, reason="it rests until then")
    if not any(board.can for board in boards):
        return Forecast(None, exact=False, reason="no board of the lab can serve it")
    found = forecast(job, queue, snapshot)
    if job.deadline_s is not None and found.start_s is not None and found.start_s > job.deadline_s:
        return Forecast(None, exact=False, reason="its deadline comes first")
    return found
