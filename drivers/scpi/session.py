"""A SCPI dialogue over VISA, in one thread of its own, in which nothing waits past its deadline.

`ScpiSession` belongs to the event loop: `run` hands a function to the instrument's single thread and awaits it.
`Dialogue` belongs to that thread: the function talks through it, one command after the other.

pyvisa-py opens the resource and sends. Reading goes by the socket that pyvisa-py's session holds
(`visalib.sessions[...].interface`, both public names), for three reasons: its own read spins on a peer's end of file
until the timeout, its timeouts drop what came in so far, and it copies a block five times. This is sound as long as
nothing else reads, so nothing else does: strictly one query, then its answer.

A socket operation lasts 0.25 s at most; between two of them deadline and cancellation are looked at. After any error
in the dialogue the connection is closed, and the next use opens a new one: an answer that comes late finds nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
import pyvisa
from pyvisa.resources import MessageBasedResource

from drivers.api import (
    ConnectError,
    DeviceError,
    DeviceTimeoutError,
    DriverError,
    LimitError,
    NoReadingError,
    ProtocolError,
)
from drivers.scpi.numbers import parse_number

T = TypeVar("T")

SLICE_S = 0.25
"""Longest single socket operation, s."""
SILENCE_S = 3.0
"""Longest silence before or within an answer, s, whatever the deadline of the work."""
CONNECT_S = 1.0
_LINE_MAX = 65536
_HEADER_MAX = 11  # "#9" and nine digits
_HEADER = re.compile(rb"#$|#[1-9]")
_ERRORS_MAX = 64
_TRIES = 2
_RECEIVE_BUFFER = 1 << 22


class Dialogue:
    """The thread's side of a session: commands and answers, each within the deadline of the work in hand.

    Args:
        resource: VISA resource name of a raw socket, `TCPIP::<host>::<port>::SOCKET`.
        greet: Called with the dialogue after each connect, before anything else is said.
    """

    def __init__(self, resource: str, greet: Callable[[Dialogue], None]) -> None:
        self.resource = resource
        self._greet = greet
        self._visa: MessageBasedResource | None = None
        self._socket: socket.socket | None = None
        self._deadline = 0.0
        self._cancelled = threading.Event()

    @contextlib.contextmanager
    def within(self, deadline_s: float, cancelled: threading.Event) -> Iterator[None]:
        """Bound all that is said inside by a deadline [s from now] and by an event."""
        self._deadline = time.monotonic() + deadline_s
        self._cancelled = cancelled
        try:
            yield
        except (DeviceError, LimitError):
            raise  # the dialogue itself is in order
        except DriverError:
            self.close()
            raise
        except OSError as error:
            self.close()
            raise ConnectError(f"{self.resource}: the connection broke: {error}") from error
        except pyvisa.Error as error:
            self.close()
            raise ConnectError(f"{self.resource}: VISA failed: {error}") from error

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for the result of the work any more."""
        return self._cancelled.is_set()

    def close(self) -> None:
        """Close the connection; the next command opens a new one."""
        visa, self._visa, self._socket = self._visa, None, None
        if visa is not None:
            with contextlib.suppress(pyvisa.Error, OSError):
                visa.close()

    def write(self, command: str) -> None:
        """Send a command that has no answer. Raises `ConnectError`."""
        if self._visa is None:
            self._open()
        assert self._visa is not None
        self._visa.write(command)

    def ask(self, query: str) -> str:
        """Send a query and return its answer, one line without the terminator.

        Raises:
            ConnectError: the device cannot be reached or closed the connection.
            DeviceTimeoutError: no answer before the deadline.
            ProtocolError: the answer is not ASCII or too long.
        """
        self.write(query)
        line = bytearray()
        while not line.endswith(b"\n"):
            line += self._receive(4096, query)
            if len(line) > _LINE_MAX:
                raise ProtocolError(f"{self.resource}: {query}: answer of more than {_LINE_MAX} bytes in one line")
        if line.count(b"\n") > 1:
            raise ProtocolError(f"{self.resource}: {query}: two answers came: {bytes(line[:80])!r}")
        try:
            return line.decode("ascii").strip()
        except UnicodeDecodeError:
            raise ProtocolError(f"{self.resource}: {query}: answer is not ASCII: {bytes(line[:40])!r}") from None

    def ask_number(self, query: str) -> float:
        """Send a query and return its answer as a number; an answer that is none is asked for once more.

        Raises:
            NoReadingError: the second answer, too, says that there is no reading.
            ProtocolError: the second answer, too, is no number; or as `ask`.
            ConnectError, DeviceTimeoutError: as `ask`.
        """
        failure: DriverError
        for _ in range(_TRIES):
            answer = self.ask(query)
            try:
                value = parse_number(answer)
            except ValueError:
                failure = ProtocolError(f"{self.resource}: {query}: {answer!r} is not a number")
                continue
            if value is not None:
                return value
            failure = NoReadingError(f"{self.resource}: {query}: the device has no reading, it says {answer!r}")
        raise failure

    def ask_flags(self, query: str) -> int:
        """Send a query and return its answer as a non-negative integer. Raises as `ask`."""
        answer = self.ask(query)
        if not answer.lstrip("+").isdecimal():
            raise ProtocolError(f"{self.resource}: {query}: {answer!r} is not a register value")
        return int(answer)

    def ask_block(self, query: str) -> npt.NDArray[np.uint8]:
        """Send a query and return the payload of the definite length block that it answers. See `take_block`."""
        self.write(query)
        return self.take_block(query)

    def take_block(self, query: str) -> npt.NDArray[np.uint8]:
        """Return the payload of the definite length block that answers `query`, which was written before.

        Whoever does other work between the two must close the dialogue if that work fails: the answer would be taken
        for that of the next query.

        Returns:
            uint8 of shape (n,), aligned for any type, owned by the caller; received in place, without a copy.

        Raises:
            ConnectError, DeviceTimeoutError: as `ask`.
            ProtocolError: no definite length block, or more than one.
        """
        head = bytearray()
        start = 2
        while len(head) < start:
            head += self._receive(_HEADER_MAX - len(head), query)
            if not _HEADER.match(head):
                raise ProtocolError(f"{self.resource}: {query}: no definite length block: {bytes(head)!r}")
            if len(head) >= 2:
                start = 2 + head[1] - ord("0")
        if not head[2:start].isdigit():
            raise ProtocolError(f"{self.resource}: {query}: bad length in block header {bytes(head)!r}")
        length = int(head[2:start])
        message = np.empty(length + 1, np.uint8)
        early = len(head) - start
        if early > len(message):
            raise ProtocolError(f"{self.resource}: {query}: bytes after the end of the block")
        message[:early] = np.frombuffer(head, np.uint8, offset=start)
        self._receive_into(message.data[early:], query)
        if message[length] != ord("\n"):
            raise ProtocolError(f"{self.resource}: {query}: block is not followed by a line end")
        return message[:length]

    def take_errors(self) -> list[tuple[int, str]]:
        """Empty the device's error queue; return number and text of each entry, oldest first."""
        found: list[tuple[int, str]] = []
        while len(found) < _ERRORS_MAX:
            answer = self.ask("SYST:ERR?")
            number, _, text = answer.partition(",")
            try:
                code = int(number)
            except ValueError:
                raise ProtocolError(f"{self.resource}: SYST:ERR?: {answer!r} is no error entry") from None
            if code == 0:
                return found
            found.append((code, text.strip('"')))
        raise ProtocolError(f"{self.resource}: the error queue does not get empty: {found[0]}")

    def raise_errors(self, during: str) -> None:
        """Raise `DeviceError` with all that the error queue holds, if it holds anything."""
        errors = self.take_errors()
        if errors:
            listed = "; ".join(f'{code} "{text}"' for code, text in errors)
            raise DeviceError(f"{self.resource}: {during}: {listed}")

    def command(self, *commands: str) -> None:
        """Send commands, then see that none of them is in the error queue. Raises `DeviceError`."""
        for command in commands:
            self.write(command)
        self.raise_errors("; ".join(commands))

    def _open(self) -> None:
        manager = pyvisa.ResourceManager("@py")
        try:
            visa = manager.open_resource(
                self.resource,
                open_timeout=int(CONNECT_S * 1000),
                timeout=int(SLICE_S * 1000),
                read_termination="\n",
                write_termination="\n",
            )
        except Exception as error:  # pyvisa-py raises bare Exception for a socket that does not connect
            raise ConnectError(f"{self.resource}: cannot be opened: {error}") from error
        # A connect to a closed port "succeeds" in pyvisa-py; the first exchange, in `greet`, finds it out.
        self._visa = cast(MessageBasedResource, visa)
        link = cast(Any, manager.visalib).sessions[self._visa.session].interface
        if not isinstance(link, socket.socket):
            raise ConnectError(f"{self.resource}: only TCPIP::<host>::<port>::SOCKET resources are supported")
        link.settimeout(SLICE_S)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        self._socket = link
        self._greet(self)

    def _receive(self, most: int, query: str) -> bytes:
        buffer = bytearray(most)
        return bytes(buffer[: self._receive_some(memoryview(buffer), query)])

    def _receive_into(self, view: memoryview, query: str) -> None:
        while len(view):
            view = view[self._receive_some(view, query) :]

    def _receive_some(self, view: memoryview, query: str) -> int:
        assert self._socket is not None
        until = min(self._deadline, time.monotonic() + SILENCE_S)
        while True:
            try:
                count = self._socket.recv_into(view)
            except TimeoutError:
                count = -1
            if count == 0:
                raise ConnectError(f"{self.resource}: the device closed the connection during {query}")
            if self._cancelled.is_set():
                raise DeviceTimeoutError(f"{self.resource}: {query} was given up")
            if time.monotonic() >= until:
                raise DeviceTimeoutError(f"{self.resource}: no whole answer to {query} in time")
            if count > 0:
                return count


