"""The timestamper of docs/reference/timestamper.md on a pty: edges of its pins, stamped by a clock of its own."""

from __future__ import annotations

import binascii
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from labd.virtual.serial_port import SerialPort
from labd.virtual.world import RackClock

_LINE_MAX = 120


class TimestamperFault(StrEnum):
    """What can be made to go wrong."""

    LOST_LINE = "lost_line"  # every fifth edge is not reported: a hole in the running numbers
    CORRUPT_LINE = "corrupt_line"  # every fifth line is damaged on its way
    OFF = "off"  # says nothing


class TimestamperSpec(BaseModel):
    """What a timestamper declares of itself, and the distributions that one is drawn from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pins: int = Field(default=16, ge=1, le=64)
    pulse_pins: tuple[int, ...] = (15,)
    rate_hz: int = Field(default=25_000_000, gt=0)
    """Nominal rate of the counter, Hz."""
    ppm: float = Field(default=50.0, ge=0)
    """Half width of the rate's error: drawn rectangular."""
    jitter_s: float = Field(default=10e-9, ge=0)
    """Standard deviation of one stamp, s."""


class Timestamper:
    """One timestamper.

    Args:
        clock: The rack's time.
        link: Where its port is.
        name: Its serial number.
        spec: What it declares.
        rng: Source of its clock's error, its start and its jitter.
        on_pulse: Told of each pulse it puts out: pin, rack time of the rising edge, width, s.
    """

    def __init__(
        self,
        clock: RackClock,
        link: Path,
        *,
        name: str,
        spec: TimestamperSpec,
        rng: np.random.Generator,
        on_pulse: Callable[[int, float, float], None],
    ) -> None:
        self.faults: set[TimestamperFault] = set()
        self._clock = clock
        self._name = name
        self._spec = spec
        self._rng = rng
        self._on_pulse = on_pulse
        self.ppm = float(rng.uniform(-spec.ppm, spec.ppm))
        self._start_ticks = float(rng.uniform(0, 1000 * spec.rate_hz))
        self._mask = 0
        self._sequence = 0
        self._dropped = 0
        self._lines = 0
        self._typed = bytearray()
        self.port = SerialPort(link, self._receive)

    def close(self) -> None:
        """Unplug it."""
        self.port.close()

    def ticks(self, at_s: float) -> int:
        """The counter at a rack time, without jitter."""
        return int(self._start_ticks + at_s * self._spec.rate_hz * (1 + 1e-6 * self.ppm))

    def edge(self, pin: int, level: int, at_s: float) -> int | None:
        """Take an edge at rack time `at_s`; return the ticks it was stamped with, None if it was not reported."""
        if not self._mask >> pin & 1 or TimestamperFault.OFF in self.faults:
            return None
        ticks = self.ticks(at_s + self._spec.jitter_s * float(self._rng.standard_normal()))
        sequence, self._sequence = self._sequence, self._sequence + 1
        if TimestamperFault.LOST_LINE in self.faults and sequence % 5 == 4:
            self._dropped += 1
            return None
        self._say(f"e {sequence} {pin} {level} {ticks}")
        return ticks

    def _receive(self, data: bytes) -> None:
        self._typed += data
        while (end := self._typed.find(b"\n")) >= 0:
            line = bytes(self._typed[:end])
            del self._typed[: end + 1]
            self._obey(line.decode("ascii", errors="replace").split())
        if len(self._typed) > _LINE_MAX:
            self._typed.clear()
            self._say("err line too long")

    def _obey(self, words: list[str]) -> None:
        match words:
            case ["id"]:
                spec = self._spec
                pulse = ",".join(map(str, spec.pulse_pins))
                self._say(
                    f"id labd-timestamper 1 serial={self._name} firmware=virtual-1 rate_hz={spec.rate_hz}"
                    f" ppm={spec.ppm:g} pins={spec.pins} pulse={pulse}"
                )
            case ["start", text]:
                self._start(text)
            case ["pulse", pin, width]:
                self._pulse(pin, width)
            case ["status"]:
                now = self.ticks(self._clock.now())
                self._say(f"status seq={self._sequence} dropped={self._dropped} now={now}")
            case [word, *_]:
                self._say(f"err {word} unknown command or wrong arguments")
            case _:
                self._say("err empty empty line")

    def _start(self, text: str) -> None:
        try:
            mask = int(text, 16)
        except ValueError:
            mask = -1
        if mask < 0 or mask >> self._spec.pins:
            self._say("err start not a mask of my pins")
            return
        self._mask = mask
        self._say(f"ok start {text}")

    def _pulse(self, pin_text: str, width_text: str) -> None:
        if not (pin_text.isdecimal() and width_text.isdecimal() and int(pin_text) in self._spec.pulse_pins):
            self._say("err pulse not a sync output and a width in us")
            return
        pin, width_s = int(pin_text), int(width_text) * 1e-6
        self._say(f"ok pulse {pin}")
        if TimestamperFault.OFF in self.faults:
            return
        # The pulse is far shorter than what the host can see of time, so both edges are told at once.
        rise_s = self._clock.now()
        self._on_pulse(pin, rise_s, width_s)
        self.edge(pin, 1, rise_s)
        self.edge(pin, 0, rise_s + width_s)

    def _say(self, text: str) -> None:
        if TimestamperFault.OFF in self.faults:
            return
        line = f"{text} *{binascii.crc_hqx(text.encode(), 0xFFFF):04x}\n".encode()
        self._lines += 1
        if TimestamperFault.CORRUPT_LINE in self.faults and self._lines % 5 == 0:
            middle = len(line) // 2
            line = line[:middle] + bytes([line[middle] ^ 0x11]) + line[middle + 1 :]
        self.port.send(line)
