"""Boards drawn at random: what one draws while it waits, talks, warms up, computes between two edges, and goes on.

Nothing here is that of one firmware: number, length and level of the phases of an inference, the baud rate, which
lines come before and after a window and in what order, whether warm-up runs right up to the edge, and how much other
work lies between a pin and the first phase, are each board's own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from tests.truth.currents import Current, Decay, Floats, Ramp

LAG_MAX_S = 0.5e-3
"""Longest other work between the pin and the first phase, or the last phase and the pin."""
PULSE_S = 10e-6
END_S = 1e-3
"""What of a window's beginning and end tells whether its edges are steps of the current."""


class Shape(StrEnum):
    """How a board's current runs inside a window."""

    SQUARE = "square"
    PHASES = "phases"
    BURSTS = "bursts"
    RAMPS = "ramps"
    INRUSH = "inrush"
    PEAKS = "peaks"  # bursts of 160 mA, for 10 to 60 µs, beyond the range of 100 mA


@dataclass(frozen=True, slots=True)
class Board:
    """One board, as drawn.

    Args:
        shape: What its windows look like.
        idle_a: Its current while it waits, A.
        cpu_a: While it does other work, A.
        uart_a: What a byte on the wire adds, A.
        baud: Bits per second of its UART.
        wake_s: How often it wakes for a moment while it waits, s; 0 never.
        spans_s, amps: Phases of one inference, s and A.
        before, after: Bytes of the lines before and after a window; 0 stands for a warm-up.
        lags_s: Other work after the opening edge, and before the closing one, s.
        glue_s: Other work between two lines, s, at most.
        warm_edge: Whether warm-up runs right up to the opening edge, and inferences go on after the closing one.
        ramp: By how much the level inside drifts over a window, relative.
        inrush_a, inrush_s: Decay at the beginning of a window.
    """

    shape: Shape
    idle_a: float
    cpu_a: float
    uart_a: float
    baud: int
    wake_s: float
    spans_s: Floats
    amps: Floats
    before: tuple[int, ...]
    after: tuple[int, ...]
    lags_s: tuple[float, float]
    glue_s: float
    warm_edge: tuple[bool, bool]
    ramp: float = 0.0
    inrush_a: float = 0.0
    inrush_s: float = 1.0

    @property
    def inference_s(self) -> float:
        """Length of one inference, s."""
        return float(self.spans_s.sum())

    def ends_a(self) -> tuple[float, float]:
        """Mean current of the first and of the last `END_S` of a window, A."""
        repeats = math.ceil(END_S / self.inference_s)
        ends = np.concatenate([[0.0], np.cumsum(np.tile(self.spans_s, repeats))])
        charge = np.concatenate([[0.0], np.cumsum(np.tile(self.spans_s * self.amps, repeats))])
        first = np.interp(END_S, ends, charge)
        last = charge[-1] - np.interp(ends[-1] - END_S, ends, charge)
        return float(first) / END_S, float(last) / END_S


def draw_board(rng: np.random.Generator, shape: Shape, window_s: float, step_a: float = 0.0) -> Board:
    """Draw a board whose windows can be `window_s` long; its current changes by `step_a` at least at their edges."""
    while True:
        board = _any_board(rng, shape, window_s)
        if not step_a:
            return board
        if not any(board.warm_edge) and min(abs(level - board.cpu_a) for level in board.ends_a()) >= step_a:
            return board


def _any_board(rng: np.random.Generator, shape: Shape, window_s: float) -> Board:
    spans, amps = _inference(rng, shape, min(20e-3, window_s / 12), max(50e-6, window_s / 20_000))
    lines = [int(n) for n in rng.integers(5, 40, rng.integers(1, 4))]
    lines.insert(int(rng.integers(0, len(lines) + 1)), 0)
    lagging = rng.random(2) < 0.6
    board = Board(
        shape=shape,
        idle_a=_log(rng, 2e-6, 0.5e-3) if rng.random() < 0.5 else float(rng.uniform(3e-3, 12e-3)),
        cpu_a=float(rng.uniform(3e-3, 15e-3)),
        uart_a=float(rng.uniform(0.1e-3, 3e-3)),
        baud=int(rng.choice([9600, 115_200])),
        wake_s=_log(rng, 1e-3, 0.1) if rng.random() < 0.25 else 0.0,
        spans_s=spans,
        amps=amps,
        before=tuple(lines),
        after=tuple(int(n) for n in rng.integers(5, 60, rng.integers(0, 4))),
        lags_s=(float(lagging[0] * rng.uniform(0, LAG_MAX_S)), float(lagging[1] * rng.uniform(0, LAG_MAX_S))),
        glue_s=float(rng.uniform(20e-6, LAG_MAX_S)),
        warm_edge=(bool(rng.random() < 0.3), bool(rng.random() < 0.2)),
    )
    if shape is Shape.RAMPS:
        lowest = float(amps.min()) / (float(amps @ spans) / float(spans.sum()))
        board = replace(board, ramp=float(rng.uniform(max(-0.3, -0.9 * lowest), 0.3)))
    if shape is Shape.INRUSH:
        board = replace(board, inrush_a=float(rng.uniform(1e-3, 20e-3)), inrush_s=_log(rng, 1e-3, 20e-3))
    return board


