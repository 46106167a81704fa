"""The lab's life on a broker: hear requests, tell what was committed, come back when the broker does.

A connection is one task group; when the broker is lost it ends and another is tried, while the lab goes on.
Nothing is told before it is committed: events are followed in the database, not in memory.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import partial

import aiomqtt
import structlog

from labd.bench.progress import Progress, ProgressFeed
from labd.mqtt.connector import Connector
from labd.mqtt.endpoint import Endpoint, Inbox
from labd.mqtt.hearing import Hearing
from labd.mqtt.publishing import heed_cancel, publish
from labd.mqtt.telling import EVENTS_TOLD, Telling
from labd.mqtt.topics import Topics
from labd.service.lab import Lab
from labd.service.messages import Offline, ProgressDocument
from labd.service.outbox import marked, newest_event

BACKOFF_FIRST_S = 0.2
BACKOFF_MAX_S = 30.0
FAREWELL_S = 2.0
"""How long the last word of a stopping daemon may take."""
PROGRESS_EVERY_S = 0.2
"""Shortest time between two rounds of progress, s."""
JOB_RETENTION = timedelta(days=7)

_log = structlog.get_logger(__name__)


def backoff_s(attempt: int, jitter: float) -> float:
    """Wait before connection attempt number `attempt` (from 0), s: doubling, capped, spread by `jitter` in 0 to 1."""
    return float(min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** min(attempt, 16)) * (0.5 + 0.5 * jitter))


class MqttSession:
    """Serves a lab over MQTT for as long as `run` runs.

    Args:
        lab: What is served.
        endpoint: The broker.
        progress: Where runs report how far they are.
        retention: How long an ended job's document is kept at the broker.
    """

    def __init__(
        self, lab: Lab, endpoint: Endpoint, progress: ProgressFeed, *, retention: timedelta = JOB_RETENTION
    ) -> None:
        self._lab = lab
        self._connector = Connector(endpoint)
        self._progress = progress
        self._retention = retention
        self._topics = Topics(lab.config.lab.name)
        self._since = lab.now()
        self.online = asyncio.Event()
        """Set while the broker has all that the lab keeps there, and requests are heard."""

    async def run(self) -> None:
        """Connect, serve, and connect again, until cancelled."""
        this_task = asyncio.current_task()
        assert this_task is not None
        async with asyncio.TaskGroup() as requests:
            hearing = Hearing(self._lab, self._topics, requests)
            attempt = 0
            while True:
                try:
                    async with self._connected(hearing) as (client, telling):
                        spoken = self._connector.protocol.name
                        _log.info("broker_connected", broker=str(self._connector.endpoint), mqtt=spoken)
                        attempt = 0
                        await self._serve(client, telling)
                except* aiomqtt.MqttError as lost:
                    _log.warning("broker_lost", broker=str(self._connector.endpoint), error=_first(lost))
                finally:
                    self.online.clear()
                if this_task.cancelling():
                    # A group that fails while its parent is cancelled raises the failure alone (CPython 3.11, 3.12).
                    raise asyncio.CancelledError
                await asyncio.sleep(backoff_s(attempt, random.random()))
                attempt += 1

    async def told(self, deadline_s: float) -> None:
        """Wait until all events committed so far are told; give up if the broker is away or the deadline passes."""
        database = self._lab.database
        until = await database.read(newest_event)
        with suppress(TimeoutError):
            async with asyncio.timeout(deadline_s):
                while True:
                    commits = database.commits
                    if await database.read(partial(marked, reader=EVENTS_TOLD)) >= until:
                        return
                    if not self.online.is_set():
                        break
                    await database.committed_since(commits)
        _log.warning("events_left_untold", broker=str(self._connector.endpoint), remedy="the next start tells them")

    @asynccontextmanager
    async def _connected(self, hearing: Hearing) -> AsyncIterator[tuple[aiomqtt.Client, Telling]]:
        """A connection whose requests are heard from when they are subscribed to, and what tells on it."""
        will = aiomqtt.Will(self._topics.status, Offline().model_dump_json(), qos=1, retain=True)

        class Heard(Inbox):
            def put_nowait(self, message: aiomqtt.Message) -> None:
                if not telling.recall.heard(message):
                    hearing.hear(client, message)

        async with self._connector.connected(will=will, inbox=Heard) as client:
            telling = Telling(self._lab, client, self._topics, self._since, self._retention, crowded=hearing.crowded)
            yield client, telling

    async def _serve(self, client: aiomqtt.Client, telling: Telling) -> None:
        try:
            await client.subscribe([(topic, 1) for topic in self._topics.requests])
            heed_cancel()  # of the connection before, too
            async with asyncio.TaskGroup() as group:
                group.create_task(telling.follow(self.online.set), name="mqtt-tell")
                group.create_task(telling.expire(), name="mqtt-expire")
                group.create_task(self._show_progress(client), name="mqtt-progress")
                # In the body, not beside it: a group that only waits for its tasks leaves a cancel count behind when
                # one of them fails (CPython 3.11), and `run` could not tell that from being cancelled.
                async for _ in client.messages:
                    raise AssertionError("messages go to the inbox")
        except asyncio.CancelledError:
            with suppress(aiomqtt.MqttError, TimeoutError):
                async with asyncio.timeout(FAREWELL_S):
                    await client.publish(self._topics.status, Offline().model_dump_json(), qos=1, retain=True)
            raise

    # --- progress ---------------------------------------------------------------------------------------------

    async def _show_progress(self, client: aiomqtt.Client) -> None:
        shown: dict[int, Progress] = {}
        while True:
            await self._progress.changed()
            latest = self._progress.snapshot()
            for progress in _news(shown, latest):
                await publish(client, self._topics.progress(progress.job_id), _progress_json(progress), qos=0)
            shown = latest
            await asyncio.sleep(PROGRESS_EVERY_S)


def _first(group: BaseExceptionGroup[aiomqtt.MqttError]) -> str:
    """Words of the first error of nested groups."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)


def _news(shown: dict[int, Progress], latest: dict[int, Progress]) -> Iterable[Progress]:
    return (progress for run_id, progress in latest.items() if shown.get(run_id) != progress)


def _progress_json(progress: Progress) -> str:
    return ProgressDocument(
        job_id=progress.job_id,
        run_id=progress.run_id,
        board_id=progress.board_id,
        step=progress.step,
        trial=progress.trial,
        trials=progress.trials,
        share=progress.share,
        samples=progress.samples,
        rate_hz=progress.rate_hz,
    ).model_dump_json()
