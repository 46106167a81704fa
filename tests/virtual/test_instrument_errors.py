from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labd.virtual.instrument_errors import AnalyzerErrors, AnalyzerSpec, observe
from labd.virtual.world import Floats

SPEC = AnalyzerSpec(
    gain_current=0.001,
    offset_current_a=1e-5,
    gain_voltage=0.002,
    offset_voltage_v=1e-3,
    noise_current_a=1e-6,
    noise_voltage_v=1e-4,
    clock_ppm=50.0,
    start_offset_max_s=1e-4,
)


def ramp(edges_s: Floats) -> tuple[Floats, Floats]:
    """Current equal to the time in the middle of the interval, voltage 3 V."""
    middle = (edges_s[1:] + edges_s[:-1]) / 2
    return middle, np.full(len(middle), 3.0)


def test_an_instrument_without_errors_shows_the_truth() -> None:
    current, voltage = observe(
        ramp,
        AnalyzerErrors.none(),
        start_s=1.0,
        period_s=0.5,
        first=2,
        count=3,
        rng=np.random.default_rng(1),
    )
    assert current.dtype == voltage.dtype == np.float32
    np.testing.assert_allclose(current, [2.25, 2.75, 3.25])
    np.testing.assert_allclose(voltage, 3.0)


def test_clock_and_start_shift_the_samples_and_gain_and_offset_change_them() -> None:
    errors = AnalyzerErrors(gain_current=0.1, offset_current_a=1.0, clock_ppm=1e5, start_offset_s=0.25)
    current, _ = observe(ramp, errors, start_s=0.0, period_s=1.0, first=10, count=1, rng=np.random.default_rng(1))
    assert current[0] == pytest.approx((0.25 + 10.5 * 1.1) * 1.1 + 1.0)


def test_readings_stand_on_steps() -> None:
    errors = AnalyzerErrors(lsb_current_a=0.25)
    current, _ = observe(ramp, errors, start_s=0.0, period_s=0.1, first=0, count=50, rng=np.random.default_rng(1))
    np.testing.assert_allclose(current / 0.25, np.rint(current / 0.25))


def test_noise_has_the_declared_size() -> None:
    errors = AnalyzerErrors(noise_voltage_v=0.01)
    _, voltage = observe(ramp, errors, start_s=0.0, period_s=0.1, first=0, count=20_000, rng=np.random.default_rng(1))
    assert voltage.std() == pytest.approx(0.01, rel=0.03)


@given(st.integers(0, 2**32))
def test_drawn_errors_stay_within_the_declared_limits(seed: int) -> None:
    drawn = AnalyzerErrors.draw(SPEC, np.random.default_rng(seed))
    assert abs(drawn.gain_current) <= SPEC.gain_current
    assert abs(drawn.offset_current_a) <= SPEC.offset_current_a
    assert abs(drawn.gain_voltage) <= SPEC.gain_voltage
    assert abs(drawn.offset_voltage_v) <= SPEC.offset_voltage_v
    assert abs(drawn.clock_ppm) <= SPEC.clock_ppm
    assert 0 <= drawn.start_offset_s <= SPEC.start_offset_max_s


def test_drawn_errors_are_rectangular() -> None:
    rng = np.random.default_rng(3)
    gains = np.array([AnalyzerErrors.draw(SPEC, rng).gain_current for _ in range(4000)])
    assert gains.std() == pytest.approx(SPEC.gain_current / 3**0.5, rel=0.03)
