"""Reads what a window's score is made of: moments of its whole samples, and the power around its two cut ones."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from drivers.api import Interval, Quantity
from labd.score.edge_sample import EdgePower
from labd.score.moments import Tally
from labd.score.product import Source
from labd.score.reading import Placement, WindowReading
from labd.score.sampling import PARTS
from labd.trace.reader import PIECE

ABOUT = 256
"""Samples on each side of a window's edges that the source's resistance is found in."""


class Recording(Protocol):
    """Samples that a window can be read from: a trace of labd's, or a capture of another runner's."""

    @property
    def rows(self) -> int:
        """Number of samples."""
        ...

    def samples(self, quantity: Quantity, start: int, stop: int) -> npt.NDArray[Any]:
        """Samples `start` to `stop` of a column."""
        ...

    def power(self, start: int, stop: int) -> npt.NDArray[np.float64]:
        """Power of the same samples, W."""
        ...

    def marked(self, start: float, stop: float) -> tuple[Interval, ...]:
        """Marked stretches that touch them."""
        ...


def reach(placement: Placement) -> tuple[int, int]:
    """First sample that the score of a window looks at, and the one after the last: its edges' neighbours too."""
    near = placement.neighbours
    return math.floor(placement.start) - near, math.floor(placement.stop) + 1 + near


def is_recorded(placement: Placement, rows: int) -> bool:
    """Whether all these samples were recorded, and the window is longer than an edge's neighbours."""
    first, end = reach(placement)
    length = math.floor(placement.stop) - math.floor(placement.start)
    return first >= 0 and end <= rows and length > placement.neighbours


def read_window(
    source: Recording, columns: Iterable[Quantity], placement: Placement, *, trial: int, inferences: int
) -> WindowReading:
    """Read a window of which `is_recorded` holds.

    Args:
        source: Where the samples are.
        columns: Its columns that hold numbers.
        placement: Where the window lies.
        trial, inferences: Number of the trial, and N.
    """
    first, last, near = math.floor(placement.start), math.floor(placement.stop), placement.neighbours
    tallies = {quantity: Tally() for quantity in columns}
    power = Tally()
    parts = []
    for begin, end in pairwise(_parts(placement, inferences)):
        part = Tally()
        for start in range(begin, end, PIECE):
            stop = min(start + PIECE, end)
            watts = source.power(start, stop)
            power.add(watts)
            part.add(watts)
            for quantity, tally in tallies.items():
                tally.add(source.samples(quantity, start, stop))
        parts.append(part.moments().mean)
    return WindowReading(
        trial=trial,
        inferences=inferences,
        placement=placement,
        whole=last - first - 1,
        power_w=power.moments().mean,
        moments={quantity: tally.moments() for quantity, tally in tallies.items()},
        first=EdgePower(
            outside=source.power(first - near, first)[::-1],
            cut=float(source.power(first, first + 1)[0]),
            inside=source.power(first + 1, first + 1 + near),
            share=first + 1 - placement.start,
        ),
        last=EdgePower(
            outside=source.power(last + 1, last + 1 + near),
            cut=float(source.power(last, last + 1)[0]),
            inside=source.power(last - near, last)[::-1],
            share=placement.stop - last,
        ),
        marked=source.marked(*reach(placement)),
        power=power.moments(),
        parts_w=tuple(parts),
    )


def _parts(placement: Placement, inferences: int) -> list[int]:
    """Ends of parts of whole inferences, rounded to whole samples: from the first whole one to the last."""
    first, last = math.floor(placement.start) + 1, math.floor(placement.stop)
    count = min(PARTS, inferences)
    whole = [round(part * inferences / count) for part in range(1, count)]
    ends = [round(placement.start + (placement.stop - placement.start) * done / inferences) for done in whole]
    return [first, *sorted({end for end in ends if first < end < last}), last]


def source_of(source: Recording, placements: Iterable[Placement], peak_a: float | None) -> Source:
    """How the voltage falls with the current, by least squares over the samples about the windows' edges.

    Args:
        source: Where the samples are; it has both columns.
        placements: Where the windows lie.
        peak_a: Largest current that was seen between samples too, A; None if nobody watched.
    """
    amps, volts = [], []
    for placement in placements:
        for edge in (placement.start, placement.stop):
            start, stop = max(0, math.floor(edge) - ABOUT), min(source.rows, math.floor(edge) + ABOUT)
            amps.append(source.samples(Quantity.CURRENT, start, stop).astype(np.float64))
            volts.append(source.samples(Quantity.VOLTAGE, start, stop).astype(np.float64))
    current, voltage = np.concatenate(amps), np.concatenate(volts)
    known = np.isfinite(current) & np.isfinite(voltage)
    if np.count_nonzero(known) < 3:
        return Source(0.0, peak_a=peak_a)
    current, voltage = current[known] - current[known].mean(), voltage[known] - voltage[known].mean()
    spread = float(current @ current)
    if spread <= 0:
        return Source(0.0, peak_a=peak_a)
    slope = float(current @ voltage) / spread
    rest = voltage - slope * current
    return Source(max(0.0, -slope), math.sqrt(float(rest @ rest) / (len(rest) - 2) / spread), peak_a)
