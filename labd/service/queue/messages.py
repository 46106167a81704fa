"""What clients get about the queue: why a job waits, what each board is to it, and when it may start."""

from __future__ import annotations

from datetime import datetime

from labd.model.states import JobState
from labd.schedule.obstacle import Obstacle
from labd.service.messages import Message


class OutlookDocument(Message):
    """One board as the job sees it; `reason` follows the board's name in a sentence."""

    board_id: str
    obstacle: Obstacle
    reason: str
    until: datetime | None
    """When that should be over; null if nobody can tell."""


class AheadDocument(Message):
    """A requester whose turn comes first; `lead_s` is how much less board time it has had for its weight."""

    requester: str
    waiting: int
    lead_s: float


class StartDocument(Message):
    """When the job may start: not before `at`, and then if `exact`; `reason` says why there is no better answer."""

    at: datetime | None
    exact: bool
    reason: str


class WhyDocument(Message):
    """Reply to `job.why`; of a job that does not wait only the first three are told."""

    job_id: int
    state: JobState
    sentence: str
    place: int | None
    """Which one it is among the waiting jobs of its requester, from 1 on."""
    of: int
    ahead: tuple[AheadDocument, ...]
    boards: tuple[OutlookDocument, ...]
    starts: StartDocument | None
