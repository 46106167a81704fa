"""The matrix of a sweep: counted before it is built, cells with names that last, and an order that spreads drift.

A cell is a point of the matrix and the number of its repetition. Its text (`kws01/energy/board-1/3.0V/rep2`) is made
of all that was said of it, whether by an axis or for all cells, so the same cell has the same text night after night,
also when other values join the matrix.

The order is by digests of these texts: pure, the same on every machine, another one each night. A repetition comes
when all cells have had the one before it, so that a drift of the rack meets all cells alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b
from itertools import groupby, product
from math import prod

from labd.errors import RequestError

TEXT_MAX = 240
"""Longest text of a cell; what is longer ends in a digest of the whole."""


class Axis(StrEnum):
    """What may differ from cell to cell, in the order of a cell's text."""

    BENCHMARK = "benchmark"
    MODE = "mode"
    BOARD = "board"
    VOLTAGE_V = "voltage_v"
    CLOCK_MHZ = "clock_mhz"
    FIRMWARE = "firmware"
    TRIALS = "trials"
    MIN_WINDOW_S = "min_window_s"
    INFERENCES = "inferences"
    RATE_HZ = "rate_hz"


_UNITS = {
    Axis.VOLTAGE_V: "V",
    Axis.CLOCK_MHZ: "MHz",
    Axis.TRIALS: "trials",
    Axis.MIN_WINDOW_S: "s",
    Axis.INFERENCES: "inferences",
    Axis.RATE_HZ: "Hz",
}
_NEEDED = (Axis.BENCHMARK, Axis.MODE)


class MatrixError(RequestError):
    """A matrix that contradicts itself; `where` is the key at fault, `axes.mode`."""


@dataclass(frozen=True, slots=True)
class Boards:
    """Where a cell is measured: on one board, or on any that has all tags and meets the requirement."""

    id: str | None = None
    tags: tuple[str, ...] = ()
    require: str = ""

    @property
    def text(self) -> str:
        """As it stands in the text of a cell."""
        if self.id is not None:
            return self.id
        return " ".join([*(["+".join(sorted(self.tags))] if self.tags else []), *([self.require] * bool(self.require))])


Value = str | int | float | Boards
Point = Mapping[Axis, Value]


@dataclass(frozen=True, slots=True)
class Matrix:
    """What a sweep measures.

    Args:
        axes: The values of each axis; their product, without what `exclude` names, are the points.
        fixed: What all points have, those of `include` too unless they say otherwise.
        include: Points beside the product. Without axes they are all there is.
        exclude: What is cut out of the product: points that have one of the values in every key.
        repetitions: How often each point is measured.
    """

    axes: Mapping[Axis, tuple[Value, ...]]
    fixed: Point = field(default_factory=dict)
    include: tuple[Point, ...] = ()
    exclude: tuple[Mapping[Axis, frozenset[Value]], ...] = ()
    repetitions: int = 1


@dataclass(frozen=True, slots=True)
class Cell:
    """One job of a sweep.

    Args:
        number: Its place in the matrix, also counting what is excluded; from 0.
        repetition: From 1.
        values: What is asked for.
    """

    number: int
    repetition: int
    values: Point

    @property
    def text(self) -> str:
        """What it is called, every night."""
        return _short(f"{point_text(self.values)}/rep{self.repetition}")


@dataclass(frozen=True, slots=True)
class Expansion:
    """A matrix that was built.

    Args:
        cells: In the order of their numbers.
        idle: Places of those in `exclude` that cut out nothing.
    """

    cells: tuple[Cell, ...]
    idle: tuple[int, ...]


def size(matrix: Matrix) -> int:
    """How many cells there are if `exclude` cuts out nothing; nothing is built for it."""
    return (_points_of_product(matrix) + len(matrix.include)) * matrix.repetitions


