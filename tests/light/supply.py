"""The supply of light boards: a channel each, commands as lines of text, and a watchdog of its own.

check | limits C V A | voltage C V | on C | off C | watchdog S | status C   →   ok VALUES | err WORDS
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tests.light.board import LightBoard


class LightSupply:
    """One supply with its boards, channel 1 first.

    Args:
        boards: What its channels feed.
    """

    def __init__(self, boards: Sequence[LightBoard]) -> None:
        self.boards = tuple(boards)
        self._on: set[int] = set()
        self._heard_s = 0.0
        self._watchdog_s: float | None = None
        self._watching: asyncio.TimerHandle | None = None

    def answer(self, line: str) -> str:
        """The answer to one command."""
        self._heard_s = asyncio.get_running_loop().time()
        try:
            return f"ok {self._do(line.split())}".rstrip()
        except (ValueError, IndexError):
            return f"err cannot do {line!r}"

    def _do(self, words: list[str]) -> str:
        match words:
            case ["check"]:
                pass
            case ["limits", channel, most_v, most_a]:
                self._board(channel)
                return f"{float(most_v)} {float(most_a)}"
            case ["voltage", channel, set_v]:
                self._board(channel).set_voltage(float(set_v))
                return set_v
            case ["on", channel]:
                self._board(channel).power_on()
                self._on.add(int(channel))
            case ["off", channel]:
                self._board(channel).power_off()
                self._on.discard(int(channel))
            case ["watchdog", after_s]:
                self._watchdog_s = float(after_s)
                if self._watching is None:
                    self._watch()
            case ["status", channel]:
                voltage_v, current_a = self._board(channel).rail()
                return f"{'cv' if int(channel) in self._on else 'off'} {voltage_v:.6g} {current_a:.6g}"
            case _:
                raise ValueError(words)
        return ""

    def _board(self, channel: str) -> LightBoard:
        number = int(channel)
        if number < 1:
            raise IndexError(number)
        return self.boards[number - 1]

    def _watch(self) -> None:
        """Look again when the delay would be over if nothing more came; it runs by the host's clock, as labd's does."""
        assert self._watchdog_s is not None
        loop = asyncio.get_running_loop()
        if loop.time() >= self._heard_s + self._watchdog_s:
            for channel in self._on:
                self.boards[channel - 1].power_off()
            self._on.clear()
            self._watching = None
        else:
            self._watching = loop.call_at(self._heard_s + self._watchdog_s, self._watch)
