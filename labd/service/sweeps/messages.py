"""What clients send and get of sweeps. A sweep file is the parameters of `sweep.create` in TOML or JSON."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Discriminator, Field, StringConstraints, Tag, model_validator
from pydantic_core import PydanticCustomError

from labd.benchmarks import Mode
from labd.config.models import Name
from labd.model.states import JobState, NightState, SweepState
from labd.schedule.cron import LINE_MAX
from labd.schedule.nights import CatchUp, Overlap
from labd.service.messages import Id, Label, Message, Number

OWN_LABELS = "labd."
"""What labels begin with that labd itself gives."""
LABEL_SWEEP, LABEL_NIGHT, LABEL_CELL = "labd.sweep", "labd.night", "labd.cell"
NIGHTS_LISTED = 14
"""Most nights that a sweep's document lists, newest first."""


class Take(StrEnum):
    """How many of the boards that fit are meant."""

    EACH = "each"
    """A cell for each of them."""
    ANY = "any"
    """One cell, for whichever is free."""


class BoardPick(Message):
    """Boards that have all tags and meet a requirement: each of them, or any one."""

    tags: Annotated[tuple[Label, ...], Field(max_length=16)] = ()
    require: Annotated[str, StringConstraints(max_length=512)] = ""
    take: Take = Take.EACH

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.tags and not self.require.strip():
            raise PydanticCustomError("empty_pick", "give tags, a requirement, or both")
        return self


def _form(value: object) -> str:
    return "table" if isinstance(value, dict | BoardPick) else "id"


BoardValue = Annotated[Annotated[Id, Tag("id")] | Annotated[BoardPick, Tag("table")], Discriminator(_form)]
"""A board's id, or a table that picks boards."""
LabelText = Annotated[str, StringConstraints(max_length=256)]
Volts = Annotated[float, Field(gt=0, le=60)]
Megahertz = Annotated[float, Field(gt=0, le=10_000)]
Trials = Annotated[int, Field(ge=1, le=100)]
WindowSeconds = Annotated[float, Field(gt=0, le=3600)]
Inferences = Annotated[int, Field(ge=1, le=10_000_000)]
Hertz = Annotated[float, Field(gt=0, le=1e9)]


class Point(Message):
    """What a cell of the matrix has; None for what is not said."""

    benchmark: Label | None = None
    mode: Mode | None = None
    board: BoardValue | None = None
    voltage_v: Volts | None = None
    clock_mhz: Megahertz | None = None
    """Clock of the board, MHz: picks the firmware build that lab.toml says it of."""
    firmware: Label | None = None
    """Name of a build in lab.toml."""
    trials: Trials | None = None
    min_window_s: WindowSeconds | None = None
    inferences: Inferences | None = None
    """Inferences in a window; found by labd if left out."""
    rate_hz: Hertz | None = None


def _labels(labels: dict[str, str]) -> dict[str, str]:
    for key in labels:
        if key.startswith(OWN_LABELS):
            raise PydanticCustomError("own_label", "labels that begin with labd. are labd's own")
    return labels


class SweepJob(Point):
    """What all jobs of a sweep have."""

    priority: Annotated[int, Field(ge=-10, le=10)] = 0
    labels: Annotated[dict[Label, LabelText], AfterValidator(_labels)] = Field(default_factory=dict, max_length=24)


