"""What devices can do, as data: known before any hardware is touched. Part of `drivers.api`, which names it all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum


class Quantity(StrEnum):
    """A column of a trace: A, V, W, J per sample, and a bit a pin."""

    CURRENT = "current"
    VOLTAGE = "voltage"
    POWER = "power"
    ENERGY = "energy"
    DIGITAL = "digital"


class SampleKind(StrEnum):
    """What one sample stands for."""

    INSTANT = "instant"
    MEAN = "mean"  # of the sample period that ends where the next one begins


class Provenance(StrEnum):
    """Where a column's values come from."""

    MEASURED = "measured"
    SET = "set"  # a supply's set-point
    ASSUMED = "assumed"


class EdgeMethod(StrEnum):
    """How edges of a timing pin are seen."""

    SAMPLED = "sampled"  # a digital column beside the samples
    TIMESTAMPED = "timestamped"  # an edge source with a clock of its own


class TriggerSource(StrEnum):
    """What starts an armed capture."""

    IMMEDIATE = "immediate"
    EXTERNAL = "external"  # a pulse on the analyzer's trigger input, shared with an edge source


class Level(IntEnum):
    """Level of a digital line."""

    LOW = 0
    HIGH = 1

    @property
    def opposite(self) -> Level:
        """The other level."""
        return Level(1 - self)

    @property
    def word(self) -> str:
        """`low` or `high`."""
        return self.name.lower()


class Role(StrEnum):
    """What a device can serve as; each has a protocol below."""

    SUPPLY = "supply"
    ANALYZER = "analyzer"
    EDGES = "edges"
    SERIAL = "serial"
    FLASH = "flash"


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Limits of error on one range: ±(gain · |reading| + offset), each taken as a rectangular distribution.

    Args:
        range_max: Largest reading of the range, in the column's unit.
        gain: Half width of the gain error, relative.
        offset: Half width of the offset error, in the column's unit.
        noise_rms: Standard deviation of one sample at the period of the capture, in the column's unit.
        overrange: How far beyond `range_max` the device still reads, relative to it; no reading is larger. The default
            is the widest that is usual (20 %: Keysight 34465A data sheet 5991-1983EN, measurement ranges).
    """

    range_max: float
    gain: float
    offset: float
    noise_rms: float
    overrange: float = 0.2


@dataclass(frozen=True, slots=True)
class Column:
    """One declared column of a capture, on the range in force."""

    quantity: Quantity
    sample: SampleKind
    provenance: Provenance
    accuracy: Accuracy


@dataclass(frozen=True, slots=True)
class TriggerInput:
    """What an analyzer's trigger input takes for a trigger: a pulse that begins with the edge to `active`.

    Args:
        active: Level of the pulse; between pulses the line rests at the other one.
        pulse_min_s: Shortest pulse that is taken for sure, s.
        source: Document and section.
    """

    active: Level
    pulse_min_s: float
    source: str


@dataclass(frozen=True, slots=True)
class AnalyzerCapability:
    """What a power analyzer can record, before it is configured.

    Args:
        ranges: The ranges of each quantity that can be recorded, with their accuracy.
        sample: Whether samples are instants or means.
        period_min_s: Shortest sample period with all columns on, s.
        period_step_s: Periods round to multiples of this, s.
        depth_s: What its FIFO holds before it is overwritten, s; None if it streams.
        edge_methods: How timing edges can be seen with it; empty if it needs a timestamper.
        triggers: What can start a capture.
        clock_ppm: Half width of its sample clock's error, ppm.
        channels: Its channels.
        source: Document and section that these figures come from.
        trigger_input: What its trigger input takes; None exactly where `triggers` has no `EXTERNAL`.
    """

    ranges: Mapping[Quantity, tuple[Accuracy, ...]]
    sample: SampleKind
    period_min_s: float
    period_step_s: float
    depth_s: float | None
    edge_methods: frozenset[EdgeMethod]
    triggers: frozenset[TriggerSource]
    clock_ppm: float
    channels: tuple[int, ...]
    source: str
    trigger_input: TriggerInput | None = None


@dataclass(frozen=True, slots=True)
class SupplyCapability:
    """What a power supply's channels can put out, V and A."""

    channels: tuple[int, ...]
    voltage_max_v: float
    current_max_a: float
    watchdog_s: tuple[float, float] | None
    """Shortest and longest delay of the device's own output watchdog; None if it has none."""
    source: str


@dataclass(frozen=True, slots=True)
class EdgeCapability:
    """What an edge source sees.

    Args:
        pins: Its input pins.
        pulse_pins: Pins on which it can put out pulses that it also reports, resting at either level.
        pulse_min_s: Shortest pulse that is seen for sure, s.
        clock_ppm: Half width of its clock's error, ppm.
        source: Document and section.
        width_s: Shortest and longest pulse that it puts out, s.
    """

    pins: tuple[int, ...]
    pulse_pins: tuple[int, ...]
    pulse_min_s: float
    clock_ppm: float
    source: str
    width_s: tuple[float, float] = (1e-6, 1.0)


@dataclass(frozen=True, slots=True)
class Capability:
    """All that a driver's device can do, by role; None where it does not serve."""

    supply: SupplyCapability | None = None
    analyzer: AnalyzerCapability | None = None
    edges: EdgeCapability | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """Who answers: maker, model, serial number and firmware as the device itself gives them."""

    maker: str
    model: str
    serial: str
    firmware: str
    options: tuple[str, ...] = ()
