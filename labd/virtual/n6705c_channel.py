"""One channel of the virtual N6705C: an output with protections, and an external data log with its FIFO."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import IntFlag, StrEnum

import numpy as np
import numpy.typing as npt

from drivers.api import Accuracy
from labd.virtual.converter import Ends, Stretch, averaged, tracked
from labd.virtual.instrument_errors import AnalyzerErrors, AnalyzerSpec
from labd.virtual.scpi import ScpiError
from labd.virtual.world import Load, RackClock

PARAMETER_PERIOD_S = 102.4e-6
"""Shortest log period for each logged parameter (N6700C guide, external data logging)."""
PERIOD_MAX_S = 60.0
NOISE_PERIOD_S = 204.8e-6
"""The period for which a module's noise is stated; over longer ones it averages out as white noise does."""
FIFO_S = 20.0
KEPT_SWITCHINGS = 256
_DROP_AFTER_S = 0.5
_DROPPED = 50
OVERRANGE = 1.02
"""A range reads to 2 % above its name: the 3 A range ends at 3.06 A."""


class Questionable(IntFlag):
    """Bits of the questionable status register (N6705C guide, p. 350)."""

    OV = 1
    OC = 2
    PROT = 2048


class Operation(IntFlag):
    """Bits of the operation status register (N6705C guide, p. 350)."""

    CV = 1
    CC = 2
    OFF = 4


@dataclass(frozen=True, slots=True)
class ModuleSpec:
    """What a power module is and how far it may be off.

    Args:
        model: As `SYST:CHAN:MOD?` answers.
        current: Current ranges, smallest first; `voltage` likewise.
        voltage_max_v: Highest programmable voltage, V.
        current_max_a: Highest programmable current limit, A.
        clock_ppm: Half width of the clock error of the mainframe, ppm.
        start_offset_max_s: Longest delay from trigger to the first sample, s.
        bits: Resolution of a reading over its bipolar range.
        overcurrent_delay_s: How long CC must last until over-current protection trips, s.
    """

    model: str
    current: tuple[Accuracy, ...]
    voltage: tuple[Accuracy, ...]
    voltage_max_v: float
    current_max_a: float
    clock_ppm: float
    start_offset_max_s: float
    bits: int
    overcurrent_delay_s: float = 0.02


class LogState(StrEnum):
    """Where the external data log of a channel is in its trigger model."""

    IDLE = "idle"
    WAITING = "waiting"
    RUNNING = "running"


@dataclass(slots=True)
class LogSettings:
    """Settings of the external data log; `*RST` values."""

    current: bool = False
    voltage: bool = False
    current_extremes: bool = False
    voltage_extremes: bool = False
    period_s: float = 0.1
    current_range: int = -1
    voltage_range: int = -1
    source: str = "BUS"

    @property
    def parameters(self) -> int:
        """How many parameters one record holds."""
        return self.current * (1 + 2 * self.current_extremes) + self.voltage * (1 + 2 * self.voltage_extremes)


@dataclass(slots=True)
class _Log:
    """A log in progress: what was set when it was initiated, and how far it was read."""

    settings: LogSettings
    errors: AnalyzerErrors
    rng: np.random.Generator
    dropped: bool = False
    initiated_s: float = 0.0
    started_s: float = 0.0
    read: int = 0


@dataclass(frozen=True, slots=True)
class OutputState:
    """What a test wants to know of an output: programmed state, what really happens, and why."""

    programmed_on: bool
    energized: bool
    voltage_v: float
    current_limit_a: float
    tripped: Questionable


@dataclass(frozen=True, slots=True)
class Switching:
    """At rack time `at_s` a command or a protection has switched the output, and this is what there was then."""

    at_s: float
    energized: bool


@dataclass(slots=True)
class _Output:
    on: bool = False
    voltage_v: float = 0.0
    current_limit_a: float = 0.03
    overvoltage_v: float = 24.0
    overcurrent: bool = False
    tripped: Questionable = field(default_factory=lambda: Questionable(0))
    cc_since_s: float | None = None


