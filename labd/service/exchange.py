"""How a request is carried out: parsed, run in one transaction, and answered.

A change remembers its reply under the request's id in the transaction that makes the change, so a client that lost the
reply may send the request again, also after a restart. A refused request changes nothing and is not remembered.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from pydantic import TypeAdapter
from sqlalchemy import Row, bindparam
from sqlmodel import Session, SQLModel

from labd.errors import RequestError
from labd.model.prepared import Insertion, Presence
from labd.service.access import Caller, ForbiddenError, Role
from labd.service.lab import Lab
from labd.service.messages import Envelope, Message
from labd.service.sender import Sender

P = TypeVar("P", bound=Message)

# Every change of every client passes here: as rows of the table, not as objects, it takes a quarter of the time.
_REQUESTS = SQLModel.metadata.tables["request"]
_RECALL = _REQUESTS.select().where(_REQUESTS.c.request_id == bindparam("id"))
_KNOWN = Presence("request", "request_id")
_REMEMBER = Insertion("request")


class ReusedRequestError(RequestError):
    """The id of a request was used before, for another request."""

    kind = "request_id_reused"


class ExpiredError(RequestError):
    """A request that was still waiting when its message expiry ended."""

    kind = "expired"


def heed_expiry(sender: Sender) -> None:
    """Do nothing that nobody wants any more.

    Raises:
        ExpiredError: the request has expired.
    """
    if sender.origin.expires_at_s is not None and time.monotonic() > sender.origin.expires_at_s:
        raise ExpiredError(
            "the request expired before it was done", remedy="ask again, with a longer message expiry or none"
        )


class Verb(Protocol):
    """Something a lab can be asked."""

    @property
    def envelope(self) -> TypeAdapter[Any]:
        """The form of its requests."""
        ...

    @property
    def result(self) -> type[Message]:
        """The form of its replies' `result`."""
        ...

    @property
    def role(self) -> Role:
        """What somebody has to be to ask for it."""
        ...

    async def answer(self, lab: Lab, verb: str, payload: bytes, caller: Caller) -> dict[str, Any]:
        """The result of one request by somebody whose role will do.

        Raises:
            ValidationError, RequestError, StoreError: it is refused, and nothing was changed.
        """
        ...


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asks for a change, and when.

    Args:
        client: The program that asks.
        at: When it was heard.
        requester: Who is charged for it: the user whom the broker vouches for, or who a client of an open lab says
            that it asks for, else the client itself.
        role: What they may do.
    """

    client: str
    at: datetime
    requester: str
    role: Role


def own(asked: Asked, owner: str, what: str, where: str = "params.id") -> None:
    """Let operators change only what is their own; admins change everything.

    Args:
        asked: Who asks.
        owner: Whose it is.
        what: What it is, as people say it: `job 12`.
        where: The field that names it.

    Raises:
        ForbiddenError: it is somebody else's.
    """
    if asked.requester != owner and not asked.role.includes(Role.ADMIN):
        raise ForbiddenError(f"{what} is {owner}'s, not yours", where=where, remedy=f"ask {owner} or an admin")


@dataclass(frozen=True, slots=True)
class Done:
    """What a change made: the reply's result, and what to do on the event loop once it is committed."""

    result: dict[str, Any]
    then: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Query(Generic[P]):
    """A request that only looks."""

    envelope: TypeAdapter[Envelope[P]]
    run: Callable[[Lab, Session, P], Message]
    result: type[Message] = Message
    role: Role = Role.VIEWER

    async def answer(self, lab: Lab, verb: str, payload: bytes, caller: Caller) -> dict[str, Any]:
        """Parse, look and return the result. Raises `ValidationError`, `RequestError`, `StoreError`."""
        envelope = self.envelope.validate_json(payload)
        heed_expiry(caller.sender)
        result = await lab.database.read(lambda session: self.run(lab, session, envelope.params))
        return result.model_dump(mode="json")


@dataclass(frozen=True, slots=True)
class Change(Generic[P]):
    """A request that changes something, once for each request id."""

    envelope: TypeAdapter[Envelope[P]]
    run: Callable[[Lab, Session, P, Asked], Done]
    result: type[Message] = Message
    role: Role = Role.OPERATOR

    async def answer(self, lab: Lab, verb: str, payload: bytes, caller: Caller) -> dict[str, Any]:
        """Parse, change or recall, and return the result after its commit.

        Raises:
            ValidationError, RequestError, StoreError: nothing was changed.
        """
        envelope = self.envelope.validate_json(payload)
        change = partial(self._changed, lab, envelope.params)
        return await once(lab, verb, envelope, change, caller)

    def _changed(self, lab: Lab, params: P, session: Session, asked: Asked) -> Done:
        return self.run(lab, session, params, asked)


async def once(
    lab: Lab, verb: str, envelope: Envelope[Any], change: Callable[[Session, Asked], Done], caller: Caller
) -> dict[str, Any]:
    """Make a change, or recall what it was answered when it was made before; return the result after the commit.

    Raises:
        RequestError, StoreError: nothing was changed.
    """
    sender = caller.sender
    client, request_id = envelope.client or sender.client, envelope.request_id or sender.request_id
    if client is None:
        raise RequestError("a change needs to know who asks", where="client", remedy="give the client a name")
    if not request_id:
        raise RequestError(
            "a change needs an id, by which it is done once however often it comes",
            where="request_id",
            remedy="give each new request an id of its own; with MQTT 5 correlation data will do",
        )
    asked = Asked(client, lab.now(), sender.origin.user or envelope.requester or client, caller.role)
    digest = _digest(verb, asked, envelope.params)

    def recalled_or_made(session: Session) -> Done:
        connection = session.connection()
        if _KNOWN.holds(connection, request_id):
            return _recalled(connection.execute(_RECALL, {"id": request_id}).one(), digest)
        heed_expiry(sender)
        session.info["actor"] = asked.requester
        done = change(session, asked)
        _REMEMBER.add(
            connection,
            {
                "request_id": request_id,
                "verb": verb,
                "client": client,
                "requester": asked.requester,
                "params": envelope.params.model_dump(mode="json", exclude_unset=True),
                "digest": digest,
                "reply": done.result,
                "answered_at": asked.at,
            },
        )
        return done

    done = await lab.database.write(recalled_or_made)
    done.then()
    return done.result


def _digest(verb: str, asked: Asked, params: Message) -> str:
    text = f"{verb}\n{asked.client}\n{asked.requester}\n{params.model_dump_json()}"
    return hashlib.sha256(text.encode()).hexdigest()


def _recalled(known: Row[Any], digest: str) -> Done:
    if known.digest != digest:
        raise ReusedRequestError(
            f"this id belongs to another request, a {known.verb} of {known.client}",
            where="request_id",
            remedy="give every new request an id of its own, such as a random UUID",
        )
    return Done(known.reply, nothing)


def nothing() -> None:
    """Nothing is left to do for a request that was answered before."""
