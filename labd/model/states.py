"""The state machines of what the lab remembers: every transition that exists is written here, and no other."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from labd.errors import StateError


class JobState(StrEnum):
    """A job goes back to queued when its run was interrupted."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    INVALID = "invalid"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to the job."""
        return self not in (JobState.QUEUED, JobState.RUNNING)


class RunState(StrEnum):
    """One attempt: running until it ends in one of five ways."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    INVALID = "invalid"
    INTERRUPTED = "interrupted"
    CANCELLED = "cancelled"


class RunStep(StrEnum):
    """Where a run stands; the order is the bench procedure's."""

    LEASED = "leased"
    DISCHARGE = "discharge"
    FLASH = "flash"
    POWER_ON = "power_on"
    HANDSHAKE = "handshake"
    CALIBRATE = "calibrate"
    MEASURE = "measure"
    SEAL = "seal"
    SCORE = "score"
    RELEASE = "release"


class TrialState(StrEnum):
    """A trial is measured or refused; a refused one keeps its cause."""

    RUNNING = "running"
    MEASURED = "measured"
    REFUSED = "refused"


class TraceState(StrEnum):
    """A trace is recorded, then sealed; one whose writer died is salvaged. Of a removed one only the row stays."""

    RECORDING = "recording"
    SEALED = "sealed"
    SALVAGED = "salvaged"
    LOST = "lost"
    REMOVED = "removed"


class BoardState(StrEnum):
    """Whether a board can take a run."""

    ONLINE = "online"
    BUSY = "busy"
    OFFLINE = "offline"


class InstrumentState(StrEnum):
    """Whether an instrument answers."""

    ONLINE = "online"
    OFFLINE = "offline"


State = TypeVar("State", bound=StrEnum)

# By machine first: members of two StrEnums with the same text are equal, and would be one key.
_TRANSITIONS: Mapping[type[StrEnum], Mapping[StrEnum, frozenset[StrEnum]]] = {
    JobState: {
        JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELLED, JobState.FAILED}),
        JobState.RUNNING: frozenset(set(JobState) - {JobState.RUNNING}),
    },
    RunState: {RunState.RUNNING: frozenset(set(RunState) - {RunState.RUNNING})},
    TrialState: {
        TrialState.RUNNING: frozenset({TrialState.MEASURED, TrialState.REFUSED}),
        TrialState.MEASURED: frozenset({TrialState.REFUSED}),
    },
    TraceState: {
        TraceState.RECORDING: frozenset({TraceState.SEALED, TraceState.SALVAGED, TraceState.LOST}),
        TraceState.SEALED: frozenset({TraceState.REMOVED}),
        TraceState.SALVAGED: frozenset({TraceState.REMOVED}),
    },
    BoardState: {
        BoardState.OFFLINE: frozenset({BoardState.ONLINE}),
        BoardState.ONLINE: frozenset({BoardState.BUSY, BoardState.OFFLINE}),
        BoardState.BUSY: frozenset({BoardState.ONLINE, BoardState.OFFLINE}),
    },
    InstrumentState: {
        InstrumentState.OFFLINE: frozenset({InstrumentState.ONLINE}),
        InstrumentState.ONLINE: frozenset({InstrumentState.OFFLINE}),
    },
}


def check_transition(subject: str, old: State, new: State) -> State:
    """Return `new` if `old` may become it.

    Raises:
        StateError: the machine has no such transition.
    """
    if new not in _TRANSITIONS[type(old)].get(old, frozenset()):
        raise StateError(f"cannot go from {old} to {new}", where=subject)
    return new
