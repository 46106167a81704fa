"""What clients get about the queue: why a job waits, what each board is to it, and when it may start."""

from __future__ import annotations

from datetime import UTC, datetime

from labd.model.states import JobState
from labd.schedule.explain import Explanation, Obstacle
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


def why_document(explanation: Explanation) -> WhyDocument:
    """An explanation as clients get it."""
    starts = explanation.starts
    return WhyDocument(
        job_id=explanation.job_id,
        state=explanation.state,
        sentence=explanation.sentence,
        place=explanation.place,
        of=explanation.of,
        ahead=tuple(
            AheadDocument(requester=each.requester, waiting=each.waiting, lead_s=each.lead_s)
            for each in explanation.ahead
        ),
        boards=tuple(
            OutlookDocument(
                board_id=each.board_id, obstacle=each.obstacle, reason=each.reason, until=_time(each.until_s)
            )
            for each in explanation.boards
        ),
        starts=None
        if starts is None
        else StartDocument(at=_time(starts.start_s), exact=starts.exact, reason=starts.reason),
    )


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
