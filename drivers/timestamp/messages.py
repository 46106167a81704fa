"""What a timestamper says, parsed: docs/reference/timestamper.md."""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass

from drivers.api import ConnectError, Edge, EdgeCapability, Identity, ProtocolError

VERSION = 2
"""Of the line protocol; version 1 had no `idle`: its pulses were high ones, of any width."""
CAPABILITY = EdgeCapability(
    pins=tuple(range(16)),
    pulse_pins=(14, 15),
    pulse_min_s=1e-6,
    clock_ppm=50.0,
    source="docs/reference/timestamper.md, last paragraph: what every device of the class has",
    width_s=(1e-6, 1.0),
)

_ID = re.compile(
    r"id labd-timestamper (?P<version>\d+) serial=(?P<serial>\S+) firmware=(?P<firmware>\S+) "
    r"rate_hz=(?P<rate>\d+(?:\.\d+)?) ppm=(?P<ppm>\d+(?:\.\d+)?) pins=(?P<pins>\d{1,3}) pulse=(?P<pulse>\d+(?:,\d+)*)?"
)
_EDGE = re.compile(r"e (\d{1,20}) (\d{1,3}) ([01]) (\d{1,20})")
_STATUS = re.compile(r"status seq=(\d{1,20}) dropped=(\d{1,20}) now=(\d{1,20})")


@dataclass(frozen=True, slots=True)
class Declaration:
    """What the device says of itself in answer to `id`."""

    identity: Identity
    tick_rate_hz: float
    clock_ppm: float
    pins: frozenset[int]
    pulse_pins: frozenset[int]


@dataclass(frozen=True, slots=True)
class Status:
    """What the device says of itself in answer to `status`.

    Args:
        sequence: Number that the next edge will have.
        dropped: How many edges it has dropped since power-on.
        now_ticks: Its clock, in ticks.
    """

    sequence: int
    dropped: int
    now_ticks: int


def checked_text(line: bytes) -> str | None:
    """Return the text of a line whose CRC holds, else None.

    Args:
        line: One line from the device without its LF: text, a space, `*` and CRC-16/CCITT-FALSE in four hex digits.
    """
    text, separator, digits = line.rstrip(b"\r").rpartition(b" *")
    if not separator or digits != b"%04x" % binascii.crc_hqx(text, 0xFFFF) or not text.isascii():
        return None
    return text.decode("ascii")


def parse_edge(text: str) -> Edge | None:
    """Return the edge that a line reports, None if it is another line."""
    if (match := _EDGE.fullmatch(text)) is None:
        return None
    sequence, pin, level, ticks = (int(group) for group in match.groups())
    return Edge(pin=pin, level=level, ticks=ticks, sequence=sequence)


def parse_status(answer: str, where: str) -> Status:
    """Parse the answer to `status`. Raises `ProtocolError`."""
    if (match := _STATUS.fullmatch(answer)) is None:
        raise ProtocolError(f"{where}: answered {answer!r} to 'status'")
    return Status(int(match[1]), int(match[2]), int(match[3]))


def parse_declaration(answer: str, where: str) -> Declaration:
    """Parse the answer to `id`.

    Raises:
        ConnectError: it is another device, another protocol version, or less than the class guarantees.
    """
    match = _ID.fullmatch(answer)
    if match is None:
        raise ConnectError(f"{where}: is no labd timestamper, it answered {answer!r}")
    if int(match["version"]) != VERSION:
        raise ConnectError(
            f"{where}: speaks version {match['version']} of the timestamper's protocol, not {VERSION}: "
            "update its firmware"
        )
    rate_hz = float(match["rate"])
    if rate_hz <= 0:
        raise ConnectError(f"{where}: declares a clock of {rate_hz} Hz")
    declared = Declaration(
        identity=Identity(maker="labd", model="timestamper", serial=match["serial"], firmware=match["firmware"]),
        tick_rate_hz=rate_hz,
        clock_ppm=float(match["ppm"]),
        pins=frozenset(range(int(match["pins"]))),
        pulse_pins=frozenset(int(pin) for pin in (match["pulse"] or "").split(",") if pin),
    )
    if (
        not declared.pins.issuperset(CAPABILITY.pins)
        or not declared.pulse_pins.issuperset(CAPABILITY.pulse_pins)
        or declared.clock_ppm > CAPABILITY.clock_ppm
    ):
        raise ConnectError(f"{where}: declares less than every timestamper has: {answer!r}")
    return declared
