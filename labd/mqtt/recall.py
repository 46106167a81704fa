"""What the broker remembers of the lab: how far it was told everything, if it was.

A retained document holds the number. It is a topic of its own, for the last will overwrites the status.
"""

from __future__ import annotations

import asyncio
import uuid

import aiomqtt
import structlog
from pydantic import ValidationError

from labd.mqtt.publishing import heed_cancel, publish
from labd.mqtt.topics import Topics
from labd.service.messages import Told

RECALL_S = 5.0
"""Longest wait for the broker's own messages to come back, s."""

_log = structlog.get_logger(__name__)


class Recall:
    """Asks one connection's broker for what it keeps.

    Args:
        client: Connected; whoever hears its messages hands them to `heard`.
        topics: The lab's.
    """

    def __init__(self, client: aiomqtt.Client, topics: Topics) -> None:
        self._client = client
        self._topics = topics
        self._probe = f"{topics.told}/{uuid.uuid4().hex[:12]}"
        self._answered = asyncio.Event()
        self._told: bytes = b""

    def heard(self, message: aiomqtt.Message) -> bool:
        """Take in a message; False if it is somebody else's."""
        topic, payload = message.topic.value, message.payload
        if topic == self._topics.told:
            self._told = payload if isinstance(payload, bytes) else b""
        elif topic == self._probe:
            self._answered.set()
        else:
            return False
        return True

    async def told(self) -> Told | None:
        """How far this broker has everything; None if it has nothing, or nothing that can be trusted.

        What is retained comes with the subscription, so before a message that is published after it.

        Raises:
            aiomqtt.MqttError: the broker is lost.
        """
        await self._client.subscribe([(self._topics.told, 1), (self._probe, 1)])
        heed_cancel()
        try:
            async with asyncio.timeout(RECALL_S):
                await publish(self._client, self._probe, b"{}")
                await self._answered.wait()
        except TimeoutError:
            _log.warning("broker_recalled_nothing", waited_s=RECALL_S)
        try:
            return Told.model_validate_json(self._told) if self._told else None
        except ValidationError as error:
            _log.warning("told_misread", error=str(error))
            return None
