"""The record of what a board draws answers every question as exactly as brute force does."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labd.virtual.activity import KEEP_S, ActivityRecord, PowerProfile, decay

amounts = st.floats(0, 1, allow_subnormal=False)
segments = st.lists(st.tuples(st.floats(0, 0.5), amounts, amounts), min_size=1, max_size=30)


def brute(steps: list[tuple[float, float, float]], low: float, high: float) -> tuple[float, float, float]:
    """Charge, volt-seconds and energy between two times, segment by segment in exact rational order."""
    charge, flux, energy = [], [], []
    start = 0.0
    bounds = []
    for width, amps, volts in steps:
        bounds.append((start, start + width, amps, volts))
        start += width
    bounds[-1] = (bounds[-1][0], math.inf, *bounds[-1][2:])
    for begin, end, amps, volts in bounds:
        span = max(0.0, min(end, high) - max(begin, low))
        charge.append(amps * span)
        flux.append(volts * span)
        energy.append(amps * volts * span)
    return math.fsum(charge), math.fsum(flux), math.fsum(energy)


def recorded(steps: list[tuple[float, float, float]], at_s: float = 0.0) -> ActivityRecord:
    starts = at_s + np.cumsum([0.0] + [width for width, _, _ in steps[:-1]])
    record = ActivityRecord()
    record.extend(starts, np.array([amps for _, amps, _ in steps]), np.array([volts for _, _, volts in steps]))
    return record


@given(segments, st.lists(st.floats(1e-6, 1), min_size=1, max_size=20), st.floats(0, 5))
def test_means_and_energy_are_exact(
    steps: list[tuple[float, float, float]], widths: list[float], first_s: float
) -> None:
    record = recorded(steps)
    edges = first_s + np.cumsum([0.0, *widths])
    amps, volts = record.means(edges)
    for index, (low, high) in enumerate(itertools.pairwise(edges)):
        charge, flux, energy = brute(steps, low, high)
        assert amps[index] * (high - low) == pytest.approx(charge, abs=1e-13)
        assert volts[index] * (high - low) == pytest.approx(flux, abs=1e-13)
        assert record.energy(low, high) == pytest.approx(energy, abs=1e-13)


def test_hours_of_rack_time_cost_no_precision() -> None:
    rng = np.random.default_rng(1)
    steps = [(1e-4, float(amps), 3.0) for amps in rng.uniform(1e-3, 2e-2, 20_000)]
    early, late = recorded(steps), recorded(steps, at_s=100_000.0)
    assert late.energy(100_000.5, 100_001.5) == pytest.approx(early.energy(0.5, 1.5), rel=1e-9)


def test_a_record_forgets_only_what_is_older_than_it_promises_to_keep() -> None:
    record = ActivityRecord()
    for second in range(1, 400):
        starts = second + np.arange(1000) / 1000
        record.extend(starts, np.full(1000, second * 1e-3), np.full(1000, 3.0))
    assert 1 < record.start_s <= 399 - KEEP_S
    assert record.energy(350.0, 351.0) == pytest.approx(0.35 * 3.0)
    with pytest.raises(ValueError, match="forgotten"):
        record.energy(record.start_s - 1, 399.0)


def test_a_decay_in_steps_keeps_its_charge() -> None:
    offsets, steps = decay(0.2, 1e-3, 8e-3, 64)
    widths = np.diff(offsets, append=8e-3)
    assert float(np.sum(steps * widths)) == pytest.approx(0.2 * 1e-3 * (1 - math.exp(-8)), rel=1e-12)


def test_boards_of_a_kind_differ_as_their_seed_says() -> None:
    profile = PowerProfile()
    first, again, other = (profile.draw(np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first == again != other
    assert abs(first.conv_a / profile.conv_a - 1) < 0.13
    assert first.capacitance_f == profile.capacitance_f
