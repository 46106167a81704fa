"""What the parts of a virtual rack know of each other: one time, and loads that hang on supply channels.

Rack time is in seconds since the rack started, as float64, and runs `speed` times as fast as the host's monotonic
clock. Only the rack's own parts use it: the daemon sees bytes on ports, as with real devices.
"""

from __future__ import annotations

import time
from typing import Protocol

import numpy as np
import numpy.typing as npt

from labd.errors import LabError

Floats = npt.NDArray[np.float64]


class RackClock:
    """The rack's one time.

    Args:
        speed: Rack seconds per host second.
    """

    def __init__(self, speed: float = 1.0) -> None:
        self.speed = speed
        self._start = time.monotonic()

    def now(self) -> float:
        """Rack time, s."""
        return (time.monotonic() - self._start) * self.speed

    def host_delay(self, rack_s: float) -> float:
        """How long the host waits for rack time `rack_s` to come, s; 0 if it has passed."""
        return max(0.0, rack_s / self.speed - (time.monotonic() - self._start))


class Load(Protocol):
    """What is wired to one supply channel: a board as its supply and analyzer see it."""

    def supply(self, at_s: float, voltage_v: float, current_limit_a: float) -> None:
        """From rack time `at_s` on the channel puts out this voltage, within this limit; 0 V is output off."""
        ...

    def horizon(self) -> float:
        """Rack time up to which the load's current is known, s; never later than now."""
        ...

    def means(self, edges_s: Floats) -> tuple[Floats, Floats]:
        """True mean current [A] and voltage [V] of each interval between consecutive `edges_s`.

        Args:
            edges_s: Rack times, shape (n+1,), rising, none later than `horizon()`.

        Returns:
            Two float64 arrays of shape (n,).
        """
        ...

    def largest(self, edges_s: Floats) -> tuple[Floats, Floats]:
        """Largest true current [A] and voltage [V], without sign, at any moment of each interval; as `means`."""
        ...

    def terminal(self, at_s: float) -> tuple[float, float, bool]:
        """True voltage [V] and current [A] at this moment, and whether the current limit regulates (CC)."""
        ...


class UnpoweredError(LabError):
    """A probe cannot talk to a board that has no power."""

    kind = "unpowered"


class FlashTarget(Protocol):
    """A board as its debug probe sees it."""

    def powered(self) -> bool:
        """Whether the probe finds a running supply."""
        ...

    def flash_read(self) -> bytes:
        """What the board's flash holds; empty if it is erased. Raises `UnpoweredError`."""
        ...

    def flash_write(self, image: bytes) -> None:
        """Halt the board and replace what its flash holds; empty erases. Raises `UnpoweredError`."""
        ...

    def reset(self) -> None:
        """Restart the board from its flash. Raises `UnpoweredError`."""
        ...
