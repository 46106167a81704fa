"""labd's own timestamper: reports edges of 16 pins with its own clock over a serial line.

The line protocol is docs/reference/timestamper.md. Whatever could mean that an edge was missed, a damaged line or a
hole in the running numbers, ends every open watch with `EdgesLostError`: a window is never built from edges that may
be incomplete.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, field_validator

from drivers.api import (
    Capability,
    ConnectError,
    DeviceError,
    DeviceTimeoutError,
    DriverError,
    Edge,
    EdgesLostError,
    Identity,
    Level,
    ProtocolError,
    Role,
    SerialLine,
)
from drivers.serial.line import open_port
from drivers.timestamp.messages import CAPABILITY, checked_text, parse_declaration, parse_edge, parse_status

ANSWER_S = 2.0
"""The device answers at once; this covers a busy host."""

QUEUE_LIMIT = 65_536
"""Edges kept for a watch whose reader does not come."""

PIN_MAX = 63
"""Above every pin of the boards that timestampers are made of."""

LINE_LIMIT = 512
"""Bytes without a line end that no line of the protocol reaches."""


class TimestamperOptions(BaseModel):
    """Keys of a timestamper in `lab.toml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    port: str = Field(min_length=1)
    pulse_pins: tuple[int, ...] = CAPABILITY.pulse_pins
    """Pins on which this device can put out pulses, where it has more than every one of its class."""

    @field_validator("pulse_pins")
    @classmethod
    def _pins_of_a_board(cls, pins: tuple[int, ...]) -> tuple[int, ...]:
        if wrong := sorted({pin for pin in pins if not 0 <= pin <= PIN_MAX}):
            raise ValueError(f"no board has the pins {', '.join(map(str, wrong))}: they are 0 to {PIN_MAX}")
        if len(set(pins)) < len(pins):
            raise ValueError("a pin is named twice")
        return pins


@dataclass(frozen=True, slots=True)
class _Answer:
    """What the device answered, and the number of the edge that was due when the answer came in.

    The two belong together: by the time that whoever asked reads the answer, more edges may have come.
    """

    text: str
    due: int | None


class _Watch:
    """The edges of some pins, queued for one reader."""

    def __init__(self, pins: frozenset[int], limit: int) -> None:
        self.pins = pins
        self._limit = limit
        self._edges: deque[Edge] = deque()
        self._error: DriverError | None = None
        self._news = asyncio.Event()

    def put(self, edge: Edge) -> None:
        if self._error is not None:
            return
        if len(self._edges) >= self._limit:
            self.fail(EdgesLostError(f"over {self._limit} edges of pins {sorted(self.pins)} were waiting to be read"))
            return
        self._edges.append(edge)
        self._news.set()

    def fail(self, error: DriverError) -> None:
        self._error = self._error or error
        self._news.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Edge:
        while not self._edges and self._error is None:
            self._news.clear()
            await self._news.wait()
        if self._edges or self._error is None:
            return self._edges.popleft()
        raise _again(self._error)


def _again(error: DriverError) -> DriverError:
    """Return an error for one more raise: one instance raised twice would collect the tracebacks of both."""
    repeated = type(error)(str(error))
    repeated.__cause__ = error
    return repeated


class Timestamper:
    """One open device; made by `open_timestamper`. Serves `EdgeSource` and `Instrument`.

    Args:
        line: Open line to the device.
        where: Its port, for messages.
        answer_s: Deadline of an answer.
        queue_limit: Edges kept for a watch.
    """

    def __init__(self, line: SerialLine, where: str, *, answer_s: float, queue_limit: int) -> None:
        self._line = line
        self._where = where
        self._answer_s = answer_s
        self._queue_limit = queue_limit
        self._turn = asyncio.Lock()
        self._answer: asyncio.Future[_Answer] | None = None
        self._unwanted = 0
        self._watches: list[_Watch] = []
        self._failure: DriverError | None = None
        self._sequence: int | None = None
        self._dropped = 0
        self._pins: frozenset[int] = frozenset()
        self._pulse_pins: frozenset[int] = frozenset()
        self._rests: dict[int, Level] = {}
        self.identity = Identity(maker="", model="", serial="", firmware="")
        self.tick_rate_hz = 0.0
        self.clock_ppm = 0.0

    async def handshake(self) -> None:
        """Learn who answers, and stop reports that an earlier host left on. Raises `ConnectError`."""
        try:
            declared = parse_declaration((await self._ask("id", "id ")).text, self._where)
            await self._ask("start 0x0", "ok start 0x0")
            await self._compare()  # what was lost before concerns nobody here
        except ConnectError:
            raise
        except DriverError as error:
            raise ConnectError(f"{self._where}: no labd timestamper answers: {error}") from error
        self.identity = declared.identity
        self.tick_rate_hz = declared.tick_rate_hz
        self.clock_ppm = declared.clock_ppm
        self._pins = declared.pins
        self._pulse_pins = declared.pulse_pins

    def need_pulse_pins(self, pins: frozenset[int]) -> None:
        """Refuse a device that has not all of these pulse pins. Raises `ConnectError`."""
        if missing := pins - self._pulse_pins:
            raise ConnectError(
                f"{self._where}: pins {sorted(missing)} put out no pulses, {sorted(self._pulse_pins)} do: correct "
                "pulse_pins in lab.toml"
            )

    @asynccontextmanager
    async def watch(self, pins: frozenset[int]) -> AsyncIterator[AsyncIterator[Edge]]:
        """Report the edges of `pins` from now on, in order, until the block is left.

        Several watches may be open, of different pins each. After an error the iterator goes on raising it.

        Args:
            pins: At least one of the device's pins that no other watch has.

        Raises:
            DeviceError: a pin does not exist or is watched already.
            EdgesLostError: from the iterator, when an edge may have been missed.
            LineClosedError: from the iterator, when the device has gone.
        """
        if not pins or not pins <= self._pins:
            raise DeviceError(f"{self._where}: pins {sorted(pins)} are not among its {len(self._pins)} pins")
        if taken := pins & self._watched():
            raise DeviceError(f"{self._where}: pins {sorted(taken)} are watched already")
        await self._compare()  # what was lost before concerns the older watches only
        watch = _Watch(pins, self._queue_limit)
        self._watches.append(watch)
        try:
            await self._report()
            yield watch
        finally:
            self._watches.remove(watch)
            if self._failure is None:
                await self._report()

    async def idle(self, pin: int, level: Level) -> None:
        """Let a pulse pin rest at `level`. See `EdgeSource.idle`.

        Raises:
            DeviceError: it has no such pulse pin, or refused.
        """
        self._check_pulse_pin(pin)
        await self._ask(f"idle {pin} {level:d}", f"ok idle {pin} {level:d}")
        self._rests[pin] = level

    async def pulse(self, pin: int, width_s: float, active: Level = Level.HIGH) -> None:
        """Put out one pulse. See `EdgeSource.pulse`.

        Args:
            pin: A pulse pin of the device.
            width_s: Width, s; rounded to a whole µs, from 1 µs to 1 s.
            active: Level of the pulse.

        Raises:
            DeviceError: it has no such pulse pin, the width or the level cannot be had, or the device refused.
        """
        self._check_pulse_pin(pin)
        shortest_s, longest_s = CAPABILITY.width_s
        width_us = round(width_s * 1e6)
        if not round(shortest_s * 1e6) <= width_us <= round(longest_s * 1e6):
            raise DeviceError(
                f"{self._where}: a pulse of {width_s:g} s is not between {shortest_s:g} and {longest_s:g} s"
            )
        if pin not in self._rests:
            await self.idle(pin, active.opposite)
        if self._rests[pin] == active:
            raise DeviceError(f"{self._where}: pin {pin} rests {active.word}, so a {active.word} pulse is none")
        await self._ask(f"pulse {pin} {width_us}", f"ok pulse {pin}")

    def _check_pulse_pin(self, pin: int) -> None:
        if pin not in self._pulse_pins:
            raise DeviceError(f"{self._where}: pin {pin} puts out no pulses, {sorted(self._pulse_pins)} do")

    async def settle(self) -> int:
        """Return the clock, in ticks, once every edge that the device had seen before the call is in its watch.

        Raises:
            EdgesLostError: some of them never came; the watches raise it too.
        """
        now, lost = await self._compare()
        if lost:
            raise lost
        return now

    async def check(self) -> None:
        """Talk to the device once. Raises `EdgesLostError` if edges were lost since it was last asked."""
        await self.settle()

    async def listen(self) -> None:
        """Take in what the device sends until the line is gone; runs as a task beside all else."""
        buffer = bytearray()
        try:
            while True:
                *lines, rest = (bytes(buffer) + await self._line.read()).split(b"\n")
                buffer[:] = rest
                for line in lines:
                    self._take(line)
                if len(buffer) > LINE_LIMIT:
                    raise ProtocolError(
                        f"{self._where}: {len(buffer)} bytes without a line end: {bytes(buffer[:40])!r}"
                    )
        except DriverError as error:
            self._fail(error)

    def _take(self, line: bytes) -> None:
        text = checked_text(line)
        if text is None:
            self._sequence = None  # it may have been an edge: counting starts anew with the next
            self._fail_watches(EdgesLostError(f"{self._where}: a line was damaged: {line[:80]!r}"))
        elif edge := parse_edge(text):
            self._take_edge(edge)
        elif self._unwanted:
            self._unwanted -= 1
        elif self._answer is not None and not self._answer.done():
            self._answer.set_result(_Answer(text, self._sequence))
        else:
            raise ProtocolError(f"{self._where}: nothing was asked, and it said {text!r}")

    def _take_edge(self, edge: Edge) -> None:
        expected = self._sequence
        self._sequence = edge.sequence + 1
        if expected is not None and edge.sequence != expected:
            self._fail_watches(
                EdgesLostError(f"{self._where}: edge {edge.sequence} came where {expected} was due: some were lost")
            )
        for watch in self._watches:
            if edge.pin in watch.pins:
                watch.put(edge)

    def _watched(self) -> frozenset[int]:
        return frozenset(pin for watch in self._watches for pin in watch.pins)

    async def _report(self) -> None:
        """Tell the device which pins to report: those that are watched now."""
        mask = sum(1 << pin for pin in self._watched())
        await self._ask(f"start {mask:#x}", f"ok start {mask:#x}")

    async def _compare(self) -> tuple[int, EdgesLostError | None]:
        """Compare the device's count of edges with ours; tell the watches of a difference and return it as an error.

        The answer comes behind all edges that were seen before it, so this also finds a last edge that got lost.
        With it comes what the device's clock read when it answered, in ticks.
        """
        answer = await self._ask("status", "status ")
        status = parse_status(answer.text, self._where)
        sequence, dropped = status.sequence, status.dropped
        lost = None
        if dropped != self._dropped:
            lost = EdgesLostError(f"{self._where}: dropped {dropped - self._dropped} edges")
        elif answer.due is not None and sequence != answer.due:
            lost = EdgesLostError(f"{self._where}: {sequence - answer.due} edges that it saw never came")
        if self._sequence == answer.due:  # else edges have come since, and have set it
            self._sequence = sequence
        self._dropped = dropped
        if lost:
            self._fail_watches(lost)
        return status.now_ticks, lost

    async def _ask(self, command: str, expected: str) -> _Answer:
        """Send one command and return its answer, which starts with `expected`.

        A device that does not answer in time is given up: its late answer would be taken for the next one.
        """
        async with self._turn:
            if self._failure is not None:
                raise _again(self._failure)
            with self._pending() as pending:
                try:
                    async with asyncio.timeout(self._answer_s):
                        await self._line.write(f"{command}\n".encode("ascii"))
                        answer = await pending
                except TimeoutError as error:
                    late = DeviceTimeoutError(f"{self._where}: no answer to {command!r} within {self._answer_s} s")
                    self._fail(late)
                    raise late from error
                except asyncio.CancelledError:
                    if pending.cancelled() or not pending.done():
                        self._unwanted += 1  # the device serves other boards too: only this answer is given up
                    raise
        if answer.text.startswith("err "):
            raise DeviceError(f"{self._where}: refused {command!r}: {answer.text.removeprefix('err ')}")
        if not answer.text.startswith(expected):
            raise ProtocolError(f"{self._where}: answered {answer.text!r} to {command!r}")
        return answer

    @contextmanager
    def _pending(self) -> Iterator[asyncio.Future[_Answer]]:
        self._answer = asyncio.get_running_loop().create_future()
        try:
            yield self._answer
        finally:
            self._answer.cancel()
            self._answer = None

    def _fail(self, error: DriverError) -> None:
        """Nothing can be had from the device any more: tell everybody who waits."""
        self._failure = self._failure or error
        self._fail_watches(error)
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)

    def _fail_watches(self, error: DriverError) -> None:
        for watch in self._watches:
            watch.fail(error)


@asynccontextmanager
async def open_timestamper(
    port: str,
    *,
    pulse_pins: frozenset[int] = frozenset(),
    answer_s: float = ANSWER_S,
    queue_limit: int = QUEUE_LIMIT,
) -> AsyncIterator[Timestamper]:
    """Connect to the device at `port`.

    Args:
        port: Path of its serial port.
        pulse_pins: Pins that it must be able to put out pulses on, beside those of every device of its class.
        answer_s: Deadline of each of its answers.
        queue_limit: Edges kept for a watch whose reader does not come.

    Raises:
        ConnectError: nothing is there, or no timestamper of this protocol version, or one with fewer pulse pins.
    """
    async with open_port(port, 115200) as line:  # a USB device: the rate does not matter
        device = Timestamper(line, port, answer_s=answer_s, queue_limit=queue_limit)
        listener = asyncio.create_task(device.listen(), name=f"timestamper {port}")
        try:
            await device.handshake()
            device.need_pulse_pins(pulse_pins)
            yield device
        finally:
            listener.cancel()
            await asyncio.wait([listener])
            if not listener.cancelled():
                listener.result()  # a fault of this driver, if any, is not lost


class TimestamperDriver:
    """Opens a labd timestamper."""

    name = "labd-timestamper"
    roles = frozenset({Role.EDGES})
    options: type[BaseModel] = TimestamperOptions

    def capability(self, options: TimestamperOptions) -> Capability:
        """Return what every device of the class guarantees, and the pulse pins that this one is said to have."""
        return Capability(edges=replace(CAPABILITY, pulse_pins=options.pulse_pins))

    def open(self, options: TimestamperOptions) -> AbstractAsyncContextManager[Timestamper]:
        """Connect and check the protocol's version. Raises `ConnectError`."""
        return open_timestamper(options.port, pulse_pins=frozenset(options.pulse_pins))


DRIVER = TimestamperDriver()
