"""A SCPI instrument's ear: IEEE 488.2 messages, a tree of commands, an error queue and the status registers.

`ScpiDevice` is pure: one program message in, one response message out. It knows short and long forms, optional nodes,
compound messages, numbers with suffixes, keywords and channel lists, and answers what is wrong with the error numbers
of SCPI-1999 volume 2, chapter 21. The TCP side is `scpi_server`.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

Reply = str | bytes
Args = list[str]
SetHandler = Callable[[Args], None]
QueryHandler = Callable[[Args], Reply]

MESSAGES: Mapping[int, str] = {
    0: "No error",
    -100: "Command error",
    -101: "Invalid character",
    -102: "Syntax error",
    -104: "Data type error",
    -108: "Parameter not allowed",
    -109: "Missing parameter",
    -113: "Undefined header",
    -121: "Invalid character in number",
    -131: "Invalid suffix",
    -141: "Invalid character data",
    -170: "Expression error",
    -221: "Settings conflict",
    -222: "Data out of range",
    -224: "Illegal parameter value",
    -230: "Data corrupt or stale",
    -241: "Hardware missing",
    -350: "Error queue overflow",
    -363: "Input buffer overrun",
    -420: "Query UNTERMINATED",
}

QUEUE_LENGTH = 20
_MULTIPLIERS = {"": 1.0, "P": 1e-12, "N": 1e-9, "U": 1e-6, "M": 1e-3, "K": 1e3, "MA": 1e6, "G": 1e9}
_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:E[+-]?\d{1,5})?)\s*([A-Z]*)", re.IGNORECASE | re.ASCII)
_NODE = re.compile(r"([A-Z]+)([a-z]*)(\d*)")


class ScpiError(Exception):
    """An error for the error queue. Raised by a handler, it ends the unit that it was raised in."""

    def __init__(self, code: int) -> None:
        super().__init__(f'{code},"{MESSAGES[code]}"')
        self.code = code


# --- parameters -----------------------------------------------------------------------------------------------


def number(text: str, *, unit: str, low: float, high: float, default: float | None = None) -> float:
    """Parse a numeric parameter: a number with an optional suffix of `unit`, or MIN, MAX or DEF.

    Raises:
        ScpiError: -121 or -131 for the form, -222 for a value outside `low` to `high`.
    """
    named = {"MIN": low, "MINIMUM": low, "MAX": high, "MAXIMUM": high}
    if default is not None:
        named |= {"DEF": default, "DEFAULT": default}
    word = text.strip().upper()
    if word in named:
        return named[word]
    match = _NUMBER.fullmatch(word)
    if match is None:
        raise ScpiError(-121)
    suffix = match[2]
    if suffix and (not unit or not suffix.endswith(unit) or suffix.removesuffix(unit) not in _MULTIPLIERS):
        raise ScpiError(-131)
    value = float(match[1]) * _MULTIPLIERS[suffix.removesuffix(unit) if suffix else ""]
    if not low <= value <= high:
        raise ScpiError(-222)
    return value


def boolean(text: str) -> bool:
    """Parse `ON`, `OFF`, `1` or `0`."""
    words = {"ON": True, "1": True, "OFF": False, "0": False}
    try:
        return words[text.strip().upper()]
    except KeyError:
        raise ScpiError(-224) from None


def keyword(text: str, *forms: str) -> str:
    """Parse one of `forms`, each given as `IMMediate`; return the short form in capitals."""
    word = text.strip().upper()
    for form in forms:
        short = "".join(letter for letter in form if not letter.islower())
        if word in (short, form.upper()):
            return short
    raise ScpiError(-224 if word.isascii() and word.isalnum() else -141)


def channels(text: str, known: Iterable[int]) -> list[int]:
    """Parse a channel list such as `(@1,3:4)`. Raises `ScpiError` -170 for its form, -222 for an unknown channel."""
    match = re.fullmatch(r"\(\s*@([0-9,:\s]*)\)", text.strip(), re.ASCII)
    if match is None:
        raise ScpiError(-170)
    known = frozenset(known)
    found: list[int] = []
    for part in match[1].split(","):
        ends = part.split(":")
        if len(ends) > 2 or not all(re.fullmatch(r"\s*\d{1,3}\s*", end, re.ASCII) for end in ends):
            raise ScpiError(-170)
        first, last = int(ends[0]), int(ends[-1])
        wanted = range(first, last + 1) if first <= last else range(first, last - 1, -1)
        if not known.issuperset(wanted):
            raise ScpiError(-222)
        found += wanted
    return found


def block(payload: bytes) -> bytes:
    """Wrap a payload as an IEEE 488.2 definite length block."""
    length = str(len(payload)).encode()
    return b"#%d%b%b" % (len(length), length, payload)


# --- the device -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Command:
    pattern: re.Pattern[str]
    on_set: SetHandler | None
    on_query: QueryHandler | None


class ScpiDevice:
    """The message exchange of one instrument.

    Args:
        identity: Answer to `*IDN?`.
        options: Answer to `*OPT?`.
        reset: What `*RST` does.
        trigger: What `*TRG` does.
    """

    def __init__(
        self, identity: str, *, options: str = "0", reset: Callable[[], None], trigger: Callable[[], None]
    ) -> None:
        self.errors: deque[int] = deque()
        self._event_status = 128  # power on
        self._event_enable = 0
        self._service_enable = 0
        self._commands: list[_Command] = []
        self._found: dict[str, _Command] = {}
        none: Args = []
        self.add("*IDN", on_query=lambda args: identity)
        self.add("*OPT", on_query=lambda args: options)
        self.add("*RST", on_set=lambda args: reset())
        self.add("*TRG", on_set=lambda args: trigger())
        self.add("*CLS", on_set=self._clear)
        self.add("*ESR", on_query=self._take_event_status)
        self.add("*ESE", on_set=self._enable_events, on_query=lambda args: str(self._event_enable))
        self.add("*SRE", on_set=self._enable_service, on_query=lambda args: str(self._service_enable))
        self.add("*STB", on_query=lambda args: str(self._status_byte()))
        self.add("*OPC", on_set=self._complete, on_query=lambda args: "1")
        self.add("*WAI", on_set=lambda args: none.clear())
        self.add("*TST", on_query=lambda args: "0")
        self.add("SYSTem:ERRor[:NEXT]", on_query=lambda args: self.next_error())
        self.add("SYSTem:VERSion", on_query=lambda args: "1999.0")

    def add(self, header: str, *, on_set: SetHandler | None = None, on_query: QueryHandler | None = None) -> None:
        """Add a command by its header in the notation of manuals: `[SOURce:]VOLTage[:LEVel]`."""
        self._commands.append(_Command(_compile(header), on_set, on_query))

    def push_error(self, code: int) -> None:
        """Put an error into the queue and its class into the event status register."""
        if len(self.errors) >= QUEUE_LENGTH:
            self.errors[-1] = -350
        else:
            self.errors.append(code)
        for lowest, bit in ((-199, 32), (-299, 16), (-399, 8), (-499, 4)):
            if code >= lowest:
                self._event_status |= bit
                break

    def next_error(self) -> str:
        """Take the oldest error from the queue, in the form of `SYST:ERR?`."""
        code = self.errors.popleft() if self.errors else 0
        return f'{code:+d},"{MESSAGES[code]}"'

    def execute(self, message: bytes) -> bytes:
        """Execute one program message without its terminator; return the response, empty if there is none.

        A command error drops the rest of the message, an execution error only its own unit.
        """
        try:
            units = _split(message.decode("ascii"), ";")
        except UnicodeDecodeError:
            self.push_error(-101)
            return b""
        replies: list[bytes] = []
        path = ""
        for unit in units:
            if not unit.strip():
                continue
            try:
                path, reply = self._execute_unit(unit.strip(), path)
            except ScpiError as error:
                self.push_error(error.code)
                if error.code > -200:
                    break
            else:
                if reply is not None:
                    replies.append(reply.encode() if isinstance(reply, str) else reply)
        return b";".join(replies) + b"\n" if replies else b""

    def _execute_unit(self, unit: str, path: str) -> tuple[str, Reply | None]:
        header, _, rest = unit.replace("\t", " ").partition(" ")
        query = header.endswith("?")
        name = header.removesuffix("?")
        if not name.startswith("*"):
            name = name[1:] if name.startswith(":") else path + name
            path = name[: name.rfind(":") + 1]
        command = self._lookup(name)
        args = [arg.strip() for arg in _split(rest, ",")] if rest.strip() else []
        if query:
            if command.on_query is None:
                raise ScpiError(-113)
            return path, command.on_query(args)
        if command.on_set is None:
            raise ScpiError(-113)
        command.on_set(args)
        return path, None

    def _lookup(self, name: str) -> _Command:
        name = name.upper()
        if name not in self._found:
            for command in self._commands:
                if command.pattern.fullmatch(name):
                    self._found[name] = command
                    break
            else:
                raise ScpiError(-113)
        return self._found[name]

    def _clear(self, args: Args) -> None:
        self.errors.clear()
        self._event_status = 0

    def _complete(self, args: Args) -> None:
        self._event_status |= 1

    def _take_event_status(self, args: Args) -> str:
        status, self._event_status = self._event_status, 0
        return str(status)

    def _enable_events(self, args: Args) -> None:
        self._event_enable = int(number(one(args), unit="", low=0, high=255))

    def _enable_service(self, args: Args) -> None:
        self._service_enable = int(number(one(args), unit="", low=0, high=255))

    def _status_byte(self) -> int:
        status = (4 if self.errors else 0) | (32 if self._event_status & self._event_enable else 0)
        return status | (64 if status & self._service_enable else 0)


def one(args: Args) -> str:
    """Return the only parameter. Raises `ScpiError` -109 or -108 if there are fewer or more."""
    return exactly(args, 1)[0]


def exactly(args: Args, count: int) -> Args:
    """Return the parameters if there are `count` of them. Raises `ScpiError` -109 or -108."""
    if len(args) != count:
        raise ScpiError(-109 if len(args) < count else -108)
    return args


def _compile(header: str) -> re.Pattern[str]:
    """Turn `[SOURce:]VOLTage[:LEVel]` into a pattern for headers in capitals."""
    escaped = header.replace("*", r"\*").replace("[", "(?:").replace("]", ")?")

    def forms(match: re.Match[str]) -> str:
        short, rest, suffix = match.groups()
        return f"(?:{short}(?:{rest.upper()})?{suffix})" if rest else short + suffix

    return re.compile(_NODE.sub(forms, escaped))


def _split(text: str, separator: str) -> list[str]:
    """Split at separators that are not inside quotes or parentheses."""
    parts = [""]
    depth, quote = 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter in "()":
            depth += 1 if letter == "(" else -1
        elif letter == separator and depth <= 0:
            parts.append("")
            continue
        parts[-1] += letter
    return parts
