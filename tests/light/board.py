"""A light board: speaks the protocol of the DUT firmware, and takes as long as a board would, in rack time.

What it says of its windows is exact in rack time, whatever the host is busy with: the lap counter is computed, not
read. What it waits for is the host's clock, `speed` times as fast.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from tests.light.faults import BoardTold, Faults

BOOT_S = 0.5
EACH_S = 0.125
"""One inference: ten make a window that tells the speed, so that a run calibrates itself once."""
SPREAD = 0.002
"""Relative standard deviation of the speed from window to window."""
BAUD = 115_200
RAIL_S = 0.01
"""The rail falls by a factor of e in this time, s."""
VOLTAGE_V = 3.0
IDLE_A = 0.012
BUSY_A = 0.031
AT_ONCE_S = 5e-4
"""What the host would have to wait for less than this is not waited for, s."""
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class RackTime:
    """Rack time on the host's loop.

    Args:
        began_s: The loop's time when the rack's was 0, s.
        speed: Rack seconds in one of the host's.
    """

    began_s: float
    speed: float

    def now_s(self) -> float:
        """The rack's time, s."""
        return (asyncio.get_running_loop().time() - self.began_s) * self.speed

    def later(self, delay_s: float, act: Callable[[], None]) -> asyncio.TimerHandle:
        """Do `act` after so much rack time."""
        return asyncio.get_running_loop().call_later(delay_s / self.speed, act)


