"""The tables. Rows are written by the database's one writer thread; times are aware and in UTC.

`table=True` models skip validation, so what comes from outside is validated by the service's own models first.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, BigInteger, Column, DateTime, Enum, Index, TypeDecorator, text
from sqlalchemy.engine import Dialect
from sqlmodel import Field, SQLModel

from labd.benchmarks import Mode
from labd.model.causes import Cause
from labd.model.states import (
    BoardState,
    CheckTrigger,
    InstrumentState,
    JobState,
    LeasePurpose,
    NightState,
    ReservationState,
    RunState,
    RunStep,
    SweepState,
    TraceState,
    TrialState,
)


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC times; SQLite keeps them without a zone, so the zone is put back on the way out."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive times."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without its zone cannot be stored")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Put the zone back."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _time(*, nullable: bool = False) -> Any:
    return Field(default=None, sa_type=UtcDateTime, nullable=nullable)


def _by_value(kind: type[StrEnum]) -> Any:
    """Text of an enum's values: readable in SQL, and a new member needs no migration."""
    return Enum(
        kind,
        native_enum=False,
        create_constraint=False,
        length=32,
        values_callable=lambda members: [member.value for member in members],
    )


def _json() -> Any:
    return Field(default_factory=dict, sa_column=Column(JSON, nullable=False))


LIVE_JOBS = text("state IN ('queued', 'running', 'parked')")
"""Word for word the condition of the index `job_live`, which databases use for nothing else."""
ENDED_JOBS = text("ended_at IS NOT NULL")
"""Condition of the index `job_by_end`, which any comparison with `ended_at` meets."""
NIGHTS_JOBS = text("night_id IS NOT NULL")
"""Condition of the index `job_of_night`, which any comparison with `night_id` meets."""


class Job(SQLModel, table=True):
    """A request to measure; `spec` is the validated job as it was asked for, with all defaults filled in."""

    __table_args__ = (
        # What has not ended is a small part of a large table.
        Index(
            "job_live",
            "state",
            "id",
            sqlite_where=LIVE_JOBS,
            postgresql_where=LIVE_JOBS,
        ),
        # A job that is submitted has no end and mostly no night: it need not be in these two.
        Index("job_by_end", "ended_at", sqlite_where=ENDED_JOBS, postgresql_where=ENDED_JOBS),
        # A page of somebody's jobs among a million of others': 1 ms instead of 150, for 3 us a job that is submitted.
        Index("job_of_requester", "requester", "id"),
        Index(
            "job_of_night",
            "night_id",
            "cell",
            unique=True,
            sqlite_where=NIGHTS_JOBS,
            postgresql_where=NIGHTS_JOBS,
        ),
        {"sqlite_autoincrement": True},  # a removed job's number is never given again
    )

    id: int | None = Field(default=None, primary_key=True)
    benchmark: str
    mode: Mode = Field(sa_type=_by_value(Mode))
    state: JobState = Field(default=JobState.QUEUED, sa_type=_by_value(JobState))
    cause: Cause | None = Field(default=None, sa_type=_by_value(Cause))
    detail: str = ""
    client: str = ""
    requester: str = ""
    """Whose share of the boards it takes: a user, or what a client of an open lab calls itself."""
    priority: int = 0
    deadline: datetime | None = _time(nullable=True)
    """It has to start by then; one that could not is ended as expired."""
    requirement: str | None = None
    """What it asks of a board, in canonical JSON: jobs with equal texts can do on the same boards."""
    estimate_s: float = 0.0
    """How long a run of it should take, s."""
    avoid: list[str] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    """Boards that it failed on: it goes to another one if there is one."""
    forgiven: int = 0
    """Attempts up to this number were forgiven when the job was released: they count for no retry."""
    night_id: int | None = Field(default=None, foreign_key="night.id")
    """Which expansion of a sweep it belongs to; None for a job of its own."""
    cell: int | None = None
    """Its place in the matrix of the sweep: with `night_id` it is there once, whatever happens in the expansion."""
    spec: dict[str, Any] = _json()
    submitted_at: datetime = _time()
    cancel_requested_at: datetime | None = _time(nullable=True)
    """Set when a running job's cancellation was accepted: it stands even if the daemon dies before the run ends."""
    ended_at: datetime | None = _time(nullable=True)


