"""What a board draws, as exact piecewise-constant current and voltage over rack time.

The record grows at its end and forgets its beginning. All integrals are taken over the stretch that is asked for,
relative to its first edge, so that hours of rack time cost no precision.
"""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from labd.virtual.link import Activity
from labd.virtual.world import Floats

KEEP_S = 60.0
"""How much of the past a record keeps, s: three times the depth of the analyzer's FIFO."""

_ROOM = 1 << 14


class PowerProfile(BaseModel):
    """How a kind of board draws current at its nominal voltage; one board of the kind comes from `draw`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    off_a: float = Field(default=20e-9, ge=0)
    """Leakage into a board that is off or held in reset by too low a voltage, A."""
    boot_a: float = Field(default=6e-3, gt=0)
    idle_a: float = Field(default=0.8e-3, gt=0)
    """Asleep, halted by a debugger, or with no program, A."""
    cpu_a: float = Field(default=9e-3, gt=0)
    memory_a: float = Field(default=10.5e-3, gt=0)
    conv_a: float = Field(default=14e-3, gt=0)
    dense_a: float = Field(default=12.5e-3, gt=0)
    pool_a: float = Field(default=10e-3, gt=0)
    softmax_a: float = Field(default=9.5e-3, gt=0)
    uart_a: float = Field(default=0.6e-3, ge=0)
    """On top of whatever else goes on, while the UART sends, A."""
    capacitance_f: float = Field(default=4.7e-6, gt=0)
    """On the board's rail: it takes this times the voltage as inrush charge, F."""
    inrush_s: float = Field(default=150e-6, gt=0)
    """Time constant of the inrush current, s."""
    bleed_ohm: float = Field(default=10e3, gt=0)
    """What empties the rail once the supply is off, Ω."""
    supply_ohm: float = Field(default=0.02, ge=0)
    """Between the supply's set voltage and its terminals, Ω."""
    brown_out_v: float = Field(default=1.7, gt=0)
    """Below this the board is held in reset, V."""
    reset_s: float = Field(default=5e-3, gt=0)
    """From a good supply voltage, or the end of a reset, to the first cycle, s."""
    spread: float = Field(default=0.03, ge=0, lt=0.2)
    """Standard deviation of a board's currents about these, relative: common to all of its activities."""
    spread_each: float = Field(default=0.01, ge=0, lt=0.2)
    """The same for each activity on its own."""

    def draw(self, rng: np.random.Generator) -> PowerProfile:
        """Return one board of this kind: its currents drawn from normal distributions cut at three deviations."""
        common = 1 + self.spread * float(np.clip(rng.standard_normal(), -3, 3))
        currents = [name for name in type(self).model_fields if name.endswith("_a")]
        each = 1 + self.spread_each * np.clip(rng.standard_normal(len(currents)), -3, 3)
        drawn = {name: getattr(self, name) * common * float(own) for name, own in zip(currents, each, strict=True)}
        return self.model_copy(update=drawn)

    def currents(self) -> Floats:
        """Current of each activity, A, indexed by `Activity`."""
        return np.array([getattr(self, f"{activity.name.lower()}_a") for activity in Activity])


def decay(start: float, time_constant_s: float, span_s: float, parts: int) -> tuple[Floats, Floats]:
    """Return an exponential decay from `start` to 0 as steps that keep its integral.

    Returns:
        Offsets of the steps' starts, s, and the mean value of each step, both of shape (parts,).
    """
    edges = np.linspace(0.0, span_s, parts + 1)
    level = np.exp(-edges / time_constant_s)
    return edges[:-1], start * time_constant_s * -np.diff(level) / np.diff(edges)


