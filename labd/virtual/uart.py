"""A board's UART on a serial port: bytes take their time, and two ends at different rates read garbage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from labd.virtual.serial_port import SerialPort
from labd.virtual.world import RackClock

BITS_PER_BYTE = 10
_TOLERANCE = 0.04  # a receiver samples the last of ten bits half a bit off at 5 %


class BoardUart:
    """The line between a board and the host.

    Args:
        clock: The rack's time.
        link: Where the host finds the port.
        rng: Source of garbage.
        on_byte: Takes a byte from the host: its value as the board reads it, rack times of its first and last bit.
    """

    def __init__(
        self,
        clock: RackClock,
        link: Path,
        rng: np.random.Generator,
        on_byte: Callable[[int, float, float], None],
    ) -> None:
        self.board_baud = 0
        """Rate of the board's side, bit/s; 0 while its UART is closed."""
        self._clock = clock
        self._rng = rng
        self._on_byte = on_byte
        self._free_s = 0.0
        self.port = SerialPort(link, self._receive)

    def send(self, byte: int) -> None:
        """Give the host a byte that the board has sent."""
        host_baud = self.port.baud
        if self._same_rate(host_baud):
            self.port.send(bytes([byte]))
        else:
            seen = min(4, max(1, round(host_baud / max(1, self.board_baud))))
            self.port.send(self._rng.bytes(seen))

    def noise(self) -> None:
        """Give the host a few bytes that nobody sent, none of them printable."""
        count = int(self._rng.integers(1, 5))
        self.port.send(bytes(self._rng.integers(0x80, 0x100, count, dtype=np.uint8)))

    def _same_rate(self, host_baud: int) -> bool:
        return self.board_baud > 0 and abs(host_baud / self.board_baud - 1) <= _TOLERANCE

    def _receive(self, data: bytes) -> None:
        host_baud = self.port.baud
        byte_s = BITS_PER_BYTE / max(1, host_baud or self.board_baud)
        clean = self._same_rate(host_baud)
        for byte in data:
            start_s = max(self._free_s, self._clock.now())
            self._free_s = start_s + byte_s
            self._on_byte(byte if clean else int(self._rng.integers(256)), start_s, self._free_s)
