"""Which queued job starts on which free board now: first come, first served among those that fit."""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass

from labd.config import LabConfig
from labd.schedule.match import Requirement, candidates


@dataclass(frozen=True, slots=True)
class Waiting:
    """A queued job as the decision sees it."""

    job_id: int
    requirement: Requirement


@dataclass(frozen=True, slots=True)
class Assignment:
    """Start this job on this board."""

    job_id: int
    board_id: str


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