def _inference(rng: np.random.Generator, shape: Shape, longest_s: float, shortest_s: float) -> tuple[Floats, Floats]:
    """Spans [s] and currents [A] of one inference's phases."""
    whole_s = _log(rng, max(shortest_s, 0.2e-3), longest_s)
    if shape is Shape.SQUARE:
        return np.array([whole_s]), np.array([rng.uniform(5e-3, 40e-3)])
    if shape in (Shape.BURSTS, Shape.PEAKS):
        high = float(rng.uniform(0.04, 0.08)) if shape is Shape.BURSTS else 0.16
        on_s = _log(rng, 10e-6, 1e-3) if shape is Shape.BURSTS else float(rng.uniform(10e-6, 60e-6))
        duty = float(rng.uniform(0.05, 0.4 if shape is Shape.BURSTS else 0.3))
        times = max(1, round(whole_s * duty / on_s))
        spans = np.tile([on_s, on_s * (1 / duty - 1)], times) * rng.uniform(0.9, 1.1, 2 * times)
        return spans, np.tile([high, float(rng.uniform(2e-3, 8e-3))], times)
    count = int(rng.integers(2, 13))
    spans = rng.dirichlet(np.full(count, 0.8)) * whole_s + 5e-6
    return spans, rng.uniform(2e-3, 40e-3, count)


@dataclass(frozen=True, slots=True)
class TrueWindow:
    """A window as it was: its edges at true times, s, and the level of its trial over the board's own."""

    start_s: float
    stop_s: float
    level: float


class Life:
    """Writes down what a board draws, from true time 0 on.

    Args:
        board: The board.
        rng: Source of what varies from trial to trial.
        drift: Standard deviation of its levels from trial to trial, relative.
        memory: Correlation of the levels of one trial and the next.
        jitter: The same of its times.
    """

    def __init__(
        self, board: Board, rng: np.random.Generator, *, drift: float, jitter: float, memory: float = 0.0
    ) -> None:
        self.board = board
        self._rng = rng
        self._drift, self._jitter, self._memory = drift, jitter, memory
        self._away = float(rng.standard_normal())
        self._level, self._pace = 1.0, 1.0
        self._spans: list[Floats] = []
        self._amps: list[Floats] = []
        self._ramps: list[Ramp] = []
        self._decays: list[Decay] = []
        self.now_s = 0.0

    def wait(self, span_s: float) -> None:
        """Idle, with a moment awake now and then."""
        board = self.board
        if not board.wake_s or span_s < 2 * board.wake_s:
            self._add(np.array([span_s]), np.array([board.idle_a]))
            return
        times = int(span_s / board.wake_s)
        awake_s = min(100e-6, board.wake_s / 20)
        spans = np.tile([board.wake_s - awake_s, awake_s], times)
        spans[0] += span_s - times * board.wake_s
        self._add(spans, np.tile([board.idle_a, board.cpu_a], times))

    def trial(self, inferences: int) -> TrueWindow:
        """Talk, warm up, compute between two edges, talk again."""
        board, rng = self.board, self._rng
        self._away = self._memory * self._away + (1 - self._memory**2) ** 0.5 * float(rng.standard_normal())
        self._level = level = 1 + self._drift * self._away
        self._pace = 1 + self._jitter * float(rng.standard_normal())
        for line in board.before:
            if line:
                self._say(line)
            else:
                self._infer(10)
            self._work(float(rng.uniform(0, board.glue_s)))
        if board.warm_edge[0]:
            self._infer(5)
        start_s = self.now_s
        self._work(PULSE_S + board.lags_s[0])
        self._infer(inferences)
        self._work(board.lags_s[1])
        stop_s = self.now_s
        self._slow(start_s, stop_s)
        self._work(PULSE_S)
        if board.warm_edge[1]:
            self._infer(3)
        self._work(float(rng.uniform(0, board.glue_s)))
        for line in board.after:
            self._say(line)
            self._work(float(rng.uniform(0, board.glue_s)))
        self._level = self._pace = 1.0
        return TrueWindow(start_s, stop_s, level)

    def current(self, pulses: list[tuple[float, float]], pulse_a: float) -> tuple[Current, Current]:
        """The board's own current, and that with a load across it from time to time, as the analyzer is fed."""
        starts = np.concatenate([[0.0], np.cumsum(np.concatenate(self._spans))[:-1]])
        own = Current(starts, np.concatenate(self._amps), tuple(self._ramps), tuple(self._decays))
        if not pulses:
            return own, own
        at = np.array(pulses).ravel()
        jumps = np.append(np.tile([pulse_a, -pulse_a], len(pulses)), np.diff(own.amps))
        times = np.append(at, starts[1:])
        order = np.argsort(times, kind="stable")
        levels = own.amps[0] + np.concatenate([[0.0], np.cumsum(jumps[order])])
        return own, Current(np.append(0.0, times[order]), levels, own.ramps, own.decays)

    def _say(self, size: int) -> None:
        byte_s = 10 / self.board.baud
        gaps = self._rng.uniform(0.5e-6, 5e-6, size)
        spans = np.column_stack([gaps, np.full(size, byte_s)]).ravel()
        self._add(spans, self.board.cpu_a + np.tile([0.0, self.board.uart_a], size))

    def _work(self, span_s: float) -> None:
        if span_s > 0:
            self._add(np.array([span_s]), np.array([self.board.cpu_a]))

    def _infer(self, times: int) -> None:
        self._add(np.tile(self.board.spans_s, times), np.tile(self.board.amps, times))

    def _slow(self, start_s: float, stop_s: float) -> None:
        board = self.board
        if board.ramp:
            mean = float(board.amps @ board.spans_s) / board.inference_s
            self._ramps.append(Ramp(start_s, stop_s, board.ramp * mean / (stop_s - start_s)))
        if board.inrush_a:
            self._decays.append(Decay(start_s, stop_s, board.inrush_a, board.inrush_s))

    def _add(self, spans_s: Floats, amps: Floats) -> None:
        self._spans.append(spans_s * self._pace)
        self._amps.append(amps * self._level)
        self.now_s += float(spans_s.sum()) * self._pace


def _log(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
