"""What became of a job's runs so far, and what is to become of the job: what a judge of retries gets and gives.

The judge itself is a decision of the schedule; the ledger asks it in the transaction that ends a run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from labd.model.causes import Cause
from labd.model.states import RunState


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run of a job that has ended.

    Args:
        board_id: Where.
        cause: Why it ended; None if all went well.
        recovered: Whether the board has done well since: completed another job's run, or passed a check.
    """

    board_id: str
    cause: Cause | None
    recovered: bool = False


class Sequel(StrEnum):
    """What becomes of a job after a run."""

    ENDED = "ended"
    QUEUED = "queued"
    PARKED = "parked"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a job after a run.

    Args:
        sequel: Whether it ends as the run did, is queued again, or parked as poison.
        reason: Why, for people; empty where the run's cause says it all.
        avoid: Boards that it should not get again if another one fits.
    """

    sequel: Sequel
    reason: str = ""
    avoid: tuple[str, ...] = ()


Judge = Callable[[Sequence[Attempt]], Verdict]
"""Decides from a job's attempts, oldest first; the last one is the run that ends now."""


def never_again(attempts: Sequence[Attempt]) -> Verdict:
    """The judge of a lab that tries nothing again but what it cut off itself."""
    cause = attempts[-1].cause
    interrupted = cause is not None and cause.meaning.state is RunState.INTERRUPTED
    return Verdict(Sequel.QUEUED if interrupted else Sequel.ENDED)


@dataclass(frozen=True, slots=True)
class Terms:
    """By what the end of a run is settled.

    Args:
        judge: Decides what becomes of the job.
        half_life_s: After so long, what a requester has had of the boards counts half, s.
    """

    judge: Judge = never_again
    half_life_s: float = 86_400.0
