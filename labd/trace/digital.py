"""Edges of a pin that was recorded beside the samples: a bit of the `digital` column.

An edge lies at the first sample with the new level; its ticks are that sample's index, so the tick rate is the sample
rate. Where samples were lost the column holds zeros that no pin has shown: no edge is found at or in such a stretch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from drivers.api import Edge, Interval
from labd.errors import TraceError
from labd.trace.timing.edges import Polarity

Ints = npt.NDArray[np.int64]

PINS = 8


def digital_edges(
    pieces: Iterable[tuple[int, npt.NDArray[np.uint8]]],
    *,
    pin: int,
    polarity: Polarity,
    hold_off: float,
    marked: Sequence[Interval] = (),
) -> tuple[Edge, ...]:
    """Return the edges that count, by the rule of `labd.trace.timing.edges`.

    Args:
        pieces: The column in consecutive pieces, each with the index of its first sample.
        pin: Bit of the column.
        polarity: The direction that matters.
        hold_off: Least distance of two kept edges, in samples.
        marked: Marked intervals; gaps and overflows show no edges, where a reading is missing the levels are there.

    Raises:
        TraceError: a byte has no such bit.
    """
    if not 0 <= pin < PINS:
        raise TraceError(f"pin {pin} is not one of the {PINS} bits of the digital column")
    lost = [mark for mark in marked if mark.kind.lost]
    least = max(0.0, hold_off - 1e-9 * max(1.0, hold_off))
    kept: list[Edge] = []
    before: int | None = None
    seen = 0
    for first, values in pieces:
        if not len(values):
            continue
        bits = (values >> np.uint8(pin)) & np.uint8(1)
        changes = first + 1 + np.flatnonzero(bits[1:] != bits[:-1])
        if before is not None and int(bits[0]) != before:
            changes = np.concatenate([[first], changes])
        before = int(bits[-1])
        changes = _where_known(changes, lost)
        levels = bits[changes - first]
        numbers = seen + np.arange(len(changes))
        seen += len(changes)
        wanted = np.flatnonzero(levels == polarity.level)
        at = int(np.searchsorted(changes[wanted], kept[-1].ticks + least)) if kept else 0
        kept += [
            Edge(pin=pin, level=polarity.level, ticks=int(changes[one]), sequence=int(numbers[one]))
            for one in wanted[_kept(changes[wanted], at, least)].tolist()
        ]
    return tuple(kept)


def _where_known(changes: Ints, lost: Sequence[Interval]) -> Ints:
    """Those changes on whose both sides samples were recorded."""
    for mark in lost:
        changes = changes[(changes < mark.start) | (changes > mark.stop)]
    return changes


def _kept(places: Ints, at: int, least: float) -> list[int]:
    """Which edges count, from number `at` on: each far enough from the one before that counts."""
    found = []
    while at < len(places):
        found.append(at)
        at = max(at + 1, int(np.searchsorted(places, places[at] + least)))
    return found
