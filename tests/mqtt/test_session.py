"""The lab on a real broker: replies, retained state, events in order, and life without the broker."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from labd.bench.progress import Progress, ProgressFeed
from labd.benchmarks import Mode
from labd.model import ledger
from labd.model.causes import Cause, Ending
from labd.model.states import RunStep
from labd.mqtt.broker import embedded_broker
from labd.mqtt.endpoint import Endpoint
from labd.mqtt.session import MqttSession, backoff_s
from labd.mqtt.topics import Topics
from labd.service.lab import Lab
from labd.service.messages import JobDocument, LabStatus
from tests.brokers import mosquitto
from tests.deadline import HUNG_S
from tests.service.labs import NOW, bring_up, open_lab

TOPICS = Topics("bench-1")
GOOD = {"benchmark": "digits01", "mode": "energy"}


@pytest.fixture(params=["embedded", "mosquitto"])
async def broker(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Endpoint]:
    async with AsyncExitStack() as stack:
        if request.param == "embedded":
            yield await stack.enter_async_context(embedded_broker())
        else:
            yield (await stack.enter_async_context(mosquitto(tmp_path))).endpoint


@asynccontextmanager
async def serving(
    lab: Lab, endpoint: Endpoint, feed: ProgressFeed | None = None, **options: Any
) -> AsyncIterator[MqttSession]:
    session = MqttSession(lab, endpoint, feed or ProgressFeed(), **options)
    task = asyncio.create_task(session.run())
    try:
        async with asyncio.timeout(HUNG_S):
            await session.online.wait()
        yield session
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


class Operator:
    """A client that keeps all it was sent."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self.client = client
        self.heard: list[tuple[str, Any, bool]] = []

    async def ask(self, verb: str, params: Any, request_id: str = "r1", **more: Any) -> None:
        payload = {"request_id": request_id, "client": "ada", "params": params, **more}
        await self.client.publish(TOPICS.request(verb), json.dumps(payload), qos=1)

    async def hear(self, wanted: Callable[[str, Any], bool]) -> Any:
        """The first message, past or coming, that is wanted."""
        for topic, document, _ in self.heard:
            if wanted(topic, document):
                return document
        async with asyncio.timeout(HUNG_S):
            async for message in self.client.messages:
                assert isinstance(message.payload, bytes)
                document = json.loads(message.payload) if message.payload else None
                self.heard.append((message.topic.value, document, message.retain))
                if wanted(message.topic.value, document):
                    return document

    async def on(self, topic: str) -> Any:
        return await self.hear(lambda where, _: where == topic)

    async def reply(self, request_id: str = "r1") -> Any:
        return await self.hear(lambda where, what: "/reply/" in where and what["request_id"] == request_id)


@asynccontextmanager
async def operator(endpoint: Endpoint, *filters: str) -> AsyncIterator[Operator]:
    async with endpoint.client() as client:
        for topic in filters:
            await client.subscribe(topic, qos=1)
        yield Operator(client)


async def test_a_job_is_submitted_answered_kept_and_told(broker: Endpoint, tmp_path: Path) -> None:
    async with open_lab(tmp_path) as (lab, moves), serving(lab, broker):
        async with operator(broker, f"{TOPICS.root}/#") as ada:
            await ada.ask("job.submit", GOOD)
            assert (await ada.reply())["result"] == {"job_id": 1, "state": "queued"}
            assert JobDocument.model_validate_json(json.dumps(await ada.on(TOPICS.job(1)))).spec["trials"] == 5
            event = await ada.on(TOPICS.event)
            assert (event["kind"], event["subject"], event["state"]) == ("job", "1", "queued")
            await ada.hear(lambda where, what: where == TOPICS.status and what.get("queue_length") == 1)
        assert moves.wakes == 1
        async with operator(broker, TOPICS.jobs) as late:
            assert (await late.on(TOPICS.job(1)))["state"] == "queued"
            assert late.heard[-1][2], "the job is retained"


async def test_what_the_lab_has_is_kept_for_late_clients(broker: Endpoint, tmp_path: Path) -> None:
    async with open_lab(tmp_path) as (lab, _):
        await bring_up(lab)
        async with serving(lab, broker), operator(broker, f"{TOPICS.root}/#") as ada:
            status = LabStatus.model_validate_json(json.dumps(await ada.on(TOPICS.status)))
            assert (status.state, status.version) == ("online", "0.1.0")
            assert (await ada.on(TOPICS.board("b1")))["modes"] == ["performance", "accuracy", "energy"]
            assert (await ada.on(TOPICS.instrument("psu")))["state"] == "online"
        async with operator(broker, TOPICS.status) as late:
            assert await late.on(TOPICS.status) == {"state": "offline"}


