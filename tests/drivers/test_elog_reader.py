from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.analyzers.elog import ElogReader
from drivers.api import Interval, IntervalKind, ProtocolError, Quantity

BOTH = {Quantity.CURRENT: 0.1, Quantity.VOLTAGE: 20.0}


def payload(*records: tuple[float, float]) -> npt.NDArray[np.uint8]:
    return np.frombuffer(np.array(records, "<f4").tobytes(), np.uint8)


def test_records_become_columns_in_order_and_count_on() -> None:
    reader = ElogReader(BOTH)
    block = reader.read(payload((0.01, 3.0), (0.02, 2.9)))
    assert block is not None
    np.testing.assert_allclose(block.columns[Quantity.CURRENT], [0.01, 0.02])
    np.testing.assert_allclose(block.columns[Quantity.VOLTAGE], [3.0, 2.9])
    assert all(column.dtype == np.float32 and column.flags.c_contiguous for column in block.columns.values())
    following = reader.read(payload((0.03, 3.0)))
    assert following is not None
    assert (block.first, following.first, reader.count) == (0, 2, 3)
    assert reader.read(payload()) is None


def test_readings_at_the_end_of_the_range_are_marked_as_clipped() -> None:
    reader = ElogReader(BOTH)
    reader.read(payload((0.0, 3.0)))
    block = reader.read(payload((0.0, 3.0), (0.1, 3.0), (-0.2, 3.0), (0.0, 20.4)))
    assert block is not None
    assert set(block.intervals) == {
        Interval(IntervalKind.CLIPPED, 2, 4),
        Interval(IntervalKind.CLIPPED, 4, 5),
    }


@pytest.mark.parametrize("missing", [math.nan, 9.91e37, -9.91e37, 9.9e37, -9.9e37, math.inf, -math.inf])
def test_a_code_for_no_reading_is_marked_and_never_a_number(missing: float) -> None:
    reader = ElogReader(BOTH)
    reader.read(payload((0.0, 3.0)))
    block = reader.read(payload((0.01, 3.0), (missing, 3.1)))
    assert block is not None
    assert block.intervals == (Interval(IntervalKind.NO_READING, 2, 3),)
    np.testing.assert_array_equal(block.columns[Quantity.CURRENT], np.array([0.01, np.nan], np.float32))
    np.testing.assert_array_equal(block.columns[Quantity.VOLTAGE], np.array([3.0, 3.1], np.float32))
    assert block.columns[Quantity.CURRENT].dtype == np.float32
    assert math.isnan(reader.last[Quantity.CURRENT])


def test_a_clipped_reading_keeps_its_value_beside_one_that_is_none() -> None:
    block = ElogReader({Quantity.CURRENT: 0.1}).read(np.frombuffer(np.array([0.102, 9.91e37], "<f4").tobytes(), "u1"))
    assert block is not None
    assert set(block.intervals) == {Interval(IntervalKind.CLIPPED, 0, 1), Interval(IntervalKind.NO_READING, 1, 2)}
    np.testing.assert_array_equal(block.columns[Quantity.CURRENT], np.array([0.102, np.nan], np.float32))


def test_after_a_loss_everything_is_marked() -> None:
    reader = ElogReader(BOTH)
    reader.read(payload((0.0, 3.0)))
    reader.read(payload((0.0, 3.0)))
    reader.mark_overflow(1)
    reader.mark_overflow(2)
    blocks = [reader.read(payload((0.0, 3.0))) for _ in range(2)]
    assert [block.intervals for block in blocks if block is not None] == [
        (Interval(IntervalKind.OVERFLOW, 1, 3),),
        (Interval(IntervalKind.OVERFLOW, 3, 4),),
    ]


def test_half_a_record_is_a_protocol_error() -> None:
    with pytest.raises(ProtocolError):
        ElogReader(BOTH).read(payload((0.0, 3.0))[:-1])


@given(st.lists(st.floats(-0.25, 0.25, width=32) | st.just(float("nan")), min_size=1, max_size=60))
def test_every_doubtful_reading_is_in_an_interval_of_its_kind_and_no_other(values: list[float]) -> None:
    block = ElogReader({Quantity.CURRENT: 0.1}).read(np.frombuffer(np.array(values, "<f4").tobytes(), np.uint8))
    assert block is not None
    marked: dict[int, set[IntervalKind]] = {}
    for interval in block.intervals:
        for index in range(interval.start, interval.stop):
            marked.setdefault(index, set()).add(interval.kind)
    for index, value in enumerate(np.array(values, np.float32)):
        if np.isnan(value):
            assert marked.get(index) == {IntervalKind.NO_READING}
        elif abs(value) >= np.float32(0.1):
            assert marked.get(index) == {IntervalKind.CLIPPED}
        else:
            assert index not in marked
