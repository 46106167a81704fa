"""A current as exact steps, with straight ramps and exponential decays added: its integrals, and what a low-pass shows.

Nothing is sampled here: ∫I and ∫I² between two times come from formulas, and so does the answer of a first-order
low-pass at any row of times. So the true energy of a window behind a source of voltage U and resistance R,
U ∫I - R ∫I², owes nothing to the converter that is simulated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

Floats = npt.NDArray[np.float64]
Warp = Callable[[Floats], Floats]


@dataclass(frozen=True, slots=True)
class Ramp:
    """A current that rises from 0 at `start_s` by `slope` A/s and is gone at `stop_s`."""

    start_s: float
    stop_s: float
    slope: float


@dataclass(frozen=True, slots=True)
class Decay:
    """A current of `amps` at `start_s` that falls with the time constant `tau_s` and is gone at `stop_s`."""

    start_s: float
    stop_s: float
    amps: float
    tau_s: float


@dataclass(frozen=True, slots=True)
class Current:
    """The current of a board over time.

    Args:
        starts_s: Where each level begins, rising, s, shape (n,); the first level holds before it too.
        amps: The levels, A, shape (n,).
        ramps, decays: What is added to them.
    """

    starts_s: Floats
    amps: Floats
    ramps: Sequence[Ramp] = ()
    decays: Sequence[Decay] = ()

    def charge(self, start_s: float, stop_s: float) -> tuple[float, float]:
        """∫I [A s] and ∫I² [A² s] from `start_s` to `stop_s`.

        Ramps and decays either begin and end with the stretch, or lie outside of it.
        """
        low = max(0, int(np.searchsorted(self.starts_s, start_s, side="right")) - 1)
        high = int(np.searchsorted(self.starts_s, stop_s, side="left"))
        ends = np.append(self.starts_s[low + 1 : high], stop_s) - start_s
        begins = np.append(0.0, ends[:-1])
        level = self.amps[low:high]
        whole = stop_s - start_s
        first = float(level @ (ends - begins))
        second = float(level**2 @ (ends - begins))
        ramps = [ramp for ramp in self.ramps if ramp.start_s < stop_s and ramp.stop_s > start_s]
        decays = [decay for decay in self.decays if decay.start_s < stop_s and decay.stop_s > start_s]
        assert all(each.start_s == start_s and each.stop_s == stop_s for each in (*ramps, *decays))
        m = sum(ramp.slope for ramp in ramps)
        first += m * whole**2 / 2
        second += m**2 * whole**3 / 3 + m * float(level @ (ends**2 - begins**2))
        for decay in decays:
            a, tau = decay.amps, decay.tau_s
            first += a * tau * -np.expm1(-whole / tau)
            second += 2 * a * tau * float(level @ (np.exp(-begins / tau) - np.exp(-ends / tau)))
            second += 2 * m * a * (tau**2 - tau * (whole + tau) * np.exp(-whole / tau))
            for other in decays:
                rate = 1 / tau + 1 / other.tau_s
                second += a * other.amps / rate * -np.expm1(-whole * rate)
        return first, second

    def mean(self, start_s: float, stop_s: float) -> float:
        """Mean current, A."""
        return self.charge(start_s, stop_s)[0] / (stop_s - start_s)


class LowPasses:
    """What first-order low-passes show of a current at evenly spaced points, block after block.

    Exact for the levels: between two points the state decays by a = exp(-step/tau), and a jump by J at a time b in
    between adds J (1 - exp(-(t - b)/tau)) at the point t that follows.

    Args:
        current: What goes in.
        taus_s: Their time constants, s.
        warp: From true time to the time in which the points are even.
        first_s: Time of the first point, in warped time.
        step_s: Distance of the points, s.
    """

    def __init__(self, current: Current, taus_s: Sequence[float], warp: Warp, first_s: float, step_s: float) -> None:
        self._current, self._taus_s, self._warp = current, tuple(taus_s), warp
        self._first_s, self._step_s = first_s, step_s
        self._jumps = np.diff(current.amps)
        self._at = warp(current.starts_s[1:])
        # The step in which each jump lies is that of the point after it.
        self._point = np.ceil((self._at - first_s) / step_s).astype(np.int64)
        self._done = int(np.searchsorted(self._point, 0, side="right"))
        self._level = float(current.amps[0] + self._jumps[: self._done].sum())
        self._decays = [float(np.exp(-step_s / tau_s)) for tau_s in self._taus_s]
        self._states = [np.array([self._level * decay]) for decay in self._decays]
        self._next = 0

    def take(self, count: int) -> list[Floats]:
        """The next `count` points of each, A, float64 of shape (count,)."""
        first, stop = self._next, self._next + count
        upto = self._done + int(np.searchsorted(self._point[self._done :], stop, side="left"))
        inside = slice(self._done, upto)
        place = self._point[inside] - first
        jumps = self._jumps[inside]
        since_s = self._first_s + self._point[inside] * self._step_s - self._at[inside]
        after = self._level + np.cumsum(np.bincount(place, jumps, count))
        before = np.append(self._level, after[:-1])
        found = []
        for k, (tau_s, decay) in enumerate(zip(self._taus_s, self._decays, strict=True)):
            push = (1 - decay) * before
            push += np.bincount(place, jumps * -np.expm1(-since_s / tau_s), count)
            shown, self._states[k] = lfilter([1.0], [1.0, -decay], push, zi=self._states[k])
            self._add_slow(shown, first, tau_s)
            found.append(shown)
        self._level, self._done, self._next = float(after[-1]), upto, stop
        return found

    def _add_slow(self, shown: Floats, first: int, lag_s: float) -> None:
        for each in (*self._current.ramps, *self._current.decays):
            begin, end = self._warp(np.array([each.start_s, each.stop_s])).tolist()
            low = max(0, int(np.ceil((begin - self._first_s) / self._step_s)) - first)
            high = min(len(shown), int(np.ceil((end + 40 * lag_s - self._first_s) / self._step_s)) - first)
            if low >= high:
                continue
            t = self._first_s + (first + np.arange(low, high)) * self._step_s
            gone = np.flatnonzero(t > end)
            left = t[gone] - end
            if isinstance(each, Ramp):
                shown[low:high] += each.slope * _ramp(t - begin, lag_s)
                top = each.slope * (end - begin)
                shown[low + gone] -= each.slope * _ramp(left, lag_s) - top * np.expm1(-left / lag_s)
            else:
                rest = each.amps * float(np.exp(-(end - begin) / each.tau_s))
                shown[low:high] += each.amps * _exponential(t - begin, each.tau_s, lag_s)
                shown[low + gone] -= rest * _exponential(left, each.tau_s, lag_s)


def _ramp(t: Floats, lag_s: float) -> Floats:
    """What a low-pass shows of t."""
    return np.asarray(t + lag_s * np.expm1(-t / lag_s))


def _exponential(t: Floats, tau_s: float, lag_s: float) -> Floats:
    """What a low-pass shows of exp(-t/tau)."""
    return np.asarray(tau_s / (tau_s - lag_s) * (np.exp(-t / tau_s) - np.exp(-t / lag_s)))
