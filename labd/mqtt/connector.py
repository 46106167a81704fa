"""Gets a connection in the best MQTT that the broker speaks: 5, or 3.1.1 where 5 was refused once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import aiomqtt

from labd.mqtt.endpoint import Endpoint, Inbox

_UNSUPPORTED = 132
"""Reason code of a refusal for the protocol's version (MQTT 5.0, 3.2.2.2); the client library maps 3.1.1's 1 to it."""


class Connector:
    """Connects to one broker, again and again, and remembers what it speaks.

    Args:
        endpoint: The broker.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.protocol = endpoint.speaks
        """What the broker speaks, as far as is known."""

    @asynccontextmanager
    async def connected(
        self, *, identifier: str | None = None, will: aiomqtt.Will | None = None, inbox: type[Inbox] | None = None
    ) -> AsyncIterator[aiomqtt.Client]:
        """A connection for as long as the context lasts.

        Args:
            identifier: The client's; None for one that the broker gives.
            will: What the broker says when the connection is lost.
            inbox: Takes the messages as they come; None to have them queued.

        Raises:
            aiomqtt.MqttError: there is none to be had, or it was lost.
        """
        make = partial(self.endpoint.client, identifier=identifier, will=will, inbox=inbox)
        client = make(protocol=self.protocol)
        try:
            await client.__aenter__()
        except aiomqtt.MqttError as refused:
            if self.protocol is not aiomqtt.ProtocolVersion.V5 or not _may_be_older(refused):
                raise
            client = make(protocol=aiomqtt.ProtocolVersion.V311)
            await client.__aenter__()
            self.protocol = aiomqtt.ProtocolVersion.V311
        async with _entered(client):
            yield client


@asynccontextmanager
async def _entered(client: aiomqtt.Client) -> AsyncIterator[None]:
    """Leave a client that was entered by hand."""
    try:
        yield
    except BaseException as error:
        await client.__aexit__(type(error), error, error.__traceback__)
        raise
    await client.__aexit__(None, None, None)


def _may_be_older(refused: aiomqtt.MqttError) -> bool:
    """Whether a failed connection in MQTT 5 may be a broker's that does not know it: it says so, or says nothing."""
    if isinstance(refused, aiomqtt.MqttCodeError):
        return getattr(refused.rc, "value", refused.rc) == _UNSUPPORTED
    return str(refused) == "Operation timed out"
