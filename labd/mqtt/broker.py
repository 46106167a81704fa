"""An MQTT 3.1.1 broker inside the process, for the demo and for tests: loopback only, nothing kept on disk.

It speaks MQTT 3.1.1 alone, and `$share` delivers nothing; a lab runs Mosquitto.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiomqtt
from amqtt.broker import Broker
from amqtt.contexts import BrokerConfig, ListenerConfig, ListenerType

from labd.mqtt.endpoint import Endpoint


@asynccontextmanager
async def embedded_broker(port: int = 0) -> AsyncIterator[Endpoint]:
    """Serve a broker on loopback for as long as the context lasts.

    Args:
        port: TCP port; 0 for any that is free.

    Yields:
        Where it listens.
    """
    logging.getLogger("amqtt").setLevel(logging.ERROR)
    logging.getLogger("transitions").setLevel(logging.ERROR)
    # The broker takes connections from a server of ours: it cannot tell which port it got when it was given 0.
    broker = Broker(
        BrokerConfig(
            listeners={"default": ListenerConfig(type=ListenerType.EXTERNAL)},
            plugins={"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        )
    )
    await broker.start()
    connections: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            await broker.stream_connected(reader, writer, "default")
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # a client that went away is the client's affair
        finally:
            connections.discard(task)
            writer.close()

    try:
        server = await asyncio.start_server(connected, "127.0.0.1", port)
        try:
            port = server.sockets[0].getsockname()[1]
            yield Endpoint("127.0.0.1", port, speaks=aiomqtt.ProtocolVersion.V311)
        finally:
            server.close()
    finally:
        await broker.shutdown()
        for task in connections.copy():
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
