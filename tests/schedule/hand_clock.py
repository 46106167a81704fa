"""A clock that stands still until the test moves it, and that can be set."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

START = datetime(2026, 1, 1, tzinfo=UTC)


class HandClock:
    """A `labd.clock.Clock` that a test moves."""

    def __init__(self) -> None:
        self.passed = 0.0
        self.offset = timedelta(0)
        self._moved = asyncio.Condition()
        self._due: list[float] = []

    def now(self) -> datetime:
        """What it was set to, and what has passed since."""
        return START + timedelta(seconds=self.passed) + self.offset

    def passed_s(self) -> float:
        """What has passed, whatever it was set to."""
        return self.passed

    async def sleep(self, seconds: float) -> None:
        """Until the test has let so much time pass."""
        until = self.passed + seconds
        self._due.append(until)
        try:
            async with self._moved:
                await self._moved.wait_for(lambda: self.passed >= until)
        finally:
            self._due.remove(until)

    async def move(self, seconds: float) -> None:
        """Let time pass."""
        async with self._moved:
            self.passed += seconds
            self._moved.notify_all()

    def set_by(self, step: timedelta) -> None:
        """Set it, as an administrator sets a host's clock."""
        self.offset += step

    def next_due_s(self, longest_s: float) -> float:
        """How long until somebody who sleeps wakes, `longest_s` at most, s."""
        return max(0.0, min([longest_s, *(due - self.passed for due in self._due)]))
