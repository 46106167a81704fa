"""The signal of a trace over the bins of a picture.

Samples that are wide enough in the picture are shown each by itself, as the span from k to k + 1 that it stands for.
Otherwise a bin of whole samples is shown by its least, its greatest and its mean. Bins of up to a block are made of the
samples, larger ones of the pyramid alone: so a picture reads about as much as it shows, however long the trace is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from drivers.api import Quantity
from labd.trace.layout import BLOCK, POWER
from labd.trace.meta import PowerSource, TraceMeta
from labd.trace.reader import Trace

Floats = npt.NDArray[np.float64]

STEP_PIXELS = 2.0
"""Samples at least this wide in the picture are shown one by one."""

UNITS = {Quantity.CURRENT: "A", Quantity.VOLTAGE: "V", Quantity.POWER: "W", Quantity.ENERGY: "J"}


@dataclass(frozen=True, slots=True)
class Bins:
    """The signal over the picture's bins.

    Args:
        limits_s: Where the bins begin and end, s, float64 of shape (n + 1,).
        low, high, mean: Least, greatest and mean of each bin's finite samples, float64 of shape (n,); NaN without any.
        samples: Samples of the fullest bin; 1 where each is shown by itself.
    """

    limits_s: Floats
    low: Floats
    high: Floats
    mean: Floats
    samples: int


def quantities_of(meta: TraceMeta) -> tuple[Quantity, ...]:
    """What can be shown of a trace; the first one is what is meant unless another is asked for."""
    recorded = tuple(q for q in UNITS if q in meta.quantities)
    if meta.power_source is PowerSource.NONE:
        return recorded
    return recorded + tuple(q for q in (Quantity.POWER, Quantity.ENERGY) if q not in recorded)


def make_bins(trace: Trace, quantity: Quantity, start_s: float, stop_s: float, pixels: int) -> Bins:
    """The signal between two moments in about as many bins as there are pixels.

    Args:
        trace: The trace.
        quantity: One of `quantities_of`.
        start_s, stop_s: The stretch, s; the bins enclose it.
        pixels: Width of the picture.

    Raises:
        TraceError: the stretch does not lie in the trace.
    """
    wide = (stop_s - start_s) / trace.period_s / pixels
    if wide > BLOCK:
        return _of_pyramid(trace, quantity, start_s, stop_s, pixels)
    first, stop = trace.span(start_s, stop_s)
    values = _samples(trace, quantity, first, stop)
    count = len(values)
    if wide * STEP_PIXELS <= 1:
        cuts = np.arange(count + 1)
    else:
        cuts = np.unique(np.linspace(0, count, min(pixels, count) + 1).round().astype(np.int64))
    limits_s: Floats = (first + cuts) * np.float64(trace.period_s)
    at = cuts[:-1]
    finite = np.isfinite(values)
    known = np.where(finite, values, np.nan)
    numbers = np.add.reduceat(finite.astype(np.int64), at)
    total = np.add.reduceat(np.where(finite, values, 0.0), at)
    return Bins(
        limits_s=limits_s,
        low=np.fmin.reduceat(known, at),
        high=np.fmax.reduceat(known, at),
        mean=np.divide(total, numbers, out=np.full(len(at), np.nan), where=numbers > 0),
        samples=int(np.diff(cuts).max()),
    )


def _samples(trace: Trace, quantity: Quantity, first: int, stop: int) -> Floats:
    """Samples `first` to `stop` of a quantity, recorded or made of those that were."""
    if quantity in trace.meta.quantities:
        return trace.samples(quantity, first, stop).astype(np.float64)
    return trace.power(first, stop) * _per_watt(quantity, trace.period_s)


def _of_pyramid(trace: Trace, quantity: Quantity, start_s: float, stop_s: float, pixels: int) -> Bins:
    overview = trace.overview(start_s, stop_s, pixels)
    recorded = quantity in trace.meta.quantities
    envelope = overview.envelopes[quantity.value if recorded else POWER]
    factor = 1.0 if recorded else _per_watt(quantity, trace.period_s)
    return Bins(
        limits_s=overview.limits_s,
        low=envelope.min * factor,
        high=envelope.max * factor,
        mean=envelope.mean * factor,
        samples=int(overview.counts.max()),
    )


def _per_watt(quantity: Quantity, period_s: float) -> float:
    """What a sample of 1 W is in a quantity that follows from power."""
    return period_s if quantity is Quantity.ENERGY else 1.0
