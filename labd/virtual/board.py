"""A board of the rack: a program in its flash, a rail that feeds it, a UART, pins, and a crystal of its own.

The program runs as a child process ahead of rack time; what it does is put on a line of events and happens when its
rack time has come. Whatever cuts it short (power-off, brown-out, reset) voids what it had planned for later.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import numpy as np
import structlog

from labd.virtual.activity import PowerProfile
from labd.virtual.busy import BusyMeter
from labd.virtual.consumption import Consumption
from labd.virtual.link import LINK_VERSION, Frames, Kind, frame
from labd.virtual.native import NativeProgram
from labd.virtual.rail import Segments
from labd.virtual.uart import BITS_PER_BYTE, BoardUart
from labd.virtual.world import Floats, RackClock, UnpoweredError

AHEAD_S = 3.0
"""How far a program may run ahead of rack time before its pipe is left unread, s."""
_HUNG_HOST_S = 10.0
_SLOT_HOST_S = 1e-3  # what comes within a millisecond is handed over together, as USB does
_EXTRA_EDGE_AFTER_S = 5e-3
_EXTRA_PULSE_S = 10e-6
_REBOOT_AFTER_S = 50e-3
_BROWN_OUT_HOLD_S = 0.2  # a supply supervisor holds the reset for long

log = structlog.get_logger(__name__)


class BoardFault(StrEnum):
    """What can be made to go wrong with a board and its wires."""

    SILENT = "silent"  # its UART is cut
    REBOOT_IN_WINDOW = "reboot_in_window"  # it resets soon after the opening edge of a window
    LOST_EDGE = "lost_edge"  # the closing edge of a window does not reach the timestamper
    EXTRA_EDGE = "extra_edge"  # a third edge inside the window reaches the timestamper
    GARBAGE = "garbage"  # noise between the lines of its UART
    LOAD_STUCK = "load_stuck"  # the switch of its sync load does nothing


@dataclass(frozen=True, slots=True)
class BoardEdge:
    """An edge of a pin at its true rack time; `real` if the board made it, `seen` if it gets to the far end."""

    pin: int
    level: int
    at_s: float
    real: bool = True
    seen: bool = True


@dataclass(order=True, slots=True)
class _Event:
    at_s: float
    order: int
    life: int | None = field(compare=False)
    """The run of the program that it belongs to; None if it happens whatever becomes of the program."""
    act: Callable[[float], None] = field(compare=False)


class Board:
    """One board. It is a `Load` for its supply channel and a `FlashTarget` for its probe.

    Args:
        clock: The rack's time.
        name: Its id.
        directory: Where its port's link and its flash lie.
        profile: Its own electrical figures.
        crystal_ppm: How much faster than nominal its clock runs, ppm.
        rng: Source of its noise.
        on_edge: Told of each edge once its time has come.
    """

    def __init__(
        self,
        clock: RackClock,
        *,
        name: str,
        directory: Path,
        profile: PowerProfile,
        crystal_ppm: float,
        rng: np.random.Generator,
        on_edge: Callable[[BoardEdge], None],
    ) -> None:
        self.faults: set[BoardFault] = set()
        self.name = name
        self.crystal_ppm = crystal_ppm
        self._clock = clock
        self._profile = profile
        self._currents = profile.currents()
        self._rng = rng
        self._on_edge = on_edge
        self._flash = directory / f"{name}.flash"
        self._flash.unlink(missing_ok=True)
        self._loop = asyncio.get_running_loop()
        self._consumption = Consumption(profile)
        self._busy = BusyMeter()
        self._uart = BoardUart(clock, directory / f"{name}.tty", rng, self._receive)
        self._events: list[_Event] = []
        self._order = itertools.count()
        self._life = 0
        self._wake: asyncio.TimerHandle | None = None
        self._pins: dict[int, int] = {}
        self._falls = 0
        self._line_start = True
        self._program: NativeProgram | None = None
        self._boot_s = 0.0
        self._reached_s = 0.0
        self._nominal_hz = 0
        self._hz = 0.0
        self._base_a = profile.idle_a
        self._waits = 0
        self._bytes_in = 0
        self._behind_host_s: float | None = None

    # --- the rack's side ------------------------------------------------------------------------------------

    @property
    def port(self) -> Path:
        """Where the host finds the board's serial port."""
        return self._uart.port.link

    @property
    def pid(self) -> int | None:
        """Process id of the running program; None if none runs."""
        return self._program.pid if self._program else None

    def image_digest(self) -> str | None:
        """SHA-256 of the image in the flash, hex; None if it is erased."""
        return hashlib.sha256(self._flash.read_bytes()).hexdigest() if self._flash.exists() else None

    def busy_s(self) -> float:
        """Rack time that the board was needed for so far, s."""
        return self._busy.busy_s(self._clock.now())

    def load_image(self, image: bytes) -> None:
        """Put an image into the flash, power or not: as the board came out of its box."""
        if not image:
            self._flash.unlink(missing_ok=True)
            return
        fresh = self._flash.with_name(f"{self._flash.name}.new")
        fresh.write_bytes(image)
        fresh.chmod(0o700)
        fresh.replace(self._flash)

    def energy(self, from_s: float, to_s: float) -> float:
        """Exact energy at the supply's terminals between two rack times that have been reached, J."""
        return self._consumption.record.energy(from_s, to_s)

    def tick(self) -> None:
        """Keep up with rack time; called a few times a second."""
        now_s, host_s = self._clock.now(), self._loop.time()
        if self._program is None or self._asleep() or self._reached_s > now_s + AHEAD_S:
            self._behind_host_s = None
        else:
            self._program.resume()
            if self._reached_s >= now_s:
                self._behind_host_s = None
            elif self._behind_host_s is None:
                self._behind_host_s = host_s
            elif host_s - self._behind_host_s > _HUNG_HOST_S:
                log.warning("board_program_hung", board=self.name)
                self._program.end()
                self._ended()
        self._run()

    def close(self) -> None:
        """Take the board out of the rack."""
        if self._wake:
            self._wake.cancel()
        if self._program:
            self._program.end()
        self._uart.port.close()
        self._flash.unlink(missing_ok=True)

    # --- the supply's side: Load ----------------------------------------------------------------------------

    def supply(self, at_s: float, voltage_v: float, current_limit_a: float) -> None:
        """From rack time `at_s` on the channel puts out this voltage, within this limit; 0 V is output off."""
        if voltage_v < self._profile.brown_out_v and self._program:
            self._program.end()
            self._program = None

        def switch(when_s: float) -> None:
            self._switch(when_s, voltage_v, current_limit_a)

        self._plan(max(at_s, self._consumption.record.last_s), switch, bound=None)
        self._run()

    def horizon(self) -> float:
        """Rack time up to which the board's current is known, s; see `Load.horizon`."""
        self._run()
        return self._known_s()

    def _known_s(self) -> float:
        return min(self._clock.now(), self._told_s())

    def _told_s(self) -> float:
        """Up to where it is known what the board does, if nobody disturbs it."""
        return math.inf if self._program is None or self._asleep() else self._reached_s

    def means(self, edges_s: Floats) -> tuple[Floats, Floats]:
        """True mean current [A] and voltage [V] between consecutive edges; see `Load.means`."""
        self._run()
        return self._consumption.record.means(edges_s)

    def largest(self, edges_s: Floats) -> tuple[Floats, Floats]:
        """Largest current [A] and voltage [V] between consecutive edges; see `Load.largest`."""
        self._run()
        return self._consumption.record.largest(edges_s)

    def terminal(self, at_s: float) -> tuple[float, float, bool]:
        """True voltage [V], current [A], and whether the current limit regulates; see `Load.terminal`."""
        self._run()
        amps, volts = self._consumption.record.at(min(at_s, self._known_s()))
        return volts, amps, self._consumption.limited

    # --- the probe's side: FlashTarget ----------------------------------------------------------------------

    def powered(self) -> bool:
        """Whether the supply is up; see `FlashTarget`."""
        self._run()
        return self._consumption.rail.good

    def flash_read(self) -> bytes:
        """The image in the flash; see `FlashTarget`."""
        self._need_power()
        return self._flash.read_bytes() if self._flash.exists() else b""

    def flash_write(self, image: bytes) -> None:
        """Halt and write; see `FlashTarget`."""
        self._need_power()
        now_s = self._clock.now()
        self._halt(now_s)
        self._busy.rest(now_s)
        self.load_image(image)
        log.info("board_flashed", board=self.name, bytes=len(image))

    def reset(self) -> None:
        """Reset into the image; see `FlashTarget`."""
        self._need_power()
        self._restart(self._clock.now())
        self._run()

    def _need_power(self) -> None:
        if not self.powered():
            raise UnpoweredError("the board has no power", where=self.name, remedy="switch its supply on first")

    # --- what happens when --------------------------------------------------------------------------------------

    def _plan(self, at_s: float, act: Callable[[float], None], bound: int | None) -> None:
        heapq.heappush(self._events, _Event(at_s, next(self._order), bound, act))

    def _run(self) -> None:
        """Let everything happen whose time has come, in order, and set the alarm for the next."""
        while self._events and self._events[0].at_s <= self._known_s():
            if self._settle(self._events[0].at_s):
                event = heapq.heappop(self._events)
                if event.life is None or event.life == self._life:
                    event.act(event.at_s)
        self._settle(self._known_s())
        if self._wake:
            self._wake.cancel()
            self._wake = None
        # What lies beyond what the program has told waits for its frames, not for the clock.
        if self._events and self._events[0].at_s <= self._told_s():
            delay = max(_SLOT_HOST_S, self._clock.host_delay(self._events[0].at_s))
            self._wake = self._loop.call_later(delay, self._run)

    def _settle(self, to_s: float) -> bool:
        """Bring the record up to `to_s`; False if the board browned out before."""
        browned_out_s = self._consumption.settle(to_s)
        if browned_out_s is None:
            return True
        log.info("board_browned_out", board=self.name, at_s=browned_out_s)
        self._drop_pins(browned_out_s)
        self._restart(browned_out_s, _BROWN_OUT_HOLD_S)
        return False

    def _switch(self, at_s: float, voltage_v: float, current_limit_a: float) -> None:
        rail = self._consumption.rail
        was_good = rail.good
        rail.set_v, rail.limit_a = voltage_v, current_limit_a
        if rail.good and was_good:
            self._consumption.follow(at_s)
        elif rail.good:
            segments, charged_s = rail.charging(at_s, self._consumption.record.volts)
            self._life += 1
            self._consumption.force(segments)
            self._consumption.rest(charged_s, self._profile.idle_a)
            self._busy.work(at_s)
            self._plan(charged_s + self._profile.reset_s, self._boot, self._life)
        else:
            from_v = self._consumption.record.volts
            self._halt(at_s)
            self._drop_pins(at_s)
            if voltage_v > 0:
                level = Segments(np.array([at_s]), np.array([self._profile.off_a]), np.array([voltage_v]))
            else:
                level = rail.emptying(at_s, from_v)
            self._consumption.force(level)
            self._busy.work(at_s)
            self._busy.rest(float(level.starts_s[-1]))

    def _halt(self, at_s: float) -> None:
        """End the program; nothing that it had planned for later happens."""
        self._life += 1
        if self._program:
            self._program.end()
            self._program = None
        self._uart.board_baud = 0
        self._consumption.drop()
        self._consumption.rest(at_s, self._profile.idle_a)

    def _restart(self, at_s: float, hold_s: float = 0.0) -> None:
        self._halt(at_s)
        self._busy.work(at_s)
        self._plan(at_s + hold_s + self._profile.reset_s, self._boot, self._life)

    def _drop_pins(self, at_s: float) -> None:
        for pin, level in self._pins.items():
            if level:
                self._pins[pin] = 0
                self._on_edge(BoardEdge(pin, 0, at_s))

    # --- the program ----------------------------------------------------------------------------------------

    def _boot(self, at_s: float) -> None:
        self._boot_s = self._reached_s = at_s
        self._hz = 0.0
        self._waits = self._bytes_in = 0
        self._line_start = True
        self._base_a = self._profile.idle_a
        self._behind_host_s = None
        if not self._flash.exists():
            self._busy.rest(at_s)
            return
        try:
            self._program = NativeProgram(self._flash, self._take, self._ended)
        except OSError as error:
            log.warning("board_image_not_executable", board=self.name, error=str(error))
            self._busy.rest(at_s)

    def _ended(self) -> None:
        """The program is gone, the power is not: the board hangs, awake to nothing."""
        self._program = None
        self._uart.board_baud = 0
        self._consumption.rest(self._reached_s, self._profile.idle_a)
        self._busy.rest(self._reached_s)
        self._run()

    def _asleep(self) -> bool:
        """Whether the program waits for a byte: each byte that it takes answers one WAIT."""
        return self._waits > self._bytes_in

    def _take(self, frames: Frames) -> None:
        self._behind_host_s = None
        if not self._hz:
            first = frames[0]
            if first["kind"] != Kind.HELLO or first["a"] != LINK_VERSION or not first["c"]:
                log.warning("board_program_refused", board=self.name, error="no HELLO of this link's version")
                if self._program:
                    self._program.end()
                self._ended()
                return
            self._nominal_hz = int(first["c"])
            self._hz = self._nominal_hz * (1 + 1e-6 * self.crystal_ppm)
        changes = np.flatnonzero(frames["kind"] == Kind.BAUD)
        for piece in np.split(frames, changes):
            if len(piece):
                self._take_piece(piece)
        if self._program and self._reached_s > self._clock.now() + AHEAD_S and not self._asleep():
            self._program.pause()
        self._run()

    def _take_piece(self, frames: Frames) -> None:
        """Take frames of which none but the first changes the baud rate."""
        if frames["kind"][0] == Kind.BAUD:
            self._uart.board_baud = int(frames["c"][0])
        cycles, kinds = frames["cycle"], frames["kind"]
        times = self._boot_s + cycles / self._hz
        byte_cycles = BITS_PER_BYTE * self._nominal_hz // max(1, self._uart.board_baud)
        sent_s = self._boot_s + (cycles + np.uint64(byte_cycles)) / self._hz
        acts, sends = kinds == Kind.ACTIVITY, kinds == Kind.TX
        latest = np.maximum.accumulate(np.where(acts, np.arange(len(frames)), -1))
        base = np.where(latest >= 0, self._currents[np.where(acts, frames["a"], 0)][latest], self._base_a)
        self._base_a = float(base[-1])
        starts = np.concatenate((sent_s[sends], times[acts], times[sends]))
        amps = np.concatenate((base[sends], base[acts], base[sends] + self._profile.uart_a))
        order = np.argsort(starts, kind="stable")
        self._consumption.ask(starts[order], amps[order])
        for index in np.flatnonzero(~acts):
            self._take_event(int(kinds[index]), frames[index], float(times[index]), float(sent_s[index]))
        self._reached_s = max(self._reached_s, float(times[-1]))

    def _take_event(self, kind: int, content: np.void, at_s: float, sent_s: float) -> None:
        if kind == Kind.TX:
            byte = int(content["a"])
            self._plan(sent_s, lambda _: self._transmit(byte), self._life)
        elif kind == Kind.PIN:
            pin, level = int(content["a"]), int(content["b"])
            self._plan(at_s, lambda when_s: self._pin(pin, level, when_s), self._life)
        elif kind == Kind.WAIT:
            self._waits += 1
            if self._asleep():
                self._busy.rest(at_s)

    def _transmit(self, byte: int) -> None:
        if BoardFault.SILENT in self.faults:
            return
        if self._line_start and BoardFault.GARBAGE in self.faults and self._rng.random() < 0.3:
            self._uart.noise()
        self._line_start = byte == ord("\n")
        self._uart.send(byte)

    def _receive(self, byte: int, start_s: float, end_s: float) -> None:
        """Take a byte from the host; without a running program and an open UART nobody hears it."""
        if not (self._program and self._hz and self._uart.board_baud) or BoardFault.SILENT in self.faults:
            return
        if self._asleep():
            self._busy.work(start_s)
            self._reached_s = max(self._reached_s, end_s)
        self._bytes_in += 1
        if byte == ord("%"):
            self._plan(end_s, self._begin_command, self._life)
        cycle = math.ceil((end_s - self._boot_s) * self._hz)
        self._program.send(frame(Kind.RX, cycle, byte))
        self._program.resume()

    def _begin_command(self, at_s: float) -> None:
        self._falls = 0

    def _pin(self, pin: int, level: int, at_s: float) -> None:
        if self._pins.get(pin, 0) == level:
            return
        self._pins[pin] = level
        if not level:
            self._falls += 1
            if self._falls == 1:
                self._disturb_window(pin, at_s)
        closing = self._falls == 2
        self._on_edge(BoardEdge(pin, level, at_s, seen=not (closing and BoardFault.LOST_EDGE in self.faults)))

    def _disturb_window(self, pin: int, opened_s: float) -> None:
        """Bring in the faults that happen in a window, the span after a command's first falling edge."""

        def glitch(level: int) -> Callable[[float], None]:
            return lambda when_s: self._on_edge(BoardEdge(pin, level, when_s, real=False))

        if BoardFault.EXTRA_EDGE in self.faults:
            self._plan(opened_s + _EXTRA_EDGE_AFTER_S, glitch(0), self._life)
            self._plan(opened_s + _EXTRA_EDGE_AFTER_S + _EXTRA_PULSE_S, glitch(1), self._life)
        if BoardFault.REBOOT_IN_WINDOW in self.faults:
            self._plan(opened_s + _REBOOT_AFTER_S, self._restart, self._life)
