"""Hears requests: each is answered, however many come.

So many are under way at once, in all and of each client; what is beyond is told that the lab is busy. Requests belong
to the session, not to a connection: one that was heard is carried out even if its reply can no longer be sent.
"""

from __future__ import annotations

import asyncio
import time
from codecs import BOM_UTF8
from collections import Counter

import aiomqtt
import structlog

from labd.mqtt.properties import origin_of, reply_properties
from labd.mqtt.publishing import publish
from labd.mqtt.topics import NOBODY, Address, Topics
from labd.service.answer import answer, refusal
from labd.service.lab import Lab
from labd.service.messages import ErrorDocument, ErrorKind, Reply
from labd.service.sender import Sender, sender_of

PENDING_MAX = 1024
"""Most requests under way at once, until the broker has their replies."""
CLIENT_MAX = 256
"""Most of them of one client, or of one user."""
CROWD = 16
"""With so many under way, telling gives way to them."""
REFUSALS_MAX = 2048
"""Most replies of `busy` on their way at once: a client that outruns even them gets none for the rest."""
TELL_EVERY_S = 10.0
"""Shortest time between two log lines about a flood, s."""

_log = structlog.get_logger(__name__)


class Hearing:
    """Takes the requests of one session.

    Args:
        lab: Who is asked.
        topics: Its topics.
        tasks: Where requests are carried out.
    """

    def __init__(self, lab: Lab, topics: Topics, tasks: asyncio.TaskGroup) -> None:
        self._lab = lab
        self._topics = topics
        self._tasks = tasks
        self._pending: Counter[str] = Counter()
        self._refusals = 0
        self._flood = Flood()

    def crowded(self) -> bool:
        """Whether so many requests are under way that what can wait should."""
        return self._pending.total() >= CROWD

    def hear(self, client: aiomqtt.Client, message: aiomqtt.Message) -> None:
        """Take in a message; one that is no request is left alone."""
        address, payload = self._topics.address(message.topic.value), message.payload
        # Brokers have sent what was not subscribed to; an empty payload only clears a retained message.
        if address is None or not isinstance(payload, bytes) or not payload:
            return
        payload = payload.removeprefix(BOM_UTF8)  # RFC 8259, section 8.1: a parser may ignore it
        sender = sender_of(payload, origin_of(message, address.user))
        whose = sender.origin.user or sender.client or ""
        if self._pending.total() < PENDING_MAX and self._pending[whose] < CLIENT_MAX:
            self._pending[whose] += 1
            task = self._tasks.create_task(
                self._serve(client, address, payload, sender, message), name=f"mqtt-request-{address.verb[:32]}"
            )
            task.add_done_callback(lambda _: self._done(whose))
        elif self._refusals < REFUSALS_MAX:
            self._refusals += 1
            task = self._tasks.create_task(self._refuse(client, address, sender, message), name="mqtt-refusal")
            task.add_done_callback(lambda _: self._refused())
        else:
            self._flood.note(whose, silent=True)

    def _done(self, whose: str) -> None:
        self._pending[whose] -= 1
        if not self._pending[whose]:
            del self._pending[whose]

    def _refused(self) -> None:
        self._refusals -= 1

    async def _serve(
        self, client: aiomqtt.Client, address: Address, payload: bytes, sender: Sender, message: aiomqtt.Message
    ) -> None:
        reply = await self._reply(address, payload, sender, retained=message.retain)
        if await self._send(client, address, sender, message, reply):
            _log.info(
                "request_answered",
                verb=address.verb[:64],
                user=address.user,
                client=sender.client,
                request_id=sender.request_id,
                ok=reply.ok,
            )

    async def _reply(self, address: Address, payload: bytes, sender: Sender, *, retained: bool) -> Reply:
        if retained:
            error = ErrorDocument(
                kind=ErrorKind.RETAINED,
                message="a retained request would come again at every connection",
                field="retain",
                remedy="send the request without the retain flag",
            )
            return refusal(address.verb, sender, error)
        if sender.reply_to is not None and not self._topics.may_answer_at(sender.reply_to, address.user):
            error = ErrorDocument(
                kind=ErrorKind.BAD_REQUEST,
                message="replies cannot go to this topic",
                field="reply_to",
                remedy="name a plain topic without wildcards, outside of the lab's own"
                if address.user is None
                else f"name a topic that begins with {self._topics.reply('', address.user)}",
            )
            return refusal(address.verb, sender, error)
        return await answer(self._lab, address.verb, payload, sender)

    async def _refuse(self, client: aiomqtt.Client, address: Address, sender: Sender, message: aiomqtt.Message) -> None:
        self._flood.note(sender.origin.user or sender.client or "", silent=False)
        error = ErrorDocument(
            kind=ErrorKind.BUSY,
            message=f"{CLIENT_MAX} requests of one client, or {PENDING_MAX} in all, are under way",
            remedy="wait for replies before asking more, then send this request again with the same id",
        )
        await self._send(client, address, sender, message, Reply(request_id=sender.request_id, ok=False, error=error))

    async def _send(
        self, client: aiomqtt.Client, address: Address, sender: Sender, message: aiomqtt.Message, reply: Reply
    ) -> bool:
        """Send a reply, and take a retained request away; False if the broker was lost over it."""
        allowed = sender.reply_to is not None and self._topics.may_answer_at(sender.reply_to, address.user)
        topic = sender.reply_to if allowed and sender.reply_to else None
        topic = topic or self._topics.reply(sender.client or NOBODY, address.user)
        try:
            await publish(
                client, topic, reply.model_dump_json(), properties=reply_properties(message, address.verb, reply.ok)
            )
            if message.retain:
                await publish(client, message.topic.value, b"", retain=True)
        except aiomqtt.MqttError as lost:
            _log.warning("reply_lost", topic=topic, request_id=sender.request_id, error=str(lost))
            return False
        return True


class Flood:
    """Tells the log of a flood now and then, not of each of its drops."""

    def __init__(self) -> None:
        self._refused = 0
        self._unanswered = 0
        self._told_at = -TELL_EVERY_S

    def note(self, whose: str, *, silent: bool) -> None:
        """Count a request that was refused, or `silent`: not even that."""
        self._refused += not silent
        self._unanswered += silent
        now = time.monotonic()
        if now - self._told_at >= TELL_EVERY_S:
            self._told_at = now
            _log.warning("requests_flooded", client=whose, refused=self._refused, unanswered=self._unanswered)
            self._refused = self._unanswered = 0
