"""Of a log of extremes the largest point of either sign stays, and nothing that was missed passes for seen."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from drivers.analyzers.elog_peaks import PeakReader
from drivers.api import DeviceError, Peak, ProtocolError, Quantity

BOTH = {Quantity.VOLTAGE: 20.0, Quantity.CURRENT: 0.1}


def payload(*records: tuple[float, ...]) -> npt.NDArray[np.uint8]:
    return np.frombuffer(np.array(records, "<f4").tobytes(), np.uint8)


def test_the_largest_point_of_either_sign_stays() -> None:
    reader = PeakReader(BOTH, 0.01)
    reader.read(payload((0.01, -0.02, 0.05, 3.0, 2.9, 3.1), (0.02, -0.09, 0.03, 3.0, 2.5, 3.05)))
    reader.read(payload())
    reader.read(payload((0.03, 0.0, 0.04, 3.0, 2.9, 3.3)))
    peaks = reader.peaks("psu")
    assert [(peak.quantity, peak.range_max) for peak in peaks.found] == [
        (Quantity.CURRENT, 0.1),
        (Quantity.VOLTAGE, 20.0),
    ]
    assert [peak.largest for peak in peaks.found] == pytest.approx([0.09, 3.3])
    assert not any(peak.beyond for peak in peaks.found)
    assert (peaks.records, peaks.period_s) == (3, 0.01)
    assert reader.last == pytest.approx({Quantity.CURRENT: 0.03, Quantity.VOLTAGE: 3.0})


@pytest.mark.parametrize("points", [(0.0, 0.1), (-0.102, 0.0)])
def test_a_point_at_the_end_is_beyond(points: tuple[float, float]) -> None:
    reader = PeakReader({Quantity.CURRENT: 0.1}, 0.01)
    reader.read(payload((0.05, *points)))
    assert reader.peaks("psu").found[0].beyond
    assert not Peak(Quantity.CURRENT, 0.0999, 0.1).beyond


@pytest.mark.parametrize("point", [9.91e37, -9.91e37, np.nan, np.inf])
def test_a_point_that_is_no_reading_leaves_the_peak_unknown(point: float) -> None:
    reader = PeakReader({Quantity.CURRENT: 0.1}, 0.01)
    reader.read(payload((0.05, 0.0, 0.06), (0.05, 0.0, point)))
    with pytest.raises(DeviceError, match="1 of 2 records"):
        reader.peaks("psu")


def test_what_was_overwritten_or_never_came_leaves_the_peak_unknown() -> None:
    reader = PeakReader({Quantity.CURRENT: 0.1}, 0.01)
    with pytest.raises(DeviceError, match="held no reading"):
        reader.peaks("psu")
    reader.read(payload((0.05, 0.0, 0.06)))
    reader.mark_overflow(0)
    with pytest.raises(DeviceError, match="overwritten"):
        reader.peaks("psu")


def test_broken_records_are_an_error() -> None:
    with pytest.raises(ProtocolError):
        PeakReader(BOTH, 0.01).read(np.zeros(20, np.uint8))
