"""Whether two boards of a lab are wired to one thing, which only boards that say so may be.

Boards that name a common entry in `resources` share what it stands for: labd never has both in use at once, so they may
also have a port, a channel, a pin or a probe in common.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from labd.config.findings import Finding, KeyPath
from labd.config.models import Board, Instrument

_Uses = Callable[[Board], Iterator[tuple[KeyPath, str]]]


def resources_of(board: Board) -> frozenset[str]:
    """Names of all that only one board can have at a time, and that this one has while it is in use.

    Its serial port, the channels and the pins that it is wired to, its flash probe, and what `resources` names.
    """
    held = {supply_resource(board), *board.resources}
    if board.measure is not None:
        held.add(_channel(board.measure.instrument, board.measure.channel))
    held |= {use for uses in (_ports, _timing_pins, _load_pins, _flashers) for _, use in uses(board)}
    return frozenset(held)


def supply_resource(board: Board) -> str:
    """Name of the channel that feeds a board, as it stands among its `resources_of`."""
    return _channel(board.supply.instrument, board.supply.channel)


def _channel(instrument: str, channel: int) -> str:
    return f"channel {instrument}/{channel}"


def check_sharing(boards: Mapping[int, Board], instruments: Mapping[int, Instrument]) -> list[Finding]:
    """Look for two boards on one id, port, channel or pin, and for a pin that serves as two things at once."""
    found = list(_same_ids(boards))
    rules: tuple[tuple[_Uses, str], ...] = (
        (_ports, "give each board its own port"),
        (_supply_channels, "feed each board from its own channel"),
        (_measure_channels, "measure each board on its own channel"),
        (_timing_pins, "wire each board to its own timing pin"),
        (_load_pins, "switch each board's load by its own pulse pin"),
        (_flashers, "give each board its own probe: with the same options it is the same one"),
    )
    for uses, remedy in rules:
        found += _taken_twice(boards, uses, remedy)
    ports = {_port(str(item.options["port"])): item.id for item in instruments.values() if "port" in item.options}
    sync = {(b.timing.instrument, b.timing.sync_pin) for b in boards.values() if b.timing is not None}
    for index, board in boards.items():
        if owner := ports.get(_port(board.serial.port)):
            message = f"port {board.serial.port} is taken by instrument {owner}"
            found.append(Finding(("board", index, "serial", "port"), message, "give the board its own port"))
        if board.timing is not None and (board.timing.instrument, board.timing.pin) in sync:
            message = f"pin {board.timing.pin} of {board.timing.instrument} is a sync pin too"
            found.append(Finding(("board", index, "timing", "pin"), message, "use different pins for timing and sync"))
    return found + list(_loads_on_other_pins(boards))


def _loads_on_other_pins(boards: Mapping[int, Board]) -> Iterator[Finding]:
    """A load's pin that is the timing or the sync pin of another board."""
    timed = [(board.id, board.timing) for board in boards.values() if board.timing is not None]
    for index, board in boards.items():
        timing = board.timing
        if timing is None or timing.load is None:
            continue
        pin, source = timing.load.pin, timing.instrument
        for owner, other in timed:
            if owner == board.id or other.instrument != source or pin not in (other.pin, other.sync_pin):
                continue
            what = "timing" if pin == other.pin else "sync"
            message = f"pin {pin} of {source} is the {what} pin of board {owner}"
            yield Finding(("board", index, "timing", "load", "pin"), message, "use another pulse pin for the load")
            break


def warn_sharing(boards: Mapping[int, Board]) -> Iterator[Finding]:
    """A resource that one board alone names may be a slip of the pen."""
    users: defaultdict[str, list[KeyPath]] = defaultdict(list)
    for index, board in boards.items():
        for place, resource in enumerate(board.resources):
            users[resource].append(("board", index, "resources", place))
    for resource, paths in users.items():
        if len(paths) == 1:
            message = f"no other board shares {resource!r}"
            yield Finding(paths[0], message, "write it as the other boards do, or remove it")


def _same_ids(boards: Mapping[int, Board]) -> Iterator[Finding]:
    seen: set[str] = set()
    for index, board in boards.items():
        if board.id in seen:
            message = f"id {board.id!r} is taken by board {board.id}"
            yield Finding(("board", index, "id"), message, "give each board its own id")
        seen.add(board.id)


def _taken_twice(boards: Mapping[int, Board], uses: _Uses, remedy: str) -> Iterator[Finding]:
    """Two boards on one thing, unless they have a resource in common."""
    taken: defaultdict[str, list[Board]] = defaultdict(list)
    for index, board in boards.items():
        for below, use in uses(board):
            strangers = [other for other in taken[use] if not set(other.resources) & set(board.resources)]
            if strangers:
                advice = f"{remedy}; boards that share it on purpose name one thing in resources"
                yield Finding(("board", index, *below), f"{use} is taken by board {strangers[0].id}", advice)
            taken[use].append(board)


def _port(port: str) -> str:
    """The device behind a port's name: `/dev/serial/by-id/...` and `/dev/ttyACM0` can be one."""
    return str(Path(port).resolve()) if port.startswith("/") else port


def _ports(board: Board) -> Iterator[tuple[KeyPath, str]]:
    yield ("serial", "port"), f"port {_port(board.serial.port)}"


def _supply_channels(board: Board) -> Iterator[tuple[KeyPath, str]]:
    yield ("supply", "channel"), f"output {board.supply.channel} of {board.supply.instrument}"


def _measure_channels(board: Board) -> Iterator[tuple[KeyPath, str]]:
    if board.measure is not None:
        yield ("measure", "channel"), f"channel {board.measure.channel} of {board.measure.instrument}"


def _timing_pins(board: Board) -> Iterator[tuple[KeyPath, str]]:
    if board.timing is not None:
        yield ("timing", "pin"), f"timing pin {board.timing.pin} of {board.timing.instrument}"


def _load_pins(board: Board) -> Iterator[tuple[KeyPath, str]]:
    if board.timing is not None and board.timing.load is not None:
        yield ("timing", "load", "pin"), f"load pin {board.timing.load.pin} of {board.timing.instrument}"


def _flashers(board: Board) -> Iterator[tuple[KeyPath, str]]:
    if board.flash is not None:
        given = ", ".join(f"{key} = {value!r}" for key, value in sorted(board.flash.options.items()))
        yield ("flash",), f"flasher {board.flash.driver} ({given or 'no options'})"