class LightBoard:
    """One board with its rail and its serial line.

    Args:
        name: Its id.
        time: The rack's time.
        seed: Of its noise and its faults.
    """

    def __init__(self, name: str, time: RackTime, seed: int) -> None:
        self.name = name
        self.say: Callable[[bytes], None] | None = None
        """Sends bytes to who has opened the line; None while nobody has."""
        self._time = time
        self._random = random.Random(f"{seed} {name}")
        self._faults = Faults()
        self._faulty_since_s = 0.0
        self._powered = False
        self._voltage_v = VOLTAGE_V
        self._off_at_s = -math.inf
        self._life = 0
        self._typed = b""
        self._busy = False
        self._lap_s = 0.0
        self._expected = 0
        self._loaded = 0
        self._boots = 0
        self._windows = 0
        self._worked_s = 0.0

    def give(self, faults: Faults) -> None:
        """Have these faults, and no others, from now on."""
        self._faults, self._faulty_since_s = faults, self._time.now_s()

    @property
    def told(self) -> BoardTold:
        """What it has done so far."""
        return BoardTold(
            boots=self._boots, windows=self._windows, worked_s=round(self._worked_s, 3), powered=self._powered
        )

    # --- its rail ---------------------------------------------------------------------------------------------

    def set_voltage(self, voltage_v: float) -> None:
        """What the output is set to, V."""
        self._voltage_v = voltage_v

    def power_on(self) -> None:
        """Feed it; one that is on stays as it is."""
        if not self._powered:
            self._powered = True
            self._boot()

    def power_off(self) -> None:
        """Cut it off in whatever it does."""
        if self._powered:
            self._powered = False
            self._off_at_s = self._time.now_s()
            self._life += 1

    def rail(self) -> tuple[float, float]:
        """Voltage and current of its output, V and A."""
        if not self._powered:
            fallen_s = self._time.now_s() - self._off_at_s
            return self._voltage_v * math.exp(-min(700.0, fallen_s / RAIL_S)), 0.0
        return self._voltage_v, BUSY_A if self._busy else IDLE_A * self._faults.idle_current

    # --- its firmware -----------------------------------------------------------------------------------------

    def hear(self, data: bytes) -> None:
        """Bytes from the host; a board that is off or busy hears as its UART would: not at all, or later."""
        if self._powered:
            self._typed += data
            self._next()

    def _boot(self) -> None:
        self._life += 1
        self._boots += 1
        self._typed, self._busy = b"", True
        self._lap_s, self._expected = 0.0, 0
        self._end(BOOT_S, 0, ("m-timestamp-mode-performance", "m-init-done"))

    def _next(self) -> None:
        while not self._busy and b"%" in self._typed:
            command, _, self._typed = self._typed.partition(b"%")
            self._busy = True
            self._obey(command.decode("ascii", "replace"), len(command) + 1)

    def _obey(self, command: str, length: int) -> None:
        match command.split():
            case ["name"]:
                self._end(0.0, length, ("m-name-dut-[labd light board]",))
            case ["profile"]:
                self._end(0.0, length, ("m-profile-[light firmware 1.0]", "m-model-[digits01]"))
            case ["db", "load", size] if size.isdigit():
                self._expected, self._loaded = int(size), 0
                self._end(0.0, length, (f"m-[Expecting {size} bytes]",))
            case ["db", digits] if self._expected:
                self._loaded += len(digits) // 2
                self._end(0.0, length, ("m-load-done",) if self._loaded >= self._expected else ())
            case ["infer", count, warmups] if count.isdigit() and warmups.isdigit():
                self._infer(int(count), int(warmups), length)
            case ["results"]:
                self._end(0.0, length, (_RESULTS,))
            case ["timestamp"]:
                self._end(0.0, length, (f"m-lap-us-{_lap_us(self._time.now_s())}",))
            case _:
                self._end(0.0, length, (f"e-[Unknown command: {command}]",))

    def _infer(self, count: int, warmups: int, length: int) -> None:
        each_s = EACH_S * self._slowness() * (1.0 + SPREAD * self._random.gauss(0.0, 1.0))
        window_s = count * each_s
        start_s = max(self._lap_s, self._time.now_s()) + warmups * each_s
        self._lap_s = start_s + window_s
        if self._fails(window_s):
            return
        self._tell(f"m-warmup-start-{warmups}\r\n")
        lines = (
            "m-warmup-done",
            f"m-infer-start-{count}",
            f"m-lap-us-{_lap_us(start_s)}",
            f"m-lap-us-{_lap_us(self._lap_s)}",
            "m-infer-done",
            _RESULTS,
        )
        self._windows += 1
        self._end(warmups * each_s + window_s, length, lines)

    def _slowness(self) -> float:
        days = (self._time.now_s() - self._faulty_since_s) / DAY_S
        return self._faults.slow * (1.0 + self._faults.drift_per_day * days)

    def _fails(self, window_s: float) -> bool:
        """Whether a fault spoils this window; what it does to it is under way then."""
        flaky = self._faults.flaky and self._random.random() < self._faults.flaky
        if self._faults.reboots or (flaky and self._random.random() < 0.5):
            self._later(window_s / 2, self._boot)
        elif flaky:
            self._end(window_s / 2, 0, ("e-[inference failed]",))
        return bool(self._faults.reboots or flaky)

    def _end(self, work_s: float, length: int, lines: tuple[str, ...]) -> None:
        """Say these lines and that it is ready, once the work is done and the bytes have passed the line."""
        text = "".join(f"{line}\r\n" for line in (*lines, "m-ready"))
        takes_s = work_s + (length + len(text)) * 10 / BAUD
        self._worked_s += takes_s

        def done() -> None:
            self._busy = False
            self._tell(text)
            self._next()

        self._later(takes_s, done)

    def _later(self, delay_s: float, act: Callable[[], None]) -> None:
        life = self._life
        if delay_s / self._time.speed < AT_ONCE_S:
            act()
        else:
            self._time.later(delay_s, lambda: act() if life == self._life else None)

    def _tell(self, text: str) -> None:
        if self.say is not None and not self._faults.silent:
            self.say(text.encode("ascii"))


_RESULTS = "m-results-[0.910,0.010,0.010,0.010,0.010,0.010,0.010,0.010,0.010,0.010]"


def _lap_us(at_s: float) -> int:
    return round(at_s * 1e6) % 2**32
