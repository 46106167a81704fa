"""What a board takes from its supply: demand that is known ahead, made into the record as rack time comes.

A board's program runs ahead of rack time, but its supply may be changed at any moment. So demand waits here until
`settle` turns it into exact current and voltage under the supply that was on at that time.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from labd.virtual.activity import ActivityRecord, PowerProfile
from labd.virtual.rail import Rail, Segments
from labd.virtual.world import Floats


@dataclass(frozen=True, slots=True)
class _Demand:
    starts_s: Floats
    amps: Floats
    running: bool
    """Whether a program asks, which a low voltage stops; a board held in reset goes on asking."""


class Consumption:
    """Demand, rail and record of one board.

    Args:
        profile: The board's own electrical figures.
    """

    def __init__(self, profile: PowerProfile) -> None:
        self.record = ActivityRecord()
        self.rail = Rail(profile)
        self._brown_out_v = profile.brown_out_v
        self._pending: deque[_Demand | Segments] = deque()
        self._demand_a = profile.off_a
        self._running = False

    @property
    def limited(self) -> bool:
        """Whether the supply's current limit regulates as of the last `settle`."""
        return self.rail.limits(self._demand_a)

    def ask(self, starts_s: Floats, amps: Floats) -> None:
        """Add a running program's demand [A] from these rack times on, shape (n,), after all that was added before."""
        if len(starts_s):
            self._pending.append(_Demand(starts_s, amps, running=True))

    def rest(self, from_s: float, amps: float) -> None:
        """Add the demand of a board that runs no program, from `from_s` on or where what was added before ends."""
        last_s = float(self._pending[-1].starts_s[-1]) if self._pending else self.record.last_s
        self._pending.append(_Demand(np.array([max(from_s, last_s)]), np.array([amps]), running=False))

    def drop(self) -> None:
        """Forget all demand that is not settled."""
        self._pending.clear()

    def follow(self, at_s: float) -> None:
        """Take a changed supply into account from `at_s` on, settled up to there; demand stays as it is."""
        self._pending.appendleft(_Demand(np.array([at_s]), np.array([self._demand_a]), self._running))

    def force(self, segments: Segments) -> None:
        """Forget all demand; from its first start on the rail itself decides: inrush, or emptying."""
        self._pending.clear()
        self._pending.append(segments)

    def settle(self, to_s: float) -> float | None:
        """Record what happens up to `to_s`; return the time of a brown-out if there is one, where it stops.

        The demand that a brown-out has made void is forgotten.
        """
        while self._pending:
            chunk = self._pending[0]
            count = int(np.searchsorted(chunk.starts_s, to_s, side="right"))
            if not count:
                break
            self._pending.popleft()
            now, later = _split(chunk, count)
            if later is not None:
                self._pending.appendleft(later)
            if isinstance(now, Segments):
                self.record.extend(now.starts_s, now.amps, now.volts)
                self._demand_a, self._running = float(now.amps[-1]), False
                continue
            drawn = self.rail.loaded(now.starts_s, now.amps)
            self._running = now.running
            below = np.flatnonzero(now.running & (drawn.volts < self._brown_out_v))
            kept = int(below[0]) if len(below) else count
            self.record.extend(drawn.starts_s[:kept], drawn.amps[:kept], drawn.volts[:kept])
            if kept:
                self._demand_a = float(now.amps[kept - 1])
            if kept < count:
                self._pending.clear()
                return float(drawn.starts_s[kept])
        return None


def _split(chunk: _Demand | Segments, count: int) -> tuple[_Demand | Segments, _Demand | Segments | None]:
    if count == len(chunk.starts_s):
        return chunk, None
    if isinstance(chunk, Segments):
        return (
            Segments(chunk.starts_s[:count], chunk.amps[:count], chunk.volts[:count]),
            Segments(chunk.starts_s[count:], chunk.amps[count:], chunk.volts[count:]),
        )
    return (
        _Demand(chunk.starts_s[:count], chunk.amps[:count], chunk.running),
        _Demand(chunk.starts_s[count:], chunk.amps[count:], chunk.running),
    )
