"""The MLPerf Tiny board protocol without any I/O: bytes in, typed events out, and commands as bytes.

A reply is lines ended by CR, LF or both, the last of them `m-ready`. Serial lines add noise, so two rules hold.
Noise before a line is split off and reported, because a floating wire makes it at power-on and the line after it is
whole. Noise inside a line condemns the line: a digit may be missing, and a wrong number is worse than none.

Source: EEMBC EnergyRunner guide and the MLCommons `tiny` firmware API (commands, replies, 80-byte command buffer).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

LINE_LIMIT = 4096
"""Longest line in bytes; what is longer comes out as `Garbage` in pieces of this size."""

COMMAND_LIMIT = 80
"""The board's command buffer in bytes, the closing `%` included."""

LOAD_LIMIT = 31
"""Most input bytes in one `db` command."""

LAP_WRAP_US = 2**32
LAP_STEP_MAX_US = 1000
"""Step of the coarsest lap counter that the protocol allows, 1 kHz."""
DIFFERENCES_MIN = 3
"""Differences of readings that tell the step of a counter by themselves."""
"""The lap counter is 32 bit wide and wraps after 71.6 minutes."""

INTERFACE_PREFIX = "[dut]: "
"""An interface board puts this before each line that it passes on."""


class TimestampMode(StrEnum):
    """How the firmware marks a window; fixed when it is compiled."""

    PERFORMANCE = "performance"  # it prints a lap counter
    ENERGY = "energy"  # it pulls the timing pin low


@dataclass(frozen=True, slots=True)
class Ready:
    """`m-ready`: the board takes the next command."""


@dataclass(frozen=True, slots=True)
class BootMode:
    """`m-timestamp-mode-...`: first line after a reset."""

    mode: TimestampMode


@dataclass(frozen=True, slots=True)
class InitDone:
    """`m-init-done`: the board has booted."""


@dataclass(frozen=True, slots=True)
class Timestamp:
    """`m-lap-us-N`: the board's wrapping lap counter, µs."""

    us: int


@dataclass(frozen=True, slots=True)
class Name:
    """`m-name-dut-[...]`: who made the board."""

    vendor: str


@dataclass(frozen=True, slots=True)
class Profile:
    """`m-profile-[...]`: name and version of the firmware."""

    text: str


@dataclass(frozen=True, slots=True)
class Model:
    """`m-model-[...]`: model id."""

    model: str


@dataclass(frozen=True, slots=True)
class Expecting:
    """`m-[Expecting N bytes]`: the board waits for input of this size."""

    n: int


@dataclass(frozen=True, slots=True)
class LoadDone:
    """`m-load-done`: the input is complete."""


@dataclass(frozen=True, slots=True)
class WarmupStart:
    """`m-warmup-start-N`: N untimed inferences begin."""

    n: int


@dataclass(frozen=True, slots=True)
class WarmupDone:
    """`m-warmup-done`."""


@dataclass(frozen=True, slots=True)
class InferStart:
    """`m-infer-start-N`: the window of N inferences is about to open."""

    n: int


@dataclass(frozen=True, slots=True)
class InferDone:
    """`m-infer-done`: the window has closed."""


@dataclass(frozen=True, slots=True)
class Results:
    """`m-results-[...]`: the model's outputs, in the model's own scale; never empty, always finite."""

    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """`e-[...]`: the board refuses."""

    text: str


