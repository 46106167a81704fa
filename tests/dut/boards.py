"""Boards in memory: one behaves as the firmware does, with faults by name; one replays a real dialogue."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from drivers.api import LineClosedError
from tests.dut.reference_sessions import Exchange

READY = "m-ready"


class MemoryLine:
    """A `SerialLine` whose far end is `hear`."""

    def __init__(self) -> None:
        self._arrived: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._command = bytearray()
        self.commands: list[str] = []
        self.chunk = 0

    async def write(self, data: bytes) -> None:
        for byte in data:
            if byte != ord("%"):
                self._command.append(byte)
                continue
            command = self._command.decode("ascii")
            self._command.clear()
            self.commands.append(command)
            self.hear(command)

    async def read(self) -> bytes:
        data = await self._arrived.get()
        if data is None:
            self._arrived.put_nowait(None)
            raise LineClosedError("the board was unplugged")
        return data

    async def set_baud(self, baud: int) -> None:
        return

    def hear(self, command: str) -> None:
        raise NotImplementedError

    def send(self, data: bytes) -> None:
        """Put bytes on the wire, in pieces if `chunk` says so."""
        step = self.chunk or len(data)
        for start in range(0, len(data), step):
            self._arrived.put_nowait(data[start : start + step])

    def say(self, lines: Iterable[str]) -> None:
        self.send("".join(f"{line}\r\n" for line in lines).encode())

    def unplug(self) -> None:
        self._arrived.put_nowait(None)


class Board(MemoryLine):
    """Firmware of model `kws01` with a buffer of 64 bytes.

    Faults, by command name, happen once: `silent`, `noise` (an 0xFF ahead of the reply), `torn` (an 0xFF inside the
    lines that matter), `reboot`, `refuse`, `babble` (lines without end), `unplug`, `no_stop` (an inference that starts
    and never ends), `lost_lap` (one timestamp less), `lost_results`.
    """

    def __init__(self, mode: str = "performance", **faults: str) -> None:
        super().__init__()
        self.mode = mode
        self.faults = faults
        self.lap_us = 2**32 - 500
        self.buffer = bytearray()
        self.wanted = 0

    def power_on(self) -> None:
        self.say([f"m-timestamp-mode-{self.mode}", *self.stamp(), "m-init-done", READY])

    def stamp(self) -> list[str]:
        self.lap_us = (self.lap_us + 1000) % 2**32
        return [f"m-lap-us-{self.lap_us}"] if self.mode == "performance" else []

    def hear(self, command: str) -> None:
        name = command.split(" ", maxsplit=1)[0]
        reply = self.reply(command)
        match self.faults.pop(name, ""):
            case "silent":
                return
            case "noise":
                self.send(b"\xff")
            case "torn":
                reply = [line.replace("m-", "m-\xff", 1) if line != READY else line for line in reply]
                self.send("".join(f"{line}\r\n" for line in reply).encode("latin-1"))
                return
            case "reboot":
                self.say(reply[:2])
                self.power_on()
                return
            case "refuse":
                reply = [f"e-[cannot {command}]", READY]
            case "babble":
                self.say(["tick"] * 5000)
                return
            case "unplug":
                self.say(reply[:1])
                self.unplug()
                return
            case "no_stop":
                reply = reply[:3]
            case "lost_lap":
                reply.remove(next(line for line in reply if line.startswith("m-lap")))
            case "lost_results":
                reply = [line.replace("m-results", "m-res\x00lts") for line in reply]
        self.say(reply)

    def reply(self, command: str) -> list[str]:
        lines: list[str] = []
        match command.split(" "):
            case ["name"]:
                lines = ["m-name-dut-[ACME]"]
            case ["profile"]:
                lines = ["m-profile-[Firmware 1]", "m-model-[kws01]"]
            case ["timestamp"]:
                lines = self.stamp()
            case ["results"]:
                lines = ["m-results-[0.25,0.750]"]
            case ["db", "load", size] if int(size) > 64:
                lines = [f"Supplied buffer size {size} exceeds maximum of 64"]
            case ["db", "load", size]:
                self.wanted, self.buffer = int(size), bytearray()
                lines = [f"m-[Expecting {size} bytes]"]
            case ["db", data]:
                self.buffer += bytes.fromhex(data)
                lines = ["m-load-done"] if len(self.buffer) == self.wanted else []
            case ["infer", n, warmups]:
                lines = [f"m-warmup-start-{warmups}", "m-warmup-done", f"m-infer-start-{n}"]
                lines += [*self.stamp(), *self.stamp(), "m-infer-done", "m-results-[0.25,0.750]"]
            case _:
                lines = [f"e-[Unknown command: {command}]"]
        return [*lines, READY]


class Replay(MemoryLine):
    """Answers each command with what a real board once said to it."""

    def __init__(self, dialogue: Iterable[Exchange]) -> None:
        super().__init__()
        self.dialogue = iter(dialogue)

    def hear(self, command: str) -> None:
        exchange = next(self.dialogue)
        assert exchange.command == command
        self.say(exchange.lines)