async def test_the_broker_tells_when_the_daemon_is_lost(tmp_path: Path) -> None:
    """A will: the connection breaks without a word."""
    async with (
        mosquitto(tmp_path) as server,
        open_lab(tmp_path) as (lab, _),
        cut_off(server.endpoint) as (through, cut),
        operator(server.endpoint, TOPICS.status) as ada,
        serving(lab, through),
    ):
        await ada.hear(lambda _, what: what["state"] == "online")
        cut()
        assert await ada.hear(lambda _, what: what["state"] == "offline") == {"state": "offline"}


async def test_a_byte_order_mark_before_a_request_is_passed_over(broker: Endpoint, tmp_path: Path) -> None:
    async with (
        open_lab(tmp_path) as (lab, _),
        serving(lab, broker),
        operator(broker, f"{TOPICS.root}/reply/#") as ada,
    ):
        payload = json.dumps({"request_id": "r1", "client": "ada", "params": GOOD}).encode()
        await ada.client.publish(TOPICS.request("job.submit"), b"\xef\xbb\xbf" + payload, qos=1)
        assert (await ada.on(TOPICS.reply("ada")))["result"] == {"job_id": 1, "state": "queued"}


async def test_bad_requests_are_answered_where_their_sender_can_be_read(broker: Endpoint, tmp_path: Path) -> None:
    async with open_lab(tmp_path) as (lab, moves), serving(lab, broker):
        async with operator(broker, f"{TOPICS.root}/reply/#", "me/#") as ada:
            submit = TOPICS.request("job.submit")
            await ada.client.publish(submit, b'{"request_id": "r1", "client": "ada", ', qos=1)
            assert (await ada.on(TOPICS.reply("ada")))["error"]["kind"] == "malformed_json"
            await ada.client.publish(submit, b"\x00nonsense", qos=1)
            assert (await ada.on(TOPICS.reply("unknown")))["error"]["kind"] == "malformed_json"
            await ada.ask("job.explode", {}, "r2")
            assert (await ada.reply("r2"))["error"]["kind"] == "unknown_request"
            await ada.ask("job.submit", {**GOOD, "trials": "five"}, "r3", reply_to="me/answers")
            assert (await ada.on("me/answers"))["error"]["field"] == "params.trials"
            await ada.ask("job.submit", GOOD, "r4", reply_to=TOPICS.status)
            assert (await ada.reply("r4"))["error"]["field"] == "reply_to"
            await ada.ask("job.submit", {**GOOD, "labels": {"x": "y" * 70_000}}, "r5")
            assert (await ada.reply("r5"))["error"]["kind"] == "too_large"
        assert moves.wakes == 0


async def test_a_payload_of_ten_megabytes_is_refused(tmp_path: Path) -> None:
    async with (
        mosquitto(tmp_path) as server,
        open_lab(tmp_path) as (lab, _),
        serving(lab, server.endpoint),
        operator(server.endpoint, TOPICS.reply("ada")) as ada,
    ):
        await ada.ask("job.submit", {"benchmark": "x" * 10_000_000, "mode": "energy"})
        assert (await ada.reply())["error"]["kind"] == "too_large"
        await ada.ask("job.submit", GOOD, "r2")
        assert (await ada.reply("r2"))["ok"]


