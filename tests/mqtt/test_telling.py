"""A broker is told what it lacks and no more; one that has nothing, or what is not so, is told all."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from sqlmodel import Session

from labd.benchmarks import Mode
from labd.model import ledger
from labd.mqtt.endpoint import Endpoint
from labd.mqtt.session import MqttSession
from labd.service.lab import Lab
from tests.brokers import Mosquitto, mosquitto
from tests.deadline import HUNG_S
from tests.mqtt.test_session import GOOD, TOPICS, operator, serving
from tests.service.labs import NOW, bring_up, open_lab


async def submit(lab: Lab, count: int = 1) -> None:
    def add(session: Session) -> None:
        for _ in range(count):
            ledger.submit_job(session, benchmark="digits01", mode=Mode.ENERGY, client="c", spec=GOOD, now=NOW)

    await lab.database.write(add)


async def kept(endpoint: Endpoint) -> dict[str, Any]:
    """All that the broker keeps of the lab."""
    found: dict[str, Any] = {}
    async with endpoint.client() as client:
        await client.subscribe([(f"{TOPICS.root}/#", 1), ("end", 1)])
        await client.publish("end", b"", qos=1)
        async for message in client.messages:
            if message.topic.value == "end":
                return found
            assert isinstance(message.payload, bytes)
            found[message.topic.value] = json.loads(message.payload)
    raise AssertionError("the broker has gone")


async def until_told(endpoint: Endpoint, number: int) -> None:
    """Wait until the broker is said to have everything up to event `number`."""
    async with operator(endpoint, TOPICS.told) as watcher:
        await watcher.hear(lambda _, told: told is not None and told["until"] >= number)


class Counted(Mosquitto):
    """A Mosquitto that keeps what is retained over a restart, if told to."""

    def __init__(self, folder: Path, *, persistent: bool) -> None:
        super().__init__(folder)
        if persistent:
            text = self._config.read_text().replace(
                "persistence false", f"persistence true\nautosave_interval 1\nuser root\npersistence_location {folder}/"
            )
            self._config.write_text(text)


async def test_a_broker_that_has_all_is_told_only_what_came_after(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as server:
        async with open_lab(tmp_path) as (lab, _), serving(lab, server.endpoint):
            await submit(lab, 5)
            await until_told(server.endpoint, 5)
        async with operator(server.endpoint, TOPICS.jobs, TOPICS.event) as ada:
            for number in range(1, 6):
                await ada.on(TOPICS.job(number))
            ada.heard.clear()
            async with open_lab(tmp_path) as (lab, _):
                await submit(lab)
                async with serving(lab, server.endpoint):
                    await ada.hear(lambda where, what: where == TOPICS.event and what["number"] == 6)
            assert [topic for topic, _, _ in ada.heard] == [TOPICS.job(6), TOPICS.event]


async def test_an_empty_broker_is_told_all_and_the_lab_is_online_before(tmp_path: Path) -> None:
    async with open_lab(tmp_path) as (lab, _):
        await bring_up(lab)
        await submit(lab, 130)
        async with mosquitto(tmp_path) as server, serving(lab, server.endpoint) as session:
            found = await kept(server.endpoint)
            assert found[TOPICS.status]["queue_length"] == 130
            assert TOPICS.board("b1") in found
            assert TOPICS.job(1) not in found, "the oldest job comes last"
            assert session.online.is_set()
            await submit(lab)
            await until_told(server.endpoint, 134)
            found = await kept(server.endpoint)
            assert all(TOPICS.job(number) in found for number in range(1, 132))


async def test_a_database_from_a_backup_is_told_anew(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as server:
        async with open_lab(tmp_path) as (lab, _):
            await submit(lab, 2)
        shutil.copytree(tmp_path, tmp_path / "backup")
        async with open_lab(tmp_path) as (lab, _), serving(lab, server.endpoint):
            await submit(lab, 3)
            await until_told(server.endpoint, 5)
        async with open_lab(tmp_path / "backup") as (lab, _):
            await bring_up(lab)
            await submit(lab)  # event 6 here; the broker's number is of another history
            async with serving(lab, server.endpoint):
                await until_told(server.endpoint, 6)
                found = await kept(server.endpoint)
                assert found[TOPICS.status]["queue_length"] == 3
                assert TOPICS.board("b1") in found


@pytest.mark.parametrize("persistent", [True, False])
async def test_what_happened_without_the_broker_is_told_in_order(tmp_path: Path, persistent: bool) -> None:
    server = Counted(tmp_path, persistent=persistent)
    try:
        await server.start()
        async with open_lab(tmp_path) as (lab, _), serving(lab, server.endpoint) as session:
            await submit(lab, 3)
            await until_told(server.endpoint, 3)
            await server.kill()
            await _gone(session)
            for _ in range(4):
                await submit(lab)
            await server.start()
            numbers: list[int] = []
            while 7 not in numbers:
                try:
                    async with operator(server.endpoint, TOPICS.event) as ada:
                        await ada.hear(lambda _, event: event["number"] == 7)
                        numbers += [event["number"] for _, event, _ in ada.heard]
                except aiomqtt.MqttError:
                    continue
            assert numbers == sorted(numbers)
            assert set(numbers) >= {4, 5, 6, 7}
            await until_told(server.endpoint, 7)
            found = await kept(server.endpoint)
            assert all(TOPICS.job(number) in found for number in range(1, 8))
    finally:
        await server.kill()


async def _gone(session: MqttSession) -> None:
    async with asyncio.timeout(HUNG_S):
        while session.online.is_set():
            await asyncio.sleep(0.01)
