"""A client of a lab: asks and waits for the answer, or follows a job, over MQTT.

One thing at a time: a client waits for an answer, or follows jobs. Whoever does not answer is told apart: a broker
or a lab that is not there is unreachable, a lab that is there and silent has missed the deadline.
"""

from __future__ import annotations

import asyncio
import getpass
import json
import re
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

import aiomqtt
from pydantic import ValidationError

from labd.errors import LabError, RequestError, UnreachableError
from labd.mqtt.connector import Connector
from labd.mqtt.endpoint import Endpoint
from labd.mqtt.properties import request_properties
from labd.mqtt.publishing import publish
from labd.mqtt.topics import Topics
from labd.service.messages import (
    BoardPage,
    BoardQuery,
    ErrorDocument,
    JobAccepted,
    JobDocument,
    JobPage,
    JobQuery,
    JobRef,
    JobSpec,
    LabState,
    LabStatus,
    Message,
    Offline,
    ProgressDocument,
    Reply,
)

Document = TypeVar("Document", bound=Message)
Update = JobDocument | ProgressDocument | LabStatus | Offline
"""What comes while a job is followed."""


class RefusedError(RequestError):
    """The lab has refused a request; `document` is its own answer."""

    def __init__(self, document: ErrorDocument) -> None:
        super().__init__(document.message, where=document.field, remedy=document.remedy)
        self.kind = document.kind.value
        self.document = document


class NoAnswerError(LabError):
    """The lab is there, but has not answered before the deadline."""

    kind = "no_answer"


class MisunderstoodError(LabError):
    """The lab has said something that this version does not know."""

    kind = "misunderstood"


