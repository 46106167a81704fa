"""From a sweep's specification to the jobs of a night: boards by name, cells, builds, and what cannot be served.

All of it is made of a specification and the lab's configuration alone: the same two give the same jobs, so a night that
was cut off in its expansion goes on where it was.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar

from pydantic import ValidationError

from drivers.api import driver_loaders
from labd.bench.plan import estimate_s
from labd.benchmarks import BENCHMARKS, Mode
from labd.config import Board, LabConfig
from labd.config.derived import BoardFacts, capabilities_of, lab_facts
from labd.errors import RequestError, UnmatchableError
from labd.schedule.expression import check_names, holds
from labd.schedule.grammar import parse
from labd.schedule.match import can_ever_match, candidates, refusal
from labd.schedule.matrix import Axis, Boards, Cell, Matrix, Point, Value, expand, size
from labd.service.messages import FirmwareChoice, JobSpec
from labd.service.queue.requirement import requirement_of
from labd.service.sweeps.builds import BuildError, build_for
from labd.service.sweeps.messages import BoardPick, SweepSpec, Take
from labd.service.sweeps.messages import Point as PointMessage

AnyPoint = TypeVar("AnyPoint", bound=PointMessage)
Facts = Mapping[str, BoardFacts]

BEFORE_EXCLUDE = 10
"""How many times the most jobs of a sweep there may be before `exclude` has cut."""
_SHOWN = 5


class TooManyJobsError(RequestError):
    """A sweep with more jobs than a night may have."""

    kind = "too_large"


@dataclass(frozen=True, slots=True)
class PlannedCell:
    """A cell as the job that it becomes.

    Args:
        cell: Its place and its name.
        spec: What is measured, with all defaults.
        boards: Ids of the boards that can serve it.
        estimate_s: How long a run of it should take, s.
    """

    cell: Cell
    spec: JobSpec
    boards: tuple[str, ...]
    estimate_s: float


@dataclass(frozen=True, slots=True)
class Refused:
    """A cell that no board can serve, with the key at fault."""

    cell: Cell
    field: str
    reason: str


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """What a night has, in the order of the cells' numbers.

    Args:
        cells: What is measured.
        refused: What no board can serve.
        axes: How many values each axis has.
        idle_excludes: Places of those in `exclude` that cut out nothing.
    """

    cells: tuple[PlannedCell, ...]
    refused: tuple[Refused, ...]
    axes: Mapping[str, int]
    idle_excludes: tuple[int, ...]


def resolved(spec: SweepSpec, config: LabConfig) -> SweepSpec:
    """The same sweep with a board's id wherever `each` board of some tags was asked for.

    Raises:
        RequestError: a requirement cannot be read, or nothing is left of what was asked for.
    """
    axes, include, exclude = spec.axes, [], []
    if axes.board is not None:
        named = [value for value in axes.board if isinstance(value, str)]
        found = [_each(value, config, f"axes.board.{at}") for at, value in enumerate(axes.board)]
        # what is named twice is told later; what is picked twice is taken once
        picked = dict.fromkeys(value for value in chain.from_iterable(found) if value not in named)
        axes = axes.model_copy(update={"board": (*named, *picked)})
    for at, point in enumerate(spec.include):
        include += _each_board(point, config, f"include.{at}")
    for at, keys in enumerate(spec.exclude):
        exclude += _each_board(keys, config, f"exclude.{at}")
    if isinstance(spec.job.board, BoardPick) and spec.job.board.take is Take.EACH:
        remedy = 'put it into axes.board, or say take = "any"'
        raise RequestError("each of several boards is an axis", where="job.board", remedy=remedy)
    return spec.model_copy(update={"axes": axes, "include": tuple(include), "exclude": tuple(exclude)})


def plan(spec: SweepSpec, config: LabConfig) -> SweepPlan:
    """The cells of a sweep whose boards are `resolved`, and whether they can be served.

    Raises:
        RequestError: the matrix contradicts itself, is too large, or no board can serve any of it.
    """
    matrix = _matrix(spec)
    _check_size(matrix, config)
    expansion = expand(matrix)
    asks = any(isinstance(value, Boards) and value.require for value in _board_values(matrix))
    facts = facts_of(config) if asks else lab_facts(config, {})  # no driver is asked for what nobody wants to know
    if len(expansion.cells) > config.queue.max_sweep_jobs:
        raise _too_many(len(expansion.cells), config, "")
    cells: list[PlannedCell] = []
    refused: list[Refused] = []
    found: dict[int, PlannedCell | Refused] = {}
    for cell in expansion.cells:
        point = (cell.number + 1 - cell.repetition) // matrix.repetitions
        if point not in found:
            found[point] = _served(cell, spec, config, facts)
        match found[point]:
            case PlannedCell(spec=job, boards=boards, estimate_s=estimate):
                cells.append(PlannedCell(cell, job, boards, estimate))
            case Refused(field=field, reason=reason):
                refused.append(Refused(cell, field, reason))
    if not cells:
        raise _all_refused(refused)
    axes = {axis.value: len(values) for axis, values in matrix.axes.items()}
    return SweepPlan(tuple(cells), tuple(refused), axes, expansion.idle)


def wall_s(cells: Iterable[PlannedCell]) -> float:
    """How long the cells take in their order on all boards that can serve them, if these are free, s."""
    busy_s: defaultdict[str, float] = defaultdict(float)
    for each in cells:
        first = min(each.boards, key=lambda board: busy_s[board])
        busy_s[first] += each.estimate_s
    return max(busy_s.values(), default=0.0)


def read_spec(raw: Mapping[str, Any]) -> SweepSpec:
    """A specification as the database has it.

    Raises:
        RequestError: this version of labd does not know it.
    """
    try:
        return SweepSpec.model_validate(raw, strict=False)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, fault["loc"]))
        remedy = "replace the sweep by one that this version of labd knows"
        raise RequestError(f"the sweep cannot be read: {fault['msg']}", where=where, remedy=remedy) from error


# --- boards ---------------------------------------------------------------------------------------------------


def _each(value: BoardPick | str, config: LabConfig, where: str) -> list[BoardPick | str]:
    """The boards of a pick one by one; an id, and any one of several, stay as they are."""
    if isinstance(value, str) or value.take is Take.ANY:
        return [value]
    tagged = [board for board in config.board if set(value.tags) <= set(board.tags)]
    if value.require.strip():
        expression, facts = parse(value.require, f"{where}.require"), facts_of(config)
        check_names(expression, set(chain.from_iterable(facts.values())), f"{where}.require")
        tagged = [board for board in tagged if holds(expression, facts[board.id])]
    if not tagged:
        remedy = "list the boards to see their tags and capabilities"
        raise UnmatchableError(f"no board of the lab has {_wanted(value)}", where=where, remedy=remedy)
    return [board.id for board in tagged]


def _each_board(point: AnyPoint, config: LabConfig, where: str) -> list[AnyPoint]:
    if point.board is None:
        return [point]
    return [point.model_copy(update={"board": board}) for board in _each(point.board, config, f"{where}.board")]


def facts_of(config: LabConfig) -> Facts:
    """What is known of each board, by id; no hardware is touched."""
    loaders = driver_loaders()
    return lab_facts(config, capabilities_of(config, {name: loaders[name]() for name in config.driver_names}))


def _wanted(pick: BoardPick) -> str:
    tags = [f"the tags {', '.join(pick.tags)}"] if pick.tags else []
    return " and ".join([*tags, *([pick.require.strip()] if pick.require.strip() else [])])


# --- the matrix -----------------------------------------------------------------------------------------------


def _matrix(spec: SweepSpec) -> Matrix:
    return Matrix(
        axes={
            axis: tuple(map(_value, values)) for axis in Axis if (values := getattr(spec.axes, axis.value)) is not None
        },
        fixed=_point(spec.job),
        include=tuple(map(_point, spec.include)),
        exclude=tuple({axis: frozenset({value}) for axis, value in _point(keys).items()} for keys in spec.exclude),
        repetitions=spec.repetitions,
    )


def _point(message: PointMessage) -> Point:
    return {axis: _value(value) for axis in Axis if (value := getattr(message, axis.value)) is not None}


def _value(value: Any) -> Value:
    if isinstance(value, BoardPick):
        return Boards(tags=value.tags, require=value.require.strip())
    if isinstance(value, Mode):
        return value.value
    assert isinstance(value, str | int | float)
    return value


def _board_values(matrix: Matrix) -> Iterator[Value]:
    yield from matrix.axes.get(Axis.BOARD, ())
    for point in (matrix.fixed, *matrix.include):
        if Axis.BOARD in point:
            yield point[Axis.BOARD]


def _check_size(matrix: Matrix, config: LabConfig) -> None:
    count, most = size(matrix), config.queue.max_sweep_jobs
    if count > most * (BEFORE_EXCLUDE if matrix.exclude else 1):
        raise _too_many(count, config, " before exclude" if matrix.exclude else "")


def _too_many(count: int, config: LabConfig, when: str) -> TooManyJobsError:
    return TooManyJobsError(
        f"the sweep has {count:,} jobs{when}, a night may have {config.queue.max_sweep_jobs:,}",
        where="axes",
        remedy="take fewer values or repetitions, or have max_sweep_jobs of [queue] in lab.toml raised",
    )


# --- cells ----------------------------------------------------------------------------------------------------


def _served(cell: Cell, spec: SweepSpec, config: LabConfig, facts: Facts) -> PlannedCell | Refused:
    """What the cell asks for, and who can serve it."""
    values = cell.values
    mode = Mode(str(values[Axis.MODE]))
    benchmark = BENCHMARKS.get(str(values[Axis.BENCHMARK]))
    if benchmark is None:
        remedy = f"use one of: {', '.join(BENCHMARKS)}"
        raise RequestError(f"there is no benchmark {values[Axis.BENCHMARK]!r}", where="axes.benchmark", remedy=remedy)
    pick = values.get(Axis.BOARD, "")
    board = config.board_by_id(pick) if isinstance(pick, str) and pick else None
    if pick and isinstance(pick, str) and board is None:
        return Refused(cell, "board", f"the lab has no board {pick!r}")
    asked = {
        "benchmark": benchmark.id,
        "mode": mode,
        "board": {"id": board.id} if board is not None else _any_of(pick),
        "require": pick.require if isinstance(pick, Boards) and pick.require else None,
        "firmware": {"name": values[Axis.FIRMWARE]} if Axis.FIRMWARE in values else None,
        **{axis.value: values.get(axis) for axis in _COPIED},
        "priority": spec.job.priority or None,
        "labels": spec.job.labels,
    }
    job = _job_spec({key: value for key, value in asked.items() if value is not None})
    boards = [board.id] if board is not None else candidates(requirement_of(job), config, facts)
    if Axis.CLOCK_MHZ in values:
        try:
            build = build_for(float(str(values[Axis.CLOCK_MHZ])), requirement_of(job), boards, config)
        except BuildError as error:
            return Refused(cell, "clock_mhz", error.message)
        job = job.model_copy(update={"firmware": FirmwareChoice(name=build)})
        boards = [board.id] if board is not None else candidates(requirement_of(job), config, facts)
    if refused := _refusal(job, board, config, facts):
        return Refused(cell, *refused)
    filled = job.filled(benchmark)
    assert filled.trials is not None
    assert filled.min_window_s is not None
    usual_s = estimate_s(benchmark, mode, filled.trials, filled.min_window_s)
    return PlannedCell(cell, filled, tuple(boards), usual_s)


_COPIED = (Axis.TRIALS, Axis.MIN_WINDOW_S, Axis.INFERENCES, Axis.VOLTAGE_V, Axis.RATE_HZ)


def _any_of(pick: Value) -> dict[str, Any] | None:
    return {"tags": pick.tags} if isinstance(pick, Boards) and pick.tags else None


def _job_spec(asked: Mapping[str, Any]) -> JobSpec:
    try:
        return JobSpec.model_validate(asked)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = "job." + ".".join(map(str, fault["loc"]))
        raise RequestError(fault["msg"], where=where, remedy="correct this key") from error


def _refusal(job: JobSpec, board: Board | None, config: LabConfig, facts: Facts) -> tuple[str, str] | None:
    """Key and reason if nobody can serve the job."""
    if board is None:
        mismatch = can_ever_match(requirement_of(job), config, facts)
        return None if mismatch is None else (mismatch.field.split(".")[0], mismatch.message)
    refused = refusal(requirement_of(job), board, config, facts[board.id])
    return None if refused is None else (refused[0].split(".")[0], f"{board.id} {refused[1]}")


def _all_refused(refused: Sequence[Refused]) -> UnmatchableError:
    reasons = Counter((each.field, each.reason) for each in refused)
    (field, _), _ = reasons.most_common(1)[0]
    listed = "; ".join(reason for (_, reason), _ in reasons.most_common(_SHOWN))
    more = f"; and {len(reasons) - _SHOWN} more reasons" if len(reasons) > _SHOWN else ""
    return UnmatchableError(
        f"no board can serve any of the {len(refused)} jobs: {listed}{more}",
        where=f"axes.{field}",
        remedy="list the boards to see what they can do",
    )
