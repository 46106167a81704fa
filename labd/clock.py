"""The wall clock that dates the lab's record and makes things due; nothing that is measured is timed by it.

It is handed down from the composition root, so that a simulation can let a fortnight pass in minutes. A wall clock may
be set back or forward at any time: whoever waits for a date sleeps in short pieces and looks again.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from enum import StrEnum
from typing import Protocol


class Clock(Protocol):
    """What time it is, and a way to let time pass."""

    def now(self) -> datetime:
        """The time, aware, in UTC."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Let `seconds` of this clock's time pass, whatever the time is set to meanwhile."""
        ...

    def passed_s(self) -> float:
        """This clock's seconds since some moment, whatever the time was set to: only differences mean anything."""
        ...


class WallClock:
    """The host's own."""

    def now(self) -> datetime:
        """The host's time, in UTC."""
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        """Let so many seconds pass."""
        await asyncio.sleep(seconds)

    def passed_s(self) -> float:
        """The host's monotonic time, s."""
        return time.monotonic()


WALL = WallClock()


class HostClock(StrEnum):
    """Whether the host's wall clock was disciplined when the trace began; it dates traces and times nothing."""

    SYNCHRONISED = "synchronised"
    UNSYNCHRONISED = "unsynchronised"
    UNKNOWN = "unknown"
