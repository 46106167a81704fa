"""What decides whether a closed trace may go: facts of its row, its run and its job, in one place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from labd.model.states import RunState


@dataclass(frozen=True, slots=True)
class Kept:
    """A trace that is sealed or salvaged, and was not removed.

    Args:
        id: Its id.
        bytes: Size of its files.
        ended_at: When its run ended, else when it began.
        outcome: State of its run.
        labels: Labels of its job.
        pinned: It never goes.
        archived: The archive holds a complete copy.
        local: The local folder holds one.
    """

    id: str
    bytes: int
    ended_at: datetime
    outcome: RunState
    labels: Mapping[str, str]
    pinned: bool
    archived: bool
    local: bool


@dataclass(frozen=True, slots=True)
class AgeLimit:
    """Traces whose run ended before a time, with one of these outcomes; with any if none is named."""

    before: datetime
    outcomes: frozenset[RunState] = frozenset()
