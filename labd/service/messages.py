"""What clients send and get, as frozen models: requests are checked here and trusted everywhere below.

Times are RFC 3339 in UTC; quantities are SI with the unit in the key. Parsing is strict: a number in quotes is refused.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PlainValidator, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from labd.benchmarks import Benchmark, Mode
from labd.clock import HostClock
from labd.keep.space import SpaceState
from labd.model.causes import Cause
from labd.model.states import (
    BoardState,
    InstrumentState,
    JobState,
    RunState,
    RunStep,
    TraceState,
    TrialState,
)

PAYLOAD_MAX_BYTES = 65_536
"""Largest request, bytes."""

ClientName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
"""Part of the reply's topic."""
RequestId = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,128}$")]
Id = Annotated[str, StringConstraints(min_length=1, max_length=63)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=63)]
NUMBER_MAX = 2**63 - 1
Number = Annotated[int, Field(ge=1, le=NUMBER_MAX)]
"""A row's number."""


class Message(BaseModel):
    """Frozen and strict; a key that labd does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, defer_build=True)


# --- requests -------------------------------------------------------------------------------------------------


class BoardChoice(Message):
    """Which boards may serve a job: one by id, or all that have every tag."""

    id: Id | None = None
    tags: Annotated[tuple[Label, ...], Field(max_length=16)] = ()

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.id is None) == (not self.tags):
            raise PydanticCustomError("one_of", "give either an id or at least one tag")
        return self


class FirmwareChoice(Message):
    """Which image a job wants: by digest, or by the name of a build in lab.toml."""

    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = None
    name: Label | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.sha256 is None) == (self.name is None):
            raise PydanticCustomError("one_of", "give either a sha256 or a name")
        return self


def _inferences(value: object) -> Literal["auto"] | int:
    if value == "auto":
        return "auto"
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 10_000_000:
        return value
    raise PydanticCustomError("inferences", 'must be "auto" or a whole number from 1 to 10,000,000')


class JobSpec(Message):
    """A job as it is asked for. What is None after parsing is filled in from the benchmark or the board."""

    benchmark: Label
    mode: Mode
    board: BoardChoice | None = None
    firmware: FirmwareChoice | None = None
    trials: Annotated[int, Field(ge=1, le=100)] | None = None
    min_window_s: Annotated[float, Field(gt=0, le=3600)] | None = None
    inferences: Annotated[Literal["auto"] | int, PlainValidator(_inferences)] = "auto"
    voltage_v: Annotated[float, Field(gt=0, le=60)] | None = None
    rate_hz: Annotated[float, Field(gt=0, le=1e9)] | None = None
    require: Annotated[str, StringConstraints(max_length=1000)] | None = None
    """What the board has to be, in the requirement language: `memory_kb >= 256 and fpu`."""
    priority: Annotated[int, Field(ge=-10, le=10)] = 0
    deadline: AwareDatetime | None = None
    """It has to start by then."""
    labels: Annotated[dict[Label, Annotated[str, StringConstraints(max_length=256)]], Field(max_length=32)] = {}

    def filled(self, benchmark: Benchmark) -> JobSpec:
        """The same job with the benchmark's own trials and window where none were given."""
        if self.trials is not None and self.min_window_s is not None:
            return self
        return self.model_copy(
            update={
                "trials": self.trials if self.trials is not None else benchmark.trials,
                "min_window_s": self.min_window_s if self.min_window_s is not None else benchmark.min_window_s,
            }
        )


class JobRef(Message):
    """Names one job."""

    id: Number


class JobQuery(Message):
    """Asks for a page of jobs, newest first."""

    state: JobState | None = None
    requester: ClientName | None = None
    sweep: Label | None = None
    """Only jobs of the sweep of that name."""
    label: Annotated[dict[Label, Annotated[str, StringConstraints(max_length=256)]], Field(max_length=8)] = {}
    """Only jobs with all of these labels."""
    limit: Annotated[int, Field(ge=1, le=500)] = 50
    before: Number | None = None
    """Only jobs older than this number."""


class BoardQuery(Message):
    """Asks for all boards."""


Params = TypeVar("Params", bound=Message)


class Envelope(Message, Generic[Params]):
    """What every request is wrapped in.

    A change needs `request_id` and `client`; MQTT 5's correlation data and a user's topic can stand for them.
    """

    request_id: RequestId | None = None
    client: ClientName | None = None
    requester: ClientName | None = None
    """In an open lab: whose share of the boards it takes, if not the client's own."""
    reply_to: Annotated[str, StringConstraints(min_length=1, max_length=256)] | None = None
    params: Params


# --- replies --------------------------------------------------------------------------------------------------


class ErrorKind(StrEnum):
    """Why a request was refused: a closed set."""

    MALFORMED_JSON = "malformed_json"
    TOO_LARGE = "too_large"
    RETAINED = "retained_request"
    UNKNOWN_REQUEST = "unknown_request"
    BAD_REQUEST = "bad_request"
    BAD_CONFIGURATION = "bad_configuration"
    UNKNOWN_BENCHMARK = "unknown_benchmark"
    UNMATCHABLE = "unmatchable"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    REQUEST_ID_REUSED = "request_id_reused"
    FORBIDDEN = "forbidden"
    BUSY = "busy"
    EXPIRED = "expired"
    QUEUE_FULL = "queue_full"
    STORE = "store"
    INTERNAL = "internal"


class ErrorDocument(Message):
    """Why a request was refused, the field at fault (`params.mode`; empty if none), and what to do."""

    kind: ErrorKind
    message: str
    field: str = ""
    remedy: str = ""


