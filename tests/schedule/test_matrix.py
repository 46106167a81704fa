"""A sweep's matrix: counted first, every cell once, names that last, and an order that spreads drift."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labd.schedule.matrix import Axis, Boards, Cell, Matrix, MatrixError, Value, expand, in_order, size

BASE: dict[Axis, tuple[Value, ...]] = {
    Axis.BENCHMARK: ("kws01", "ic01"),
    Axis.MODE: ("energy",),
    Axis.BOARD: (Boards("b1"), Boards("b2")),
    Axis.VOLTAGE_V: (1.8, 3.0),
}


def texts(matrix: Matrix) -> list[str]:
    return [cell.text for cell in expand(matrix).cells]


def test_a_cell_is_named_by_all_that_was_said_of_it() -> None:
    matrix = Matrix(BASE, fixed={Axis.FIRMWARE: "fw"}, repetitions=2)
    assert texts(matrix)[:3] == [
        "kws01/energy/b1/1.8V/fw/rep1",
        "kws01/energy/b1/1.8V/fw/rep2",
        "kws01/energy/b1/3.0V/fw/rep1",
    ]
    assert len(texts(matrix)) == size(matrix) == 16


def test_a_cell_keeps_its_name_when_the_matrix_grows_or_a_fixed_value_becomes_an_axis() -> None:
    grown = {**BASE, Axis.BENCHMARK: ("vww01", "kws01", "ic01"), Axis.FIRMWARE: ("fw", "fw2")}
    assert set(texts(Matrix(BASE, fixed={Axis.FIRMWARE: "fw"}))) < set(texts(Matrix(grown, repetitions=3)))


def test_any_of_several_boards_and_units_are_named() -> None:
    matrix = Matrix(
        {Axis.BOARD: (Boards(tags=("m4", "fpu"), require="memory_kb >= 256"), Boards(tags=("m7",)))},
        fixed={Axis.BENCHMARK: "kws01", Axis.MODE: "energy", Axis.CLOCK_MHZ: 80.0, Axis.TRIALS: 3},
    )
    assert texts(matrix) == [
        "kws01/energy/fpu+m4 memory_kb >= 256/80.0MHz/3trials/rep1",
        "kws01/energy/m7/80.0MHz/3trials/rep1",
    ]


def test_a_million_cells_are_counted_without_building_them() -> None:
    values = tuple(range(1, 101))
    assert size(Matrix({Axis.TRIALS: values, Axis.INFERENCES: values, Axis.RATE_HZ: values}, repetitions=10)) == 10**7


def test_exclude_cuts_cells_that_match_all_its_keys_and_include_adds_points() -> None:
    matrix = Matrix(
        BASE,
        include=({Axis.BENCHMARK: "vww01", Axis.MODE: "accuracy"},),
        exclude=(
            {Axis.BOARD: frozenset({Boards("b1")}), Axis.VOLTAGE_V: frozenset({1.8})},
            {Axis.BENCHMARK: frozenset({"ic01", "none"})},
            {Axis.FIRMWARE: frozenset({"fw"})},
        ),
    )
    assert texts(matrix) == [
        "kws01/energy/b1/3.0V/rep1",
        "kws01/energy/b2/1.8V/rep1",
        "kws01/energy/b2/3.0V/rep1",
        "vww01/accuracy/rep1",
    ]
    assert expand(matrix).idle == (2,)


def test_without_axes_the_included_points_are_all_there_is_and_without_both_the_job_itself() -> None:
    point = {Axis.BENCHMARK: "kws01", Axis.MODE: "energy"}
    assert texts(Matrix({}, include=(point,), repetitions=2)) == ["kws01/energy/rep1", "kws01/energy/rep2"]
    assert texts(Matrix({}, fixed=point)) == ["kws01/energy/rep1"]


@pytest.mark.parametrize(
    ("matrix", "where", "message"),
    [
        (Matrix({**BASE, Axis.VOLTAGE_V: (3, 3.0)}), "axes.voltage_v", "twice"),
        (Matrix(BASE, fixed={Axis.MODE: "energy"}), "axes.mode", "stands in job too"),
        (Matrix({Axis.BENCHMARK: ("kws01",)}), "axes.mode", "is missing"),
        (Matrix(BASE, include=({Axis.MODE: "energy"},)), "include.0.benchmark", "is missing"),
        (Matrix(BASE, exclude=({Axis.MODE: frozenset({"energy"})},)), "exclude", "leaves nothing"),
        (
            Matrix(
                BASE,
                include=(
                    {
                        Axis.BENCHMARK: "kws01",
                        Axis.MODE: "energy",
                        Axis.BOARD: Boards("b1"),
                        Axis.VOLTAGE_V: 3.0,
                    },
                ),
            ),
            "include.0",
            "in the matrix already",
        ),
    ],
)
def test_what_contradicts_itself_is_refused_with_its_key(matrix: Matrix, where: str, message: str) -> None:
    with pytest.raises(MatrixError, match=message) as refused:
        expand(matrix)
    assert refused.value.where == where
    assert refused.value.remedy


def test_a_very_long_name_is_cut_and_still_its_own() -> None:
    long = [Boards(require="x > 1 and " * 50 + f"y > {number}") for number in range(2)]
    point: dict[Axis, Value] = {Axis.BENCHMARK: "kws01", Axis.MODE: "energy"}
    found = texts(Matrix({Axis.BOARD: tuple(long)}, fixed=point))
    assert len(set(found)) == 2
    assert all(len(text) <= 256 for text in found)


def test_the_order_is_reproducible_and_another_one_each_night_and_for_each_seed() -> None:
    cells = expand(Matrix(BASE, repetitions=4)).cells
    first = in_order(cells, seed=7, night=1)
    assert in_order(reversed(cells), seed=7, night=1) == first
    orders = {tuple(cell.number for cell in in_order(cells, seed, night)) for seed in (7, 8) for night in (1, 2, 3)}
    assert len(orders) == 6


@given(
    benchmarks=st.integers(1, 4),
    voltages=st.integers(1, 4),
    repetitions=st.integers(1, 5),
    seed=st.integers(0, 2**63),
    night=st.integers(1, 10_000),
)
def test_every_cell_comes_once_and_repetitions_are_apart(
    benchmarks: int, voltages: int, repetitions: int, seed: int, night: int
) -> None:
    matrix = Matrix(
        {
            Axis.BENCHMARK: tuple(f"b{number}" for number in range(benchmarks)),
            Axis.MODE: ("energy",),
            Axis.VOLTAGE_V: tuple(1.0 + number for number in range(voltages)),
        },
        repetitions=repetitions,
    )
    cells = expand(matrix).cells
    order = in_order(cells, seed, night)
    assert Counter(cell.number for cell in order) == Counter(range(size(matrix)))
    assert [cell.repetition for cell in order] == sorted(cell.repetition for cell in cells)
    if benchmarks * voltages > 1:
        assert all(_point(one) != _point(next_one) for one, next_one in pairwise(order))


def _point(cell: Cell) -> tuple[Value, ...]:
    return tuple(cell.values.values())
