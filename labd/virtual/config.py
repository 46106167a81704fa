"""`rack.toml` as frozen models: the devices of a virtual rack, how they are wired, and how far each may be off."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Set
from importlib.resources import files
from pathlib import Path
from typing import Self

from pydantic import Field, ValidationError, model_validator

from labd.config.models import Limits, Model, Name
from labd.errors import ConfigError
from labd.virtual.activity import PowerProfile
from labd.virtual.board import BoardFault
from labd.virtual.scpi_server import Fault as AnalyzerFault
from labd.virtual.timestamper import TimestamperFault, TimestamperSpec


class Rack(Model):
    """The rack itself."""

    dir: Path = Path("rack")
    """Serial ports, control socket and `rack.json` lie here; relative to the folder of `rack.toml`."""
    speed: float = Field(default=1.0, gt=0, le=1000)
    """Rack seconds per host second."""
    seed: int = Field(default=1, ge=0)
    """All errors of all devices are drawn from it."""


class Analyzer(Model):
    """A Keysight N6705C with an N6781A for each board that is wired to it."""

    id: Name
    port: int = Field(default=0, ge=0, le=65535)
    """TCP port of its SCPI socket; 0 for any that is free."""
    faults: frozenset[AnalyzerFault] = frozenset()


class Stamper(TimestamperSpec):
    """A timestamper."""

    id: Name
    triggers: tuple[Name, ...] = ()
    """Analyzers whose trigger input is wired to `trigger_pin`."""
    trigger_pin: int = Field(default=15, ge=0)
    """Its pulse pin that is wired to them, with a resistor to the logic supply."""
    faults: frozenset[TimestamperFault] = frozenset()

    @property
    def spec(self) -> TimestamperSpec:
        """What it declares of itself."""
        return TimestamperSpec.model_validate(self.model_dump(include=set(TimestamperSpec.model_fields)))


class SupplyWire(Model):
    """The channel that feeds a board and measures its current."""

    analyzer: Name
    channel: int = Field(ge=1, le=4)


class TimingWire(Model):
    """The timestamper's input that sees the board's timing pin."""

    timestamper: Name
    pin: int = Field(ge=0)


class LoadWire(Model):
    """The sync load: a resistor across the board's supply, on while a timestamper's pulse pin is high."""

    timestamper: Name
    pin: int = Field(ge=0)
    ohm: float = Field(gt=0)
    """Its nominal value, Ω."""
    tolerance_percent: float = Field(default=5.0, ge=0, le=50)
    """Half width of its error, %: drawn rectangular."""
    switch_us: float = Field(default=2.0, ge=0)
    """Longest delay of its switch, µs: drawn rectangular from 0."""


class RackBoard(Model):
    """A board and its wires."""

    id: Name
    supply: SupplyWire
    timing: TimingWire | None = None
    load: LoadWire | None = None
    tags: tuple[str, ...] = ()
    voltage_v: float = Field(default=3.0, gt=0)
    limits: Limits = Limits(voltage_max_v=3.6, current_max_a=0.1)
    crystal_ppm: float = Field(default=20.0, ge=0)
    """Half width of its crystal's error, ppm: drawn rectangular."""
    image: Path | None = None
    """What its flash holds at the start; erased without."""
    probe_port: int = Field(default=0, ge=0, le=65535)
    """TCP port of the OpenOCD server on its probe; 0 for any that is free."""
    profile: PowerProfile = PowerProfile()
    faults: frozenset[BoardFault] = frozenset()