class Reply(Message):
    """The answer to one request; `request_id` is empty if none could be read."""

    request_id: str
    ok: bool
    result: dict[str, Any] | None = None
    error: ErrorDocument | None = None


# --- documents ------------------------------------------------------------------------------------------------


class CauseDocument(Message):
    """Why something ended as it did: the cause, one sentence, what to do, and the words of this case."""

    kind: Cause
    sentence: str
    remedy: str
    detail: str


class WindowDocument(Message):
    """The timed span of a trial, on the clock of `method`; where it lies on the trace stands in the score."""

    method: str
    start_ticks: int
    stop_ticks: int
    tick_rate_hz: float
    duration_s: float


class TrialDocument(Message):
    """One load-infer-result round."""

    number: int
    input: int
    inferences: int
    state: TrialState
    cause: CauseDocument | None
    results: tuple[float, ...]
    window: WindowDocument | None


class ScoreDocument(Message):
    """What a scorer made of a run; the keys of `result` are the scorer's own."""

    scorer: str
    result: dict[str, Any]
    coverage_factor: Literal[1] = 1
    """k of every uncertainty in `result` (`standard_uncertainty`, `u_...`): they are standard uncertainties."""
    inputs: dict[str, Any]
    created_at: datetime


class TraceDocument(Message):
    """Where the samples of a run are; `url` lists the trace's files, null when there are none."""

    id: str
    state: TraceState
    rows: int
    period_s: float
    bytes: int
    sha256: str
    started_at: datetime
    url: str | None


class RunDocument(Message):
    """One attempt at a job."""

    id: int
    attempt: int
    board_id: str
    state: RunState
    step: RunStep
    cause: CauseDocument | None
    firmware_sha256: str
    facts: dict[str, Any]
    started_at: datetime
    ended_at: datetime | None
    trials: tuple[TrialDocument, ...]
    scores: tuple[ScoreDocument, ...]
    traces: tuple[TraceDocument, ...]


class JobSummary(Message):
    """A job without its runs."""

    id: int
    benchmark: str
    mode: Mode
    state: JobState
    client: str
    requester: str = ""
    """Whose share of the boards it takes."""
    priority: int = 0
    deadline: datetime | None = None
    cause: CauseDocument | None
    submitted_at: datetime
    ended_at: datetime | None
    board_id: str | None
    """Board of its latest run."""


class JobDocument(Message):
    """The whole job: what was asked, how it went, and where its traces are."""

    id: int
    benchmark: str
    mode: Mode
    state: JobState
    client: str
    requester: str = ""
    """Whose share of the boards it takes."""
    priority: int = 0
    deadline: datetime | None = None
    cause: CauseDocument | None
    submitted_at: datetime
    ended_at: datetime | None
    spec: dict[str, Any]
    runs: tuple[RunDocument, ...]


class JobAccepted(Message):
    """Reply to `job.submit` and `job.cancel`: the job and its state after the commit."""

    job_id: int
    state: JobState


class JobPage(Message):
    """Reply to `job.list`, newest first; `next_before` asks for the next page, None at the end."""

    jobs: tuple[JobSummary, ...]
    next_before: int | None


class BoardDocument(Message):
    """A board of the rack; `run_id` and `job_id` name what it is busy with."""

    id: str
    tags: tuple[str, ...]
    modes: tuple[Mode, ...]
    state: BoardState
    reason: str
    changed_at: datetime | None
    run_id: int | None
    job_id: int | None
    check_id: int | None = None
    """The check that is under way."""
    strikes: int = 0
    """Failed checks in a row."""
    checked_at: datetime | None = None
    """When it last passed or failed a check."""
    check_due_at: datetime | None = None
    """When it is checked next; null where it is not."""
    reserved_by: str | None = None
    reserved_until: datetime | None = None


class BoardPage(Message):
    """Reply to `board.list`, in the order of lab.toml."""

    boards: tuple[BoardDocument, ...]


class InstrumentDocument(Message):
    """An instrument of the rack."""

    id: str
    driver: str
    state: InstrumentState
    reason: str
    identity: dict[str, Any]
    changed_at: datetime


class LabState(StrEnum):
    """Whether the daemon is there; `offline` is also the last will."""

    ONLINE = "online"
    OFFLINE = "offline"


class SpaceDocument(Message):
    """How much room there is for traces; unless there is enough, no capture starts and `notice` says why."""

    state: SpaceState
    notice: str


class StopDocument(Message):
    """Why nothing is begun in a lab, who stopped it and when."""

    at: datetime
    by: str
    reason: str


class LabStatus(Message):
    """The lab itself; `host_clock` says whether the clock that dates what it tells is disciplined.

    `archive` says since when the archive cannot be used, and why; it is empty if all is well, or there is none.
    """

    state: LabState
    version: str
    since: datetime
    queue_length: int
    running: int
    host_clock: HostClock
    space: SpaceDocument
    archive: str
    traces_url: str
    stopped: StopDocument | None = None
    """The emergency stop that is in force; None in a lab at work."""


class Offline(Message):
    """The last will, and the last word of a daemon that stops."""

    state: Literal[LabState.OFFLINE] = LabState.OFFLINE


class Told(Message):
    """How far the broker has everything: number and time of an event. The last will cannot overwrite it."""

    until: int
    at: datetime


class EventDocument(Message):
    """One state change."""

    number: int
    at: datetime
    kind: str
    subject: str
    state: str
    reason: str
    actor: str
    """Who brought it about: a requester, or `labd` by itself."""
    job_id: int | None
    run_id: int | None
    board_id: str | None


class ProgressDocument(Message):
    """How far a run is."""

    job_id: int
    run_id: int
    board_id: str
    step: RunStep
    trial: int
    trials: int
    share: float
    samples: int
    rate_hz: float