@dataclass(frozen=True, slots=True)
class Garbage:
    """Bytes that are no text, or a line longer than `LINE_LIMIT`."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Other:
    """A line of text that the protocol does not know, or a known one with a malformed argument."""

    line: str


Event = (
    Ready
    | BootMode
    | InitDone
    | Timestamp
    | Name
    | Profile
    | Model
    | Expecting
    | LoadDone
    | WarmupStart
    | WarmupDone
    | InferStart
    | InferDone
    | Results
    | ErrorReply
    | Garbage
    | Other
)


@dataclass(frozen=True, slots=True)
class Heard:
    """One line as it came, noise escaped (`\\xff`), and what it means."""

    line: str
    event: Event


_BARE: dict[str, Event] = {
    "m-ready": Ready(),
    "m-init-done": InitDone(),
    "m-load-done": LoadDone(),
    "m-warmup-done": WarmupDone(),
    "m-infer-done": InferDone(),
    "m-timestamp-mode-performance": BootMode(TimestampMode.PERFORMANCE),
    "m-timestamp-mode-energy": BootMode(TimestampMode.ENERGY),
}

_TEXT: tuple[tuple[str, type[Name | Profile | Model | ErrorReply]], ...] = (
    ("m-name-dut-[", Name),
    ("m-profile-[", Profile),
    ("m-model-[", Model),
    ("e-[", ErrorReply),
)

_COUNT: tuple[tuple[re.Pattern[str], type[Timestamp | Expecting | WarmupStart | InferStart]], ...] = (
    (re.compile(r"m-lap-us-([0-9]{1,10})"), Timestamp),
    (re.compile(r"m-\[Expecting ([0-9]{1,10}) bytes\]"), Expecting),
    (re.compile(r"m-warmup-start-([0-9]{1,10})"), WarmupStart),
    (re.compile(r"m-infer-start-([0-9]{1,10})"), InferStart),
)

_NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]{1,3})?")

# What may stand in a line: printable ASCII and tab.
_NOISE = re.compile(rb"[^\t\x20-\x7e]")
_LEADING_NOISE = re.compile(rb"[^\t\x20-\x7e]+")
_LINE_END = re.compile(rb"[\r\n]")


def classify(line: str) -> Event:
    """Say what one line of a board means.

    Args:
        line: Printable text without its line end, with or without an interface board's prefix.

    Returns:
        The event; `Other` for what the protocol does not know. Never raises.
    """
    text = line.strip().removeprefix(INTERFACE_PREFIX)
    if text in _BARE:
        return _BARE[text]
    for prefix, kind in _TEXT:
        if text.startswith(prefix) and text.endswith("]"):
            return kind(text[len(prefix) : -1])
    for pattern, counted in _COUNT:
        if match := pattern.fullmatch(text):
            return _counted(counted, int(match[1]), line)
    if text.startswith("m-results-[") and text.endswith("]"):
        return _results(text[len("m-results-[") : -1], line)
    return Other(line)


def _counted(kind: type[Timestamp | Expecting | WarmupStart | InferStart], value: int, line: str) -> Event:
    """Keep a number only if the board's 32-bit counters can hold it."""
    return kind(value) if value < LAP_WRAP_US else Other(line)


def _results(inside: str, line: str) -> Event:
    """Parse `f,f,...`; some firmware closes the list with a comma."""
    parts = inside.removesuffix(",").split(",")
    if not all(_NUMBER.fullmatch(part.strip()) for part in parts):
        return Other(line)
    values = tuple(float(part) for part in parts)
    return Results(values) if all(math.isfinite(value) for value in values) else Other(line)


