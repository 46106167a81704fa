"""A cancel is heeded even where the MQTT library swallows it."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

from labd.bench.progress import Progress, ProgressFeed
from labd.model.states import RunStep
from labd.mqtt.publishing import publish
from labd.mqtt.session import MqttSession
from tests.brokers import mosquitto
from tests.deadline import HUNG_S
from tests.service.labs import bring_up, open_lab

ROUNDS = 25


class SwallowingClient:
    """Behaves as aiomqtt does when a cancel comes just as the broker has acknowledged."""

    async def publish(self, topic: str, payload: Any, *more: Any, **options: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            return


async def test_a_cancel_that_the_library_swallowed_is_raised() -> None:
    async def work() -> None:
        await publish(SwallowingClient(), "topic", b"")  # type: ignore[arg-type]
        raise AssertionError("the cancel was lost")

    task = asyncio.create_task(work())
    await asyncio.wait({task})
    assert task.cancelled()


async def report(feed: ProgressFeed) -> None:
    trial = 0
    while True:
        trial += 1
        feed.report(Progress(1, 1, "b1", RunStep.MEASURE, trial, 5, 0.4, 10, 4882.8))
        await asyncio.sleep(0)


async def test_a_session_ends_when_it_is_stopped_whatever_it_is_telling(tmp_path: Path) -> None:
    moments = random.Random(1)
    async with mosquitto(tmp_path) as broker, open_lab(tmp_path) as (lab, _):
        await bring_up(lab)
        for _ in range(ROUNDS):
            feed = ProgressFeed()
            session = MqttSession(lab, broker.endpoint, feed)
            serving, reporting = asyncio.create_task(session.run()), asyncio.create_task(report(feed))
            async with asyncio.timeout(HUNG_S):
                await session.online.wait()
            await asyncio.sleep(moments.uniform(0.0, 0.005))  # a moment of its own in each round
            serving.cancel()
            done, _ = await asyncio.wait({serving}, timeout=10)
            reporting.cancel()
            await asyncio.wait({reporting})
            assert done, "the session did not end"
