"""A power analyzer as its maker describes one: low-passes, converter, range, averaging, noise, steps of the reading.

At 4.9 kS/s it is the N6781A of Keysight's data sheet: a converter point every 5.12 µs, 40 of them to a sample, noise
from the N67xx specification guide. The faster ones have points of 5, 1 and 0.5 µs, and a noise that grows as if it were
white. Current and voltage pass low-passes of their own. Points are clipped at the range *before*
they are averaged, so a sample below the range can hide points above it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from scipy import fft

from drivers.api import Accuracy, SampleKind
from tests.truth.clocks import Clock
from tests.truth.currents import Current, Floats, LowPasses

CHUNK = 400_000
"""Converter points that are in memory at a time, about."""
OVER_RANGE = 1.02
"""The converter ends so far above the range."""


class Rate(StrEnum):
    """Samples per second."""

    ELOG = "4.9 kS/s"
    TEN = "10 kS/s"
    HUNDRED = "100 kS/s"
    MEGA = "1 MS/s"


@dataclass(frozen=True, slots=True)
class Model:
    """An analyzer on its ranges.

    Args:
        period_s: Sample period, s.
        points: Converter points to a sample.
        current, voltage: Declared accuracy on the ranges in force.
        bandwidth_hz: Least and largest corner of a low-pass, Hz.
    """

    period_s: float
    points: int
    current: Accuracy
    voltage: Accuracy
    bandwidth_hz: tuple[float, float]

    @property
    def point_s(self) -> float:
        """Distance of two converter points, s."""
        return self.period_s / self.points


def _model(period_s: float, points: int, noise_a: float, noise_v: float, bandwidth_hz: tuple[float, float]) -> Model:
    return Model(
        period_s,
        points,
        Accuracy(range_max=0.1, gain=0.025e-2, offset=10e-6, noise_rms=noise_a),
        Accuracy(range_max=20.0, gain=0.025e-2, offset=1.2e-3, noise_rms=noise_v),
        bandwidth_hz,
    )


MODELS = {
    Rate.ELOG: _model(204.8e-6, 40, 3.8e-6, 825e-6, (60e3, 200e3)),
    Rate.TEN: _model(100e-6, 20, 5.4e-6, 1.2e-3, (60e3, 200e3)),
    Rate.HUNDRED: _model(10e-6, 10, 17e-6, 2e-3, (60e3, 200e3)),
    Rate.MEGA: _model(1e-6, 2, 54e-6, 4e-3, (200e3, 500e3)),
}


@dataclass(frozen=True, slots=True)
class Errors:
    """What is wrong with one analyzer in one run.

    Args:
        gain_current, gain_voltage: Relative errors.
        offset_current_a, offset_voltage_v: Offsets.
        tau_current_s, tau_voltage_s: Time constants of the low-passes.
        noise_factor: White noise over the declared one.
        flicker_a: Root mean square of 1/f noise of the current, A.
        hum_a: Amplitude of 50 Hz picked up by the current, A.
    """

    gain_current: float
    gain_voltage: float
    offset_current_a: float
    offset_voltage_v: float
    tau_current_s: float
    tau_voltage_s: float
    noise_factor: float = 1.0
    flicker_a: float = 0.0
    hum_a: float = 0.0


@dataclass(frozen=True, slots=True)
class Source:
    """What feeds the board: voltage without load, V, and resistance up to the sense point, Ω."""

    volts: float
    ohm: float


@dataclass(frozen=True, slots=True)
class Recording:
    """Samples of current [A] and voltage [V], float32 of shape (n,), and the largest converter point of each."""

    amps: npt.NDArray[np.float32]
    volts: npt.NDArray[np.float32]
    peak_a: float
    peak_v: float


def record(
    current: Current,
    source: Source,
    model: Model,
    errors: Errors,
    clock: Clock,
    *,
    first_s: float,
    count: int,
    rng: np.random.Generator,
    kind: SampleKind = SampleKind.MEAN,
) -> Recording:
    """Sample from true time `first_s` on; an instant is the converter point in the middle of its period."""
    begin = clock.shows(first_s) + model.point_s / 2
    taus_s = (errors.tau_current_s, errors.tau_voltage_s)
    low_passes = LowPasses(current, taus_s, clock.shows, begin, model.point_s)
    amps, volts = np.empty(count), np.empty(count)
    peak_a = peak_v = 0.0
    limit_a, limit_v = (OVER_RANGE * each.range_max for each in (model.current, model.voltage))
    for part in _parts(count, model.points):
        size = (part.stop - part.start) * model.points
        through, felt = (points.reshape(-1, model.points) for points in low_passes.take(size))
        through = np.clip(through, -limit_a, limit_a)
        felt = np.clip(source.volts - source.ohm * felt, -limit_v, limit_v)
        peak_a, peak_v = max(peak_a, float(through.max())), max(peak_v, float(felt.max()))
        if kind is SampleKind.MEAN:
            amps[part], volts[part] = through.mean(axis=1), felt.mean(axis=1)
        else:
            amps[part], volts[part] = through[:, model.points // 2], felt[:, model.points // 2]
    amps += errors.noise_factor * model.current.noise_rms * rng.standard_normal(count)
    volts += errors.noise_factor * model.voltage.noise_rms * rng.standard_normal(count)
    if errors.flicker_a:
        amps += errors.flicker_a * flicker(rng, count)
    if errors.hum_a:
        phase = rng.uniform(0, 2 * np.pi)
        amps += errors.hum_a * np.sin(2 * np.pi * 50 * model.period_s * np.arange(count) + phase)
    amps = amps * (1 + errors.gain_current) + errors.offset_current_a
    volts = volts * (1 + errors.gain_voltage) + errors.offset_voltage_v
    return Recording(_read(amps, limit_a), _read(volts, limit_v), peak_a, peak_v)


def flicker(rng: np.random.Generator, count: int) -> Floats:
    """Noise whose power falls with 1/f, of unit root mean square over `count` samples, shape (count,)."""
    size = fft.next_fast_len(count, real=True)
    bins = size // 2 + 1
    spectrum = rng.standard_normal(bins) + 1j * rng.standard_normal(bins)
    spectrum[0] = 0
    spectrum[1:] /= np.sqrt(np.arange(1, bins))
    noise = np.asarray(fft.irfft(spectrum, size)[:count], dtype=np.float64)
    return noise / noise.std()


def _read(values: Floats, limit: float) -> npt.NDArray[np.float32]:
    """An 18-bit reading."""
    step = 2 * limit / 2**18
    return (np.rint(values / step) * step).astype(np.float32)


def _parts(count: int, points: int) -> Iterator[slice]:
    size = max(1, CHUNK // points)
    for first in range(0, count, size):
        yield slice(first, min(first + size, count))