async def test_a_retained_request_is_refused_and_taken_away(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as server, open_lab(tmp_path) as (lab, moves):
        async with operator(server.endpoint, TOPICS.reply("ada")) as ada:
            payload = json.dumps({"request_id": "r1", "client": "ada", "params": GOOD})
            await ada.client.publish(TOPICS.request("job.submit"), payload, qos=1, retain=True)
            async with serving(lab, server.endpoint):
                assert (await ada.reply())["error"]["kind"] == "retained_request"
                await ada.ask("job.list", {}, "r2")
                assert (await ada.reply("r2"))["result"]["jobs"] == []
        async with operator(server.endpoint, *TOPICS.requests, TOPICS.status) as late:
            await late.on(TOPICS.status)
            assert all(topic == TOPICS.status for topic, _, _ in late.heard)
        assert moves.wakes == 0


async def test_events_come_in_order_and_go_on_after_a_restart(broker: Endpoint, tmp_path: Path) -> None:
    async with operator(broker, TOPICS.event) as ada:
        async with open_lab(tmp_path) as (lab, _):
            await bring_up(lab)
            async with serving(lab, broker) as session:
                for number in range(4):
                    await ada.ask("job.submit", GOOD, f"s{number}")
                await ada.hear(lambda _, event: event["subject"] == "4" and event["kind"] == "job")
                await session.told(HUNG_S)  # as the daemon does before it stops: else the last batch may come again
        async with open_lab(tmp_path) as (lab, _), serving(lab, broker):
            await ada.ask("job.cancel", {"id": 2}, "c")
            await ada.hear(lambda _, event: event["state"] == "cancelled")
        numbers = [event["number"] for _, event, _ in ada.heard]
    assert list(dict.fromkeys(numbers)) == list(range(1, 9))
    assert numbers == sorted(numbers)


async def test_the_lab_goes_on_without_its_broker_and_tells_on_return(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as server, open_lab(tmp_path) as (lab, _), serving(lab, server.endpoint) as session:
        await bring_up(lab)
        await server.kill()
        async with asyncio.timeout(HUNG_S):
            while session.online.is_set():
                await asyncio.sleep(0.01)

        def work(writer: Any) -> None:
            ledger.submit_job(writer, benchmark="digits01", mode=Mode.ENERGY, client="cli", spec={}, now=NOW)
            run = ledger.start_run(writer, 1, "b1", NOW, 60.0)
            assert run.id is not None
            ledger.end_run(writer, run.id, Ending(Cause.BOARD_SILENT, "no answer to profile"), NOW)

        await lab.database.write(work)
        await server.start()
        async with operator(server.endpoint, f"{TOPICS.root}/#") as ada:
            job = await ada.on(TOPICS.job(1))
            assert (job["state"], job["cause"]["kind"]) == ("failed", "board_silent")
            await ada.ask("board.list", {}, "again")
            assert (await ada.reply("again"))["ok"]
            assert (await ada.hear(lambda where, what: where == TOPICS.status and what["state"] == "online"))["version"]


async def test_progress_is_shown_but_not_kept(broker: Endpoint, tmp_path: Path) -> None:
    feed = ProgressFeed()
    async with (
        open_lab(tmp_path) as (lab, _),
        serving(lab, broker, feed),
        operator(broker, TOPICS.progress(7)) as ada,
    ):
        feed.report(Progress(7, 9, "b1", RunStep.MEASURE, trial=2, trials=5, share=0.4, samples=10, rate_hz=4882.8))
        seen = await ada.on(TOPICS.progress(7))
        assert (seen["step"], seen["trial"], seen["share"]) == ("measure", 2, 0.4)
        assert not ada.heard[-1][2]


async def test_an_ended_job_leaves_the_broker_when_its_retention_ends(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as server, open_lab(tmp_path) as (lab, _):
        async with serving(lab, server.endpoint), operator(server.endpoint, f"{TOPICS.root}/#") as ada:
            await ada.ask("job.submit", GOOD)
            await ada.ask("job.cancel", {"id": 1}, "r2")
            await ada.hear(lambda where, what: where == TOPICS.job(1) and what["state"] == "cancelled")
        async with operator(server.endpoint, TOPICS.jobs) as late:
            await late.on(TOPICS.job(1))
            async with serving(lab, server.endpoint, retention=timedelta(seconds=-5)):
                await late.hear(lambda where, what: where == TOPICS.job(1) and what is None)


def test_the_wait_between_attempts_grows_to_its_cap() -> None:
    waits = [backoff_s(attempt, 1.0) for attempt in range(20)]
    assert waits[0] == 0.2
    assert waits == sorted(waits)
    assert waits[-1] == 30.0
    assert backoff_s(3, 0.0) == backoff_s(3, 1.0) / 2


@asynccontextmanager
async def cut_off(endpoint: Endpoint) -> AsyncIterator[tuple[Endpoint, Callable[[], None]]]:
    """A cable to a broker that can be cut: both ends see the connection break."""
    writers: list[asyncio.StreamWriter] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if writers:
            writer.close()  # cut for good
            return
        far_reader, far_writer = await asyncio.open_connection(endpoint.host, endpoint.port)
        writers.extend((writer, far_writer))
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield (
            Endpoint("127.0.0.1", server.sockets[0].getsockname()[1]),
            lambda: [writer.transport.abort() for writer in writers] and None,
        )
    finally:
        server.close()
        for writer in writers:
            writer.close()
