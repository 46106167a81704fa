"""Free space and its two watermarks: below the first no capture starts, below the second traces go if they may.

What was held is let go again a tenth above its watermark, so that a disk that hovers there does not start and stop the
lab with every file that comes and goes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from labd.config import Keep
from labd.errors import StoreError

GB: Final = 1_000_000_000
AGAIN: Final = 1.1
"""How far above a watermark the free space must rise before it counts as above, as a factor."""


class SpaceState(StrEnum):
    """How much room there is."""

    ENOUGH = "enough"
    LOW = "low"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Space:
    """What was seen.

    Args:
        state: How it stands.
        notice: What that means for the lab, one sentence with the figures that led to it; empty while there is enough.
        missing_bytes: How much more would have to be free for captures to start.
    """

    state: SpaceState
    notice: str = ""
    missing_bytes: int = 0

    @property
    def reclaim_bytes(self) -> int:
        """How much room is to be made by letting traces go, bytes."""
        return self.missing_bytes if self.state is SpaceState.CRITICAL else 0


def free_bytes(folder: Path) -> int:
    """Bytes that may still be written to the file system of `folder`. Raises `StoreError` if it cannot be asked."""
    try:
        found = os.statvfs(folder)
    except OSError as error:
        message = f"its free space cannot be told: {error.strerror}"
        raise StoreError(message, where=str(folder), remedy="check that its disk is mounted") from error
    return found.f_bavail * found.f_frsize


def judge(free: int, before: SpaceState, keep: Keep) -> SpaceState:
    """How much room `free` bytes are, if the last judgement was `before`."""
    for state, mark_gb, held in (
        (SpaceState.CRITICAL, keep.critical_gb, before is SpaceState.CRITICAL),
        (SpaceState.LOW, keep.low_gb, before is not SpaceState.ENOUGH),
    ):
        if free < mark_gb * GB * (AGAIN if held else 1.0):
            return state
    return SpaceState.ENOUGH


class SpaceWatch:
    """Remembers what was last seen of one file system.

    Args:
        keep: The watermarks.
        measure: Tells the free bytes; blocks.
    """

    def __init__(self, keep: Keep, measure: Callable[[], int]) -> None:
        self._keep = keep
        self._measure = measure
        self.seen = Space(SpaceState.ENOUGH)
        """What the last look saw."""

    @property
    def captures_start(self) -> bool:
        """Whether a capture may be begun."""
        return self.seen.state is SpaceState.ENOUGH

    def look(self) -> bool:
        """Measure, and return whether the state is another than before. Blocks. Raises what `measure` does."""
        free = self._measure()
        state = judge(free, self.seen.state, self._keep)
        changed = state is not self.seen.state
        notice = _notice(state, free, self._keep) if changed else self.seen.notice
        missing = 0 if state is SpaceState.ENOUGH else int(self._keep.low_gb * GB * AGAIN) - free
        self.seen = Space(state, notice, missing)
        return changed


def _notice(state: SpaceState, free: int, keep: Keep) -> str:
    match state:
        case SpaceState.ENOUGH:
            return ""
        case SpaceState.LOW:
            return f"{free / GB:.3g} GB are free, less than low_gb = {keep.low_gb:g}: no capture starts"
        case SpaceState.CRITICAL:
            gone = "the oldest traces go" if keep.reclaim else "only local copies of archived traces go"
            return (
                f"{free / GB:.3g} GB are free, less than critical_gb = {keep.critical_gb:g}: "
                f"no capture starts, and {gone}"
            )