class Exclude(Point):
    """Cells that have all that is given here are cut out of the product of the axes."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.model_fields_set:
            raise PydanticCustomError("empty_exclude", "name at least one key; this would exclude everything")
        return self


VALUES_MAX = 1000
"""Most values of an axis."""


class Axes(Message):
    """The values of each axis; their product is the matrix."""

    benchmark: Annotated[tuple[Label, ...], Field(min_length=1, max_length=VALUES_MAX)] | None = None
    mode: Annotated[tuple[Mode, ...], Field(min_length=1, max_length=3)] | None = None
    board: Annotated[tuple[BoardValue, ...], Field(min_length=1, max_length=VALUES_MAX)] | None = None
    voltage_v: Annotated[tuple[Volts, ...], Field(min_length=1, max_length=VALUES_MAX)] | None = None
    clock_mhz: Annotated[tuple[Megahertz, ...], Field(min_length=1, max_length=VALUES_MAX)] | None = None
    firmware: Annotated[tuple[Label, ...], Field(min_length=1, max_length=VALUES_MAX)] | None = None
    trials: Annotated[tuple[Trials, ...], Field(min_length=1, max_length=VALUES_MAX)] | None = None
    min_window_s: Annotated[tuple[WindowSeconds, ...], Field(min_length=1, max_length=VALUES_MAX)] | None = None
    inferences: Annotated[tuple[Inferences, ...], Field(min_length=1, max_length=VALUES_MAX)] | None = None
    rate_hz: Annotated[tuple[Hertz, ...], Field(min_length=1, max_length=VALUES_MAX)] | None = None


class SweepSpec(Message):
    """What a sweep measures, and when."""

    axes: Axes = Axes()
    include: Annotated[tuple[Point, ...], Field(max_length=500)] = ()
    """Points beside the product; without axes they are all there is."""
    exclude: Annotated[tuple[Exclude, ...], Field(max_length=100)] = ()
    repetitions: Annotated[int, Field(ge=1, le=10_000)] = 1
    job: SweepJob = SweepJob()
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    """Of the order of each night."""
    cron: Annotated[str, StringConstraints(max_length=4 * LINE_MAX)] | None = None
    """Five fields; None for a sweep that is only run by hand."""
    zone: Annotated[str, StringConstraints(max_length=64)] = "UTC"
    """Zone of the IANA database in whose time `cron` and `not_after` are meant."""
    not_after: Annotated[str, StringConstraints(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")] | None = None
    """Time of day, `07:00`: what has not started by then ends as expired."""
    catch_up: CatchUp = CatchUp.ONCE
    """What becomes of nights that labd was not there for."""
    catch_up_max: Annotated[int, Field(ge=1, le=31)] = 7
    """Most nights that `all` makes up for."""
    overlap: Overlap = Overlap.SKIP
    """What becomes of a night that is due while an earlier one is under way."""
    baseline: Annotated[str, StringConstraints(pattern=r"^(first:[1-9][0-9]?|last:[1-9][0-9]?|[1-9][0-9]{0,17})$")] = (
        "first:5"
    )
    """What the morning report holds a night against: the first or the last so many nights, or the night of a number."""
    min_effect_percent: Annotated[float, Field(ge=0.05, le=100)] = 1.0
    """Smallest change that the morning report is to find, %."""

    @model_validator(mode="after")
    def _one_mind(self) -> Self:
        if self.catch_up is CatchUp.ALL and self.overlap is Overlap.CANCEL:
            raise PydanticCustomError(
                "contradiction", "nights caught up with 'all' would cancel each other under overlap 'cancel'"
            )
        return self


class SweepCreate(SweepSpec):
    """Adds a sweep, or with `replace` changes the one of that name, which keeps its nights."""

    name: Name
    replace: bool = False

    @property
    def spec(self) -> SweepSpec:
        """The specification alone."""
        return SweepSpec(**{key: getattr(self, key) for key in SweepSpec.model_fields if key in self.model_fields_set})


class SweepPreview(SweepSpec):
    """Asks what a sweep would do; nothing is changed."""

    name: Name = "preview"
    replace: bool = False
    """Taken so that what is meant for `sweep.create` can be previewed as it is."""


class SweepRef(Message):
    """Names a sweep."""

    name: Name


class SweepQuery(Message):
    """Asks for all sweeps."""

    owner: Annotated[str, StringConstraints(max_length=63)] | None = None
    """Only those of this owner."""


# --- replies and documents ------------------------------------------------------------------------------------


class NightDocument(Message):
    """One expansion of a sweep; `counts` says how many of its jobs are in which state."""

    id: int
    due_at: datetime
    state: NightState
    reason: str
    jobs: int
    counts: dict[JobState, int]
    started_at: datetime
    ended_at: datetime | None


class SweepDocument(Message):
    """A sweep, and its last nights, newest first."""

    name: str
    owner: str
    state: SweepState
    spec: dict[str, Any]
    due_at: datetime | None
    """When its cron line fires next."""
    created_at: datetime
    changed_at: datetime
    nights: tuple[NightDocument, ...]


class SweepPage(Message):
    """Reply to `sweep.list`, by name; of each sweep only the last night."""

    sweeps: tuple[SweepDocument, ...]


class SweepAccepted(Message):
    """Reply to `sweep.create`, `sweep.pause`, `sweep.resume`, `sweep.remove`: how the sweep is after the commit."""

    name: str
    state: SweepState
    due_at: datetime | None
    jobs: int | None = None
    """How many jobs a night has as the lab is now; told when the sweep is created or replaced."""
    left_out: int | None = None
    """How many cells no board can serve."""


class NightAccepted(Message):
    """Reply to `sweep.run`: the night whose jobs are being added."""

    name: str
    night: Number
    state: NightState


class PlannedJob(Message):
    """A job that a night would have."""

    cell: str
    boards: tuple[str, ...]
    """Boards that can serve it."""
    estimate_s: float


class LeftOut(Message):
    """Cells that no board can serve, for one reason."""

    reason: str
    field: str
    """The key of these cells that is at fault."""
    count: int
    cells: tuple[str, ...]
    """The first of them."""


class SweepPlanned(Message):
    """Reply to `sweep.preview`."""

    jobs: int
    axes: dict[str, int]
    """How many values each axis has."""
    left_out: tuple[LeftOut, ...]
    idle_excludes: tuple[int, ...]
    """Places of those in `exclude` that match no cell."""
    first: tuple[PlannedJob, ...]
    last: tuple[PlannedJob, ...]
    board_s: float
    """Board time of all jobs, s."""
    wall_s: float
    """Time from the first start to the last end if all boards that can serve are free, s."""
    due: tuple[str, ...]
    """When it would be run next, in its zone."""
