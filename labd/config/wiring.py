"""Whether the boards of a lab are wired so that they can be fed, measured and timed.

Everything is decided from the file and from what the drivers declare; no device is touched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isclose

from drivers.api import Capability, EdgeCapability, EdgeMethod, Quantity, Role, TriggerSource
from labd.config.devices import Known
from labd.config.findings import Finding, KeyPath, one_of
from labd.config.models import Board, Measure, Timing


@dataclass(frozen=True, slots=True)
class Rack:
    """What a board can be wired to.

    Args:
        known: Instruments by id; None for one that stands in the file but of which nothing is known.
    """

    known: Mapping[str, Known | None]

    def find(self, instrument_id: str) -> Capability | None:
        """What an instrument can do; None if nothing is known to compare with."""
        known = self.known.get(instrument_id)
        return None if known is None else known.capability

    def missing(self, instrument_id: str, path: KeyPath) -> Iterator[Finding]:
        """Find fault with a reference to an instrument that the file does not have."""
        if instrument_id not in self.known:
            remedy = one_of(instrument_id, self.known, none="add it as an [[instrument]]")
            yield Finding(path, f"there is no instrument {instrument_id!r}", remedy)

    def with_role(self, role: Role) -> str:
        """The instruments that serve as `role`, in words."""
        ids = [name for name, known in self.known.items() if known is not None and role in known.roles]
        return f"use one that does: {', '.join(ids)}" if ids else f"add an [[instrument]] that serves as {role}"


def check_board(board: Board, path: KeyPath, rack: Rack) -> list[Finding]:
    """Look at one board by itself: its supply, its analyzer, its timing pin."""
    found = list(_check_supply(board, rack))
    if board.measure is not None:
        found += _check_measure(board.measure, rack)
    if board.timing is not None:
        found += _check_timing(board, board.timing, rack)
        found += _check_sync(board, board.timing, rack)
    return [Finding(path + finding.path, finding.message, finding.remedy) for finding in found]


def _check_supply(board: Board, rack: Rack) -> Iterator[Finding]:
    supply, limit_v = board.supply, board.limits.voltage_max_v
    instrument, voltage_v = supply.instrument, supply.voltage_v
    if voltage_v > limit_v:
        message = f"{voltage_v:g} V is above the board's limit of {limit_v:g} V"
        yield Finding(("supply", "voltage_v"), message, "lower it, or raise limits.voltage_max_v if the board allows")
    if supply.off_below_v >= voltage_v:
        message = f"{supply.off_below_v:g} V is not below the supply's {voltage_v:g} V: on would count as off"
        yield Finding(("supply", "off_below_v"), message, "lower it; 0.1 V is usual")
    yield from rack.missing(instrument, ("supply", "instrument"))
    able = rack.find(instrument)
    if able is None:
        return
    if able.supply is None:
        message = f"{instrument} does not serve as a supply"
        yield Finding(("supply", "instrument"), message, rack.with_role(Role.SUPPLY))
        return
    yield from _check_channel(instrument, supply.channel, able.supply.channels, ("supply", "channel"))
    if voltage_v > able.supply.voltage_max_v:
        message = f"{voltage_v:g} V is more than the {able.supply.voltage_max_v:g} V that {instrument} can put out"
        yield Finding(("supply", "voltage_v"), message, "lower it, or feed the board from another supply")


def _check_measure(measure: Measure, rack: Rack) -> Iterator[Finding]:
    instrument = measure.instrument
    yield from rack.missing(instrument, ("measure", "instrument"))
    able = rack.find(instrument)
    if able is None:
        return
    if able.analyzer is None:
        message = f"{instrument} does not serve as an analyzer"
        yield Finding(("measure", "instrument"), message, rack.with_role(Role.ANALYZER))
        return
    yield from _check_channel(instrument, measure.channel, able.analyzer.channels, ("measure", "channel"))
    largest_a = max((each.range_max for each in able.analyzer.ranges.get(Quantity.CURRENT, ())), default=0.0)
    if measure.current_range_a is not None and measure.current_range_a > largest_a:
        message = f"{measure.current_range_a:g} A is above the largest range of {instrument}, {largest_a:g} A"
        yield Finding(("measure", "current_range_a"), message, "lower it, or leave it out")


def _check_channel(instrument: str, channel: int, channels: tuple[int, ...], path: KeyPath) -> Iterator[Finding]:
    if channel not in channels:
        yield Finding(path, f"{instrument} has no channel {channel}", f"use one of: {', '.join(map(str, channels))}")


def _check_timing(board: Board, timing: Timing, rack: Rack) -> Iterator[Finding]:
    yield from rack.missing(timing.instrument, ("timing", "instrument"))
    able = rack.find(timing.instrument)
    if able is None:
        return
    if timing.method == "sampled":
        yield from _check_sampled(board, timing, able)
    elif able.edges is None:
        message = f"{timing.instrument} does not timestamp edges"
        yield Finding(("timing", "instrument"), message, rack.with_role(Role.EDGES))
    else:
        yield from _check_timestamped(timing, able.edges)


def _check_sampled(board: Board, timing: Timing, able: Capability) -> Iterator[Finding]:
    if able.analyzer is None or EdgeMethod.SAMPLED not in able.analyzer.edge_methods:
        message = f"{timing.instrument} does not sample digital inputs"
        yield Finding(("timing", "method"), message, 'wire the pin to a timestamper, with method = "timestamped"')
        return
    if board.measure is not None and board.measure.instrument != timing.instrument:
        message = f"a sampled pin must be on the analyzer that measures the board, {board.measure.instrument}"
        yield Finding(("timing", "instrument"), message, 'rewire it, or use method = "timestamped"')
    period_us = 1e6 * able.analyzer.period_min_s
    if _shorter(timing.pulse_us, 2 * period_us):
        message = f"a pulse of {timing.pulse_us:g} µs is too short to be seen in samples of {period_us:g} µs"
        remedy = f'use method = "timestamped", or firmware that holds the pin for {2 * period_us:g} µs or more'
        yield Finding(("timing", "pulse_us"), message, remedy)


def _check_timestamped(timing: Timing, able: EdgeCapability) -> Iterator[Finding]:
    if timing.pin not in able.pins:
        remedy = f"use one of: {', '.join(map(str, able.pins))}"
        yield Finding(("timing", "pin"), f"{timing.instrument} has no pin {timing.pin}", remedy)
    shortest_us = 1e6 * able.pulse_min_s
    if _shorter(timing.pulse_us, shortest_us):
        message = (
            f"a pulse of {timing.pulse_us:g} µs is shorter than the {shortest_us:g} µs that {timing.instrument} needs"
        )
        yield Finding(("timing", "pulse_us"), message, "use firmware that holds the pin longer")


def _shorter(given_us: float, needed_us: float) -> bool:
    """Whether a pulse is too short, µs; equal in decimal is equal, whatever the conversion to binary made of it."""
    return given_us < needed_us and not isclose(given_us, needed_us, rel_tol=1e-9)


def _check_sync(board: Board, timing: Timing, rack: Rack) -> Iterator[Finding]:
    if timing.sync_pin is None:
        return
    source = rack.find(timing.instrument)
    if source is not None:
        pins = source.edges.pulse_pins if source.edges is not None else ()
        if timing.sync_pin not in pins:
            message = f"{timing.instrument} cannot put out a pulse on pin {timing.sync_pin}"
            remedy = f"use one of: {', '.join(map(str, pins))}" if pins else "remove it"
            yield Finding(("timing", "sync_pin"), message, remedy)
    measured_by = board.measure.instrument if board.measure is not None else ""
    started = rack.find(measured_by)
    if started is None or started.analyzer is None:
        return
    if TriggerSource.EXTERNAL not in started.analyzer.triggers:
        message = f"{measured_by} has no trigger input for a sync pulse"
        yield Finding(("timing", "sync_pin"), message, "remove it")
        return
    taken = started.analyzer.trigger_input
    if taken is None:
        message = f"the driver of {measured_by} does not say which level of its trigger input starts a capture"
        yield Finding(("timing", "sync_pin"), message, "remove it, or use a driver that declares trigger_input")
    elif source is not None and source.edges is not None and taken.pulse_min_s > source.edges.width_s[1]:
        message = (
            f"{measured_by} starts on a pulse of at least {taken.pulse_min_s:g} s, the longest of {timing.instrument} "
            f"is {source.edges.width_s[1]:g} s"
        )
        yield Finding(("timing", "sync_pin"), message, "remove it")
