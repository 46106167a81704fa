"""What one connection tells: what the broker does not have yet, and then every event in order.

A broker that was told everything up to an event is told what came after. One that has nothing is told what is small at
once, and the jobs in the background, while the lab is online already.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import partial

import aiomqtt
import structlog
from pydantic import BaseModel
from sqlmodel import Session

from labd.bench.clock import host_clock
from labd.mqtt.publishing import publish
from labd.mqtt.recall import Recall
from labd.mqtt.topics import Topics
from labd.service.documents import lab_status
from labd.service.lab import Lab
from labd.service.messages import Told
from labd.service.outbox import (
    everything,
    expired_jobs,
    holds,
    kept_jobs,
    marked,
    read_news,
    set_mark,
    shown_jobs,
    told_until,
)
from labd.service.shelf import Shown

INFLIGHT_MAX = 10
"""Publishes at once; more of them flood the client library's log (measured)."""
GATHER_S = 0.02
"""How long a committed event may wait for others, s."""
YIELD_S = 0.25
"""Longest time that a batch of events waits while many requests are under way, s."""
STATUS_EVERY_S = 1.0
"""Shortest time between two of the lab's status, s."""
NOTE_EVERY_S = 1.0
"""How often a teller that never rests notes how far it came, s."""
EXPIRE_EVERY_S = 3600.0

PAGE = 50
"""Jobs of one read when a broker that has nothing is told all."""
PAGES_PER_S = 10.0
"""Fastest rate of that: what happens meanwhile is told between two pages."""
ENDED_MAX = 10_000
"""Most ended jobs that such a broker is told; older ones are had by `job.get`."""

EVENTS_TOLD = "mqtt.events"
EXPIRED_UNTIL = "mqtt.expired_until_s"

_log = structlog.get_logger(__name__)


