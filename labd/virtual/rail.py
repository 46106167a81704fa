"""A board's supply rail: what the supply's set voltage and limit and the board's demand make of each other.

While the supply is on, the terminals show the set voltage less the drop over the supply's own resistance. A demand
beyond the current limit pulls the voltage down in proportion (constant-current mode). A rail that is switched on takes
its charge through a resistance, as an exponential that the current limit may stretch. A rail that is switched off
loses its charge through the bleeding resistor only: the board stops at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from labd.virtual.activity import PowerProfile, decay
from labd.virtual.world import Floats

_EMPTY_V = 1e-3
_LEAST_LIMIT_A = 1e-6
_DECAY_PARTS = 96
_CHARGE_PARTS = 16
_TIME_CONSTANTS = 8.0


@dataclass(frozen=True, slots=True)
class Segments:
    """Piecewise-constant current and voltage: three arrays of shape (n,), s, A and V."""

    starts_s: Floats
    amps: Floats
    volts: Floats


class Rail:
    """The rail of one board.

    Args:
        profile: The board's own electrical figures.
    """

    def __init__(self, profile: PowerProfile) -> None:
        self._profile = profile
        self.set_v = 0.0
        self.limit_a = math.inf

    @property
    def good(self) -> bool:
        """Whether the set voltage lets a board run that asks for no more than the limit."""
        return self.set_v >= self._profile.brown_out_v

    def limits(self, demand_a: float) -> bool:
        """Whether this demand makes the current limit regulate."""
        return self.set_v > 0 and demand_a > self.limit_a

    def loaded(self, starts_s: Floats, demand_a: Floats) -> Segments:
        """What a demand in amperes, shape (n,), makes of current and voltage while the supply is on."""
        amps = np.minimum(demand_a, self.limit_a)
        share = np.divide(amps, demand_a, out=np.ones_like(amps), where=demand_a > 0)
        return Segments(starts_s, amps, (self.set_v - self._profile.supply_ohm * amps) * share)

    def charging(self, at_s: float, from_v: float) -> tuple[Segments, float]:
        """The inrush from `at_s` on into a rail that still stands at `from_v`; also when it is over, s."""
        profile = self._profile
        series_ohm = profile.inrush_s / profile.capacitance_f
        step_v = max(0.0, self.set_v - from_v)
        limit_a = max(self.limit_a, _LEAST_LIMIT_A)
        limited_v = max(0.0, step_v - limit_a * series_ohm)
        limited_s = limited_v * profile.capacitance_f / limit_a
        starts, amps, volts = [], [], []
        if limited_s:
            edges = np.linspace(0.0, limited_s, _CHARGE_PARTS + 1)
            middle = (edges[:-1] + edges[1:]) / 2
            starts.append(at_s + edges[:-1])
            amps.append(np.full(_CHARGE_PARTS, limit_a))
            volts.append(from_v + limit_a * (middle / profile.capacitance_f + series_ohm))
        offsets, current = decay(
            (step_v - limited_v) / series_ohm, profile.inrush_s, _TIME_CONSTANTS * profile.inrush_s, _DECAY_PARTS
        )
        starts.append(at_s + limited_s + offsets)
        amps.append(current)
        volts.append(self.set_v - profile.supply_ohm * current)
        over_s = at_s + limited_s + _TIME_CONSTANTS * profile.inrush_s
        return Segments(np.concatenate(starts), np.concatenate(amps), np.concatenate(volts)), over_s

    def emptying(self, at_s: float, from_v: float) -> Segments:
        """The rail from `at_s` on with the supply off: it falls from `from_v` to nothing."""
        profile = self._profile
        if from_v <= _EMPTY_V:
            return Segments(np.array([at_s]), np.array([profile.off_a]), np.array([0.0]))
        time_constant_s = profile.bleed_ohm * profile.capacitance_f
        span_s = time_constant_s * math.log(from_v / _EMPTY_V)
        offsets, volts = decay(from_v, time_constant_s, span_s, _DECAY_PARTS)
        starts = np.append(at_s + offsets, at_s + span_s)
        return Segments(starts, np.full(len(starts), profile.off_a), np.append(volts, 0.0))