class ActivityRecord:
    """Current and voltage of one supply channel: segments in order, each lasting until the next begins.

    Args:
        start_s: Rack time at which the record begins, with 0 A and 0 V.
    """

    def __init__(self, start_s: float = 0.0) -> None:
        self._times = np.empty(_ROOM)
        self._amps = np.empty(_ROOM)
        self._volts = np.empty(_ROOM)
        self._first = 0
        self._stop = 1
        self._times[0], self._amps[0], self._volts[0] = start_s, 0.0, 0.0

    @property
    def start_s(self) -> float:
        """Rack time of the oldest segment that is kept, s."""
        return float(self._times[self._first])

    @property
    def last_s(self) -> float:
        """Rack time at which the newest segment begins, s."""
        return float(self._times[self._stop - 1])

    @property
    def volts(self) -> float:
        """Voltage of the newest segment, V."""
        return float(self._volts[self._stop - 1])

    @property
    def amps(self) -> float:
        """Current of the newest segment, A."""
        return float(self._amps[self._stop - 1])

    def extend(self, starts_s: Floats, amps: Floats, volts: Floats) -> None:
        """Append segments.

        Args:
            starts_s: Their starts, shape (n,), not falling and none before the newest segment's.
            amps: Their currents, A, shape (n,).
            volts: Their voltages, V, shape (n,).
        """
        count = len(starts_s)
        if not count:
            return
        if starts_s[0] < self.last_s or (starts_s[1:] < starts_s[:-1]).any():
            raise ValueError("segments must not begin before those already recorded")
        if self._stop + count > len(self._times):
            self._forget(float(starts_s[0]) - KEEP_S)
            self._make_room(count)
        span = slice(self._stop, self._stop + count)
        self._times[span], self._amps[span], self._volts[span] = starts_s, amps, volts
        self._stop += count

    def _forget(self, before_s: float) -> None:
        kept = self._times[self._first : self._stop]
        self._first += max(0, int(np.searchsorted(kept, before_s, side="right")) - 1)

    def _make_room(self, count: int) -> None:
        held = self._stop - self._first
        room = max(_ROOM, 2 * (held + count))
        for name in ("_times", "_amps", "_volts"):
            old = getattr(self, name)
            new = np.empty(room)
            new[:held] = old[self._first : self._stop]
            setattr(self, name, new)
        self._first, self._stop = 0, held

    def _stretch(self, from_s: float, to_s: float) -> tuple[Floats, Floats, Floats]:
        """Starts relative to `from_s` (the first is 0), amps and volts of the segments in [from_s, to_s]."""
        times = self._times[self._first : self._stop]
        low = int(np.searchsorted(times, from_s, side="right")) - 1
        if low < 0:
            raise ValueError(f"the record begins at {self.start_s} s, {from_s} s is forgotten")
        high = max(low + 1, int(np.searchsorted(times, to_s, side="left")))
        starts = times[low:high] - from_s
        starts[0] = 0.0
        span = slice(self._first + low, self._first + high)
        return starts, self._amps[span], self._volts[span]

    def means(self, edges_s: Floats) -> tuple[Floats, Floats]:
        """Exact mean current [A] and voltage [V] of each interval between consecutive edges.

        Args:
            edges_s: Rack times, shape (n+1,), strictly rising; the newest segment is taken to last on.

        Returns:
            Two float64 arrays of shape (n,).

        Raises:
            ValueError: the first edge lies before what is kept.
        """
        starts, amps, volts = self._stretch(float(edges_s[0]), float(edges_s[-1]))
        edges = edges_s - edges_s[0]
        widths = np.diff(starts)
        index = np.searchsorted(starts, edges, side="right") - 1
        into = edges - starts[index]
        spans = np.diff(edges)

        def mean(values: Floats) -> Floats:
            whole = np.concatenate(([0.0], np.cumsum(values[:-1] * widths)))
            mean_values: Floats = np.diff(whole[index] + values[index] * into) / spans
            return mean_values

        return mean(amps), mean(volts)

    def largest(self, edges_s: Floats) -> tuple[Floats, Floats]:
        """Largest current [A] and voltage [V], without sign, at any moment of each interval; as `means`."""
        starts, amps, volts = self._stretch(float(edges_s[0]), float(edges_s[-1]))
        edges = edges_s - edges_s[0]
        low = np.searchsorted(starts, edges[:-1], side="right") - 1
        high = np.maximum(low + 1, np.searchsorted(starts, edges[1:], side="left"))
        bounds = np.column_stack((low, high)).ravel()

        def top(values: Floats) -> Floats:
            found: Floats = np.maximum.reduceat(np.append(np.abs(values), 0.0), bounds)[::2]
            return found

        return top(amps), top(volts)

    def energy(self, from_s: float, to_s: float) -> float:
        """Exact energy between two rack times, J: the integral of voltage times current.

        Raises:
            ValueError: `from_s` lies before what is kept.
        """
        starts, amps, volts = self._stretch(from_s, to_s)
        widths = np.diff(starts, append=max(0.0, to_s - from_s))
        return float(np.sum(amps * volts * widths))

    def at(self, at_s: float) -> tuple[float, float]:
        """Current [A] and voltage [V] at one moment."""
        _, amps, volts = self._stretch(at_s, at_s)
        return float(amps[0]), float(volts[0])
