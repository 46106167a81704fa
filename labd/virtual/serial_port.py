"""A serial port as a host sees it: the slave side of a pty behind a stable link, there whether or not it is open."""

from __future__ import annotations

import asyncio
import os
import re
import termios
import tty
from collections.abc import Callable
from pathlib import Path

_READ_BYTES = 4096
_SPEEDS = {getattr(termios, name): int(name[1:]) for name in dir(termios) if re.fullmatch(r"B\d+", name)}


class SerialPort:
    """The device's side of one serial port.

    Args:
        link: Where the link to the host's side is put; one that is there is replaced.
        on_bytes: Takes what the host sent, as soon as it is sent.
    """

    def __init__(self, link: Path, on_bytes: Callable[[bytes], None]) -> None:
        self.link = link
        self._on_bytes = on_bytes
        self._loop = asyncio.get_running_loop()
        # The rack keeps the host's side open itself, or the port would hang up whenever its last user closes it.
        self._device, self._host = os.openpty()
        tty.setraw(self._host)
        os.set_blocking(self._device, False)
        fresh = link.with_name(f"{link.name}.new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(os.ttyname(self._host))
        fresh.replace(link)
        self._loop.add_reader(self._device, self._read)

    @property
    def baud(self) -> int:
        """The rate that the host has set, bit/s; 0 for one that is not a standard rate."""
        return _SPEEDS.get(termios.tcgetattr(self._host)[5], 0)

    def send(self, data: bytes) -> None:
        """Give bytes to the host; what a host that does not read has no room for is lost, as on a real port."""
        try:
            os.write(self._device, data)
        except BlockingIOError:
            return

    def close(self) -> None:
        """Take the port away. Harmless when repeated."""
        if self._device >= 0:
            self._loop.remove_reader(self._device)
            os.close(self._device)
            os.close(self._host)
            self._device = -1
            self.link.unlink(missing_ok=True)

    def _read(self) -> None:
        try:
            data = os.read(self._device, _READ_BYTES)
        except BlockingIOError:
            return
        self._on_bytes(data)
