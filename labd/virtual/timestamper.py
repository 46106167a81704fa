"""The timestamper of docs/reference/timestamper.md on a pty: edges of its pins, stamped by a clock of its own.

Its pulse pins drive nothing until they are told how to rest. A pulse that is over before the host can look again has
both its edges at once; the end of a longer one comes when its rack time has come.
"""

from __future__ import annotations

import asyncio
import binascii
import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from labd.virtual.serial_port import SerialPort
from labd.virtual.world import RackClock

PULSE_MAX_S = 1.0
"""Longest pulse, s."""
_AT_ONCE_HOST_S = 1e-3
_LINE_MAX = 120


class TimestamperFault(StrEnum):
    """What can be made to go wrong."""

    LOST_LINE = "lost_line"  # every fifth edge is not reported: a hole in the running numbers
    CORRUPT_LINE = "corrupt_line"  # every fifth line is damaged on its way
    OFF = "off"  # says nothing
    INVERTED = "inverted"  # what is wired to its pulse pins sees them upside down, as behind an inverting buffer


class TimestamperSpec(BaseModel):
    """What a timestamper declares of itself, and the distributions that one is drawn from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pins: int = Field(default=16, ge=1, le=64)
    pulse_pins: tuple[int, ...] = (14, 15)
    rate_hz: int = Field(default=25_000_000, gt=0)
    """Nominal rate of the counter, Hz."""
    ppm: float = Field(default=50.0, ge=0)
    """Half width of the rate's error: drawn rectangular."""
    jitter_s: float = Field(default=10e-9, ge=0)
    """Standard deviation of one stamp, s."""


@dataclass(frozen=True, slots=True)
class _Out:
    """A pulse that is out: when it ends, and what ends it."""

    end_s: float
    timer: asyncio.TimerHandle


class Timestamper:
    """One timestamper.

    Args:
        clock: The rack's time.
        link: Where its port is.
        name: Its serial number.
        spec: What it declares.
        rng: Source of its clock's error, its start and its jitter.
        on_level: Told of each level that a pulse pin takes, as what is wired to it sees it: pin, level, rack time, s.
            A pin that was not told how to rest drives nothing, and has no level.
    """

    def __init__(
        self,
        clock: RackClock,
        link: Path,
        *,
        name: str,
        spec: TimestamperSpec,
        rng: np.random.Generator,
        on_level: Callable[[int, int, float], None],
    ) -> None:
        self.faults: set[TimestamperFault] = set()
        self._clock = clock
        self._name = name
        self._spec = spec
        self._rng = rng
        self._on_level = on_level
        self._rests: dict[int, int] = {}
        self._out: dict[int, _Out] = {}
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
        for end in self._out.values():
            end.timer.cancel()
        self.port.close()

    def ticks(self, at_s: float) -> int:
        """The counter at a rack time, without jitter."""
        return int(self._start_ticks + at_s * self._spec.rate_hz * (1 + 1e-6 * self.ppm))

    def known_s(self, pin: int) -> float:
        """Rack time up to which the level of a pulse pin has been told, s: the end of a pulse that is out, else all."""
        out = self._out.get(pin)
        return math.inf if out is None else out.end_s

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
                    f"id labd-timestamper 2 serial={self._name} firmware=virtual-1 rate_hz={spec.rate_hz}"
                    f" ppm={spec.ppm:g} pins={spec.pins} pulse={pulse}"
                )
            case ["start", text]:
                self._start(text)
            case ["idle", pin, level]:
                self._idle(pin, level)
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

    def _idle(self, pin_text: str, level_text: str) -> None:
        pin = self._pulse_pin(pin_text)
        if pin is None or level_text not in ("0", "1"):
            self._say("err idle not a pulse pin and a level")
        elif pin in self._out:
            self._say("err busy a pulse is out")
        else:
            level = int(level_text)
            before, self._rests[pin] = self._rests.get(pin), level
            self._say(f"ok idle {pin} {level}")
            if before != level:
                # What the line was before the first one is for its resistor to say: no edge is made up here.
                self._take_level(pin, level, self._clock.now(), reported=before is not None)

    def _pulse(self, pin_text: str, width_text: str) -> None:
        pin = self._pulse_pin(pin_text)
        if pin is None or not width_text.isdecimal() or not 0 < int(width_text) * 1e-6 <= PULSE_MAX_S:
            self._say("err pulse not a pulse pin and a width in us")
        elif pin in self._out:
            self._say("err busy a pulse is out")
        elif pin not in self._rests:
            self._say("err idle the pin was not told how to rest")
        else:
            self._say(f"ok pulse {pin}")
            if TimestamperFault.OFF not in self.faults:
                self._put_out(pin, int(width_text) * 1e-6)

    def _put_out(self, pin: int, width_s: float) -> None:
        rest, begun_s = self._rests[pin], self._clock.now()
        end_s = begun_s + width_s
        self._take_level(pin, 1 - rest, begun_s)
        if width_s / self._clock.speed < _AT_ONCE_HOST_S:
            self._take_level(pin, rest, end_s)
            return

        def end() -> None:
            if delay_s := self._clock.host_delay(end_s):  # a timer may fire a little early
                self._out[pin] = _Out(end_s, loop.call_later(delay_s, end))
                return
            del self._out[pin]
            self._take_level(pin, rest, end_s)

        loop = asyncio.get_running_loop()
        self._out[pin] = _Out(end_s, loop.call_later(self._clock.host_delay(end_s), end))

    def _take_level(self, pin: int, level: int, at_s: float, *, reported: bool = True) -> None:
        self._on_level(pin, 1 - level if TimestamperFault.INVERTED in self.faults else level, at_s)
        if reported:
            self.edge(pin, level, at_s)

    def _pulse_pin(self, text: str) -> int | None:
        return int(text) if text.isdecimal() and int(text) in self._spec.pulse_pins else None

    def _say(self, text: str) -> None:
        if TimestamperFault.OFF in self.faults:
            return
        line = f"{text} *{binascii.crc_hqx(text.encode(), 0xFFFF):04x}\n".encode()
        self._lines += 1
        if TimestamperFault.CORRUPT_LINE in self.faults and self._lines % 5 == 0:
            middle = len(line) // 2
            line = line[:middle] + bytes([line[middle] ^ 0x11]) + line[middle + 1 :]
        self.port.send(line)
