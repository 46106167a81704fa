"""How a request is carried out: parsed, run in one transaction, and answered.

A change remembers its reply under the request's id in the transaction that makes the change, so a client that lost the
reply may send the request again, also after a restart. A refused request changes nothing and is not remembered.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar

from pydantic import TypeAdapter
from sqlalchemy import Row, bindparam, insert
from sqlmodel import Session, SQLModel

from labd.errors import RequestError
from labd.service.lab import Lab
from labd.service.messages import Envelope, Message

P = TypeVar("P", bound=Message)

# Every change of every client passes here: as rows of the table, not as objects, it takes a quarter of the time.
_REQUESTS = SQLModel.metadata.tables["request"]
_RECALL = _REQUESTS.select().where(_REQUESTS.c.request_id == bindparam("id"))
_REMEMBER = insert(_REQUESTS)


class ReusedRequestError(RequestError):
    """The id of a request was used before, for another request."""

    kind = "request_id_reused"


class Verb(Protocol):
    """Something a lab can be asked."""

    async def answer(self, lab: Lab, verb: str, payload: bytes) -> dict[str, Any]:
        """The result of one request.

        Raises:
            ValidationError, RequestError, StoreError: it is refused, and nothing was changed.
        """
        ...


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asks for a change, and when."""

    client: str
    at: datetime


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

    async def answer(self, lab: Lab, verb: str, payload: bytes) -> dict[str, Any]:
        """Parse, look and return the result. Raises `ValidationError`, `RequestError`, `StoreError`."""
        envelope = self.envelope.validate_json(payload)
        result = await lab.database.read(lambda session: self.run(lab, session, envelope.params))
        return result.model_dump(mode="json")


@dataclass(frozen=True, slots=True)
class Change(Generic[P]):
    """A request that changes something, once for each request id."""

    envelope: TypeAdapter[Envelope[P]]
    run: Callable[[Lab, Session, P, Asked], Done]

    async def answer(self, lab: Lab, verb: str, payload: bytes) -> dict[str, Any]:
        """Parse, change or recall, and return the result after its commit.

        Raises:
            ValidationError, RequestError, StoreError: nothing was changed.
        """
        envelope = self.envelope.validate_json(payload)
        return await once(lab, verb, envelope, lambda session, asked: self.run(lab, session, envelope.params, asked))


async def once(
    lab: Lab, verb: str, envelope: Envelope[Any], change: Callable[[Session, Asked], Done]
) -> dict[str, Any]:
    """Make a change, or recall what it was answered when it was made before; return the result after the commit.

    Raises:
        RequestError, StoreError: nothing was changed.
    """
    asked = Asked(envelope.client, lab.now())
    digest = _digest(verb, envelope)

    def recalled_or_made(session: Session) -> Done:
        connection = session.connection()
        known = connection.execute(_RECALL, {"id": envelope.request_id}).one_or_none()
        if known is not None:
            return _recalled(known, digest)
        done = change(session, asked)
        connection.execute(
            _REMEMBER,
            {
                "request_id": envelope.request_id,
                "verb": verb,
                "client": envelope.client,
                "digest": digest,
                "reply": done.result,
                "answered_at": asked.at,
            },
        )
        return done

    done = await lab.database.write(recalled_or_made)
    done.then()
    return done.result


def _digest(verb: str, envelope: Envelope[Any]) -> str:
    text = f"{verb}\n{envelope.client}\n{envelope.params.model_dump_json()}"
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
