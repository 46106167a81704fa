"""Publishing without losing a cancel.

aiomqtt waits for the broker with `asyncio.wait_for`, which before Python 3.12 swallows a cancel that comes just when
the wait is over. A loop that publishes would go on for ever, and whoever stops it would wait with it. The task
still knows that it was cancelled, so it is asked after every such wait.
"""

from __future__ import annotations

import asyncio

import aiomqtt


async def publish(
    client: aiomqtt.Client, topic: str, payload: str | bytes, *, qos: int = 1, retain: bool = False
) -> None:
    """Publish one message, and wait for the broker's acknowledgement if `qos` is 1.

    Raises:
        aiomqtt.MqttError: the broker is lost.
        asyncio.CancelledError: the caller was cancelled, in time or just too late to stop the message.
    """
    await client.publish(topic, payload, qos=qos, retain=retain)
    heed_cancel()


def heed_cancel() -> None:
    """Raise `CancelledError` if the running task was cancelled and a library has kept that to itself."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
