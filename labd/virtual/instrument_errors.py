"""What a power analyzer makes of the truth: gain, offset, noise, steps, and a clock and a start of its own.

Pure: no server, no clock. The errors of one instrument are drawn once from declared distributions; `observe` then
turns the true means of a load into the samples that this instrument would have recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from drivers.api import Accuracy
from labd.virtual.world import Floats

Samples = npt.NDArray[np.float32]
LoadMeans = Callable[[Floats], tuple[Floats, Floats]]
"""True mean current [A] and voltage [V] between consecutive rack times; as `Load.means`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalyzerSpec:
    """Declared limits of error of one analyzer on one pair of ranges; what `AnalyzerErrors.draw` draws from.

    Args:
        gain_current: Half width of the relative gain error of the current; `gain_voltage` likewise.
        offset_current_a: Half width of the offset of the current, A; `offset_voltage_v` in V.
        noise_current_a: Standard deviation of one sample, A; `noise_voltage_v` in V.
        lsb_current_a: Step of a current reading, A; `lsb_voltage_v` in V; 0 for none.
        clock_ppm: Half width of the error of the sample clock, ppm.
        start_offset_max_s: The first sample begins between 0 and this after the trigger, s.
    """

    gain_current: float
    offset_current_a: float
    gain_voltage: float
    offset_voltage_v: float
    noise_current_a: float
    noise_voltage_v: float
    lsb_current_a: float = 0.0
    lsb_voltage_v: float = 0.0
    clock_ppm: float = 0.0
    start_offset_max_s: float = 0.0

    @classmethod
    def from_accuracy(
        cls,
        current: Accuracy,
        voltage: Accuracy,
        *,
        clock_ppm: float,
        start_offset_max_s: float,
        lsb_current_a: float = 0.0,
        lsb_voltage_v: float = 0.0,
    ) -> Self:
        """Take the limits that a driver declares for the two ranges in force."""
        return cls(
            gain_current=current.gain,
            offset_current_a=current.offset,
            gain_voltage=voltage.gain,
            offset_voltage_v=voltage.offset,
            noise_current_a=current.noise_rms,
            noise_voltage_v=voltage.noise_rms,
            lsb_current_a=lsb_current_a,
            lsb_voltage_v=lsb_voltage_v,
            clock_ppm=clock_ppm,
            start_offset_max_s=start_offset_max_s,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalyzerErrors:
    """The errors that one analyzer has for good (gain, offset, clock, start) and the size of those that vary (noise).

    Gains are relative, `clock_ppm` positive when the instrument's period is longer than it says.
    """

    gain_current: float = 0.0
    offset_current_a: float = 0.0
    gain_voltage: float = 0.0
    offset_voltage_v: float = 0.0
    noise_current_a: float = 0.0
    noise_voltage_v: float = 0.0
    lsb_current_a: float = 0.0
    lsb_voltage_v: float = 0.0
    clock_ppm: float = 0.0
    start_offset_s: float = 0.0

    @classmethod
    def draw(cls, spec: AnalyzerSpec, rng: np.random.Generator) -> Self:
        """Draw one instrument: each error is rectangular within its half width, the start offset within its range."""
        unit = rng.uniform(-1.0, 1.0, size=5)
        return cls(
            gain_current=float(unit[0]) * spec.gain_current,
            offset_current_a=float(unit[1]) * spec.offset_current_a,
            gain_voltage=float(unit[2]) * spec.gain_voltage,
            offset_voltage_v=float(unit[3]) * spec.offset_voltage_v,
            noise_current_a=spec.noise_current_a,
            noise_voltage_v=spec.noise_voltage_v,
            lsb_current_a=spec.lsb_current_a,
            lsb_voltage_v=spec.lsb_voltage_v,
            clock_ppm=float(unit[4]) * spec.clock_ppm,
            start_offset_s=float(rng.uniform(0.0, 1.0)) * spec.start_offset_max_s,
        )

    @classmethod
    def none(cls) -> Self:
        """Return an instrument that shows the truth."""
        return cls()

    def period_s(self, nominal_s: float) -> float:
        """Return the true length of a period that the instrument calls `nominal_s`, s."""
        return nominal_s * (1.0 + 1e-6 * self.clock_ppm)


def observe(
    load_means: LoadMeans,
    errors: AnalyzerErrors,
    *,
    start_s: float,
    period_s: float,
    first: int,
    count: int,
    rng: np.random.Generator,
) -> tuple[Samples, Samples]:
    """Return samples `first` to `first + count` of a capture as this instrument records them.

    Sample k is the mean over its own true period, which begins at
    `start_s + errors.start_offset_s + k * errors.period_s(period_s)` in rack time.

    Args:
        load_means: The truth, asked once with `count + 1` edges.
        errors: The instrument.
        start_s: Rack time of the trigger, s.
        period_s: Sample period as the instrument reports it, s.
        first: Index of the first sample wanted.
        count: How many samples.
        rng: Source of the noise.

    Returns:
        Current [A] and voltage [V], float32 of shape (count,).
    """
    current, voltage = load_means(sample_edges(errors, start_s, period_s, first, count))
    current = current * (1.0 + errors.gain_current) + errors.offset_current_a
    voltage = voltage * (1.0 + errors.gain_voltage) + errors.offset_voltage_v
    return (
        digitized(current, noise=errors.noise_current_a, lsb=errors.lsb_current_a, rng=rng).astype(np.float32),
        digitized(voltage, noise=errors.noise_voltage_v, lsb=errors.lsb_voltage_v, rng=rng).astype(np.float32),
    )


def sample_edges(errors: AnalyzerErrors, start_s: float, period_s: float, first: int, count: int) -> Floats:
    """Rack times between which samples `first` to `first + count` lie, s, shape (count + 1,); see `observe`."""
    index = np.arange(first, first + count + 1, dtype=np.float64)
    edges: Floats = start_s + errors.start_offset_s + errors.period_s(period_s) * index
    return edges


def digitized(value: Floats, *, noise: float, lsb: float, rng: np.random.Generator) -> Floats:
    """Add white noise of this standard deviation and round to steps of `lsb`; 0 for neither."""
    if noise:
        value = value + rng.normal(0.0, noise, size=len(value))
    if lsb:
        value = np.rint(value / lsb) * lsb
    return value
