"""Talks to the service manager: ready, still alive, stopping.

Source: sd_notify(3) and systemd.service(5): datagrams of `KEY=value` lines to the socket in `NOTIFY_SOCKET`; a service
with `WatchdogSec=` says `WATCHDOG=1` at least every half of `WATCHDOG_USEC`.
"""

from __future__ import annotations

import asyncio
import os
import socket

import structlog


def notify(message: str) -> None:
    """Send one message to the service manager; without one this does nothing."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # an abstract socket
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        try:
            channel.sendto(message.encode(), address)
        except OSError as error:  # a manager that is gone is no reason to stop measuring
            structlog.get_logger().warning("service_manager_unreachable", error=str(error))


def on_terminal() -> bool:
    """Whether this process would go with a terminal; one that a service manager keeps would not."""
    if os.environ.get("NOTIFY_SOCKET"):
        return False
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:  # there is no controlling terminal
        return False
    return True


async def keep_alive() -> None:
    """Tell the service manager that the event loop turns; return at once if nobody asked for it."""
    period_us = int(os.environ.get("WATCHDOG_USEC", "0"))
    if not period_us or not os.environ.get("NOTIFY_SOCKET"):
        return
    while True:
        notify("WATCHDOG=1")
        await asyncio.sleep(period_us / 2e6)
