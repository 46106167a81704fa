"""What is known of each board when a job asks: its capabilities, its wiring, what its instruments' drivers declare."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from drivers.api import Capability, Driver, Quantity
from labd.config.models import Board, LabConfig

Fact = bool | int | float | str | tuple[bool | int | float | str, ...]
"""One thing known of a board."""
BoardFacts = Mapping[str, Fact]
"""All that is known of a board, by name, such as `memory_kb` or `analyzer.rate_hz`."""


def capabilities_of(config: LabConfig, drivers: Mapping[str, Driver]) -> dict[str, Capability]:
    """What each instrument of a lab can do, by its id, as its driver declares; no hardware is touched.

    Args:
        config: A lab that was found to be without faults.
        drivers: By name, at least those that its instruments use.
    """
    declared: dict[str, Capability] = {}
    for instrument in config.instrument:
        driver = drivers[instrument.driver]
        declared[instrument.id] = driver.capability(driver.options.model_validate(instrument.options))
    return declared


def lab_facts(config: LabConfig, capabilities: Mapping[str, Capability]) -> dict[str, BoardFacts]:
    """The facts of every board, by its id; `capabilities` as `capabilities_of` or an `Inspection` has them."""
    return {board.id: board_facts(board, capabilities) for board in config.board}


def board_facts(board: Board, capabilities: Mapping[str, Capability]) -> BoardFacts:
    """What is known of a board.

    An instrument that `capabilities` does not have adds nothing. Of a board that is not wired for something, nothing
    is said of it.
    """
    return {
        **board.capabilities,
        "id": board.id,
        "target": board.target,
        "tags": board.tags,
        "voltage_max_v": board.limits.voltage_max_v,
        "current_max_a": board.limits.current_max_a,
        "clock_ppm": board.clock_ppm,
        "supply.voltage_v": board.supply.voltage_v,
        **dict(_of_supply(board, capabilities)),
        **dict(_of_analyzer(board, capabilities)),
        **dict(_of_timing(board, capabilities)),
    }


def _of_supply(board: Board, capabilities: Mapping[str, Capability]) -> Iterator[tuple[str, Fact]]:
    able = capabilities.get(board.supply.instrument)
    if able is not None and able.supply is not None:
        yield "supply.voltage_max_v", able.supply.voltage_max_v
        yield "supply.current_max_a", able.supply.current_max_a


def _of_analyzer(board: Board, capabilities: Mapping[str, Capability]) -> Iterator[tuple[str, Fact]]:
    if board.measure is None:
        return
    yield "analyzer.id", board.measure.instrument
    able = capabilities.get(board.measure.instrument)
    if able is None or able.analyzer is None:
        return
    analyzer = able.analyzer
    yield "analyzer.rate_hz", 1.0 / analyzer.period_min_s
    yield "analyzer.channels", len(analyzer.channels)
    yield "analyzer.clock_ppm", analyzer.clock_ppm
    yield "analyzer.streams", analyzer.depth_s is None
    yield "analyzer.quantities", tuple(sorted(quantity.value for quantity in analyzer.ranges))
    if currents := analyzer.ranges.get(Quantity.CURRENT):
        yield "analyzer.current_max_a", max(each.range_max for each in currents)


def _of_timing(board: Board, capabilities: Mapping[str, Capability]) -> Iterator[tuple[str, Fact]]:
    """How finely the timing pin is seen: by a sample, or by the shortest pulse that a timestamper sees for sure."""
    timing = board.timing
    if timing is None:
        return
    yield "timing.method", timing.method
    yield "timing.synced", timing.sync_pin is not None
    yield "timing.load", timing.load is not None
    able = capabilities.get(timing.instrument)
    if able is None:
        return
    if timing.method == "sampled" and able.analyzer is not None:
        yield "timing.resolution_s", able.analyzer.period_min_s
    elif timing.method == "timestamped" and able.edges is not None:
        yield "timing.resolution_s", able.edges.pulse_min_s
