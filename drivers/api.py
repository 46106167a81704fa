"""The protocols a driver implements: narrow, async, typed, with their own errors.

A driver is found through the entry-point group `labd.drivers`; what the entry point names is a `Driver`.
It says, as data, what its device can do (`Capability`) before any hardware is touched, so that a wiring
that cannot work is refused when `lab.toml` is read.

All quantities are SI. Every wait inside a driver has a deadline; a device that misses it raises `DeviceTimeoutError`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from pydantic import BaseModel

from drivers.capability import (
    Accuracy,
    AnalyzerCapability,
    Capability,
    Column,
    EdgeCapability,
    EdgeMethod,
    Identity,
    Level,
    Provenance,
    Quantity,
    Role,
    SampleKind,
    SupplyCapability,
    TriggerInput,
    TriggerSource,
)

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = [
    "Accuracy",
    "AnalyzerCapability",
    "Block",
    "BlockSink",
    "Capability",
    "CaptureRequest",
    "CaptureSetup",
    "Column",
    "ConnectError",
    "DeviceError",
    "DeviceTimeoutError",
    "Driver",
    "DriverError",
    "DriverLoader",
    "Edge",
    "EdgeCapability",
    "EdgeMethod",
    "EdgeSource",
    "EdgesLostError",
    "Flasher",
    "Identity",
    "Instrument",
    "Interval",
    "IntervalKind",
    "Level",
    "LimitError",
    "LineClosedError",
    "NoReadingError",
    "Peak",
    "PeakMeter",
    "Peaks",
    "PowerAnalyzer",
    "PowerSupply",
    "ProtocolError",
    "Provenance",
    "Quantity",
    "Role",
    "SampleKind",
    "SerialLine",
    "SupplyCapability",
    "SupplyLimits",
    "SupplyMode",
    "SupplyStatus",
    "TriggerInput",
    "TriggerSource",
    "driver_loaders",
    "find_drivers",
]

# --- errors ---------------------------------------------------------------------------------------------------


class DriverError(Exception):
    """Root of what drivers raise; the message names the device and the command."""


class ConnectError(DriverError):
    """The device cannot be reached, or is not the device that the driver was written for."""


class DeviceTimeoutError(DriverError):
    """The device did not answer before the deadline; its session has been closed."""


class ProtocolError(DriverError):
    """The device answered something that its manual does not know."""


class DeviceError(DriverError):
    """The device reported an error of its own (a SCPI error queue entry, an `err` line, a failed flash)."""


class NoReadingError(DeviceError):
    """The device answered, twice, that it has no reading (SCPI's 9.91E37 and infinities); its dialogue is in order."""


class LimitError(DriverError):
    """A voltage or current beyond the limits set for the channel was asked for, or no limits were set yet."""


class LineClosedError(DriverError):
    """A serial line went away while in use."""


class EdgesLostError(DriverError):
    """Running numbers of an edge source have a hole: at least one edge was not reported."""


# --- devices --------------------------------------------------------------------------------------------------


@runtime_checkable
class Instrument(Protocol):
    """Anything opened by a driver that has an identity and can be asked whether it is well."""

    identity: Identity

    async def check(self) -> None:
        """Talk to the device once; raise a `DriverError` if it is not well or reports errors."""
        ...


class SupplyMode(StrEnum):
    """What regulates an output."""

    OFF = "off"
    CV = "cv"
    CC = "cc"
    PROTECTED = "protected"  # a protection has switched the output off


@dataclass(frozen=True, slots=True)
class SupplyLimits:
    """Absolute limits of a board, V and A."""

    voltage_max_v: float
    current_max_a: float


@dataclass(frozen=True, slots=True)
class SupplyStatus:
    """State of one output: regulation, measured voltage [V] and current [A], names of tripped protections.

    Voltage and current are NaN where the device has no reading of them: the rest holds all the same.
    """

    mode: SupplyMode
    voltage_v: float
    current_a: float
    tripped: tuple[str, ...] = ()


@runtime_checkable
class PowerSupply(Protocol):
    """Switches and feeds a board. Beyond the limits set for a channel it raises `LimitError`, whoever asks."""

    async def set_limits(self, channel: int, limits: SupplyLimits) -> SupplyLimits:
        """Set current limit, over-voltage and over-current protection; return what the device reads back.

        Raises:
            DeviceError: what was read back is looser than what was asked.
        """
        ...

    async def set_voltage(self, channel: int, voltage_v: float) -> float:
        """Set the output voltage and return the set-point read back, V."""
        ...

    async def output_on(self, channel: int) -> None:
        """Switch the output on. Raises `LimitError` before `set_limits`."""
        ...

    async def output_off(self, channel: int) -> None:
        """Switch the output off and see that it is; needs no limits and clears a tripped protection."""
        ...

    async def arm_watchdog(self, delay_s: float) -> None:
        """Let the device switch its outputs off by itself after `delay_s` without any message from the host."""
        ...

    async def supply_status(self, channel: int) -> SupplyStatus:
        """Measure and report one output."""
        ...


@dataclass(frozen=True, slots=True)
class CaptureRequest:
    """What to record on one channel.

    Args:
        quantities: Columns asked for.
        period_s: Sample period, s; None for the shortest.
        current_max_a: Largest current expected, A: picks the range.
        voltage_max_v: Largest voltage expected, V: picks the range.
        trigger: What starts the capture.
    """

    quantities: tuple[Quantity, ...]
    period_s: float | None
    current_max_a: float
    voltage_max_v: float
    trigger: TriggerSource = TriggerSource.IMMEDIATE


@dataclass(frozen=True, slots=True)
class CaptureSetup:
    """What the device will really record, read back from it.

    Args:
        period_s: Sample period, s.
        columns: The columns on their ranges in force.
        clock_ppm: Half width of the sample clock's error, ppm.
        trigger_delay_max_s: The first sample begins between 0 and this after the leading edge of a trigger pulse, s.
        trigger_input: The pulse that starts it; None if it starts by itself.
    """

    period_s: float
    columns: tuple[Column, ...]
    clock_ppm: float
    trigger_delay_max_s: float = 0.0
    trigger_input: TriggerInput | None = None


class IntervalKind(StrEnum):
    """Why a stretch of samples cannot be trusted."""

    GAP = "gap"  # the device says that it skipped samples
    OVERFLOW = "overflow"  # samples were overwritten before they were fetched
    CLIPPED = "clipped"  # a reading at the end of its range
    NO_READING = "no_reading"  # what came for a sample is no number, or one that the device cannot have read

    @property
    def lost(self) -> bool:
        """Whether the samples are not there at all, in any column: what stands in their place says nothing."""
        return self in (IntervalKind.GAP, IntervalKind.OVERFLOW)


@dataclass(frozen=True, slots=True)
class Interval:
    """Samples `start` (inclusive) to `stop` (exclusive) of a trace that are marked."""

    kind: IntervalKind
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive samples of one capture. Whoever takes a block keeps its arrays: they are never changed afterwards.

    Args:
        first: Index of the first sample since the capture's start.
        columns: One array a column: float32 of shape (n,), digital uint8 of shape (n,).
        intervals: Marked stretches, in indices since the capture's start.
    """

    first: int
    columns: Mapping[Quantity, npt.NDArray[Any]]
    intervals: tuple[Interval, ...] = field(default=())

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))


BlockSink = Callable[[Block], None]
"""Takes a block in the driver's own thread, never on the event loop; what it raises ends the stream."""


@runtime_checkable
class PowerAnalyzer(Protocol):
    """Records samples of one channel at a time each: configure, arm, stream until stop."""

    async def configure(self, channel: int, request: CaptureRequest) -> CaptureSetup:
        """Prepare a capture; the sample period in the answer is read back from the device."""
        ...

    async def arm(self, channel: int) -> None:
        """Start the capture, or make it wait for its trigger."""
        ...

    async def stream(self, channel: int, sink: BlockSink) -> int:
        """Hand every block to `sink` until `stop` was called and the last sample is out; return the sample count.

        Raises:
            DeviceTimeoutError, ProtocolError, DeviceError: the device stopped, talked nonsense or reported an error.
        """
        ...

    async def stop(self, channel: int) -> None:
        """End the capture: `stream` delivers what the device still holds and returns. Harmless if none runs."""
        ...


@dataclass(frozen=True, slots=True)
class Peak:
    """The largest reading of one quantity, without its sign, and the end of the range that it was read on, A or V.

    A reading at the end or beyond says that it was at least so large: the range may have cut it off.
    """

    quantity: Quantity
    largest: float
    range_max: float

    @property
    def beyond(self) -> bool:
        """Whether the range may have cut it off."""
        return self.largest >= self.range_max


@dataclass(frozen=True, slots=True)
class Peaks:
    """What an analyzer read at most, between its samples too.

    Args:
        found: The quantities that it can watch.
        records: How many records were looked at.
        period_s: How long one of them is, s.
    """

    found: tuple[Peak, ...]
    records: int
    period_s: float


@runtime_checkable
class PeakMeter(PowerAnalyzer, Protocol):
    """A power analyzer that sees the extremes of its converter's points, which the mean of a sample hides.

    A watch is configured here, then armed, streamed and stopped as a capture is; its stream hands on no blocks. One
    channel of an instrument watches at a time: whoever calls sees to it.
    """

    async def configure_peaks(self, channel: int, request: CaptureRequest) -> None:
        """Prepare a watch on the ranges that `configure` would choose for the request. Raises as `configure` does."""
        ...

    def peaks(self, channel: int) -> Peaks:
        """What the newest watch of this channel has read at most, after its stream has ended.

        Raises:
            DeviceError: none has ended, or it has missed something.
        """
        ...


@dataclass(frozen=True, slots=True)
class Edge:
    """One edge: pin, level after it (0 or 1), time in ticks of the source's clock, running number of the source."""

    pin: int
    level: int
    ticks: int
    sequence: int


@runtime_checkable
class EdgeSource(Protocol):
    """Reports edges of its pins on a clock of its own."""

    tick_rate_hz: float
    """Declared rate of the clock, Hz."""
    clock_ppm: float
    """Half width of the error of that rate, ppm."""

    def watch(self, pins: frozenset[int]) -> AbstractAsyncContextManager[AsyncIterator[Edge]]:
        """Report the edges of `pins` from now on, in order; several watches of different pins may be open.

        The iterator raises `EdgesLostError` at a hole in the running numbers, `DriverError` when the source fails.
        """
        ...

    async def settle(self) -> int:
        """Return the device's clock, in ticks, once every edge seen before the call has been put into its watch.

        It was read by the device between the call and its return: no edge that it saw before is later than that.
        """
        ...

    async def idle(self, pin: int, level: Level) -> None:
        """Let a pulse pin rest at `level` from now on. Where it rests there already, the line sees no edge.

        Whoever owns what hangs on the pin calls it before anything is armed: going to another level is an edge, and
        could be taken for a pulse.
        """
        ...

    async def pulse(self, pin: int, width_s: float, active: Level = Level.HIGH) -> None:
        """Put out one pulse: to `active` and, `width_s` later, back to the level at which the pin rests.

        The leading edge is the one to `active`. Both are reported to whoever watches the pin, each when it happens;
        the call returns when the pulse has begun. A pin that was not told how to rest rests at the other level first.

        Raises:
            DeviceError: no pulse pin, a width beyond what the device does, a pin that rests at `active`, or a pulse
                that is still out.
        """
        ...


@runtime_checkable
class SerialLine(Protocol):
    """A byte pipe to a board. Opening it never resets the board (no DTR or RTS toggling)."""

    async def write(self, data: bytes) -> None:
        """Send all of `data`. Raises `LineClosedError`."""
        ...

    async def read(self) -> bytes:
        """Return the next bytes that came in, at least one; the caller sets the deadline. Raises `LineClosedError`."""
        ...


@runtime_checkable
class Flasher(Protocol):
    """Writes firmware images into a powered board."""

    async def matches(self, image: Path) -> bool:
        """Whether the board already holds exactly this image."""
        ...

    async def program(self, image: Path) -> None:
        """Write and verify the image, then reset the board into it. Raises `DeviceError`."""
        ...


class Driver(Protocol):
    """What an entry point of `labd.drivers` names."""

    name: str
    roles: frozenset[Role]
    options: type[BaseModel]
    """Model of the keys that the driver reads from `lab.toml` (extra keys forbidden, frozen)."""

    def capability(self, options: Any) -> Capability:
        """What the device can do, from its options alone: no hardware is touched."""
        ...

    def open(self, options: Any) -> AbstractAsyncContextManager[Any]:
        """Connect; the object serves the protocols of `roles`. Raises `ConnectError`.

        `options` is an instance of the driver's own `options` model.
        """
        ...


DriverLoader = Callable[[], Driver]
"""Imports one driver. Raises `ConnectError` if it cannot be imported."""


def driver_loaders() -> dict[str, DriverLoader]:
    """Return, by name, what imports each installed driver, so that a broken one hurts only those who use it."""
    return {entry.name: partial(_load, entry) for entry in entry_points(group="labd.drivers")}


def find_drivers() -> dict[str, Driver]:
    """Return all installed drivers by name. Raises `ConnectError` naming an entry point that cannot be loaded."""
    return {name: load() for name, load in driver_loaders().items()}


def _load(entry: EntryPoint) -> Driver:
    try:
        driver: Driver = entry.load()
    except Exception as error:  # a driver is anybody's code: whatever its import raises, the lab names it
        raise ConnectError(f"driver {entry.name!r} ({entry.value}) cannot be loaded: {error}") from error
    return driver
