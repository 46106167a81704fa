"""The converter of a power module: a point every 5.12 µs, cut off at the end of the range, and only then averaged.

A burst beyond the range that is shorter than a sample period therefore leaves a mean within the range, and too low. The
least and the largest point of each period tell of it, where they are asked for. Pure: no clock, no server.

One averaged point is 5.1 µs long in the maker's table (specifications guide N6700-90001, p. 52). That the log tracks
the extremes of these points is inferred: the guide says that "Elog samples are averaged, and the minimum and maximum
values are tracked" (N6700C guide, p. 145), and not how long such a sample is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labd.virtual.instrument_errors import AnalyzerErrors, Samples, digitized, observe, sample_edges
from labd.virtual.world import Floats, Load

POINT_S = 5.12e-6
_POINTS_AT_ONCE = 400_000
_SIGMAS = 6.0


@dataclass(frozen=True, slots=True)
class Ends:
    """Largest reading of each range in force, of either sign, A and V."""

    current_a: float
    voltage_v: float


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive periods of one log.

    Args:
        start_s: Rack time of its trigger, s.
        period_s: Period as the instrument reports it, s.
        first: Index of the first period wanted.
        count: How many periods.
    """

    start_s: float
    period_s: float
    first: int
    count: int

    @property
    def points(self) -> int:
        """Points in a period."""
        return max(1, round(self.period_s / POINT_S))


@dataclass(frozen=True, slots=True)
class Tracked:
    """Mean, least and largest point of each period, float32 of shape (n,)."""

    mean: Samples
    least: Samples
    largest: Samples


def averaged(
    load: Load, errors: AnalyzerErrors, ends: Ends, stretch: Stretch, rng: np.random.Generator
) -> tuple[Samples, Samples]:
    """Return mean current [A] and voltage [V] of each period, float32 of shape (count,).

    Periods in which no point can reach the end of a range are made from the load's means at once: cutting would change
    nothing there. `errors` holds the noise of a mean over the period.
    """
    current, voltage = observe(
        load.means,
        errors,
        start_s=stretch.start_s,
        period_s=stretch.period_s,
        first=stretch.first,
        count=stretch.count,
        rng=rng,
    )
    edges = sample_edges(errors, stretch.start_s, stretch.period_s, stretch.first, stretch.count)
    top_a, top_v = load.largest(edges)
    spread = _SIGMAS * stretch.points**0.5
    reach_a = top_a * (1 + abs(errors.gain_current)) + abs(errors.offset_current_a) + spread * errors.noise_current_a
    reach_v = top_v * (1 + abs(errors.gain_voltage)) + abs(errors.offset_voltage_v) + spread * errors.noise_voltage_v
    for low, high in _runs((reach_a >= ends.current_a) | (reach_v >= ends.voltage_v)):
        for begin, stop, amps, volts in _points(
            load, errors, ends, edges[low : high + 1], points=stretch.points, rng=rng
        ):
            current[low + begin : low + stop] = amps.mean(axis=1)
            voltage[low + begin : low + stop] = volts.mean(axis=1)
    return current, voltage


def tracked(
    load: Load, errors: AnalyzerErrors, ends: Ends, stretch: Stretch, rng: np.random.Generator
) -> tuple[Tracked, Tracked]:
    """Return current and voltage of each period with their extremes; arguments as for `averaged`."""
    edges = sample_edges(errors, stretch.start_s, stretch.period_s, stretch.first, stretch.count)
    found = np.empty((6, stretch.count), np.float32)
    for begin, stop, amps, volts in _points(load, errors, ends, edges, points=stretch.points, rng=rng):
        for row, points in ((0, amps), (3, volts)):
            found[row, begin:stop] = points.mean(axis=1)
            found[row + 1, begin:stop] = points.min(axis=1)
            found[row + 2, begin:stop] = points.max(axis=1)
    return Tracked(*found[:3]), Tracked(*found[3:])


def _points(
    load: Load, errors: AnalyzerErrors, ends: Ends, edges: Floats, *, points: int, rng: np.random.Generator
) -> Iterator[tuple[int, int, Floats, Floats]]:
    """The points of consecutive periods, cut off, as they come: periods from and to, current, voltage, (m, points)."""
    noise = points**0.5
    most = max(1, _POINTS_AT_ONCE // points)
    for begin in range(0, len(edges) - 1, most):
        stop = min(begin + most, len(edges) - 1)
        starts, widths = edges[begin:stop], np.diff(edges[begin : stop + 1])
        fine = (starts[:, None] + widths[:, None] * (np.arange(points) / points)).ravel()
        amps, volts = load.means(np.append(fine, edges[stop]))
        amps = digitized(
            amps * (1.0 + errors.gain_current) + errors.offset_current_a,
            noise=errors.noise_current_a * noise,
            lsb=errors.lsb_current_a,
            rng=rng,
        )
        volts = digitized(
            volts * (1.0 + errors.gain_voltage) + errors.offset_voltage_v,
            noise=errors.noise_voltage_v * noise,
            lsb=errors.lsb_voltage_v,
            rng=rng,
        )
        shape = (stop - begin, points)
        yield (
            begin,
            stop,
            np.clip(amps, -ends.current_a, ends.current_a).reshape(shape),
            np.clip(volts, -ends.voltage_v, ends.voltage_v).reshape(shape),
        )


def _runs(flags: npt.NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    steps = np.flatnonzero(np.diff(flags, prepend=False, append=False))
    for low, high in steps.reshape(-1, 2):
        yield int(low), int(high)
