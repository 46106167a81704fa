"""How long a board was needed: the time in which it worked, started, emptied its rail, or a byte was on its way."""

from __future__ import annotations


class BusyMeter:
    """Adds up busy time; it may be told ahead of time, and then counts only what has come."""

    def __init__(self) -> None:
        self._total_s = 0.0
        self._since_s: float | None = None
        self._rest_s = 0.0

    def work(self, from_s: float) -> None:
        """From this rack time on it is busy, if it is not already."""
        if self._since_s is None:
            self._since_s = max(from_s, self._rest_s)

    def rest(self, from_s: float) -> None:
        """From this rack time on it is not; time told as busy beyond it is taken back."""
        if self._since_s is not None:
            self._total_s += max(0.0, from_s - self._since_s)
            self._since_s = None
        elif from_s < self._rest_s:
            self._total_s -= self._rest_s - from_s
        self._rest_s = from_s

    def busy_s(self, now_s: float) -> float:
        """Busy time up to now, s."""
        if self._since_s is None:
            return self._total_s - max(0.0, self._rest_s - now_s)
        return self._total_s + max(0.0, now_s - self._since_s)