class Telling:
    """Publishes on one connection.

    Args:
        lab: The lab.
        client: A connected client; what it raises ends the telling.
        topics: Where things are told.
        since: When the daemon started.
        retention: How long an ended job stays at the broker.
        crowded: Whether many requests are under way.
    """

    def __init__(
        self,
        lab: Lab,
        client: aiomqtt.Client,
        topics: Topics,
        since: datetime,
        retention: timedelta,
        *,
        crowded: Callable[[], bool],
    ) -> None:
        self._lab = lab
        self._client = client
        self._topics = topics
        self._since = since
        self._retention = retention
        self._crowded = crowded
        self.recall = Recall(client, topics)
        self._inflight = asyncio.Semaphore(INFLIGHT_MAX)
        self._turn = asyncio.Lock()
        """Held from reading documents until they are told: an older one never follows a newer one."""
        self._status_due = asyncio.Event()
        self._complete = False
        """Whether the broker has everything up to the last event told."""
        self._last: Told | None = None
        """That event; None as long as there is none."""

    async def follow(self, online: Callable[[], None]) -> None:
        """Tell what the broker lacks and call `online`, then tell each batch of events as it is committed.

        Never returns.
        """
        told = await self.recall.told()
        position = await self._lab.database.read(partial(marked, reader=EVENTS_TOLD))
        self._complete = told is not None and await self._lab.database.read(partial(holds, told=told))
        if told is not None and self._complete:
            _log.info("broker_resumed", told_until=told.until, events_until=position)
            start = told.until
        else:
            start = position
            self._last = await self._lab.database.read(partial(told_until, number=position))
            await self._clear(self._topics.told)
            await self._show_all(partial(everything, lab=self._lab))
        await self._tell_status()
        online()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_events(start, position), name="mqtt-tell-events")
            group.create_task(self._follow_status(), name="mqtt-tell-status")
            if not self._complete:
                group.create_task(self._tell_jobs(), name="mqtt-tell-jobs")

    async def _follow_events(self, position: int, told: int) -> None:
        """Tell news after event `position`; events up to number `told` were told already, and only their documents go.

        Never returns.
        """
        database = self._lab.database
        noted, noted_at = position, time.monotonic()
        while True:
            commits = database.commits
            async with self._turn:
                news = await database.read(partial(read_news, lab=self._lab, after=position))
                await self._show(news.shown)
            if news.events:
                async with asyncio.TaskGroup() as group:  # publishes go out in the order in which they are begun
                    for event in news.events:
                        if event.number > told:
                            group.create_task(self._publish(self._topics.event, event))
                position, at = news.events[-1].number, news.events[-1].at
                if any(event.kind in ("job", "lab") for event in news.events):
                    self._status_due.set()
            if position > noted and (not news.events or time.monotonic() - noted_at > NOTE_EVERY_S):
                self._last = Told(until=position, at=at)
                await database.write(partial(set_mark, reader=EVENTS_TOLD, number=max(position, told)))
                await self._note()
                noted, noted_at = position, time.monotonic()
            elif not news.events:
                await database.committed_since(commits)
                # Replies to whatever made the commit go first, and the events of a burst are told together.
                await asyncio.sleep(GATHER_S)
            else:
                await self._give_way()

    async def _give_way(self) -> None:
        """Let requests go first, but not for ever."""
        until = time.monotonic() + YIELD_S
        while self._crowded() and time.monotonic() < until:
            await asyncio.sleep(GATHER_S)

    async def _note(self) -> None:
        """Let a broker that has everything know how far."""
        async with self._turn:
            if self._complete and self._last is not None:
                await self._publish(self._topics.told, self._last, retain=True)

    async def _follow_status(self) -> None:
        while True:
            await asyncio.sleep(STATUS_EVERY_S)
            await self._status_due.wait()
            self._status_due.clear()
            await self._tell_status()

    async def _tell_jobs(self) -> None:
        """Tell a broker that has nothing the jobs that belong there, newest first, and let it know that it has all."""
        database = self._lab.database
        ended_after = self._lab.now() - self._retention
        jobs = await database.read(partial(kept_jobs, ended_after=ended_after, ended_max=ENDED_MAX))
        for first in range(0, len(jobs), PAGE):
            page = jobs[first : first + PAGE]
            await self._show_all(partial(shown_jobs, lab=self._lab, job_ids=page))
            await asyncio.sleep(1.0 / PAGES_PER_S)
        self._complete = True
        await self._note()
        _log.info("broker_complete", jobs=len(jobs))

    async def expire(self) -> None:
        """Clear jobs from the broker when their retention has ended; never returns."""
        while True:
            until = self._lab.now() - self._retention
            before_s = await self._lab.database.read(partial(marked, reader=EXPIRED_UNTIL))
            if before_s:  # else nothing was ever told that could have expired
                after = datetime.fromtimestamp(before_s, UTC)
                expired = await self._lab.database.read(partial(expired_jobs, after=after, until=until))
                for job_id in expired:
                    await self._clear(self._topics.job(job_id))
                if expired:
                    _log.info("jobs_expired", count=len(expired))
            until_s = int(until.timestamp())
            await self._lab.database.write(partial(set_mark, reader=EXPIRED_UNTIL, number=until_s))
            await asyncio.sleep(EXPIRE_EVERY_S)

    async def _tell_status(self) -> None:
        status = await self._lab.database.read(
            partial(
                lab_status,
                since=self._since,
                traces_url=self._lab.traces_url,
                host_clock=host_clock(),
                space=self._lab.space(),
                archive=self._lab.archive(),
            )
        )
        await self._publish(self._topics.status, status, retain=True)

    async def _show_all(self, read: Callable[[Session], list[Shown]]) -> None:
        async with self._turn:
            await self._show(await self._lab.database.read(read))

    async def _show(self, documents: Iterable[Shown]) -> None:
        """Publish retained documents, and take away those that are gone."""
        async with asyncio.TaskGroup() as group:
            for shown in documents:
                topic = self._topics.below(shown.path)
                if shown.document is None:
                    group.create_task(self._clear(topic))
                else:
                    group.create_task(self._publish(topic, shown.document, retain=True))

    async def _clear(self, topic: str) -> None:
        async with self._inflight:
            await publish(self._client, topic, b"", retain=True)

    async def _publish(self, topic: str, document: BaseModel, *, retain: bool = False) -> None:
        async with self._inflight:
            await publish(self._client, topic, document.model_dump_json(), retain=retain)
