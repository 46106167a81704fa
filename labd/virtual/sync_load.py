"""A board with a resistor across its supply that a pulse pin switches: the sync load, behind the analyzer's terminals.

What the resistor draws is the terminal voltage over its value, from a moment after the pin rose until as long after it
fell. The analyzer sees it, and the supply's current limit holds for both. The board does not see it: what the resistor
lowers the terminal voltage by, over the supply's own resistance or in the current limit, does not reach its brown-out,
and its true energy stays its own. Runs let it pulse only while a board idles.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from labd.virtual.world import Floats, Load

Flags = npt.NDArray[np.bool_]
_KEPT = 4096


class _Switchings:
    """A state over time, off at first; the newest changes of it."""

    def __init__(self) -> None:
        self._times = [-math.inf]
        self._states = [False]

    def change(self, at_s: float, state: bool) -> None:
        """Take a state from this rack time on, or from the last change if that is later."""
        if state is self._states[-1]:
            return
        self._times.append(max(at_s, self._times[-1]))
        self._states.append(state)
        if len(self._times) > 2 * _KEPT:
            del self._times[1:_KEPT], self._states[1:_KEPT]

    def at(self, at_s: float) -> bool:
        """The state at a moment."""
        return self._states[bisect_right(self._times, at_s) - 1]

    def each(self, at_s: Floats) -> Flags:
        """The state at each of these moments."""
        states: Flags = np.array(self._states)[np.searchsorted(self._times, at_s, side="right") - 1]
        return states

    def within(self, edges_s: Floats) -> Floats:
        """Times of the changes between the first and the last edge."""
        low = bisect_right(self._times, float(edges_s[0]))
        return np.array(self._times[low : bisect_right(self._times, float(edges_s[-1]))])


class SyncLoad:
    """A `Load`: what is wired to the channel, with the resistor across it.

    Args:
        wired: What is wired to the channel beside.
        ohm: The resistor's true value, Ω.
        supply_ohm: Between the supply's set voltage and its terminals, Ω.
        switch_s: From the pin's edge to the resistor's, s.
        known_s: Rack time up to which the pin's level is known, s.
        stuck: Whether the switch does nothing.
    """

    def __init__(
        self,
        wired: Load,
        *,
        ohm: float,
        supply_ohm: float,
        switch_s: float,
        known_s: Callable[[], float],
        stuck: Callable[[], bool],
    ) -> None:
        self.ohm = ohm
        self.switch_s = switch_s
        self._wired = wired
        self._share = ohm / (ohm + supply_ohm)
        self._known_s = known_s
        self._stuck = stuck
        self._limit_a = math.inf
        self._closed = _Switchings()
        self._fed = _Switchings()

    def drive(self, level: int, at_s: float) -> None:
        """Take a level of the pin, from rack time `at_s` on; high closes the switch."""
        self._closed.change(at_s + self.switch_s, bool(level) and not self._stuck())

    def supply(self, at_s: float, voltage_v: float, current_limit_a: float) -> None:
        """See `Load.supply`."""
        self._limit_a = current_limit_a
        self._fed.change(at_s, voltage_v > 0)
        self._wired.supply(at_s, voltage_v, current_limit_a)

    def horizon(self) -> float:
        """See `Load.horizon`; a pulse that is out may last as long as its pin was told, and no longer is known."""
        return min(self._wired.horizon(), self._known_s())

    def means(self, edges_s: Floats) -> tuple[Floats, Floats]:
        """See `Load.means`: exact, taken piece by piece between the resistor's edges."""
        pieces, on = self._pieces(edges_s)
        if not on.any():
            return self._wired.means(edges_s)
        amps, volts = self._loaded(*self._wired.means(pieces), on)
        first = np.searchsorted(pieces, edges_s[:-1])
        widths, spans = np.diff(pieces), np.diff(edges_s)
        return np.add.reduceat(amps * widths, first) / spans, np.add.reduceat(volts * widths, first) / spans

    def largest(self, edges_s: Floats) -> tuple[Floats, Floats]:
        """See `Load.largest`: at most so large, where the resistor is on, as its voltage and the board's current."""
        pieces, on = self._pieces(edges_s)
        if not on.any():
            return self._wired.largest(edges_s)
        amps, volts = self._loaded(*self._wired.largest(pieces), on)
        first = np.searchsorted(pieces, edges_s[:-1])
        return np.maximum.reduceat(amps, first), np.maximum.reduceat(volts, first)

    def terminal(self, at_s: float) -> tuple[float, float, bool]:
        """See `Load.terminal`."""
        volts, amps, limited = self._wired.terminal(at_s)
        if not self._on(at_s):
            return volts, amps, limited
        wanted_a = amps + volts * self._share / self.ohm
        total, terminal = self._loaded(np.array([amps]), np.array([volts]), np.array([True]))
        return float(terminal[0]), float(total[0]), limited or wanted_a > self._limit_a

    def _on(self, at_s: float) -> bool:
        return self._closed.at(at_s) and self._fed.at(at_s)

    def _pieces(self, edges_s: Floats) -> tuple[Floats, Flags]:
        """The edges with all changes between them, and whether the resistor draws in each piece."""
        changes = np.concatenate((self._closed.within(edges_s), self._fed.within(edges_s)))
        pieces = np.union1d(edges_s, changes) if len(changes) else edges_s
        return pieces, self._closed.each(pieces[:-1]) & self._fed.each(pieces[:-1])

    def _loaded(self, amps: Floats, volts: Floats, on: Flags) -> tuple[Floats, Floats]:
        """Current and voltage at the terminals, where those of what is wired beside are known."""
        terminal = np.where(on, volts * self._share, volts)
        total = np.where(on, amps + terminal / self.ohm, amps)
        limited = np.where(on, np.minimum(total, self._limit_a), total)
        share = np.divide(limited, total, out=np.ones_like(total), where=total > 0)
        return limited, terminal * share
