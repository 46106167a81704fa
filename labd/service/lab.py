"""What the service works on: the rack's configuration, its database, and two ways to move what runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime

from labd.clock import WALL
from labd.config import LabConfig, LiveConfig
from labd.config.derived import lab_facts
from labd.keep.space import Space, SpaceState
from labd.model.database import Database
from labd.model.states import JobState
from labd.schedule.explain import Explanation
from labd.schedule.reservations import Granting
from labd.service.reload import Reloader


def enough_space() -> Space:
    """A lab whose disk nobody watches."""
    return Space(SpaceState.ENOUGH)


def nothing_runs() -> None:
    """A lab in which nothing can be stopped, since nothing is ever begun."""


def nobody_collects() -> None:
    """A lab without a housekeeper: the next one deletes what was committed."""


def nobody_guards() -> None:
    """A lab without a warden: the next one ends what is due."""


def plain_granting() -> Granting:
    """A lab that knows of its boards what lab.toml alone tells."""
    return Granting(lambda config: lab_facts(config, {}))


def nobody_sweeps() -> None:
    """A lab without a sweeper: the next one begins the nights that were committed."""


def nobody_waits() -> int:
    """A lab without a dispatcher, whose queue nobody counts."""
    return 0


async def nobody_knows(job_id: int) -> Explanation:
    """A lab without a dispatcher, in which nothing is ever begun."""
    return Explanation(job_id, JobState.QUEUED, "nothing is begun in this lab")


@dataclass(frozen=True, slots=True)
class Lab:
    """A lab that can be asked.

    Args:
        live: The rack, as it is now.
        database: What the lab remembers.
        wake: Tells the dispatcher that a job was queued; called on the event loop, after the commit.
        cancel_run: Stops a run that is under way; harmless if it has ended; called on the event loop.
        explain: Why a job has not started; raises `NotFoundError` for one that does not exist.
        queue_length: How many jobs wait.
        traces_url: Where the web server lists traces, without a final slash.
        now: Wall-clock time, aware.
        space: How much room for traces there was at the last look.
        archive: Why the archive cannot be used; empty if it can, or there is none.
        halt: Interrupts all runs and switches all outputs off; called on the event loop, after the commit of a stop.
        go_on: Tells who begins runs, checks and reservations that they may again; called as `halt` is.
        reloader: Takes up another lab.toml; None if the lab was not made from one.
        collect: Has the traces deleted that were committed to go; called on the event loop, after the commit.
        granting: Decides which reservation gets which board.
        reservations_changed: Tells the warden that a reservation was added or changed; called as `collect` is.
        sweeps_changed: Tells the sweeper that a sweep or a night was added or changed; called as `collect` is.
    """

    live: LiveConfig
    database: Database
    wake: Callable[[], None]
    cancel_run: Callable[[int], None]
    explain: Callable[[int], Awaitable[Explanation]] = nobody_knows
    queue_length: Callable[[], int] = nobody_waits
    traces_url: str = "/v1/traces"
    now: Callable[[], datetime] = WALL.now
    space: Callable[[], Space] = enough_space
    archive: Callable[[], str] = str
    collect: Callable[[], None] = nobody_collects
    granting: Granting = field(default_factory=plain_granting)
    reservations_changed: Callable[[], None] = nobody_guards
    sweeps_changed: Callable[[], None] = nobody_sweeps
    halt: Callable[[], None] = nothing_runs
    go_on: Callable[[], None] = nothing_runs
    reloader: Reloader | None = None

    @property
    def config(self) -> LabConfig:
        """The rack as it is now."""
        return self.live.now
