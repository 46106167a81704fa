"""The state machines of what the lab remembers: every transition that exists is written here, and no other."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from labd.errors import StateError


class JobState(StrEnum):
    """A job goes back to queued when its run was interrupted or may be tried again; a parked one waits for a person."""

    QUEUED = "queued"
    RUNNING = "running"
    PARKED = "parked"
    COMPLETED = "completed"
    FAILED = "failed"
    INVALID = "invalid"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to the job."""
        return self not in (JobState.QUEUED, JobState.RUNNING, JobState.PARKED)


UNDER_WAY = (JobState.QUEUED, JobState.RUNNING)
"""Jobs that others wait for: the next night of a sweep, the next golden job of a board. A parked one is left to a
person: one such job must not stop all that follow."""


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
    """Whether a board can take a run: only an online one can.

    A suspect one waits for a health check; a quarantined one failed it too often, and comes back by passing one; one in
    maintenance is in a person's hands; an offline one is not in lab.toml any more, or was never seen.
    """

    ONLINE = "online"
    BUSY = "busy"
    SUSPECT = "suspect"
    QUARANTINED = "quarantined"
    MAINTENANCE = "maintenance"
    OFFLINE = "offline"


class InstrumentState(StrEnum):
    """Whether an instrument answers; one in maintenance is in a person's hands, and is not asked."""

    ONLINE = "online"
    SUSPECT = "suspect"
    MAINTENANCE = "maintenance"
    OFFLINE = "offline"


class LeasePurpose(StrEnum):
    """What a board is held for."""

    RUN = "run"
    CHECK = "check"
    RESERVATION = "reservation"


class ReservationState(StrEnum):
    """A person's hold on a board: it waits until the board is free, holds it, and always ends."""

    WAITING = "waiting"
    ACTIVE = "active"
    ENDED = "ended"


class CheckTrigger(StrEnum):
    """Why a board's health is looked at."""

    PERIODIC = "periodic"
    FAILURE = "failure"
    RETURN = "return"
    ASKED = "asked"


class SweepState(StrEnum):
    """Whether a sweep's cron line counts; a removed one is only remembered."""

    ACTIVE = "active"
    PAUSED = "paused"
    REMOVED = "removed"


class NightState(StrEnum):
    """One expansion of a sweep: its jobs are added, then run, then reported."""

    EXPANDING = "expanding"
    RUNNING = "running"
    ENDED = "ended"
    SKIPPED = "skipped"


State = TypeVar("State", bound=StrEnum)

_RESTING = frozenset({BoardState.ONLINE, BoardState.SUSPECT, BoardState.QUARANTINED, BoardState.MAINTENANCE})

# By machine first: members of two StrEnums with the same text are equal, and would be one key.
_TRANSITIONS: Mapping[type[StrEnum], Mapping[StrEnum, frozenset[StrEnum]]] = {
    JobState: {
        JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELLED, JobState.FAILED, JobState.PARKED}),
        JobState.RUNNING: frozenset(set(JobState) - {JobState.RUNNING}),
        JobState.PARKED: frozenset({JobState.QUEUED, JobState.CANCELLED, JobState.FAILED}),
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
    ReservationState: {
        ReservationState.WAITING: frozenset({ReservationState.ACTIVE, ReservationState.ENDED}),
        ReservationState.ACTIVE: frozenset({ReservationState.ENDED}),
    },
    SweepState: {
        SweepState.ACTIVE: frozenset({SweepState.PAUSED, SweepState.REMOVED}),
        SweepState.PAUSED: frozenset({SweepState.ACTIVE, SweepState.REMOVED}),
    },
    NightState: {
        NightState.EXPANDING: frozenset({NightState.RUNNING, NightState.ENDED, NightState.SKIPPED}),
        NightState.RUNNING: frozenset({NightState.ENDED}),
    },
    BoardState: {
        BoardState.OFFLINE: _RESTING,
        BoardState.ONLINE: _RESTING | {BoardState.BUSY, BoardState.OFFLINE},
        BoardState.BUSY: _RESTING | {BoardState.OFFLINE},
        BoardState.SUSPECT: _RESTING | {BoardState.OFFLINE},
        BoardState.QUARANTINED: _RESTING | {BoardState.OFFLINE},
        BoardState.MAINTENANCE: _RESTING | {BoardState.OFFLINE},
    },
    InstrumentState: {state: frozenset(set(InstrumentState) - {state}) for state in InstrumentState},
}


def check_transition(subject: str, old: State, new: State) -> State:
    """Return `new` if `old` may become it.

    Raises:
        StateError: the machine has no such transition.
    """
    if new not in _TRANSITIONS[type(old)].get(old, frozenset()):
        raise StateError(f"cannot go from {old} to {new}", where=subject)
    return new