class Run(SQLModel, table=True):
    """One attempt at a job on one board."""

    id: int | None = Field(default=None, primary_key=True)
    job_id: int = Field(foreign_key="job.id", index=True)
    attempt: int
    board_id: str = Field(foreign_key="board.id", index=True)
    state: RunState = Field(default=RunState.RUNNING, index=True, sa_type=_by_value(RunState))
    step: RunStep = Field(default=RunStep.LEASED, sa_type=_by_value(RunStep))
    cause: Cause | None = Field(default=None, sa_type=_by_value(Cause))
    detail: str = ""
    firmware_sha256: str = ""
    facts: dict[str, Any] = _json()
    """What the board said of itself, and the inferences a window; the instruments' part is in the trace's meta.json."""
    started_at: datetime = _time()
    ended_at: datetime | None = _time(nullable=True)


class Trial(SQLModel, table=True):
    """One load-infer-result round of a run."""

    id: int | None = Field(default=None, primary_key=True)
    run_id: int = Field(foreign_key="run.id", index=True)
    number: int
    input: int
    inferences: int
    state: TrialState = Field(default=TrialState.RUNNING, sa_type=_by_value(TrialState))
    cause: Cause | None = Field(default=None, sa_type=_by_value(Cause))
    detail: str = ""
    results: list[float] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))


class Window(SQLModel, table=True):
    """The span of a trial between its two timing edges, on the clock named by `method` (`edges` or `lap`).

    Where it lies on the trace is the scorer's finding, and stands in the score.
    """

    id: int | None = Field(default=None, primary_key=True)
    trial_id: int = Field(foreign_key="trial.id", index=True)
    method: str
    start_ticks: int = Field(sa_type=BigInteger)
    stop_ticks: int = Field(sa_type=BigInteger)
    tick_rate_hz: float
    duration_s: float


class Trace(SQLModel, table=True):
    """Where the samples of a run lie; `id` is the folder's name under the store.

    A removed trace whose `local` or `archived_at` is still set has files that have yet to go.
    """

    __table_args__ = (
        Index("trace_by_age", "started_at", "id"),
        Index("trace_by_place", "state", "local", "archived_at"),
    )

    id: str = Field(primary_key=True)
    run_id: int = Field(foreign_key="run.id", index=True)
    state: TraceState = Field(default=TraceState.RECORDING, sa_type=_by_value(TraceState))
    rows: int = Field(default=0, sa_type=BigInteger)
    period_s: float = 0.0
    bytes: int = Field(default=0, sa_type=BigInteger)
    sha256: str = ""
    started_at: datetime = _time()
    pinned: bool = False
    """A pinned trace is never removed, nor is its local copy."""
    local: bool = True
    """The files are in the lab's own folder."""
    archived_at: datetime | None = _time(nullable=True)
    """When the copy in the archive was complete and checked; None while there is none."""
    removed_at: datetime | None = _time(nullable=True)
    reason: str = ""
    """Why it is pinned, or why it was removed."""


class Score(SQLModel, table=True):
    """What a scorer of a named version made of a run; a run can have many."""

    id: int | None = Field(default=None, primary_key=True)
    run_id: int = Field(foreign_key="run.id", index=True)
    scorer: str
    inputs: dict[str, Any] = _json()
    """Names and digests of what the score was made from."""
    result: dict[str, Any] = _json()
    created_at: datetime = _time()


