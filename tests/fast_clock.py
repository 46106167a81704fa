"""A wall clock that runs fast, so that a fortnight passes in minutes; restarts of a process do not disturb it.

It is anchored to the host's monotonic clock, which all processes of the host share: whoever is given the same anchor
reads the same time, whenever it was started.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta


@dataclass(frozen=True, slots=True)
class Anchor:
    """Where a fast clock hangs.

    Args:
        start: Its time when the host's monotonic clock read `since_s`; aware.
        speed: Its seconds in one of the host's.
        since_s: Reading of `time.monotonic()`, s.
    """

    start: datetime
    speed: float
    since_s: float

    @classmethod
    def here(cls, start: datetime, speed: float) -> Anchor:
        """One that reads `start` now."""
        return cls(start, speed, time.monotonic())


class FastClock:
    """A `labd.clock.Clock` that can be set, as an administrator sets a host's clock.

    Args:
        anchor: Where it hangs.
    """

    def __init__(self, anchor: Anchor) -> None:
        self._anchor = anchor
        self._set_forward_by = timedelta(0)

    @property
    def speed(self) -> float:
        """Its seconds in one of the host's."""
        return self._anchor.speed

    def now(self) -> datetime:
        """The time, aware, in UTC."""
        return self._anchor.start.astimezone(UTC) + timedelta(seconds=self.passed_s()) + self._set_forward_by

    async def sleep(self, seconds: float) -> None:
        """Let `seconds` of this clock pass, whatever it is set to meanwhile."""
        await asyncio.sleep(seconds / self._anchor.speed)

    def passed_s(self) -> float:
        """This clock's seconds since its anchor's, whatever it was set to."""
        return (time.monotonic() - self._anchor.since_s) * self._anchor.speed

    def set(self, now: datetime) -> None:
        """Make it read `now`; what sleeps sleeps on."""
        self._set_forward_by += now - self.now()
