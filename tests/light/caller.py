"""A client of a lab that asks for many things at once, hears every event, and survives its broker.

A question that is not answered is asked again with the same request id, as a careful client does: labd promises that
it is done once.
"""

from __future__ import annotations

import asyncio
import json
import socket
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiomqtt

from labd.mqtt.endpoint import Endpoint
from labd.mqtt.topics import Topics

INFLIGHT = 8
"""Publishes under way at once."""
AGAIN_S = 10.0
"""After so long without an answer a question is asked again, s."""
RETURN_S = 0.2
"""Pause before the next try to reach a broker that is away, s."""


class RefusalError(Exception):
    """The lab has refused; `error` is its own word for it."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"{error['kind']}: {error['field']}: {error['message']}")
        self.kind: str = error["kind"]
        self.field: str = error["field"]


class Caller:
    """Made by `calling`.

    Args:
        endpoint: The broker.
        lab: The lab's name.
        heard: Called with every event.
    """

    def __init__(self, endpoint: Endpoint, lab: str, heard: Callable[[dict[str, Any]], None]) -> None:
        self._endpoint = endpoint
        self._topics = Topics(lab)
        self._heard = heard
        self._name = f"caller-{uuid.uuid4().hex[:8]}"
        self._client: aiomqtt.Client | None = None
        self._waiting: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._slots = asyncio.Semaphore(INFLIGHT)
        self._online = asyncio.Event()
        self._subscribed = asyncio.Event()
        self._echoed = asyncio.Event()

    async def ask(
        self, verb: str, params: dict[str, Any], *, requester: str = "soak", deadline_s: float = 120.0
    ) -> dict[str, Any]:
        """Ask until there is an answer, and return its result.

        Raises:
            RefusalError: the lab refuses.
            TimeoutError: no answer came.
        """
        request_id = uuid.uuid4().hex
        payload = json.dumps(
            {
                "request_id": request_id,
                "client": requester,
                "reply_to": self._topics.reply(self._name),
                "params": params,
            }
        )
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = answer
        try:
            async with asyncio.timeout(deadline_s):
                while not answer.done():
                    await self._publish(self._topics.request(verb), payload)
                    await asyncio.wait({answer}, timeout=AGAIN_S if self._client else RETURN_S)
        finally:
            del self._waiting[request_id]
        reply = answer.result()
        if not reply["ok"]:
            raise RefusalError(reply["error"])
        result: dict[str, Any] = reply["result"]
        return result

    async def _publish(self, topic: str, payload: str) -> None:
        await self._online.wait()  # a lab that is about to start would not hear it
        if self._client is None:
            return
        async with self._slots:
            with suppress(aiomqtt.MqttError):  # it is asked again
                await self._client.publish(topic, payload, qos=1)

    async def listening(self) -> None:
        """Wait until events are heard; from then on the broker keeps them while this client is away."""
        async with asyncio.timeout(AGAIN_S):
            await self._subscribed.wait()

    async def caught_up(self) -> None:
        """Wait until all that the broker holds for this client has come: a message to itself comes last."""
        while not self._echoed.is_set():
            if self._client is not None:
                with suppress(aiomqtt.MqttError):
                    await self._client.publish(self._topics.reply(self._name), b"{}", qos=1)
            with suppress(TimeoutError):
                async with asyncio.timeout(AGAIN_S):
                    await self._echoed.wait()

    async def run(self) -> None:
        """Stay connected; never returns."""
        while True:
            with suppress(aiomqtt.MqttError):
                async with self._session() as client:
                    reply, status = self._topics.reply(self._name), self._topics.status
                    await client.subscribe([(topic, 1) for topic in (reply, status, self._topics.event)])
                    self._client = client
                    self._subscribed.set()
                    async for message in client.messages:
                        self._take(message.topic.value, message.payload)
            self._client = None
            self._online.clear()
            await asyncio.sleep(RETURN_S)

    def _session(self) -> aiomqtt.Client:
        """A client for which the broker keeps what comes while it is away."""
        return aiomqtt.Client(
            self._endpoint.host,
            self._endpoint.port,
            identifier=self._name,
            clean_session=False,
            protocol=aiomqtt.ProtocolVersion.V311,
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        )

    def _take(self, topic: str, payload: Any) -> None:
        if not payload:
            return
        told = json.loads(payload)
        if topic == self._topics.event:
            self._heard(told)
        elif not told:
            self._echoed.set()
        elif topic == self._topics.status:
            (self._online.clear if told["state"] == "offline" else self._online.set)()
        elif (answer := self._waiting.get(told["request_id"])) is not None and not answer.done():
            answer.set_result(told)


def nobody(event: dict[str, Any]) -> None:
    """For who does not listen to events."""


@asynccontextmanager
async def calling(
    endpoint: Endpoint, lab: str, heard: Callable[[dict[str, Any]], None] = nobody
) -> AsyncIterator[Caller]:
    """A caller that is connected as long as its broker is there.

    Args:
        endpoint: The broker.
        lab: The lab's name.
        heard: Called with every event, in the order in which they come; one may come twice.
    """
    caller = Caller(endpoint, lab, heard)
    connection = asyncio.create_task(caller.run(), name="caller")
    try:
        yield caller
    finally:
        connection.cancel()
        await asyncio.wait({connection})