class RackConfig(Model):
    """The whole of `rack.toml`."""

    rack: Rack = Rack()
    analyzer: tuple[Analyzer, ...] = ()
    timestamper: tuple[Stamper, ...] = ()
    board: tuple[RackBoard, ...] = ()

    @model_validator(mode="after")
    def _wired(self) -> Self:
        """Every wire has two ends, and no end has two wires."""
        names = Counter(each.id for devices in (self.analyzer, self.timestamper, self.board) for each in devices)
        analyzers = {analyzer.id for analyzer in self.analyzer}
        stampers = {stamper.id: stamper for stamper in self.timestamper}
        wires: list[str] = []
        for board in self.board:
            wires += _board_wires(board, analyzers, stampers)
        for stamper in self.timestamper:
            if unknown := set(stamper.triggers) - analyzers:
                raise ValueError(f"timestamper {stamper.id}: there is no analyzer {sorted(unknown)[0]!r}")
            if stamper.triggers and stamper.trigger_pin not in stamper.pulse_pins:
                raise ValueError(f"timestamper {stamper.id}: pin {stamper.trigger_pin} puts out no pulses")
            wires += [f"pin {stamper.trigger_pin} of {stamper.id}"] * bool(stamper.triggers)
        for analyzer in self.analyzer:
            if not any(board.supply.analyzer == analyzer.id for board in self.board):
                raise ValueError(f"analyzer {analyzer.id}: no board is wired to it")
        for what, count in (names + Counter(wires)).items():
            if count > 1:
                raise ValueError(f"{what} is used {count} times")
        return self

    def at_speed(self, speed: float) -> RackConfig:
        """The same rack at another speed."""
        return self.model_copy(update={"rack": self.rack.model_copy(update={"speed": speed})})

    def in_folder(self, directory: Path) -> RackConfig:
        """The same rack in another folder."""
        return self.model_copy(update={"rack": self.rack.model_copy(update={"dir": directory})})


def _board_wires(board: RackBoard, analyzers: Set[str], stampers: Mapping[str, Stamper]) -> Iterator[str]:
    """The far ends of a board's wires, in words. Raises `ValueError` if one is not there."""
    if board.supply.analyzer not in analyzers:
        raise ValueError(f"board {board.id}: there is no analyzer {board.supply.analyzer!r}")
    yield f"channel {board.supply.channel} of {board.supply.analyzer}"
    if board.timing:
        stamper = stampers.get(board.timing.timestamper)
        if stamper is None:
            raise ValueError(f"board {board.id}: there is no timestamper {board.timing.timestamper!r}")
        if board.timing.pin >= stamper.pins or board.timing.pin in stamper.pulse_pins:
            raise ValueError(f"board {board.id}: pin {board.timing.pin} of {stamper.id} is not an input")
        yield f"pin {board.timing.pin} of {stamper.id}"
    if board.load:
        if board.timing is None or board.load.timestamper != board.timing.timestamper:
            raise ValueError(f"board {board.id}: load and timing are not on one timestamper")
        if board.load.pin not in stampers[board.load.timestamper].pulse_pins:
            raise ValueError(f"board {board.id}: pin {board.load.pin} puts out no pulses")
        yield f"pin {board.load.pin} of {board.load.timestamper}"


def load_rack(path: Path) -> RackConfig:
    """Read a `rack.toml`; its relative paths become absolute.

    Raises:
        ConfigError: it cannot be read, or describes no rack.
    """
    try:
        text = path.read_text()
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(path)) from error
    config = parse_rack(text, where=str(path))
    folder = path.resolve().parent
    boards = tuple(
        board.model_copy(update={"image": folder / board.image}) if board.image else board for board in config.board
    )
    return config.model_copy(update={"board": boards}).in_folder(folder / config.rack.dir)


def parse_rack(text: str, *, where: str = "rack.toml") -> RackConfig:
    """Parse the text of a `rack.toml`. Raises `ConfigError` naming every fault."""
    try:
        return RackConfig.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"is not TOML: {error}", where=where) from error
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'rack'}: {fault['msg']}"
            for fault in error.errors(include_url=False, include_input=False)
        )
        raise ConfigError(faults, where=where) from error


def demo_text() -> str:
    """The `rack.toml` of the demo: four boards of four kinds, one analyzer, one timestamper."""
    return files("labd.virtual").joinpath("demo.toml").read_text()


def demo_rack(directory: Path, *, speed: float = 1.0) -> RackConfig:
    """The rack of the demo in a folder of the caller's."""
    return parse_rack(demo_text(), where="demo.toml").in_folder(directory).at_speed(speed)