class Board(SQLModel, table=True):
    """A board of the rack as the daemon last knew it; what it is wired to stands in lab.toml."""

    id: str = Field(primary_key=True)
    state: BoardState = Field(default=BoardState.OFFLINE, sa_type=_by_value(BoardState))
    reason: str = ""
    changed_at: datetime = _time()
    strikes: int = 0
    """Failures of its own since it last passed a check."""
    checked_at: datetime | None = _time(nullable=True)
    """When it last passed or failed a check."""
    well_at: datetime | None = _time(nullable=True)
    """When it last passed a check or completed a run, or was first seen."""
    returned_at: datetime | None = _time(nullable=True)
    """When it last came back from quarantine or maintenance: failures before that count against it no more."""
    check_due_at: datetime | None = _time(nullable=True)
    """When its health is looked at next; None for as lab.toml says from `well_at` on."""
    check_trigger: CheckTrigger | None = Field(default=None, sa_type=_by_value(CheckTrigger))
    """Why it is looked at then, if somebody asked; None for as its state says."""


class Instrument(SQLModel, table=True):
    """An instrument as the daemon last knew it."""

    id: str = Field(primary_key=True)
    driver: str
    state: InstrumentState = Field(default=InstrumentState.OFFLINE, sa_type=_by_value(InstrumentState))
    reason: str = ""
    identity: dict[str, Any] = _json()
    changed_at: datetime = _time()


class Check(SQLModel, table=True):
    """One look at a board's health, and what it found."""

    id: int | None = Field(default=None, primary_key=True)
    board_id: str = Field(foreign_key="board.id", index=True)
    trigger: CheckTrigger = Field(sa_type=_by_value(CheckTrigger))
    started_at: datetime = _time()
    ended_at: datetime | None = _time(nullable=True)
    passed: bool | None = None
    """None while it is under way, and when it was cut off."""
    findings: dict[str, Any] = _json()
    """What each step saw, by the step's name: figures with their units in the keys."""


