"""The generator against second ways: fine sums for integrals, a solved equation for low-passes, and what it imports."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

from drivers.api import Accuracy
from tests.truth.analyzers import MODELS, Errors, Rate, Source, flicker, record
from tests.truth.boards import Life, Shape, draw_board
from tests.truth.clocks import Clock
from tests.truth.currents import Current, Decay, LowPasses, Ramp

HERE = Path(__file__).parent
STEPS = Current(
    np.array([0.0, 0.1, 0.1003, 0.15, 0.3]),
    np.array([1e-3, 20e-3, 5e-3, 30e-3, 2e-3]),
    (Ramp(0.1, 0.3, 0.04),),
    (Decay(0.1, 0.3, 10e-3, 8e-3),),
)


def _amps(
    current: Current, t: np.ndarray[tuple[int], np.dtype[np.float64]]
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The current at some times, straight from what its parts say of themselves."""
    amps = current.amps[np.clip(np.searchsorted(current.starts_s, t, side="right") - 1, 0, None)].copy()
    for ramp in current.ramps:
        amps += np.where((t >= ramp.start_s) & (t < ramp.stop_s), ramp.slope * (t - ramp.start_s), 0.0)
    for decay in current.decays:
        inside = (t >= decay.start_s) & (t < decay.stop_s)
        amps += np.where(inside, decay.amps * np.exp(-np.clip(t - decay.start_s, 0, None) / decay.tau_s), 0.0)
    return amps


def test_integrals_are_those_of_a_fine_sum() -> None:
    step = 1e-7
    t = 0.1 + step * (np.arange(2_000_000) + 0.5)
    amps = _amps(STEPS, t)
    first, second = STEPS.charge(0.1, 0.3)
    assert first == pytest.approx(amps.sum() * step, rel=1e-7)
    assert second == pytest.approx((amps**2).sum() * step, rel=1e-7)


@pytest.mark.parametrize("tau_s", [1.6e-6, 80e-6])
def test_the_low_pass_solves_its_equation_in_blocks_of_any_size(tau_s: float) -> None:
    fine = 1e-8
    t = 0.0999 + fine * np.arange(100_000)
    shown = np.empty(len(t))
    state = STEPS.amps[0]
    for k, level in enumerate(_amps(STEPS, t + fine / 2).tolist()):  # the midpoint rule, a hundred steps to a point
        shown[k] = state
        state += (level - state) * -np.expm1(-fine / tau_s)
    low_pass = LowPasses(STEPS, (1e-6, tau_s), lambda at: at, float(t[0]), 100 * fine)
    found = np.concatenate([low_pass.take(count)[1] for count in (1, 333, 500, 166)])
    assert found == pytest.approx(shown[::100], abs=2e-8)


def test_a_low_pass_loses_no_charge_at_the_ends_of_ramps_and_decays() -> None:
    low_pass = LowPasses(STEPS, (80e-6,), lambda at: at, 0.0, 1e-6)
    charge = low_pass.take(400_000)[0].sum() * 1e-6
    whole = STEPS.charge(0.1, 0.3)[0] + 1e-3 * 0.1 + 2e-3 * 0.1
    whole -= (2e-3 - 1e-3) * 80e-6  # what the low-pass still lags by from the first level to the last
    assert charge == pytest.approx(whole, rel=1e-5)


def test_a_mean_over_many_samples_is_the_true_mean() -> None:
    rng = np.random.default_rng(5)
    board = draw_board(rng, Shape.PHASES, 0.2)
    life = Life(board, rng, drift=1e-3, jitter=1e-6)
    life.wait(0.1)
    life.trial(20)
    life.wait(0.1)
    own, _ = life.current([], 0.0)
    clock = Clock(rng, rate_ppm=0.0, wander_ppm=0.0, span_s=life.now_s)
    model = MODELS[Rate.ELOG]
    quiet = Errors(0, 0, 0, 0, 1.6e-6, 1.6e-6, noise_factor=0)
    count = int((life.now_s - 0.02) / model.period_s)
    seen = record(own, Source(3.0, 0.5), model, quiet, clock, first_s=0.01, count=count, rng=rng)
    mean = own.mean(0.01, 0.01 + count * model.period_s)
    assert float(seen.amps.mean(dtype=np.float64)) == pytest.approx(mean, rel=2e-4)
    assert float(seen.volts.mean(dtype=np.float64)) == pytest.approx(3.0 - 0.5 * mean, rel=1e-4)


def test_points_are_clipped_before_they_are_averaged() -> None:
    spans = np.tile([40e-6, 160e-6], 500)
    current = Current(np.concatenate([[0.0], np.cumsum(spans)[:-1]]), np.tile([0.16, 0.01], 500))
    clock = Clock(np.random.default_rng(1), rate_ppm=0.0, wander_ppm=0.0, span_s=1.0)
    quiet = Errors(0, 0, 0, 0, 0.1e-6, 0.1e-6, noise_factor=0)
    rng = np.random.default_rng(2)
    seen = record(current, Source(3.0, 0.0), MODELS[Rate.ELOG], quiet, clock, first_s=0.0, count=480, rng=rng)
    assert seen.amps.max() < 0.055
    assert seen.peak_a == pytest.approx(0.102)
    assert float(seen.amps.mean()) == pytest.approx(0.2 * 0.102 + 0.8 * 0.01, rel=0.02)


def test_flicker_has_as_much_in_each_octave() -> None:
    noise = flicker(np.random.default_rng(3), 1 << 18)
    power = np.abs(np.fft.rfft(noise)) ** 2
    octaves = [power[1 << k : 2 << k].sum() for k in range(8, 17)]
    assert noise.std() == pytest.approx(1.0)
    assert max(octaves) < 1.3 * min(octaves)


def test_a_clock_is_off_by_its_rate_and_wanders_by_parts_in_ten_millions() -> None:
    late = [Clock(np.random.default_rng(k), rate_ppm=20, wander_ppm=0.1, span_s=20.0) for k in range(200)]
    shown = np.array([clock.shows(10.0) - clock.shows(9.0) for clock in late])
    assert shown.mean() == pytest.approx(1 + 20e-6, abs=1e-7)
    assert 0.2e-6 < shown.std() < 0.5e-6  # a walk over 10 to 12 s


def test_the_generator_shares_no_code_with_the_virtual_rack_or_the_drivers() -> None:
    """What it is to check must not be what it is made of."""
    found = set()
    for path in HERE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0
                found |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    assert "drivers.api" in found
    assert "labd.trace.writer" in found
    stray = {
        name
        for name in found
        if (name.split(".")[0] == "drivers" and not name.startswith("drivers.api"))
        or name.startswith(("labd.virtual", "tests.virtual", "tests.drivers"))
        or name in ("labd.virtual", "importlib", "runpy")
    }
    assert stray == set()


def test_declared_accuracies_are_those_of_the_data_sheet() -> None:
    elog = MODELS[Rate.ELOG]
    assert elog.point_s == pytest.approx(5.12e-6)
    assert isinstance(elog.current, Accuracy)
