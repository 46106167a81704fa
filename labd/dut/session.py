"""The dialogue with one board: a command goes out, its reply comes in before a deadline, or an error says why not.

One command is outstanding at a time. What is noise is counted, never guessed at: a query that changes nothing is asked
once more after noise, an inference never is, for its window cannot be had back.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar

import structlog

from drivers.api import DriverError, SerialLine
from labd.dut.errors import DutLineError, DutProtocolError, DutRebootedError, DutRefusedError, DutSilentError
from labd.dut.protocol import (
    BootMode,
    ErrorReply,
    Event,
    Expecting,
    Garbage,
    Heard,
    InferDone,
    InferStart,
    InitDone,
    LoadDone,
    Model,
    Name,
    Other,
    Parser,
    Profile,
    Ready,
    Results,
    Timestamp,
    TimestampMode,
    WarmupStart,
    encode_command,
    load_commands,
)

REPLY_LINES = 1000
"""A reply of more lines is a board that babbles; the longest real one, `infer`, has eight."""

EventT = TypeVar("EventT", bound=Event)
AnswerT = TypeVar("AnswerT")


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long a board may take, on the host's monotonic clock.

    Args:
        boot_s: From the call of `boot` to the board's first `m-ready`.
        reply_s: From a command to the `m-ready` of its reply, where the board does no work.
    """

    boot_s: float = 5.0
    reply_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the board says it is; empty where its firmware does not say. The model always is there."""

    vendor: str
    profile: str
    model: str


@dataclass(frozen=True, slots=True)
class InferResult:
    """What the board said about one window.

    Args:
        results: The model's outputs for the input loaded.
        lap_us: Lap counter at the window's start and end, µs; None from firmware that marks them on the timing pin.
        lines: The reply as it came, noise escaped.
        garbage_bytes: Bytes of the reply that were noise.
    """

    results: tuple[float, ...]
    lap_us: tuple[int, int] | None
    lines: tuple[str, ...]
    garbage_bytes: int


@dataclass(frozen=True, slots=True)
class _Reply:
    """All that was heard from a command to its `m-ready`."""

    command: str
    heard: tuple[Heard, ...]

    @property
    def lines(self) -> tuple[str, ...]:
        return tuple(item.line for item in self.heard)

    @property
    def garbage_bytes(self) -> int:
        return sum(len(item.event.data) for item in self.heard if isinstance(item.event, Garbage))

    def all(self, kind: type[EventT]) -> list[EventT]:
        return [item.event for item in self.heard if isinstance(item.event, kind)]

    def one(self, kind: type[EventT]) -> EventT:
        """Return the only event of this kind. Raises `DutProtocolError` if there is none or more than one."""
        found = self.all(kind)
        if len(found) != 1:
            raise DutProtocolError(
                f"the reply to {self.command!r} has {len(found)} lines of kind {kind.__name__}, not 1: {self.lines!r}"
            )
        return found[0]


class DutSession:
    """Speaks to one board over an open line, which stays the caller's.

    Args:
        line: Byte pipe to the board; opening it has not reset the board.
        deadlines: How long the board may take.
    """

    def __init__(self, line: SerialLine, deadlines: Deadlines | None = None) -> None:
        self._line = line
        self._deadlines = deadlines or Deadlines()
        self._parser = Parser()
        self._heard: deque[Heard] = deque()
        self._turn = asyncio.Lock()
        self._log = structlog.get_logger()
        self.garbage_bytes = 0
        """Bytes of noise since the session began."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._log.debug("dut_session_ended", garbage_bytes=self.garbage_bytes, unfinished=repr(self._parser.pending))

    async def boot(self) -> TimestampMode | None:
        """Wait until the board is ready, from its reset or because it was up already.

        Returns:
            The mode in the boot banner; None if the banner was missed, so that the mode is not known.

        Raises:
            DutSilentError: it neither booted nor answered.
            DutError: see the branches in `labd.dut.errors`.
        """
        async with self._turn:
            until = asyncio.get_running_loop().time() + self._deadlines.boot_s
            mode: TimestampMode | None = None
            lines = 0
            try:
                while True:
                    event = (await self._next("boot", until)).event
                    lines += 1
                    if isinstance(event, BootMode):
                        mode = event.mode
                    elif isinstance(event, Ready):
                        return mode
                    if lines > REPLY_LINES:
                        raise DutProtocolError(f"the board printed over {REPLY_LINES} lines and never 'm-ready'")
            except DutSilentError:
                if mode is not None:  # it began to boot and hung
                    raise
        await self._query(self._name)
        return None

    async def identify(self) -> Identity:
        """Ask the board for its name and profile. Raises `DutError`; `DutProtocolError` if it names no model."""
        vendor = await self._query(self._name)
        profile, model = await self._query(self._profile)
        return Identity(vendor=vendor, profile=profile, model=model)

    async def load(self, data: bytes) -> None:
        """Fill the board's input buffer.

        Args:
            data: One input as the benchmark defines it, at least one byte.

        Raises:
            DutRefusedError: the board's buffer is smaller, or it refused a part.
            DutError: see the branches in `labd.dut.errors`.
        """
        start, *parts = load_commands(data)
        reply = await self._ask(start)
        if not reply.all(Expecting):
            # An input that is too large is answered in plain text, without `e-`.
            raise DutRefusedError(start, " ".join(item.line for item in reply.heard if isinstance(item.event, Other)))
        if (asked := reply.one(Expecting).n) != len(data):
            raise DutProtocolError(f"the board expects {asked} bytes after {start!r}")
        for part in parts:
            reply = await self._ask(part)
        reply.one(LoadDone)

    async def infer(self, n: int, warmups: int, *, deadline_s: float) -> InferResult:
        """Run one window of `n` inferences on the input loaded.

        Args:
            n: Inferences in the window, at least 1.
            warmups: Untimed inferences before it.
            deadline_s: How long all of it may take, warm-ups included. That the board starts at all is seen earlier:
                its first marker has to come within `reply_s`.

        Raises:
            DutSilentError: it did not start, or did not end in time.
            DutProtocolError: a marker, a timestamp or the results are missing or do not fit the command.
            DutError: see the branches in `labd.dut.errors`.
        """
        reply = await self._ask(f"infer {n} {warmups}", deadline_s=deadline_s, marker=WarmupStart)
        if (started := reply.one(InferStart).n) != n:
            raise DutProtocolError(f"the board ran {started} inferences after {reply.command!r}")
        results = reply.all(Results)
        if not results and reply.garbage_bytes:
            values = await self.results()  # the board keeps them: what noise took can be asked for again
        else:
            values = reply.one(Results).values
        return InferResult(values, _laps(reply), reply.lines, reply.garbage_bytes)

    async def results(self) -> tuple[float, ...]:
        """Ask once more for the outputs of the last inference. Raises `DutError`."""
        return await self._query(self._results)

    async def timestamp(self) -> int | None:
        """Make the board mark this moment. Returns its lap counter, µs; None if it marks the timing pin instead."""
        stamps = (await self._ask("timestamp")).all(Timestamp)
        return stamps[0].us if stamps else None

    async def _name(self) -> str:
        names = (await self._ask("name")).all(Name)
        return names[0].vendor if names else ""

    async def _profile(self) -> tuple[str, str]:
        reply = await self._ask("profile")
        profiles = reply.all(Profile)
        return profiles[0].text if profiles else "", reply.one(Model).model

    async def _results(self) -> tuple[float, ...]:
        return (await self._ask("results")).one(Results).values

    async def _query(self, ask: Callable[[], Awaitable[AnswerT]]) -> AnswerT:
        """Ask what changes nothing on the board; once more if noise was heard while it failed."""
        before = self.garbage_bytes
        try:
            return await ask()
        except (DutRefusedError, DutSilentError, DutProtocolError) as error:
            if self.garbage_bytes == before:
                raise
            self._log.warning("dut_query_repeated", reason=str(error))
        return await ask()

    async def _ask(self, command: str, *, deadline_s: float | None = None, marker: type[Event] | None = None) -> _Reply:
        """Send one command and return its whole reply.

        Args:
            command: The command without its `%`.
            deadline_s: For the whole reply; `reply_s` if None.
            marker: First line of a long reply, due within `reply_s`.
        """
        allowed_s = self._deadlines.reply_s if deadline_s is None else deadline_s
        async with self._turn:
            begun = asyncio.get_running_loop().time()
            until = begun + (allowed_s if marker is None else min(allowed_s, self._deadlines.reply_s))
            await self._send(command, until)
            heard: list[Heard] = []
            while True:
                item = await self._next(command, until)
                heard.append(item)
                match item.event:
                    case Ready():
                        return _Reply(command, tuple(heard))
                    case ErrorReply(text=text):
                        await self._finish(command, until)
                        raise DutRefusedError(command, text)
                    case BootMode() | InitDone():
                        raise DutRebootedError(
                            f"the board reset itself while it had to answer {command!r}",
                            remedy="look at its supply: a brown-out does this",
                        )
                if marker is not None and isinstance(item.event, marker):
                    until = begun + allowed_s
                if len(heard) > REPLY_LINES:
                    raise DutProtocolError(
                        f"the board answered {command!r} with over {REPLY_LINES} lines and never 'm-ready'"
                    )

    async def _finish(self, command: str, until: float) -> None:
        """Take the rest of a refusal, so that its `m-ready` is not read as the next command's."""
        try:
            for _ in range(REPLY_LINES):
                if isinstance((await self._next(command, until)).event, Ready):
                    return
        except DutSilentError as error:
            # The refusal itself is what the caller has to hear about.
            self._log.warning("dut_refusal_unfinished", command=command, reason=str(error))

    async def _send(self, command: str, until: float) -> None:
        try:
            async with asyncio.timeout_at(until):
                await self._line.write(encode_command(command))
        except TimeoutError as error:
            raise DutSilentError(f"the line to the board took nothing of {command!r} in time") from error
        except DriverError as error:
            raise DutLineError(f"the line to the board failed on {command!r}: {error}") from error

    async def _next(self, command: str, until: float) -> Heard:
        """Return the next line; `until` is in the loop's monotonic time."""
        loop = asyncio.get_running_loop()
        while not self._heard:
            if loop.time() >= until:  # a line that never lets the loop run would never time out by itself
                raise self._silent(command)
            try:
                async with asyncio.timeout_at(until):
                    data = await self._line.read()
            except TimeoutError as error:
                raise self._silent(command) from error
            except DriverError as error:
                raise DutLineError(f"the line to the board failed on {command!r}: {error}") from error
            self._heard.extend(self._parser.feed(data))
        item = self._heard.popleft()
        if isinstance(item.event, Garbage):
            self.garbage_bytes += len(item.event.data)
            self._log.warning("dut_garbage_received", command=command, size=len(item.event.data), data=item.line[:80])
        return item

    def _silent(self, command: str) -> DutSilentError:
        pending = self._parser.pending
        unfinished = f", only {pending[:40]!r} without a line end" if pending else ""
        return DutSilentError(
            f"no 'm-ready' in time after {command!r}{unfinished}",
            remedy="check power, wiring and baud rate of the board",
        )


def _laps(reply: _Reply) -> tuple[int, int] | None:
    """Return the two timestamps between the markers of a window. Raises `DutProtocolError` for one or three."""
    events = [item.event for item in reply.heard]
    opened, closed = events.index(reply.one(InferStart)), events.index(reply.one(InferDone))
    match [event.us for event in events[opened:closed] if isinstance(event, Timestamp)]:
        case []:
            return None
        case [first, second]:
            return first, second
        case laps:
            raise DutProtocolError(f"{len(laps)} timestamps in the window of {reply.command!r}, not 2")
