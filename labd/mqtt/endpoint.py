"""Where the broker is and how to get in, from a URL and the files beside it; for the daemon and for clients."""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from labd.config import Mqtt
from labd.errors import ConfigError

PENDING_MAX = 128
"""Publishes under way above which the client library warns: whoever publishes here bounds them well below."""

RECEIVE_MAX = 64
"""Requests that an MQTT 5 broker may have under way to us before we have acknowledged the first of them."""

_PORTS = {"mqtt": 1883, "mqtts": 8883}


class Inbox(asyncio.Queue[aiomqtt.Message]):
    """Stands in for the client library's queue of messages; a subclass takes them in `put_nowait` as they come.

    The library makes a task for each message that is fetched from its queue, which takes longer than all else that it
    does with it.
    """


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A broker to connect to.

    Args:
        host, port: Its address.
        tls: How to check it and show who we are; None for a plain connection.
        user, password: Credentials; None without.
        speaks: The newest MQTT that it may speak.
    """

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    user: str | None = None
    password: str | None = None
    speaks: aiomqtt.ProtocolVersion = aiomqtt.ProtocolVersion.V5

    def client(
        self,
        *,
        identifier: str | None = None,
        will: aiomqtt.Will | None = None,
        protocol: aiomqtt.ProtocolVersion = aiomqtt.ProtocolVersion.V311,
        inbox: type[Inbox] | None = None,
    ) -> aiomqtt.Client:
        """A client of this broker; needs a running loop.

        Args:
            identifier: Its name for the broker; None for one that the broker gives.
            will: What the broker says when the client is lost.
            protocol: Which MQTT it speaks.
            inbox: Takes its messages; None to have them queued.
        """
        properties = None
        if protocol is aiomqtt.ProtocolVersion.V5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.ReceiveMaximum = RECEIVE_MAX
        client = aiomqtt.Client(
            self.host,
            self.port,
            username=self.user,
            password=self.password,
            identifier=identifier,
            will=will,
            tls_context=self.tls,
            protocol=protocol,
            properties=properties,
            queue_type=inbox,
            keepalive=15,
            timeout=10.0,
            # An acknowledgement and the reply after it are two small writes: with Nagle's algorithm the second one
            # waits for the peer's delayed acknowledgement, 40 ms each way (measured: 88 ms a round trip, not 1 ms).
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        )
        client.pending_calls_threshold = PENDING_MAX
        return client

    def __str__(self) -> str:
        return f"{'mqtts' if self.tls else 'mqtt'}://{self.host}:{self.port}"


def endpoint(mqtt: Mqtt) -> Endpoint:
    """The broker that `[mqtt]` names.

    Raises:
        ConfigError: the URL cannot be used, or a file beside it cannot be read.
    """
    remedy = "write mqtt://host:port or mqtts://host:port"
    try:
        parts = urlsplit(mqtt.url)
    except ValueError as error:
        raise ConfigError(f"{mqtt.url!r} is no broker: {error}", where="mqtt.url", remedy=remedy) from error
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ConfigError(f"{mqtt.url!r} is no broker", where="mqtt.url", remedy=remedy)
    try:
        password = mqtt.password_file.read_text(encoding="utf-8-sig").strip() if mqtt.password_file else None
        tls = _tls(mqtt) if parts.scheme == "mqtts" else None
        port = parts.port or _PORTS[parts.scheme]
        parts.hostname.encode("idna")  # raises here what would else come out of the first connection
    except (OSError, ValueError) as error:
        raise ConfigError(
            str(error), where="mqtt", remedy="check the host, the port and the files that [mqtt] names"
        ) from error
    return Endpoint(parts.hostname, port, tls, mqtt.user, password)


def _tls(mqtt: Mqtt) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=mqtt.ca)
    if mqtt.cert is not None:
        context.load_cert_chain(mqtt.cert, mqtt.key)
    return context
