"""What the service works on: the rack's configuration, its database, and two ways to move what runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from labd.clock import WALL
from labd.config import LabConfig, LiveConfig
from labd.keep.space import Space, SpaceState
from labd.model.database import Database


def enough_space() -> Space:
    """A lab whose disk nobody watches."""
    return Space(SpaceState.ENOUGH)


def nobody_collects() -> None:
    """A lab without a housekeeper: the next one deletes what was committed."""


@dataclass(frozen=True, slots=True)
class Lab:
    """A lab that can be asked.

    Args:
        live: The rack, as it is now.
        database: What the lab remembers.
        wake: Tells the dispatcher that a job was queued; called on the event loop, after the commit.
        cancel_run: Stops a run that is under way; harmless if it has ended; called on the event loop.
        traces_url: Where the web server lists traces, without a final slash.
        now: Wall-clock time, aware.
        space: How much room for traces there was at the last look.
        archive: Why the archive cannot be used; empty if it can, or there is none.
        collect: Has the traces deleted that were committed to go; called on the event loop, after the commit.
    """

    live: LiveConfig
    database: Database
    wake: Callable[[], None]
    cancel_run: Callable[[int], None]
    traces_url: str = "/v1/traces"
    now: Callable[[], datetime] = WALL.now
    space: Callable[[], Space] = enough_space
    archive: Callable[[], str] = str
    collect: Callable[[], None] = nobody_collects

    @property
    def config(self) -> LabConfig:
        """The rack as it is now."""
        return self.live.now
