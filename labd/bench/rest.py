"""Reads the rests of a recording: what lies outside its windows, in means of about a millisecond."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from drivers.api import Quantity
from labd.bench.window import Recording, reach
from labd.score.noise import BLOCK_S, Rest
from labd.score.reading import Placement
from labd.trace.layout import is_digital
from labd.trace.reader import PIECE, Trace

LONGEST_S = 20.0
"""What is read of a rest at most: of the one before the first window its end, of the others their beginning."""


def trace_rests(trace: Trace, windows: Sequence[Placement]) -> tuple[Rest, ...]:
    """Read the rests of a trace; see `read_rests`."""
    analog = [quantity for quantity in trace.meta.quantities if not is_digital(quantity)]
    return read_rests(trace, analog, windows, period_s=trace.period_s)


def read_rests(
    source: Recording, columns: Iterable[Quantity], windows: Sequence[Placement], *, period_s: float
) -> tuple[Rest, ...]:
    """Read the rests before, between and after windows; what is marked or no number makes its block NaN.

    Args:
        source: Where the samples are.
        columns: Its columns that hold numbers.
        windows: Where the windows lie; without any nothing is known to be a rest.
        period_s: Sample period, s.
    """
    if not windows:
        return ()
    quantities = tuple(columns)
    size = max(1, round(BLOCK_S / period_s))
    span_s = (max(window.stop for window in windows) - min(window.start for window in windows)) * period_s
    return tuple(
        Rest(
            start_s=start * period_s,
            block_s=size * period_s,
            span_s=span_s,
            blocks=_blocks(source, quantities, start, stop, size),
        )
        for start, stop in _stretches(source.rows, windows, math.ceil(LONGEST_S / period_s))
    )


def _stretches(rows: int, windows: Sequence[Placement], longest: int) -> Iterator[tuple[int, int]]:
    """First and end of each rest, without the samples beside the windows' edges."""
    begin = 0
    for number, (first, end) in enumerate(sorted(reach(window) for window in windows)):
        if first > begin:
            yield (max(begin, first - longest), first) if number == 0 else (begin, min(first, begin + longest))
        begin = max(begin, end)
    if rows > begin:
        yield begin, min(rows, begin + longest)


def _blocks(
    source: Recording, columns: Sequence[Quantity], start: int, stop: int, size: int
) -> dict[Quantity, npt.NDArray[np.float64]]:
    """Means of whole blocks of `size` samples."""
    count = (stop - start) // size
    blocks = {quantity: np.empty(count) for quantity in columns}
    step = max(1, PIECE // size)
    for begin in range(0, count, step):
        end = min(begin + step, count)
        for quantity in columns:
            samples = source.samples(quantity, start + begin * size, start + end * size)
            with np.errstate(invalid="ignore"):  # infinities of both signs
                blocks[quantity][begin:end] = samples.astype(np.float64).reshape(-1, size).mean(axis=1)
    spoilt = [
        slice(max(0, (m.start - start) // size), max(0, -((start - m.stop) // size)))
        for m in source.marked(start, stop)
    ]
    for values in blocks.values():
        for span in spoilt:
            values[span] = math.nan
        values[~np.isfinite(values)] = math.nan
    return blocks