class ScpiSession:
    """The event loop's side of a session: work for the instrument's thread, one piece at a time.

    Args:
        resource: VISA resource name of a raw socket.
        greet: Called in the thread after each connect; what it raises is raised by the work that needed the connection.
    """

    def __init__(self, resource: str, greet: Callable[[Dialogue], None]) -> None:
        self.resource = resource
        self._dialogue = Dialogue(resource, greet)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"scpi:{resource}")
        self._closed = False

    async def run(self, work: Callable[[Dialogue], T], *, deadline_s: float = 5.0) -> T:
        """Let the instrument's thread do `work` and return its result.

        A cancelled `run` makes the work stop at its next socket operation and waits until it has, so that the thread
        is free again.

        Args:
            work: Talks through the dialogue.
            deadline_s: For all that `work` says, from when its turn has come.

        Raises:
            DriverError: what went wrong; unless the device itself reported it, the connection has been closed.
            ConnectError: also after `close`: others may still hold a device that was given up.
        """
        if self._closed:
            raise ConnectError(f"{self.resource}: the session was closed")
        cancelled = threading.Event()

        def bounded() -> T:
            with self._dialogue.within(deadline_s, cancelled):
                return work(self._dialogue)

        job = asyncio.get_running_loop().run_in_executor(self._thread, bounded)
        try:
            return await asyncio.shield(job)
        except asyncio.CancelledError:
            cancelled.set()
            await asyncio.wait([job])
            if not job.cancelled():
                job.exception()  # nobody waits for it any more
            raise

    async def close(self) -> None:
        """Close the connection and end the thread."""
        self._closed = True
        await asyncio.get_running_loop().run_in_executor(self._thread, self._dialogue.close)
        self._thread.shutdown()
