"""Wires from a pulse pin of an edge source to the trigger input of an analyzer: what each takes, and how it rests.

Decided from the file and from what the drivers declare; no device is touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from drivers.api import Capability, TriggerInput
from labd.config.findings import Finding
from labd.config.models import Board
from labd.config.wiring import Rack


@dataclass(frozen=True, slots=True)
class TriggerWire:
    """A pulse pin of an edge source, the trigger input that it goes to, and what that takes."""

    source: str
    pin: int
    analyzer: str
    taken: TriggerInput

    @property
    def words(self) -> str:
        """What to wire, in a sentence."""
        active, rest = self.taken.active.word, self.taken.active.opposite.word
        return (
            f"{self.analyzer} starts on a {active} pulse of at least {1e6 * self.taken.pulse_min_s:g} µs: wire "
            f"{self.source} pin {self.pin} to its trigger input, idle {rest} (with a pull-"
            f"{'up' if rest == 'high' else 'down'}: the pin drives nothing until labd has opened {self.source})"
        )


def trigger_wires(boards: Iterable[Board], capabilities: Mapping[str, Capability]) -> tuple[TriggerWire, ...]:
    """The trigger wires that the boards ask for, each once, in the order of the file."""
    wires: dict[TriggerWire, None] = {}
    for board in boards:
        if board.timing is None or board.timing.sync_pin is None or board.measure is None:
            continue
        able = capabilities.get(board.measure.instrument)
        if able is not None and able.analyzer is not None and able.analyzer.trigger_input is not None:
            pin, taken = board.timing.sync_pin, able.analyzer.trigger_input
            wires[TriggerWire(board.timing.instrument, pin, board.measure.instrument, taken)] = None
    return tuple(wires)


def check_trigger_levels(boards: Mapping[int, Board], rack: Rack) -> Iterator[Finding]:
    """Find fault with a sync pin that would have to rest at both levels.

    Args:
        boards: By their place in the file.
        rack: What they are wired to.
    """
    known = {name: each.capability for name, each in rack.known.items() if each is not None}
    owners: dict[tuple[str, int], TriggerWire] = {}
    for index, board in boards.items():
        for wire in trigger_wires([board], known):
            other = owners.setdefault((wire.source, wire.pin), wire)
            if other.taken.active is not wire.taken.active:
                message = (
                    f"{wire.source} pin {wire.pin} cannot rest {wire.taken.active.opposite.word} for {wire.analyzer} "
                    f"and {other.taken.active.opposite.word} for {other.analyzer}"
                )
                remedy = f"wire another pulse pin of {wire.source} to {wire.analyzer}"
                yield Finding(("board", index, "timing", "sync_pin"), message, remedy)