def expand(matrix: Matrix) -> Expansion:
    """Build the cells. The caller has looked at `size` before.

    Raises:
        MatrixError: a value is there twice, a point lacks benchmark or mode or is there twice, or nothing is left.
    """
    for axis, values in matrix.axes.items():
        if twice := _first_double(values):
            raise MatrixError(f"{_shown(twice)} is there twice", where=f"axes.{axis}", remedy="name each value once")
        if axis in matrix.fixed:
            remedy = "take it out of one of them"
            raise MatrixError("is an axis, and stands in job too", where=f"axes.{axis}", remedy=remedy)
    met: set[int] = set()
    points = [*_product(matrix, met), *_included(matrix)]
    if not points:
        remedy = "exclude less; see what each exclude matches"
        raise MatrixError("exclude leaves nothing of the matrix", where="exclude", remedy=remedy)
    _check_points(points, matrix)
    cells = [
        Cell(place * matrix.repetitions + repetition - 1, repetition, values)
        for place, values in points
        for repetition in range(1, matrix.repetitions + 1)
    ]
    return Expansion(tuple(cells), tuple(sorted(set(range(len(matrix.exclude))) - met)))


def in_order(cells: Iterable[Cell], seed: int, night: int) -> list[Cell]:
    """The cells in the order of a night: repetition after repetition, each shuffled.

    Args:
        cells: In any order.
        seed: The sweep's.
        night: Number of the night: each has an order of its own.
    """

    def place(cell: Cell) -> tuple[int, bytes]:
        return cell.repetition, blake2b(f"{seed}/{night}/{cell.text}".encode(), digest_size=16).digest()

    ordered: list[Cell] = []
    for _, cells_of_round in groupby(sorted(cells, key=place), key=lambda cell: cell.repetition):
        following = list(cells_of_round)
        if ordered and ordered[-1].values == following[0].values:  # not twice in a row where two rounds meet
            following.append(following.pop(0))
        ordered += following
    return ordered


def point_text(values: Point) -> str:
    """What a point is called: a cell's text without its repetition."""
    return "/".join(_shown(values[axis]) + _UNITS.get(axis, "") for axis in Axis if axis in values)


def _points_of_product(matrix: Matrix) -> int:
    return 0 if matrix.include and not matrix.axes else prod(map(len, matrix.axes.values()))


def _product(matrix: Matrix, met: set[int]) -> Iterator[tuple[int, Point]]:
    """Places and points of the product without those excluded; notes in `met` which of `exclude` cut something."""
    if not _points_of_product(matrix):
        return
    excludes = list(enumerate(matrix.exclude))
    for place, values in enumerate(product(*matrix.axes.values())):
        point = {**matrix.fixed, **dict(zip(matrix.axes, values, strict=True))}
        cut = [number for number, keys in excludes if all(point.get(axis) in keys[axis] for axis in keys)]
        met.update(cut)
        if not cut:
            yield place, point


def _included(matrix: Matrix) -> Iterator[tuple[int, Point]]:
    for index, point in enumerate(matrix.include):
        yield _points_of_product(matrix) + index, {**matrix.fixed, **point}


def _check_points(points: list[tuple[int, Point]], matrix: Matrix) -> None:
    seen: set[str] = set()
    for place, point in points:
        index = place - _points_of_product(matrix)
        for axis in _NEEDED:
            if axis not in point:
                where = f"include.{index}.{axis}" if index >= 0 else f"axes.{axis}"
                raise MatrixError("is missing", where=where, remedy=f"give {axis} in axes, or in job for all cells")
        text = point_text(point)
        if text in seen:
            remedy = "take it out: each point is measured as often as repetitions says"
            raise MatrixError(f"{text} is in the matrix already", where=f"include.{index}", remedy=remedy)
        seen.add(text)


def _first_double(values: Iterable[Value]) -> Value | None:
    seen: set[Value] = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None


def _shown(value: Value) -> str:
    return value.text if isinstance(value, Boards) else str(value)


def _short(text: str) -> str:
    if len(text) <= TEXT_MAX:
        return text
    digest = blake2b(text.encode(), digest_size=8).hexdigest()
    return f"{text[: TEXT_MAX - len(digest) - 1]}~{digest}"