class Channel:
    """A power module in its slot with a load on its terminals.

    Args:
        number: Channel number.
        load: What hangs on it.
        module: What it is.
        clock: The rack's time.
        clock_ppm: The mainframe's clock error, ppm.
        rng: Source of its errors and noise.
    """

    def __init__(
        self,
        number: int,
        load: Load,
        module: ModuleSpec,
        clock: RackClock,
        *,
        clock_ppm: float,
        rng: np.random.Generator,
    ) -> None:
        self.number = number
        self.module = module
        self.log = LogSettings()
        self._load = load
        self._clock = clock
        self._clock_ppm = clock_ppm
        self._rng = rng
        self._output = _Output()
        self._running: _Log | None = None
        self._state = LogState.IDLE
        self.switchings: deque[Switching] = deque(maxlen=KEPT_SWITCHINGS)
        """The newest switchings, oldest first; a command that changes nothing is one too."""
        self._errors: Mapping[tuple[int, int], AnalyzerErrors] = {
            (i, v): self._draw(i, v) for i in range(len(module.current)) for v in range(len(module.voltage))
        }

    def _draw(self, current_range: int, voltage_range: int) -> AnalyzerErrors:
        current, voltage = self.module.current[current_range], self.module.voltage[voltage_range]
        steps = 2**self.module.bits
        spec = AnalyzerSpec.from_accuracy(
            current,
            voltage,
            clock_ppm=0.0,
            start_offset_max_s=0.0,
            lsb_current_a=2 * OVERRANGE * current.range_max / steps,
            lsb_voltage_v=2 * OVERRANGE * voltage.range_max / steps,
        )
        return replace(AnalyzerErrors.draw(spec, self._rng), clock_ppm=self._clock_ppm)

    # --- output -----------------------------------------------------------------------------------------------

    @property
    def state(self) -> OutputState:
        """The output as it is now."""
        out = self._output
        return OutputState(out.on, self.energized, out.voltage_v, out.current_limit_a, out.tripped)

    @property
    def energized(self) -> bool:
        """Whether there is power at the terminals."""
        return self._output.on and not self._output.tripped

    @property
    def overvoltage_v(self) -> float:
        """Level of the over-voltage protection, V."""
        return self._output.overvoltage_v

    @property
    def overcurrent(self) -> bool:
        """Whether over-current protection is on."""
        return self._output.overcurrent

    def reset(self) -> None:
        """Go to the `*RST` settings."""
        was_on = self.energized
        self._output = _Output()
        self.log = LogSettings()
        self.abort()
        if was_on:
            self._switch()

    def switch(self, *, on: bool) -> None:
        """Program the output on or off."""
        self._output.on = on
        self._output.cc_since_s = None
        self._switch()
        self.watch()

    def set_voltage(self, volt: float) -> None:
        """Program the voltage, V."""
        self._output.voltage_v = volt
        if self.energized:
            self._feed()
            self.watch()

    def set_current_limit(self, ampere: float) -> None:
        """Program the current limit, A."""
        self._output.current_limit_a = ampere
        if self.energized:
            self._feed()

    def set_overvoltage(self, volt: float) -> None:
        """Set the level of the over-voltage protection, V."""
        self._output.overvoltage_v = volt
        self.watch()

    def set_overcurrent(self, *, on: bool) -> None:
        """Switch over-current protection."""
        self._output.overcurrent = on

    def trip(self, why: Questionable) -> None:
        """Let a protection take the power off; the programmed state stays."""
        was_on = self.energized
        self._output.tripped |= why
        if was_on:
            self._switch()

    def clear_protection(self) -> None:
        """Give the output back the state it was programmed to."""
        if self._output.tripped:
            self._output.tripped = Questionable(0)
            self._output.cc_since_s = None
            self._switch()

    def watch(self) -> None:
        """Let the protections look at the terminals once."""
        out = self._output
        if not self.energized:
            return
        now = self._clock.now()
        voltage, _, limited = self._load.terminal(now)
        if voltage > out.overvoltage_v or out.voltage_v > out.overvoltage_v:
            self.trip(Questionable.OV)
        if not limited:
            out.cc_since_s = None
        elif out.cc_since_s is None:
            out.cc_since_s = now
        elif out.overcurrent and now - out.cc_since_s >= self.module.overcurrent_delay_s:
            self.trip(Questionable.OC)

    def _switch(self) -> None:
        self._feed()
        self.switchings.append(Switching(self._clock.now(), self.energized))

    def _feed(self) -> None:
        volt = self._output.voltage_v if self.energized else 0.0
        self._load.supply(self._clock.now(), volt, self._output.current_limit_a)

    def operation(self) -> Operation:
        """Return the operation status condition."""
        if not self._output.on:
            return Operation.OFF
        if not self.energized:
            return Operation(0)
        return Operation.CC if self._load.terminal(self._clock.now())[2] else Operation.CV

    def questionable(self) -> Questionable:
        """Return the questionable status condition."""
        return self._output.tripped

    def measure(self) -> tuple[float, float]:
        """Measure voltage [V] and current [A] on the largest ranges.

        Raises:
            ScpiError: -221, a log has the converters.
        """
        if self._state is not LogState.IDLE:
            raise ScpiError(-221)
        voltage, current, _ = self._load.terminal(self._clock.now())
        errors = self._errors[len(self.module.current) - 1, len(self.module.voltage) - 1]
        return (
            voltage * (1 + errors.gain_voltage) + errors.offset_voltage_v,
            current * (1 + errors.gain_current) + errors.offset_current_a,
        )

    # --- external data log ------------------------------------------------------------------------------------

    @property
    def logging(self) -> int:
        """How many parameters a log in progress or waiting takes; 0 if there is none."""
        return self._running.settings.parameters if self._running else 0

    @property
    def log_period_s(self) -> float:
        """The log period in force: what was set, but no shorter than its own parameters allow, s."""
        return max(self.log.period_s, PARAMETER_PERIOD_S * self.log.parameters)

    def initiate(self) -> None:
        """Leave the idle state. Raises `ScpiError` -221 if a log is under way or nothing is to be logged."""
        if self._state is not LogState.IDLE or not self.log.parameters:
            raise ScpiError(-221)
        ranges = (
            self.log.current_range % len(self.module.current),
            self.log.voltage_range % len(self.module.voltage),
        )
        errors = self._errors[ranges]
        noise = (NOISE_PERIOD_S / self.log_period_s) ** 0.5
        self._running = _Log(
            settings=replace(self.log, period_s=self.log_period_s),
            errors=replace(
                errors,
                noise_current_a=errors.noise_current_a * noise,
                noise_voltage_v=errors.noise_voltage_v * noise,
                start_offset_s=float(self._rng.uniform(0.0, self.module.start_offset_max_s)),
            ),
            rng=np.random.default_rng(self._rng.integers(2**63)),
            initiated_s=self._clock.now(),
        )
        self._state = LogState.WAITING
        if self.log.source == "IMM":
            self.trigger(self._clock.now())

    def trigger(self, at_s: float) -> None:
        """Start a waiting log at rack time `at_s`, as triggers do: ignored in any other state, and from before it."""
        if self._state is LogState.WAITING and self._running is not None and at_s >= self._running.initiated_s:
            self._running.started_s = at_s
            self._state = LogState.RUNNING

    def hear_trigger(self, source: str, at_s: float) -> None:
        """Start a log that waits for this source."""
        if self._running is not None and self._running.settings.source == source:
            self.trigger(at_s)

    def abort(self) -> None:
        """End the log and drop what is in its FIFO."""
        self._running = None
        self._state = LogState.IDLE

    def drop_once(self) -> None:
        """Let a log that has run for a while lose some records, once, before the next fetch."""
        log = self._running
        if log is not None and not log.dropped and log.read * log.settings.period_s >= _DROP_AFTER_S:
            log.read += _DROPPED
            log.dropped = True

    def fetch(self, most: int, *, overwritten: bool) -> tuple[npt.NDArray[np.float32], bool]:
        """Take at most `most` records from the FIFO.

        Args:
            most: Largest number of records.
            overwritten: Pretend that all that waits in the FIFO was overwritten before it was read.

        Returns:
            Records as float32 of shape (n, parameters), current before voltage, of each the mean, the least and the
            largest; whether records were lost before them.
        """
        log = self._running
        if log is None:
            raise ScpiError(-221)
        if self._state is not LogState.RUNNING:
            return np.empty((0, log.settings.parameters), np.float32), False
        period_s = log.settings.period_s
        known_s = min(self._clock.now(), self._load.horizon()) - log.started_s - log.errors.start_offset_s
        ended = max(0, int(known_s / log.errors.period_s(period_s)))
        oldest = ended if overwritten else ended - int(FIFO_S / period_s)
        lost = oldest > log.read
        log.read = max(log.read, oldest)
        count = min(most, ended - log.read)
        if count <= 0:
            return np.empty((0, log.settings.parameters), np.float32), lost
        stretch = Stretch(log.started_s, period_s, log.read, count)
        log.read += count
        return np.column_stack(self._columns(log, stretch)), lost

    def _columns(self, log: _Log, stretch: Stretch) -> list[npt.NDArray[np.float32]]:
        settings, module = log.settings, self.module
        ends = Ends(
            OVERRANGE * module.current[settings.current_range].range_max,
            OVERRANGE * module.voltage[settings.voltage_range].range_max,
        )
        if not settings.current_extremes and not settings.voltage_extremes:
            amps, volts = averaged(self._load, log.errors, ends, stretch, log.rng)
            return [amps] * settings.current + [volts] * settings.voltage
        columns: list[npt.NDArray[np.float32]] = []
        current, voltage = tracked(self._load, log.errors, ends, stretch, log.rng)
        for found, wanted, extremes in (
            (current, settings.current, settings.current_extremes),
            (voltage, settings.voltage, settings.voltage_extremes),
        ):
            columns += [found.mean] * wanted
            columns += [found.least, found.largest] * (wanted and extremes)
        return columns
