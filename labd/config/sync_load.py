"""The sync load of a board: what its pulses look like in time, and whether what is wired can be seen and is bearable.

A pulse pin of the timestamper switches a resistor across the board's supply while the board idles. Its steps in the
current tie the two clocks, so they must stand out of the analyzer's noise, and board and load together must stay within
the board's limit and the analyzer's range. Decided from the file and from what the drivers declare; no device is
touched.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from drivers.api import Accuracy, EdgeCapability, Quantity
from labd.config.findings import Finding, KeyPath
from labd.config.models import Board, Load, Timing
from labd.config.wiring import Rack

LEAST_A = 1e-3
"""Least current of a load, A."""
OVER_NOISE = 20.0
"""And at least so many times the noise of a sample on the range in force."""
LONGEST_S = 1.0
"""A burst that takes longer is warned of: there is one before each trial and one after the last, s."""

_SHAPE = (1.0, 1.25, 1.5, 1.75)
"""Widths of a burst's pulses and of the pauses after them, as shares of the shortest: no two alike, so that a burst
that is shifted by a pulse does not fit itself."""
_WIDTH_SAMPLES = 12
_WIDTH_S = 5e-3
_PAUSE_SAMPLES = 6
_PAUSE_S = 1e-3


@dataclass(frozen=True, slots=True)
class Burst:
    """Pulses in a row while the board idles.

    Args:
        widths_s: How long each lasts, s, whole µs.
        pauses_s: How long the load is off at least after each, s.
        before_s: How long it is off at least before the first one, s.
    """

    widths_s: tuple[float, ...]
    pauses_s: tuple[float, ...]
    before_s: float

    @property
    def length_s(self) -> float:
        """How long it takes at least, s."""
        return self.before_s + math.fsum(self.widths_s) + math.fsum(self.pauses_s)


def burst(period_s: float) -> Burst:
    """The burst that is seen in samples of this period: the levels beside each step hold some samples."""
    width_s = max(_WIDTH_SAMPLES * period_s, _WIDTH_S)
    pause_s = _PAUSE_SAMPLES * period_s + _PAUSE_S
    return Burst(
        widths_s=tuple(math.ceil(1e6 * share * width_s) * 1e-6 for share in _SHAPE),
        pauses_s=tuple(share * pause_s for share in _SHAPE),
        before_s=pause_s,
    )


@dataclass(frozen=True, slots=True)
class LoadWire:
    """A pulse pin of an edge source and the load that it switches across a board's supply."""

    source: str
    pin: int
    board: str
    ohm: float

    @property
    def words(self) -> str:
        """What to wire, in a sentence."""
        return (
            f"{self.source} pin {self.pin}, high, switches {self.ohm:g} Ω across the supply of {self.board}, behind "
            f"the analyzer: idle low (with a pull-down: the pin drives nothing until labd has opened {self.source})"
        )


def load_wires(boards: Iterable[Board]) -> tuple[LoadWire, ...]:
    """The loads that boards have, in the order of the file."""
    return tuple(
        LoadWire(board.timing.instrument, board.timing.load.pin, board.id, board.timing.load.ohm)
        for board in boards
        if board.timing is not None and board.timing.load is not None
    )


def check_loads(boards: Mapping[int, Board], rack: Rack) -> Iterator[Finding]:
    """Look at each board's load by itself: its pin, and its current. Two boards on one pin are for `check_sharing`.

    Args:
        boards: By their place in the file.
        rack: What they are wired to.
    """
    for index, board in boards.items():
        timing = board.timing
        if timing is None or timing.load is None:
            continue
        for found in (*_check_pin(timing, timing.load, rack), *_check_current(board, timing.load, rack)):
            yield Finding(("board", index, "timing", "load", *found.path), found.message, found.remedy)


def warn_loads(boards: Mapping[int, Board], rack: Rack) -> Iterator[Finding]:
    """A burst that takes so long that it shows in the time of a run."""
    for index, board in boards.items():
        if board.timing is None or board.timing.load is None or board.measure is None:
            continue
        able = rack.find(board.measure.instrument)
        if able is None or able.analyzer is None:
            continue
        period_s = able.analyzer.period_min_s
        length_s = burst(period_s).length_s
        if length_s > LONGEST_S:
            message = f"with a sample every {period_s:g} s, each of its bursts takes {length_s:.3g} s or more"
            remedy = "measure the board with a faster analyzer, or remove the load"
            yield Finding(("board", index, "timing", "load"), message, remedy)