class Reservation(SQLModel, table=True):
    """A person's hold on a board."""

    __table_args__ = (
        Index(
            "reservation_live",
            "owner",
            "state",
            sqlite_where=text("state != 'ended'"),
            postgresql_where=text("state != 'ended'"),
        ),
        Index(
            "reservation_waiting",
            "requirement",
            "id",
            sqlite_where=text("state = 'waiting'"),
            postgresql_where=text("state = 'waiting'"),
        ),
        Index(
            "reservation_active",
            "ends_at",
            sqlite_where=text("state = 'active'"),
            postgresql_where=text("state = 'active'"),
        ),
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(default=None, primary_key=True)
    state: ReservationState = Field(default=ReservationState.WAITING, sa_type=_by_value(ReservationState))
    requirement: str
    """Which boards will do, in canonical JSON."""
    board_id: str | None = Field(default=None, foreign_key="board.id")
    """The board it holds, once it holds one."""
    owner: str
    purpose: str = ""
    duration_s: float
    """How long it holds the board from when it got it, s."""
    requested_at: datetime = _time()
    starts_at: datetime | None = _time(nullable=True)
    ends_at: datetime | None = _time(nullable=True)
    warned_at: datetime | None = _time(nullable=True)
    """When its owner was told that it ends soon; None again after an extension."""
    ended_at: datetime | None = _time(nullable=True)
    reason: str = ""
    """Why it ended."""


class Lease(SQLModel, table=True):
    """The lab's hold on a board and all that is wired to it: it has an owner, a purpose and an end.

    A row with `released_at` empty is in force; the partial index makes a second one on the same board impossible, and
    the rows of `hold` a second one on anything else.
    """

    __table_args__ = (
        Index(
            "one_lease_a_board",
            "board_id",
            unique=True,
            sqlite_where=text("released_at IS NULL"),
            postgresql_where=text("released_at IS NULL"),
        ),
    )

    id: int | None = Field(default=None, primary_key=True)
    board_id: str = Field(foreign_key="board.id")
    purpose: LeasePurpose = Field(default=LeasePurpose.RUN, sa_type=_by_value(LeasePurpose))
    owner: str = ""
    """Who holds it: a person, or `labd` for its runs and checks."""
    run_id: int | None = Field(default=None, foreign_key="run.id", index=True)
    check_id: int | None = Field(default=None, foreign_key="check.id")
    reservation_id: int | None = Field(default=None, foreign_key="reservation.id")
    granted_at: datetime = _time()
    expires_at: datetime = _time()
    released_at: datetime | None = _time(nullable=True)


class Hold(SQLModel, table=True):
    """Something that only one lease may have at a time, as long as it has it: `channel psu-1/1`, `mux-1`."""

    resource: str = Field(primary_key=True)
    lease_id: int = Field(foreign_key="lease.id", index=True)


class Share(SQLModel, table=True):
    """How much of the boards a requester has had: board seconds that fade with the half life that lab.toml gives."""

    requester: str = Field(primary_key=True)
    used_s: float = 0.0
    """As of `at`, s."""
    at: datetime = _time()


class Sweep(SQLModel, table=True):
    """A matrix of jobs, and when it is run; its name is free again once it is removed."""

    __table_args__ = (
        Index(
            "one_sweep_a_name",
            "name",
            unique=True,
            sqlite_where=text("state != 'removed'"),
            postgresql_where=text("state != 'removed'"),
        ),
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(default=None, primary_key=True)
    name: str
    owner: str
    state: SweepState = Field(default=SweepState.ACTIVE, sa_type=_by_value(SweepState))
    spec: dict[str, Any] = _json()
    due_at: datetime | None = _time(nullable=True)
    """When its cron line fires next; None without one, and while it is paused."""
    created_at: datetime = _time()
    changed_at: datetime = _time()


class Night(SQLModel, table=True):
    """One expansion of a sweep, by its cron line or by hand."""

    __table_args__ = (Index("one_night_a_due", "sweep_id", "due_at", unique=True), {"sqlite_autoincrement": True})

    id: int | None = Field(default=None, primary_key=True)
    sweep_id: int = Field(foreign_key="sweep.id")
    due_at: datetime = _time()
    """When it was due; with the sweep's number it is there once, whatever the clock does."""
    state: NightState = Field(default=NightState.EXPANDING, index=True, sa_type=_by_value(NightState))
    reason: str = ""
    """Why it was skipped, or who asked for it."""
    spec: dict[str, Any] = _json()
    """The sweep as it was then."""
    jobs: int = 0
    """How many jobs it has when all are added."""
    started_at: datetime = _time()
    ended_at: datetime | None = _time(nullable=True)
    report: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON, nullable=True))
    """What was found in the morning; None until it has ended."""


class Request(SQLModel, table=True):
    """A changing request that was answered: the same id gets the same reply again, also after a restart."""

    __table_args__ = (Index("request_by_time", "answered_at"),)

    request_id: str = Field(primary_key=True)
    verb: str
    client: str
    requester: str = ""
    """Who asked: the user that the broker vouches for, or what a client of an open lab calls itself."""
    params: dict[str, Any] = _json()
    digest: str
    """SHA-256 of verb, client and parameters: tells a repeated request from another one with the same id."""
    reply: dict[str, Any] = _json()
    answered_at: datetime = _time()


class Event(SQLModel, table=True):
    """One state change, numbered in order; written in the transaction that makes the change."""

    __table_args__ = {"sqlite_autoincrement": True}  # numbers go on after old events were removed

    id: int | None = Field(default=None, primary_key=True)
    at: datetime = _time()
    kind: str
    """`job`, `run`, `trial` (only when one is refused), `trace`, `board`, `check`, `instrument`, `reservation`,
    `sweep`, `night`, or `lab` (disk, archive, clock, configuration, stop)."""
    subject: str
    state: str
    reason: str = ""
    actor: str = "labd"
    """Who brought it about: a requester, or labd by itself."""
    job_id: int | None = None
    run_id: int | None = None
    board_id: str | None = None


class Mark(SQLModel, table=True):
    """How far a reader of the events has come; after a crash it goes on from here."""

    reader: str = Field(primary_key=True)
    number: int = Field(sa_type=BigInteger)
