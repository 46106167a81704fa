"""A rack of the barest kind for one native board: speaks the link of docs/reference/native-link.md over two pipes."""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from labd.virtual.link import Activity, FrameReader, Kind
from labd.virtual.link import frame as link_frame
from tests.deadline import HUNG_S

CLOCK_HZ = 80_000_000
ERRORS_ARE_FATAL = {"ASAN_OPTIONS": "exitcode=99", "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1"}


@dataclass(frozen=True)
class Frame:
    cycle: int
    kind: Kind
    a: int
    b: int
    c: int


def text_of(frames: list[Frame]) -> str:
    """What the board sent on its UART."""
    return bytes(frame.a for frame in frames if frame.kind is Kind.TX).decode("ascii")


def lines_of(frames: list[Frame]) -> list[str]:
    """The lines of a whole reply; each ends in CR LF."""
    text = text_of(frames)
    assert text.endswith("\r\n")
    lines = text.split("\r\n")[:-1]
    assert not any("\r" in line or "\n" in line for line in lines)
    return lines


def falling_edges(frames: list[Frame]) -> list[int]:
    """Cycles at which the timing pin went low."""
    return [frame.cycle for frame in frames if frame.kind is Kind.PIN and frame.b == 0]


def spent(frames: list[Frame], until: int) -> dict[Activity, int]:
    """Cycles by activity from the first activity frame to cycle `until`."""
    changes = [frame for frame in frames if frame.kind is Kind.ACTIVITY]
    ends = [*(frame.cycle for frame in changes[1:]), until]
    totals: dict[Activity, int] = {}
    for frame, end in zip(changes, ends, strict=True):
        activity = Activity(frame.a)
        totals[activity] = totals.get(activity, 0) + end - frame.cycle
    return totals


class NativeBoard:
    """A running image. `boot` holds the frames from power-on to the first wait for a command."""

    def __init__(self, image: Path) -> None:
        self._process = subprocess.Popen(
            [image],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **ERRORS_ARE_FATAL},
        )
        self.baud = 0
        self.boot = self._read_waits(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def send(self, data: bytes, pause_s: float = 0.001) -> list[Frame]:
        """Put bytes on the line, `pause_s` of board time after it fell asleep; return all frames until it sleeps again.

        The bytes follow each other at the line's rate.
        """
        start = self._asleep_at + round(pause_s * CLOCK_HZ)
        spacing = 10 * CLOCK_HZ // self.baud
        raw = b"".join(link_frame(Kind.RX, start + i * spacing, byte) for i, byte in enumerate(data))
        self.write(raw)
        return self._read_waits(len(data))

    def ask(self, command: str) -> list[str]:
        """Send one command and return the lines of its reply."""
        return lines_of(self.send(command.encode("latin-1") + b"%"))

    def load(self, data: bytes) -> None:
        """Download an input."""
        assert self.ask(f"db load {len(data)}") == [f"m-[Expecting {len(data)} bytes]", "m-ready"]
        pieces = [data[at : at + 31] for at in range(0, len(data), 31)]
        for piece in pieces[:-1]:
            assert self.ask(f"db {piece.hex()}") == ["m-ready"]
        assert self.ask(f"db {pieces[-1].hex()}") == ["m-load-done", "m-ready"]

    def write(self, raw: bytes) -> None:
        """Put raw bytes on the board's standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(raw)
        self._process.stdin.flush()

    def power_off(self) -> tuple[int, str]:
        """Close the link and return the exit code and what stood on standard error."""
        _, errors = self._process.communicate(timeout=HUNG_S)
        return self._process.returncode, errors.decode()

    def _read_waits(self, count: int) -> list[Frame]:
        frames: list[Frame] = []
        for told in self._frames():
            frames.append(told)
            if told.kind is Kind.BAUD:
                self.baud = told.c
            if told.kind is Kind.WAIT:
                self._asleep_at = told.cycle
                count -= 1
                if count == 0:
                    return frames
        raise AssertionError(f"the board ended: {self.power_off()}")

    def _frames(self) -> Iterator[Frame]:
        """Frames as they come; the board writes nothing after the last wait that is waited for."""
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        deadline = time.monotonic() + HUNG_S
        reader = FrameReader()
        while True:
            ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise AssertionError("the board said nothing before the deadline")
            read = os.read(descriptor, 1 << 16)
            if not read:
                return
            for row in reader.feed(read):
                yield Frame(int(row["cycle"]), Kind(row["kind"]), int(row["a"]), int(row["b"]), int(row["c"]))