def _check_pin(timing: Timing, load: Load, rack: Rack) -> Iterator[Finding]:
    at: KeyPath = ("pin",)
    able = rack.find(timing.instrument)
    if able is None:
        return
    if able.edges is None or timing.method != "timestamped":
        yield Finding((), f"{timing.instrument} does not timestamp the pulses of a load", "remove it")
        return
    others = [pin for pin in able.edges.pulse_pins if pin not in (timing.pin, timing.sync_pin)]
    remedy = f"use one of: {', '.join(map(str, others))}" if others else "remove it: no pulse pin is left"
    if load.pin not in able.edges.pulse_pins:
        yield Finding(at, f"{timing.instrument} cannot put out a pulse on pin {load.pin}", remedy)
    elif load.pin == timing.sync_pin:
        yield Finding(at, f"pin {load.pin} of {timing.instrument} is the board's sync pin too", remedy)
    elif load.pin == timing.pin:
        yield Finding(at, f"pin {load.pin} of {timing.instrument} is the board's timing pin too", remedy)


def _check_current(board: Board, load: Load, rack: Rack) -> Iterator[Finding]:
    if board.measure is None:
        yield Finding((), "nothing measures the current that it makes", "add measure to the board, or remove it")
        return
    at: KeyPath = ("ohm",)
    tolerance = load.tolerance_percent / 100
    able, limits = rack.find(board.measure.instrument), board.limits
    edges = rack.find(board.timing.instrument) if board.timing is not None else None
    in_force = _range(board, able.analyzer.ranges.get(Quantity.CURRENT, ())) if able and able.analyzer else None
    needed_a, why = LEAST_A, f"{1e3 * LEAST_A:g} mA"
    if in_force is not None and OVER_NOISE * in_force.noise_rms > needed_a:
        needed_a = OVER_NOISE * in_force.noise_rms
        why = f"{1e3 * needed_a:.3g} mA, {OVER_NOISE:g} times the noise on the range of {in_force.range_max:g} A"
    least_a = board.supply.voltage_v / (load.ohm * (1 + tolerance))
    if least_a < needed_a:
        message = f"{load.ohm:g} Ω at {board.supply.voltage_v:g} V draw {1e3 * least_a:.3g} mA, less than {why}"
        most_ohm = board.supply.voltage_v / needed_a / (1 + tolerance)
        yield Finding(at, message, f"use {_floor(most_ohm):g} Ω or less, or a smaller measure.current_range_a")
    idle_a = board.idle_current_a[1] if board.idle_current_a is not None else 0.0
    largest_a = idle_a + limits.voltage_max_v / (load.ohm * (1 - tolerance))
    ends = {"limits.current_max_a": limits.current_max_a}
    if in_force is not None:
        ends["the end of the analyzer's range"] = in_force.range_max
    what, end_a = min(ends.items(), key=lambda end: end[1])
    if largest_a > end_a:
        message = (
            f"{load.ohm:g} Ω at {limits.voltage_max_v:g} V with the idle board draw {1e3 * largest_a:.3g} mA, more "
            f"than {what}, {1e3 * end_a:.3g} mA"
        )
        room_a = end_a - idle_a
        remedy = f"raise {what}"
        if room_a > 0:
            remedy = f"use {math.ceil(limits.voltage_max_v / room_a / (1 - tolerance)):d} Ω or more"
        yield Finding(at, message, remedy)
    if edges is not None and edges.edges is not None and able is not None and able.analyzer is not None:
        yield from _check_widths(board.measure.instrument, able.analyzer.period_min_s, edges.edges)


def _check_widths(analyzer: str, period_s: float, able: EdgeCapability) -> Iterator[Finding]:
    """Find fault with an analyzer so slow that the edge source cannot put out a pulse that it sees."""
    longest_s = max(burst(period_s).widths_s)
    if longest_s > able.width_s[1]:
        message = f"{analyzer} takes a sample every {period_s:g} s: pulses of {longest_s:g} s cannot be put out"
        yield Finding((), message, "remove it, or measure the board with a faster analyzer")


def _range(board: Board, ranges: Iterable[Accuracy]) -> Accuracy | None:
    """The range that a capture of the board is on, unless its peaks ask for a wider one; None if there is none."""
    wanted_a = board.limits.current_max_a
    if board.measure is not None and board.measure.current_range_a is not None:
        wanted_a = board.measure.current_range_a
    return min((each for each in ranges if each.range_max >= wanted_a), key=lambda each: each.range_max, default=None)


def _floor(value: float) -> float:
    """Rounded down to two digits."""
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return math.floor(value / step) * step
