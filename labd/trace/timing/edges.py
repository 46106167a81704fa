"""Which edges of a timing pin count.

A board's pin chatters: the falling edge that opens a window comes with a rising one a few microseconds later, and some
boards pulse twice. EnergyRunner keeps an edge only if it is not closer than a hold-off to the one that it kept before.
The same rule holds here, exactly:

- edges of other pins and of the other polarity are dropped first, they neither count nor hold anything off;
- the first edge left is kept;
- each further edge is kept if its time less the time of the *last kept* edge is at least the hold-off
  (an edge at exactly the hold-off is kept); a dropped edge does not prolong the hold-off.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from drivers.api import Edge
from labd.errors import TraceError


class Polarity(StrEnum):
    """Direction of an edge."""

    FALLING = "falling"
    RISING = "rising"

    @property
    def level(self) -> int:
        """The pin's level after such an edge."""
        return 0 if self is Polarity.FALLING else 1


def hold_off(
    edges: Sequence[Edge], *, pin: int, polarity: Polarity, tick_rate_hz: float, hold_off_s: float
) -> tuple[Edge, ...]:
    """Return the edges that count, by the rule above.

    Args:
        edges: Edges of one source in the order of their running numbers.
        pin: The pin that matters.
        polarity: The direction that matters.
        tick_rate_hz: Declared rate of the source's clock, Hz.
        hold_off_s: Least distance of two kept edges, s; 0 keeps all.

    Raises:
        TraceError: the edges' time goes backwards.
    """
    kept: list[Edge] = []
    before: Edge | None = None
    for edge in edges:
        if before is not None and edge.ticks < before.ticks:
            raise TraceError(
                f"edge {edge.sequence} at tick {edge.ticks} lies before edge {before.sequence} at tick {before.ticks}",
                remedy="the edge source was restarted in the trace, or its reports were mixed up",
            )
        before = edge
        if edge.pin != pin or edge.level != polarity.level:
            continue
        if not kept or edge.ticks - kept[-1].ticks >= hold_off_s * tick_rate_hz:
            kept.append(edge)
    return tuple(kept)
