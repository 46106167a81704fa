"""Loads for tests: a resistor that draws a square wave, with all it was fed kept in mind."""

from __future__ import annotations

import numpy as np

from labd.virtual.world import Floats, RackClock


class SquareLoad:
    """Draws `high_a` in the first half of each period and `low_a` in the second while it is powered.

    Args:
        clock: The rack's time, which is also its horizon.
        low_a: Lower current, A.
        high_a: Higher current, A.
        period_s: Of the square wave, s.
    """

    def __init__(self, clock: RackClock, *, low_a: float, high_a: float, period_s: float = 0.01) -> None:
        self.clock = clock
        self.low_a, self.high_a, self.period_s = low_a, high_a, period_s
        self.fed: list[tuple[float, float, float]] = [(0.0, 0.0, 0.0)]

    def supply(self, at_s: float, voltage_v: float, current_limit_a: float) -> None:
        self.fed.append((at_s, voltage_v, current_limit_a))

    def horizon(self) -> float:
        return self.clock.now()

    def _charge(self, at_s: Floats) -> Floats:
        whole, part = np.divmod(at_s, self.period_s)
        half = self.period_s / 2
        high_s = np.minimum(part, half)
        return whole * half * (self.high_a + self.low_a) + high_s * self.high_a + (part - high_s) * self.low_a

    def means(self, edges_s: Floats) -> tuple[Floats, Floats]:
        starts = np.array([at for at, _, _ in self.fed])
        volts = np.array([volt for _, volt, _ in self.fed])
        area = np.concatenate([[0.0], np.cumsum(np.diff(starts) * volts[:-1])])

        def at(edges: Floats) -> tuple[Floats, Floats]:
            index = np.searchsorted(starts, edges, side="right") - 1
            powered = np.concatenate([[0.0], np.cumsum(np.diff(self._charge(starts)) * (volts[:-1] > 0))])
            charge = powered[index] + (self._charge(edges) - self._charge(starts[index])) * (volts[index] > 0)
            return charge, area[index] + (edges - starts[index]) * volts[index]

        charge, flux = at(edges_s)
        width = np.diff(edges_s)
        return np.diff(charge) / width, np.diff(flux) / width

    def largest(self, edges_s: Floats) -> tuple[Floats, Floats]:
        most_v = max(volt for _, volt, _ in self.fed)
        count = len(edges_s) - 1
        return np.full(count, max(abs(self.low_a), abs(self.high_a))), np.full(count, most_v)

    def terminal(self, at_s: float) -> tuple[float, float, bool]:
        _, volt, limit = self.fed[-1]
        if volt == 0:
            return 0.0, 0.0, False
        wanted = self.high_a if at_s % self.period_s < self.period_s / 2 else self.low_a
        return volt, min(wanted, limit), wanted > limit