class Parser:
    """Turns the bytes of a serial line into events, however they are cut into chunks."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._overlong = False

    @property
    def pending(self) -> bytes:
        """The line that has not ended yet, at most `LINE_LIMIT` bytes."""
        return bytes(self._pending)

    def feed(self, data: bytes) -> list[Heard]:
        """Take the next bytes; return what they completed, in order. Never raises.

        Args:
            data: Any bytes, cut anywhere.
        """
        heard: list[Heard] = []
        *ended, rest = _LINE_END.split(data)
        for piece in ended:
            heard += self._extend(piece)
            heard += self._end_line()
        heard += self._extend(rest)
        return heard

    def _extend(self, piece: bytes) -> Iterator[Heard]:
        """Append to the line in progress; hand out what exceeds the limit."""
        self._pending += piece
        while len(self._pending) > LINE_LIMIT:
            yield _garbage(bytes(self._pending[:LINE_LIMIT]))
            del self._pending[:LINE_LIMIT]
            self._overlong = True

    def _end_line(self) -> Iterator[Heard]:
        line, overlong = bytes(self._pending), self._overlong
        self._pending.clear()
        self._overlong = False
        if overlong:
            yield _garbage(line)
            return
        if noise := _LEADING_NOISE.match(line):
            yield _garbage(noise[0])
            line = line[noise.end() :]
        if not line.strip():
            return
        if _NOISE.search(line):
            yield _garbage(line)
            return
        text = line.decode("ascii")
        yield Heard(text, classify(text))


def _garbage(data: bytes) -> Heard:
    return Heard(data.decode("ascii", errors="backslashreplace"), Garbage(data))


def encode_command(text: str) -> bytes:
    """Return one command as the board takes it, closed by `%`.

    Args:
        text: Command and arguments, printable ASCII without `%`.

    Raises:
        ValueError: the command does not fit the board's buffer or cannot be sent.
    """
    if not text or not text.isascii() or not text.isprintable() or "%" in text:
        raise ValueError(f"{text!r} cannot be sent to a board: printable ASCII without '%' only")
    if len(text) + 1 > COMMAND_LIMIT:
        raise ValueError(f"{text[:20]!r}... has {len(text) + 1} bytes with its '%', the board's buffer {COMMAND_LIMIT}")
    return text.encode("ascii") + b"%"


def load_commands(data: bytes, chunk_bytes: int = LOAD_LIMIT) -> Iterator[str]:
    """Yield the commands that fill the board's input buffer: `db load N`, then `db HEX` until all is sent.

    Args:
        data: The input, at least one byte.
        chunk_bytes: Input bytes a command, 1 to 31; 26 through an interface board.

    Raises:
        ValueError: nothing to load, or a chunk that the board cannot take.
    """
    if not data:
        raise ValueError("an input has at least one byte")
    if not 1 <= chunk_bytes <= LOAD_LIMIT:
        raise ValueError(f"{chunk_bytes} bytes a command: a board takes 1 to {LOAD_LIMIT}")
    yield f"db load {len(data)}"
    for start in range(0, len(data), chunk_bytes):
        yield f"db {data[start : start + chunk_bytes].hex()}"


def lap_duration_us(first: int, second: int) -> int:
    """Return the time from one reading of the lap counter to the next, µs.

    The counter is 32 bit wide; one wrap in between is undone, so spans up to 71.6 minutes are right. Each reading is
    rounded to the counter's step, see `lap_resolution_us`.

    Args:
        first: Reading at the start, µs, 0 to 2³²-1.
        second: Reading at the end, µs, 0 to 2³²-1.
    """
    return (second - first) % LAP_WRAP_US


def lap_resolution_us(readings: Sequence[int]) -> int:
    """Return the coarsest resolution that explains the readings of one lap counter, µs.

    The protocol allows any counter of at least 1 kHz that prints microseconds. The differences of consecutive readings
    are multiples of its step, so their greatest common divisor is a multiple of the step: never too fine, and right
    after a few readings. Of a single trial the divisor is the window itself, which says nothing: with fewer than three
    differences the coarsest step that the protocol allows is the limit. With three, a common divisor above that comes
    about by chance once in two million times; then the counter is slower than allowed, and is taken as it is.

    Args:
        readings: Consecutive readings, µs, each less than one wrap after the one before.

    Returns:
        The resolution, µs; 1 if fewer than two different readings tell nothing.
    """
    differences = [lap_duration_us(first, second) for first, second in pairwise(readings)]
    step_us = math.gcd(*differences) or 1
    return step_us if len(differences) >= DIFFERENCES_MIN else min(step_us, LAP_STEP_MAX_US)
