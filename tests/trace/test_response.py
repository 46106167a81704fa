"""What a filter smears a step by, on steps that a low-pass of known time constant has seen."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from drivers.api import SampleKind
from labd.trace.timing.response import response_of
from labd.trace.timing.steps import Signal
from labd.trace.timing.timebase import Clocks

FINE = 50
STEPS = 40


def seen(tau_s: float, period_s: float, noise: float) -> tuple[npt.NDArray[np.float32], list[float]]:
    """Means over samples of steps up and down through a first-order low-pass, and their middles in samples."""
    rng = np.random.default_rng(7)
    fine_s = period_s / FINE
    gap = max(40.0, 4e-3 / period_s)
    at = [gap * (k + 1) + float(rng.uniform(0, 1)) for k in range(STEPS)]
    rows = math.ceil(gap * (STEPS + 1))
    t = (np.arange(rows * FINE) + 0.5) * fine_s
    level = np.zeros(len(t))
    for k, place in enumerate(at):
        since = np.maximum(t - place * period_s, 0.0)
        level += (-1) ** k * (1 - np.exp(-since / tau_s) if tau_s else (since > 0).astype(float))
    samples = level.reshape(rows, FINE).mean(axis=1) + noise * rng.standard_normal(rows)
    return samples.astype(np.float32), [place + tau_s / period_s for place in at]


def response_s(tau_s: float, period_s: float, noise: float = 0.0) -> float:
    samples, middles = seen(tau_s, period_s, noise)
    clocks = Clocks(tick_rate_hz=25e6, period_s=period_s, u_stretch=1e-5)
    signal = Signal(lambda a, b: samples[a:b], len(samples), noise, SampleKind.MEAN, clocks)
    response = response_of(signal, middles)
    assert response is not None
    return period_s * response


@pytest.mark.parametrize("period_s", [1e-6, 1e-5])
def test_a_low_pass_smears_by_its_time_constant_over_e(period_s: float) -> None:
    tau_s = 80e-6  # 2 kHz; what comes after three time constants is not looked at
    assert response_s(tau_s, period_s, noise=0.01) == pytest.approx(tau_s / math.e, rel=0.15)


@pytest.mark.parametrize("period_s", [1e-5, 1e-4, 204.8e-6])
def test_samples_alone_smear_nothing(period_s: float) -> None:
    assert response_s(0.0, period_s) < 0.02 * period_s


def test_steps_at_the_ends_of_a_recording_tell_nothing() -> None:
    samples, _ = seen(0.0, 1e-4, 0.0)
    clocks = Clocks(tick_rate_hz=25e6, period_s=1e-4, u_stretch=1e-5)
    signal = Signal(lambda a, b: samples[a:b], len(samples), 0.0, SampleKind.MEAN, clocks)
    assert response_of(signal, [1.0, len(samples) - 2.0]) is None
