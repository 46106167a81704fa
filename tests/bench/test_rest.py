"""Rests of a recording: what lies outside the windows, without what is marked."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from drivers.api import Interval, IntervalKind, Quantity
from labd.bench.rest import LONGEST_S, read_rests
from labd.score.noise import BLOCK_S
from labd.score.reading import Placement
from tests.score.boards import Tables

PERIOD_S = BLOCK_S / 4


def at(start: float, stop: float) -> Placement:
    return Placement(start, stop, 0.1, 0.1, 0.0)


@dataclass(frozen=True)
class Marked(Tables):
    """Samples with marks."""

    marks: tuple[Interval, ...] = ()

    def marked(self, start: float, stop: float) -> tuple[Interval, ...]:
        return tuple(mark for mark in self.marks if mark.start < stop and mark.stop > start)


def table(rows: int, *marks: Interval) -> Marked:
    samples: npt.NDArray[np.float64] = np.arange(rows, dtype=np.float64)
    return Marked({Quantity.CURRENT: samples, Quantity.VOLTAGE: np.full(rows, 3.0)}, marks)


def test_rests_are_what_no_window_and_no_edge_touches() -> None:
    rests = read_rests(table(4000), (Quantity.CURRENT,), [at(1000.5, 2000.5), at(3000.5, 3500.5)], period_s=PERIOD_S)
    before, between, after = (rest.blocks[Quantity.CURRENT] for rest in rests)
    assert before[0] == 1.5  # the mean of samples 0 to 3
    assert before[-1] < 1000 - 8
    assert between[0] > 2000 + 8
    assert between[-1] < 3000 - 8
    assert after[0] > 3500 + 8
    assert {rest.block_s for rest in rests} == {BLOCK_S}
    assert {rest.span_s for rest in rests} == {2500 * PERIOD_S}


def test_marked_samples_and_what_is_no_number_make_no_block() -> None:
    source = table(4000, Interval(IntervalKind.GAP, 402, 405))
    source.columns[Quantity.CURRENT][801] = math.inf
    (before, _) = read_rests(source, source.columns, [at(1000.0, 2000.0)], period_s=PERIOD_S)
    current, voltage = before.blocks[Quantity.CURRENT], before.blocks[Quantity.VOLTAGE]
    assert np.flatnonzero(np.isnan(current)).tolist() == [100, 101, 200]
    assert np.flatnonzero(np.isnan(voltage)).tolist() == [100, 101]


def test_of_a_long_rest_the_part_next_to_the_window_is_read() -> None:
    rows = round(2.5 * LONGEST_S / PERIOD_S)
    (before, after) = read_rests(
        table(rows), (Quantity.CURRENT,), [at(rows - 3000.0, rows - 2000.0)], period_s=PERIOD_S
    )
    assert len(before.blocks[Quantity.CURRENT]) == round(LONGEST_S / BLOCK_S)
    assert before.blocks[Quantity.CURRENT][-1] > rows - 3020
    assert len(after.blocks[Quantity.CURRENT]) < 500


def test_without_a_window_nothing_is_known_to_be_a_rest() -> None:
    assert read_rests(table(4000), (Quantity.CURRENT,), [], period_s=PERIOD_S) == ()
