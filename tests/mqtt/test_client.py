"""A client that has given up a request has given it up: the lab does not do it later, behind its back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiomqtt
import pytest

from labd.model.database import Database
from labd.mqtt.client import NoAnswerError, connect
from labd.service.messages import JobQuery, JobSpec
from tests.brokers import mosquitto
from tests.deadline import HUNG_S
from tests.mqtt.test_session import GOOD, TOPICS, serving
from tests.service.labs import open_lab


@asynccontextmanager
async def held_up(database: Database) -> AsyncIterator[None]:
    """A database that commits nothing inside the block, as on a disk that hangs."""
    begun, go_on = threading.Event(), threading.Event()

    def hang(_: object) -> None:
        begun.set()
        go_on.wait(HUNG_S)

    hanging = asyncio.create_task(database.write(hang))
    await asyncio.to_thread(begun.wait, HUNG_S)
    try:
        yield
    finally:
        go_on.set()
        await hanging


def labelled(why: str) -> JobSpec:
    return JobSpec.model_validate({**GOOD, "labels": {"why": why}}, strict=False)


async def test_a_submit_that_was_given_up_is_not_queued_later(tmp_path: Path) -> None:
    async with (
        mosquitto(tmp_path) as server,
        open_lab(tmp_path) as (lab, _),
        serving(lab, server.endpoint),
        connect(server.endpoint, TOPICS.lab, timeout_s=1.0) as impatient,
        connect(server.endpoint, TOPICS.lab, timeout_s=HUNG_S) as patient,
    ):
        async with held_up(lab.database):
            waiting = asyncio.create_task(patient.submit(labelled("patient")))
            with pytest.raises(NoAnswerError):
                await impatient.submit(labelled("given up"))
            with pytest.raises(NoAnswerError):
                await impatient.submit(labelled("the one before has expired for a second"))
        assert (await waiting).state == "queued"
        assert len((await patient.jobs(JobQuery(label={"why": "patient"}))).jobs) == 1
        assert (await patient.jobs(JobQuery(label={"why": "given up"}))).jobs == ()


@pytest.mark.parametrize(("timeout_s", "expiry_s"), [(0.5, 1), (10.9, 10)])
async def test_a_request_says_how_long_its_sender_waits(tmp_path: Path, timeout_s: float, expiry_s: int) -> None:
    async with (
        mosquitto(tmp_path) as server,
        server.endpoint.client(protocol=aiomqtt.ProtocolVersion.V5) as listener,
        open_lab(tmp_path) as (lab, _),
        serving(lab, server.endpoint),
        connect(server.endpoint, TOPICS.lab, timeout_s=timeout_s) as client,
    ):
        await listener.subscribe(TOPICS.request("board.list"), qos=1)
        await client.boards()
        async with asyncio.timeout(HUNG_S):
            heard = await anext(aiter(listener.messages))
        assert heard.properties is not None
        assert heard.properties.MessageExpiryInterval == expiry_s