class LabClient:
    """A connection to one lab; made by `connect`.

    Args:
        client: Connected, and subscribed to the lab's status and to `reply_to`.
        topics: The lab's topics.
        name: Who asks.
        timeout_s: Longest wait for an answer, s.
        user: Whom the broker knows us as; None to ask as nobody in particular, as an open lab allows.
        person: For whom an open lab is asked: `name` is another one each time, and a share of the boards is nobody's
            if it is a new one with every request. None to ask for `name`.
    """

    def __init__(
        self,
        client: aiomqtt.Client,
        topics: Topics,
        name: str,
        timeout_s: float,
        *,
        user: str | None = None,
        person: str | None = None,
    ) -> None:
        self._client = client
        self._topics = topics
        self._name = name
        self._timeout_s = timeout_s
        self._user = user
        self._person = person
        self._status: LabStatus | Offline | None = None

    async def submit(self, spec: JobSpec) -> JobAccepted:
        """Queue a job. Raises as `request` does."""
        return await self.request("job.submit", spec, JobAccepted)

    async def cancel(self, job_id: int) -> JobAccepted:
        """Cancel a job. Raises as `request` does."""
        return await self.request("job.cancel", JobRef(id=job_id), JobAccepted)

    async def release(self, job_id: int) -> JobAccepted:
        """Queue a parked job again. Raises as `request` does."""
        return await self.request("job.release", JobRef(id=job_id), JobAccepted)

    async def job(self, job_id: int) -> JobDocument:
        """The whole of one job. Raises as `request` does."""
        return await self.request("job.get", JobRef(id=job_id), JobDocument)

    async def jobs(self, query: JobQuery) -> JobPage:
        """A page of jobs, newest first. Raises as `request` does."""
        return await self.request("job.list", query, JobPage)

    async def boards(self) -> BoardPage:
        """All boards. Raises as `request` does."""
        return await self.request("board.list", BoardQuery(), BoardPage)

    async def request(self, verb: str, params: Message, answer: type[Document]) -> Document:
        """Ask once and wait for the answer.

        Raises:
            RefusedError: the lab refuses.
            UnreachableError: broker or lab are not there.
            NoAnswerError: the lab has not answered in time. It may have done what was asked; what it had not done by
                then it will not do, unless the broker speaks no MQTT 5.
            MisunderstoodError: the answer is of another version of labd.
        """
        await self.status()  # a lab that is about to start would not hear the request
        request_id = str(uuid.uuid4())
        reply_to = self._topics.reply(self._name, self._user)
        envelope = {
            "request_id": request_id,
            "client": self._name,
            "reply_to": reply_to,
            "params": params.model_dump(mode="json", exclude_unset=True),
        }
        if self._user is None and self._person is not None:
            envelope["requester"] = self._person
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._publish(self._topics.request(verb, self._user), json.dumps(envelope))
                async for topic, payload in self._messages():
                    self._note_status(topic, payload)
                    if isinstance(self._status, Offline):
                        raise self._offline()
                    if topic == reply_to and (reply := _parsed(Reply, topic, payload)).request_id == request_id:
                        return _result(reply, answer)
        except TimeoutError as error:
            raise self._silent() from error
        raise self._lost()

    async def status(self) -> LabStatus:
        """The lab as it has last said.

        Raises:
            UnreachableError: broker or lab are not there.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                messages = self._messages()
                while self._status is None:
                    self._note_status(*await anext(messages))
        except TimeoutError as error:
            raise self._silent() from error
        if isinstance(self._status, Offline):
            raise self._offline()
        return self._status

    async def follow(self, *job_ids: int) -> AsyncGenerator[Update, None]:
        """Every news of these jobs, beginning with their present state; ends only by its consumer.

        The lab's going and coming is news too: the jobs go on when the lab is back.

        Raises:
            UnreachableError: the broker is lost; ask again to go on.
            MisunderstoodError: the lab is of another version.
        """
        whole = {self._topics.job(job_id) for job_id in job_ids}
        progress = {self._topics.progress(job_id) for job_id in job_ids}
        try:
            await self._client.subscribe([*((topic, 1) for topic in whole), *((topic, 0) for topic in progress)])
        except aiomqtt.MqttError as error:
            raise self._lost() from error
        async for topic, payload in self._messages():
            if topic in whole and payload:
                yield _parsed(JobDocument, topic, payload)
            elif topic in progress:
                yield _parsed(ProgressDocument, topic, payload)
            elif self._note_status(topic, payload) and self._status is not None:
                yield self._status

    async def watch(self, *filters: str) -> AsyncGenerator[tuple[str, bytes], None]:
        """Every message below the lab's root that fits one of these filters, such as `board/+`, and every status.

        What the broker keeps comes first. A path without payload is a document that was taken away. Ends only by its
        consumer.

        Yields:
            The topic below the root, and the payload.

        Raises:
            UnreachableError: the broker is lost; ask again to go on.
        """
        root = f"{self._topics.root}/"
        try:
            await self._client.subscribe([(self._topics.status, 1), *((root + each, 1) for each in filters)])
        except aiomqtt.MqttError as error:
            raise self._lost() from error
        async for topic, payload in self._messages():
            if topic.startswith(root):
                yield topic.removeprefix(root), payload

    def _note_status(self, topic: str, payload: bytes) -> bool:
        if topic != self._topics.status or not payload:
            return False
        state = _parsed_state(topic, payload)
        self._status = Offline() if state is LabState.OFFLINE else _parsed(LabStatus, topic, payload)
        return True

    async def _publish(self, topic: str, payload: str) -> None:
        try:
            await publish(self._client, topic, payload, properties=request_properties(self._timeout_s))
        except aiomqtt.MqttError as error:
            raise self._lost() from error

    async def _messages(self) -> AsyncIterator[tuple[str, bytes]]:
        try:
            async for message in self._client.messages:
                if isinstance(message.payload, bytes):
                    yield message.topic.value, message.payload
        except aiomqtt.MqttError as error:
            raise self._lost() from error

    def _lost(self) -> UnreachableError:
        return UnreachableError("the broker was lost", where=self._topics.lab, remedy="try again")

    def _offline(self) -> UnreachableError:
        remedy = "start its daemon, or look why it stopped: journalctl -u labd"
        return UnreachableError("the lab is offline", where=self._topics.lab, remedy=remedy)

    def _silent(self) -> LabError:
        if self._status is None:
            remedy = "check the lab's name and the broker, and that the daemon runs"
            return UnreachableError("no lab of that name is on this broker", where=self._topics.lab, remedy=remedy)
        message = f"no answer within {self._timeout_s:g} s"
        return NoAnswerError(message, where=self._topics.lab, remedy="look at the state before asking again")


@asynccontextmanager
async def connect(
    endpoint: Endpoint, lab: str, *, timeout_s: float, user: str | None = None
) -> AsyncIterator[LabClient]:
    """Connect to a lab's broker.

    Args:
        endpoint: The broker.
        lab: The lab's name.
        timeout_s: Longest wait for the connection, and later for an answer, s.
        user: Whom the broker knows us as by our certificate; None for the endpoint's user, if it has one.

    Raises:
        UnreachableError: the broker cannot be reached, or does not let us in.
    """
    topics, person, user = Topics(lab), _person(), user or endpoint.user
    name = f"{person or 'labctl'}-{uuid.uuid4().hex[:12]}"  # no other client has it
    async with AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(timeout_s):
                connection = Connector(endpoint).connected(identifier=name)
                client = await stack.enter_async_context(connection)
                await client.subscribe([(topics.reply(name, user), 1), (topics.status, 1)])
        except TimeoutError as error:
            message = f"the broker does not answer within {timeout_s:g} s"
            raise UnreachableError(message, where=str(endpoint), remedy="check its address") from error
        except aiomqtt.MqttError as error:
            remedy = "check that it runs, its address, and the user"
            raise UnreachableError(f"the broker cannot be used: {error}", where=str(endpoint), remedy=remedy) from error
        yield LabClient(client, topics, name, timeout_s, user=user, person=person)


def _person() -> str | None:
    """Name of who asks, as a lab takes names; None where it cannot be had."""
    try:
        return re.sub(r"[^A-Za-z0-9._-]", "-", getpass.getuser()).lstrip("._-")[:40] or None
    except (OSError, KeyError):  # a container without a user database
        return None


def _result(reply: Reply, answer: type[Document]) -> Document:
    if reply.error is not None:
        raise RefusedError(reply.error)
    return _parsed(answer, "the answer", json.dumps(reply.result).encode())


def _parsed(model: type[Document], where: str, payload: bytes) -> Document:
    try:
        return model.model_validate_json(payload)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = ".".join(map(str, fault["loc"]))
        raise MisunderstoodError(
            f"{place or 'the message'}: {fault['msg']}",
            where=where,
            remedy="use the labctl of the same version as the lab",
        ) from error


def _parsed_state(where: str, payload: bytes) -> LabState:
    try:
        state: Any = json.loads(payload)["state"]
        return LabState(state)
    except (ValueError, KeyError, TypeError) as error:
        message = f"the lab's status cannot be read: {error}"
        raise MisunderstoodError(message, where=where, remedy="use the labctl of the lab's version") from error
