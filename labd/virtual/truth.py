"""What really happened between two falling edges of a board's timing pin: known to the rack alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

KEPT_WINDOWS = 512
_PIECE_S = 10.0


class TrueWindow(BaseModel):
    """The span between two consecutive falling edges of a board's timing pin.

    `opened_ticks` and `closed_ticks` are what the timestamper reported for the edges, None where it did not; by them
    a reader finds the window that labd measured.
    """

    model_config = ConfigDict(frozen=True)

    board: str
    opened_s: float
    duration_s: float
    energy_j: float
    opened_ticks: int | None
    closed_ticks: int | None


@dataclass(slots=True)
class _Open:
    opened_s: float
    ticks: int | None
    counted_s: float
    energy_j: float


class Truth:
    """The windows of one board, the newest `KEPT_WINDOWS` of them.

    Args:
        board: Its id.
        energy: Exact energy between two rack times of the recent past, J.
    """

    def __init__(self, board: str, energy: Callable[[float, float], float]) -> None:
        self._board = board
        self._energy = energy
        self._open: _Open | None = None
        self.windows: deque[TrueWindow] = deque(maxlen=KEPT_WINDOWS)

    def falling(self, at_s: float, ticks: int | None) -> None:
        """Take a falling edge at its true rack time, with the ticks that were reported for it."""
        if self._open is not None:
            self._count(self._open, at_s)
            self.windows.append(
                TrueWindow(
                    board=self._board,
                    opened_s=self._open.opened_s,
                    duration_s=at_s - self._open.opened_s,
                    energy_j=self._open.energy_j,
                    opened_ticks=self._open.ticks,
                    closed_ticks=ticks,
                )
            )
        self._open = _Open(at_s, ticks, at_s, 0.0)

    def advance(self, to_s: float) -> None:
        """Count what is known up to `to_s`, before the record forgets it."""
        if self._open is not None and to_s - self._open.counted_s > _PIECE_S:
            self._count(self._open, to_s)

    def _count(self, window: _Open, to_s: float) -> None:
        window.energy_j += self._energy(window.counted_s, to_s)
        window.counted_s = to_s
