"""Publishing with a deadline, and without losing a cancel.

aiomqtt waits for the broker with `asyncio.wait_for`. Before Python 3.12 that takes a task for each wait, so publishes
wait without aiomqtt's own deadline, inside one of asyncio's; and it swallows a cancel that comes just when the wait is
over. A loop that talks would go on for ever, and whoever stops it would wait with it. The task still knows that it was
cancelled, so it is asked after every wait of the library.
"""

from __future__ import annotations

import asyncio
import math

import aiomqtt
from paho.mqtt.properties import Properties

ACKNOWLEDGED_S = 10.0
"""Longest wait for the broker's acknowledgement, s."""


async def publish(
    client: aiomqtt.Client,
    topic: str,
    payload: str | bytes,
    *,
    qos: int = 1,
    retain: bool = False,
    properties: Properties | None = None,
) -> None:
    """Publish one message, and wait for the broker's acknowledgement if `qos` is 1.

    Raises:
        aiomqtt.MqttError: the broker is lost.
        asyncio.CancelledError: the caller was cancelled, in time or just too late to stop the message.
    """
    try:
        async with asyncio.timeout(ACKNOWLEDGED_S):
            await client.publish(topic, payload, qos, retain, properties, timeout=math.inf)
    except TimeoutError as error:
        raise aiomqtt.MqttError(f"no acknowledgement within {ACKNOWLEDGED_S:g} s") from error
    heed_cancel()


def heed_cancel() -> None:
    """Raise `CancelledError` if the running task was cancelled and a library has kept that to itself."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
