"""What one connection tells: first all that the lab keeps at the broker, then every event in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import partial

import aiomqtt
import structlog
from pydantic import BaseModel

from labd.bench.clock import host_clock
from labd.mqtt.publishing import publish
from labd.mqtt.topics import Topics
from labd.service.documents import (
    board_documents,
    instrument_documents,
    job_documents,
    lab_status,
    removed_devices,
)
from labd.service.lab import Lab
from labd.service.outbox import expired_jobs, kept_jobs, marked, read_news, set_mark

INFLIGHT_MAX = 10
"""Publishes at once; more of them flood the client library's log (measured)."""
PAGE = 50
"""Jobs of one read when all are told."""
GATHER_S = 0.02
"""How long a committed event may wait for others, s."""
EXPIRE_EVERY_S = 3600.0

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
    """

    def __init__(self, lab: Lab, client: aiomqtt.Client, topics: Topics, since: datetime, retention: timedelta) -> None:
        self._lab = lab
        self._client = client
        self._topics = topics
        self._since = since
        self._retention = retention
        self._inflight = asyncio.Semaphore(INFLIGHT_MAX)

    async def follow(self, told: Callable[[], None]) -> None:
        """Tell everything, call `told`, then tell each batch of events as it is committed; never returns."""
        database = self._lab.database
        position = await database.read(partial(marked, reader=EVENTS_TOLD))
        await self._tell_all()
        told()
        while True:
            commits = database.commits
            news = await database.read(partial(read_news, lab=self._lab, after=position))
            if not news.events:
                await database.committed_since(commits)
                # Replies to whatever made the commit go first, and the events of a burst are told together.
                await asyncio.sleep(GATHER_S)
                continue
            await self._keep((self._topics.job(job.id), job) for job in news.jobs)
            await self._keep((self._topics.board(board.id), board) for board in news.boards)
            await self._keep((self._topics.instrument(row.id), row) for row in news.instruments)
            if news.jobs or any(event.kind == "lab" for event in news.events):
                await self._tell_status()
            async with asyncio.TaskGroup() as group:  # publishes go out in the order in which they are begun
                for event in news.events:
                    group.create_task(self._publish(self._topics.event, event))
            position = news.events[-1].number
            await database.write(partial(set_mark, reader=EVENTS_TOLD, number=position))

    async def expire(self) -> None:
        """Clear jobs from the broker when their retention has ended; never returns."""
        while True:
            until = self._lab.now() - self._retention
            before_s = await self._lab.database.read(partial(marked, reader=EXPIRED_UNTIL))
            after = datetime.fromtimestamp(before_s, UTC)
            expired = await self._lab.database.read(partial(expired_jobs, after=after, until=until))
            for job_id in expired:
                await publish(self._client, self._topics.job(job_id), b"", retain=True)
            until_s = int(until.timestamp())
            await self._lab.database.write(partial(set_mark, reader=EXPIRED_UNTIL, number=until_s))
            if expired:
                _log.info("jobs_expired", count=len(expired))
            await asyncio.sleep(EXPIRE_EVERY_S)

    async def _tell_all(self) -> None:
        database = self._lab.database
        boards = await database.read(partial(board_documents, config=self._lab.config))
        instruments = await database.read(partial(instrument_documents, config=self._lab.config))
        await self._tell_status()
        await self._keep((self._topics.board(board.id), board) for board in boards)
        await self._keep((self._topics.instrument(row.id), row) for row in instruments)
        gone_boards, gone_instruments = await database.read(partial(removed_devices, config=self._lab.config))
        for topic in (*map(self._topics.board, gone_boards), *map(self._topics.instrument, gone_instruments)):
            await publish(self._client, topic, b"", retain=True)
        ended_after = self._lab.now() - self._retention
        beyond = 0
        while page := await database.read(partial(kept_jobs, ended_after=ended_after, beyond=beyond, limit=PAGE)):
            jobs = await database.read(partial(job_documents, job_ids=page, traces_url=self._lab.traces_url))
            await self._keep((self._topics.job(job.id), job) for job in jobs)
            beyond = page[-1]

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
        await self._keep([(self._topics.status, status)])

    async def _keep(self, documents: Iterable[tuple[str, BaseModel]]) -> None:
        """Publish retained documents."""
        async with asyncio.TaskGroup() as group:
            for topic, document in documents:
                group.create_task(self._publish(topic, document, retain=True))

    async def _publish(self, topic: str, document: BaseModel, *, retain: bool = False) -> None:
        async with self._inflight:
            await publish(self._client, topic, document.model_dump_json(), retain=retain)
