"""MQTT 5 beside 3.1.1: properties stand for what a request leaves out, and come back with its reply."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from labd.mqtt.connector import Connector
from labd.mqtt.endpoint import Endpoint
from labd.service.answer import answer
from labd.service.sender import Origin, sender_of
from tests.brokers import mosquitto
from tests.deadline import HUNG_S
from tests.mqtt.test_session import GOOD, TOPICS, operator, serving
from tests.service.labs import open_lab

MINE = TOPICS.reply("rr")


@asynccontextmanager
async def speaking_5(endpoint: Endpoint) -> AsyncIterator[aiomqtt.Client]:
    async with endpoint.client(protocol=aiomqtt.ProtocolVersion.V5) as client:
        await client.subscribe(MINE, qos=1)
        yield client


async def ask(client: aiomqtt.Client, verb: str, request: dict[str, Any], **said: Any) -> tuple[Any, Properties]:
    properties = Properties(PacketTypes.PUBLISH)
    for name, value in said.items():
        setattr(properties, name, value)
    await client.publish(TOPICS.request(verb), json.dumps(request), qos=1, properties=properties)
    async with asyncio.timeout(HUNG_S):
        message = await anext(aiter(client.messages))
    assert isinstance(message.payload, bytes)
    assert message.properties is not None
    return json.loads(message.payload), message.properties


async def test_response_topic_and_correlation_data_stand_for_topic_and_id(tmp_path: Path) -> None:
    async with (
        mosquitto(tmp_path) as server,
        open_lab(tmp_path) as (lab, moves),
        serving(lab, server.endpoint),
        speaking_5(server.endpoint) as client,
    ):
        for data, job in ((b"\x00\x01", 1), (b"\x00\x01", 1), (b"\x00\x02", 2)):
            request = {"client": "rr", "params": GOOD}
            reply, said = await ask(client, "job.submit", request, ResponseTopic=MINE, CorrelationData=data)
            assert reply["result"]["job_id"] == job
            assert said.CorrelationData == data
            assert (said.ContentType, said.PayloadFormatIndicator) == ("application/json", 1)
            assert dict(said.UserProperty) == {"labd-ok": "true", "labd-verb": "job.submit"}
            assert 0 < said.MessageExpiryInterval <= 3600
        assert moves.wakes == 2
        reply, said = await ask(client, "job.submit", {"client": "rr", "params": GOOD}, ResponseTopic=MINE)
        assert reply["error"]["field"] == "request_id"
        assert "correlation data" in reply["error"]["remedy"]
        assert ("labd-ok", "false") in said.UserProperty
        reply, _ = await ask(client, "board.list", {"params": {}}, ResponseTopic=MINE)
        assert reply["ok"], "what only looks needs no id"


async def test_a_response_topic_of_the_labs_own_is_refused(tmp_path: Path) -> None:
    async with (
        mosquitto(tmp_path) as server,
        open_lab(tmp_path) as (lab, _),
        serving(lab, server.endpoint),
        speaking_5(server.endpoint) as client,
    ):
        request = {"request_id": "r1", "client": "rr", "params": {}}
        reply, _ = await ask(client, "board.list", request, ResponseTopic=TOPICS.status)
        assert reply["error"]["field"] == "reply_to"


@pytest.mark.parametrize("verb", ["job.submit", "job.list"])
async def test_an_expired_request_is_not_done(tmp_path: Path, verb: str) -> None:
    payload = json.dumps({"request_id": "r1", "client": "ada", "params": GOOD if verb == "job.submit" else {}}).encode()
    async with open_lab(tmp_path) as (lab, moves):
        late = await answer(lab, verb, payload, sender_of(payload, Origin(expires_at_s=0.0)))
        assert late.error is not None
        assert late.error.kind == "expired"
        assert moves.wakes == 0
        assert (await answer(lab, verb, payload, sender_of(payload))).ok, "it may be asked again under the same id"


async def test_the_same_correlation_data_of_two_clients_are_two_requests() -> None:
    one, other = (sender_of(b'{"client": "%s"}' % name, Origin(correlation=b"1")) for name in (b"ada", b"bob"))
    assert one.request_id != other.request_id
    assert one == sender_of(b'{"client": "ada"}', Origin(correlation=b"1"))


async def test_an_old_broker_is_found_out_by_its_refusal_and_remembered(tmp_path: Path) -> None:
    """It answers a CONNECT of MQTT 5 with the 3.1.1 return code 1, and hangs up."""
    asked: list[int] = []

    async def old(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connect = await reader.read(1024)
        asked.append(level := connect[8])
        writer.write(b"\x20\x02\x00\x00" if level == 4 else b"\x20\x02\x00\x01")
        if level == 4:
            await reader.read()
        writer.close()

    server = await asyncio.start_server(old, "127.0.0.1", 0)
    try:
        connector = Connector(Endpoint("127.0.0.1", server.sockets[0].getsockname()[1]))
        for _ in range(2):
            async with asyncio.timeout(HUNG_S), connector.connected():
                pass
    finally:
        server.close()
    assert asked == [5, 4, 4]


async def test_both_versions_are_served_at_once(tmp_path: Path) -> None:
    async with (
        mosquitto(tmp_path) as server,
        open_lab(tmp_path) as (lab, _),
        serving(lab, server.endpoint),
        speaking_5(server.endpoint) as client,
        operator(server.endpoint, TOPICS.reply("ada")) as ada,
    ):
        await ada.ask("job.submit", GOOD)
        assert (await ada.reply())["result"]["job_id"] == 1
        reply, _ = await ask(
            client, "job.get", {"client": "rr", "params": {"id": 1}}, ResponseTopic=MINE, CorrelationData=b"x"
        )
        assert reply["result"]["client"] == "ada"
