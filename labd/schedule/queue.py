"""The waiting jobs, indexed so that a decision looks at kinds of jobs and not at jobs.

Jobs of one requester that can do on the same boards with the same firmware are one class. A class is a heap by rank,
from which jobs that went are dropped when they come to the top.

The rank of a job is `submitted_s - priority * ageing_s`: a job of a level higher is as if it had been submitted
`ageing_s` earlier. It never changes while the job waits, and yet waiting counts: every later job begins further back.
A job does not lose its place to one with a higher number and the same priority: if the clock was set back between the
two, the later one counts as submitted when the earlier one was.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from labd.benchmarks import Mode
from labd.schedule.fairness import Account
from labd.schedule.fleet import Boards, Fleet
from labd.schedule.match import Requirement

STEPS_MAX = 1000
"""So many times that the clock was set back are remembered, the newest."""
SPARE = 64
"""Jobs that went may make up this many and half of a heap before it is swept."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A queued job as the decision sees it.

    Args:
        job_id: Its number.
        requirement: What it asks of a board.
        requester: Whose share it takes.
        submitted_s: When it was submitted, s.
        priority: From -10 to 10.
        estimate_s: How long a run of it should take, s.
        deadline_s: It has to start by then, s; None if it can always.
        avoid: Boards that it failed on.
        not_before_s: It rests until then, s.
    """

    job_id: int
    requirement: Requirement
    requester: str = ""
    submitted_s: float = 0.0
    priority: int = 0
    estimate_s: float = 0.0
    deadline_s: float | None = None
    avoid: frozenset[str] = frozenset()
    not_before_s: float = 0.0


class Kind(NamedTuple):
    """What jobs of one class have in common.

    Args:
        fits: Boards that can serve them.
        avoid: Boards that they failed on.
        mode: The mode of the firmware that they need.
        benchmark: The benchmark of that firmware.
        build: Its name in lab.toml; None for any that fits.
    """

    fits: Boards
    avoid: Boards
    mode: Mode
    benchmark: str
    build: str | None


Place = tuple[float, int]
"""A job in a heap: rank or deadline in s, and number."""


class JobClass:
    """The jobs of one kind of one requester.

    Args:
        kind: What they have in common.
        sample: The requirement of one of them; as to boards and firmware, all of them ask the same.
    """

    __slots__ = ("by_deadline", "by_rank", "kind", "sample", "size")

    def __init__(self, kind: Kind, sample: Requirement) -> None:
        self.kind = kind
        self.sample = sample
        self.size = 0
        self.by_rank: list[Place] = []
        self.by_deadline: list[Place] = []

    @property
    def captures(self) -> bool:
        """Whether its runs record a trace."""
        return self.kind.mode is Mode.ENERGY


class Party:
    """One requester's waiting jobs.

    Args:
        since_s: When the job came that it began to wait with, s.
    """

    __slots__ = ("classes", "entry", "since_s", "size")

    def __init__(self, since_s: float) -> None:
        self.since_s = since_s
        self.classes: dict[Kind, JobClass] = {}
        self.size = 0
        self.entry: Account | None = None
        """What its account counts at least, since it came back from a pause; None until a decision has seen it."""


class Queue:
    """All jobs that wait to start, also those that rest between two attempts.

    Args:
        fleet: The boards that they wait for.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._jobs: dict[int, Waiting] = {}
        self._ranks: dict[int, float] = {}
        self._parties: dict[str, Party] = {}
        self._deadlines: list[Place] = []
        self._resting: list[Place] = []
        self._newest: tuple[int, float] = (0, float("-inf"))
        self._steps: list[tuple[int, float]] = []
        self.reached = Account(0.0, 0.0)
        """Virtual time that those who are served have reached: where one begins that comes back from a pause."""

    def __len__(self) -> int:
        return len(self._jobs)

    def __contains__(self, job_id: object) -> bool:
        return job_id in self._jobs

    def __iter__(self) -> Iterator[Waiting]:
        return iter(self._jobs.values())

    @property
    def fleet(self) -> Fleet:
        """The boards that the jobs wait for."""
        return self._fleet

    @property
    def parties(self) -> dict[str, Party]:
        """Everybody who has a job waiting, by name; for the decision, which changes nothing but `entry`."""
        return self._parties

    @property
    def classes(self) -> int:
        """Number of classes that a decision looks at."""
        return sum(len(party.classes) for party in self._parties.values())

    def get(self, job_id: int) -> Waiting | None:
        """The waiting job of that number."""
        return self._jobs.get(job_id)

    def count(self, requester: str) -> int:
        """How many jobs of a requester wait."""
        party = self._parties.get(requester)
        return 0 if party is None else party.size

    def counts(self) -> dict[str, int]:
        """How many jobs wait, by requester."""
        return {name: party.size for name, party in self._parties.items()}

    def add(self, job: Waiting) -> None:
        """Let a job wait; one that waits already is replaced. At a start, add jobs in the order of their numbers."""
        self.remove(job.job_id)
        self._jobs[job.job_id] = job
        party = self._parties.get(job.requester)
        if party is None:
            party = self._parties[job.requester] = Party(job.submitted_s)
        party.size += 1
        self._note_time(job)
        if job.deadline_s is not None:
            heapq.heappush(self._deadlines, (job.deadline_s, job.job_id))
        if job.not_before_s > job.submitted_s:
            heapq.heappush(self._resting, (job.not_before_s, job.job_id))
        else:
            self._enter(job, party)

    def remove(self, job_id: int) -> Waiting | None:
        """Forget a job, since it started or ended; None if it does not wait."""
        job = self._jobs.pop(job_id, None)
        if job is None:
            return None
        party = self._parties[job.requester]
        party.size -= 1
        if self._ranks.pop(job_id, None) is not None:
            kind = self._kind(job)
            members = party.classes[kind]
            members.size -= 1
            if not members.size:
                del party.classes[kind]
            elif len(members.by_rank) > 2 * members.size + SPARE:
                self._sweep(members)
        if not party.size:
            del self._parties[job.requester]
        if len(self._deadlines) > 2 * len(self._jobs) + SPARE:
            self._deadlines = [place for place in self._deadlines if self._has_deadline(place)]
            heapq.heapify(self._deadlines)
        return job

    def refit(self, fleet: Fleet) -> None:
        """Let the jobs wait for the boards of another configuration. Takes time in proportion to the jobs."""
        self._fleet = fleet
        for party in self._parties.values():
            party.classes = {}
        for job_id in self._ranks:
            job = self._jobs[job_id]
            self._enter(job, self._parties[job.requester])

    def rank(self, job: Waiting) -> float:
        """Where a job stands among those of its requester, s: the least goes first, and equal ones by number."""
        step = bisect_right(self._steps, (job.job_id, float("inf"))) - 1
        floor_s = self._steps[step][1] if step >= 0 else float("-inf")
        return max(job.submitted_s, floor_s) - job.priority * self._fleet.config.queue.ageing_s

    def wake(self, now_s: float) -> None:
        """Let those wait with the others whose rest is over."""
        while self._resting and self._resting[0][0] <= now_s:
            not_before_s, job_id = heapq.heappop(self._resting)
            job = self._jobs.get(job_id)
            if job is not None and job.not_before_s == not_before_s and job_id not in self._ranks:
                self._enter(job, self._parties[job.requester])

    def rests(self, job_id: int) -> bool:
        """Whether a job still rests between two attempts."""
        return job_id in self._jobs and job_id not in self._ranks

    def expired(self, now_s: float) -> list[int]:
        """Jobs that had to start before now, by deadline."""
        gone: list[Place] = []
        while self._deadlines and self._deadlines[0][0] < now_s:
            place = heapq.heappop(self._deadlines)
            if self._has_deadline(place):
                gone.append(place)
        for place in gone:  # they are expired until somebody removes them
            heapq.heappush(self._deadlines, place)
        return list(dict.fromkeys(job_id for _, job_id in gone))

    def next_change_s(self) -> float | None:
        """When next a rest ends or a deadline passes, s; None if time alone changes nothing."""
        times = [heap[0][0] for heap in (self._deadlines, self._resting) if heap]
        return min(times, default=None)

    def waits_in(self, members: JobClass, place: Place, *, deadline: bool) -> bool:
        """Whether a heap's place is that of a job which still waits in the class."""
        at_s, job_id = place
        job = self._jobs.get(job_id)
        if job is None or job_id not in self._ranks:
            return False
        current_s = job.deadline_s if deadline else self._ranks[job_id]
        return current_s == at_s and self._kind(job) == members.kind

    def _enter(self, job: Waiting, party: Party) -> None:
        kind = self._kind(job)
        members = party.classes.get(kind)
        if members is None:
            members = party.classes[kind] = JobClass(kind, job.requirement)
        members.size += 1
        rank = self._ranks[job.job_id] = self.rank(job)
        heapq.heappush(members.by_rank, (rank, job.job_id))
        if job.deadline_s is not None:
            heapq.heappush(members.by_deadline, (job.deadline_s, job.job_id))

    def _kind(self, job: Waiting) -> Kind:
        asked, fleet = job.requirement, self._fleet
        avoid = fleet.boards(job.avoid) if job.avoid else 0
        return Kind(fleet.fits(asked), avoid, asked.mode.image, asked.benchmark, asked.firmware)

    def _note_time(self, job: Waiting) -> None:
        """Remember when the clock was set back, so that no later job gets before an earlier one."""
        newest_id, newest_s = self._newest
        if job.job_id <= newest_id:
            return
        known_s = self._steps[-1][1] if self._steps else float("-inf")
        if job.submitted_s < newest_s and newest_s > known_s:
            self._steps = [*self._steps[1 - STEPS_MAX :], (job.job_id, newest_s)]
        self._newest = (job.job_id, max(newest_s, job.submitted_s))

    def _has_deadline(self, place: Place) -> bool:
        job = self._jobs.get(place[1])
        return job is not None and job.deadline_s == place[0]

    def _sweep(self, members: JobClass) -> None:
        def kept(heap: Iterable[Place], *, deadline: bool) -> list[Place]:
            return [place for place in dict.fromkeys(heap) if self.waits_in(members, place, deadline=deadline)]

        members.by_rank = kept(members.by_rank, deadline=False)
        members.by_deadline = kept(members.by_deadline, deadline=True)
        heapq.heapify(members.by_rank)
        heapq.heapify(members.by_deadline)
