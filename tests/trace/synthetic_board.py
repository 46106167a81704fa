"""A board, a timestamper and an analyzer on paper: exact currents, three clocks, and the truth about every edge.

The board talks, marks the window with a short pulse, computes N inferences of several layers, marks the end with
another pulse, and talks again within microseconds. An inference begins with a short layer that is lighter or heavier
than the rest, and ends with a short light one, as nets do; each board has its own.
The analyzer's samples are exact means over its own periods.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from labd.trace.timing.timebase import AnchorKind
from labd.trace.timing.windows import TimedEdge

Layer = tuple[float, float]

IDLE, CPU, UART = 0.8e-3, 9e-3, 0.6e-3
STEADY = ((1.0, 13e-3),)
LAYERS = ((0.9e-3, 13.2e-3), (1.7e-3, 14e-3), (0.3e-3, 10e-3), (0.6e-3, 12.5e-3), (0.08e-3, 9.5e-3))
"""Duration [s] and current [A] of each layer of an inference; a single one is as long as the window."""
SHORT_S = 180e-6
"""Longest first and last layer, s."""


@dataclass(frozen=True)
class Scene:
    """What was seen, and what was so: samples, edges in ticks, each edge's true place in samples, and what repeats."""

    samples: npt.NDArray[np.float32]
    edges: tuple[TimedEdge, ...]
    truth: npt.NDArray[np.float64]
    tick_rate_hz: float
    period_s: float
    inference_s: float


@dataclass
class _Current:
    times: list[float] = field(default_factory=lambda: [0.0])
    amps: list[float] = field(default_factory=list)

    def go(self, amps: float, duration: float) -> None:
        self.amps.append(amps)
        self.times.append(self.times[-1] + duration)

    @property
    def now(self) -> float:
        return self.times[-1]


def make_scene(
    seed: int,
    windows_s: tuple[float, ...],
    *,
    layers: tuple[Layer, ...] = STEADY,
    noise: float = 20e-6,
    ppm: float = 50.0,
    period_s: float = 204.8e-6,
    compute_sign: float = 1.0,
    short_s: float = SHORT_S,
) -> Scene:
    """Draw clocks, offsets, gaps and noise from their declared distributions and play the board.

    With `short_s` 0 its work is the same to the last.
    """
    random = np.random.default_rng(seed)
    tick_rate_hz = 1e6
    sample_stretch, tick_stretch = random.uniform(-ppm, ppm, 2) * 1e-6
    pulse_s = float(random.uniform(1e-6, 12e-6))
    opening_lag_s, closing_lag_s = pulse_s * random.uniform(0.5, 1.5), pulse_s * random.uniform(-0.5, 0.5)
    full = layers[0][1] - CPU
    first = float(random.uniform(0, short_s)), layers[0][1] + float(random.uniform(-1, 1)) * full
    last = float(random.uniform(0, short_s)), CPU + float(random.uniform(0, 1)) * full
    ends = first, last
    board = _Current()
    edges: list[tuple[float, AnchorKind, int]] = []
    board.go(IDLE, float(random.uniform(0.2, 3.0)))
    for trial, window_s in enumerate(windows_s):
        board.go(CPU + UART, 31 / 960.0)
        _compute(board, 0.05, layers, ends, compute_sign)
        board.go(CPU + UART, 33 / 960.0)
        board.go(CPU, float(random.uniform(0.5e-6, 4e-6)))
        edges.append((board.now, AnchorKind.OPENING, trial))
        board.go(CPU, opening_lag_s)
        _compute(board, window_s, layers, ends, compute_sign)
        edges.append((board.now - closing_lag_s, AnchorKind.CLOSING, trial))
        board.go(CPU, float(random.uniform(4e-6, 40e-6)))
        board.go(CPU + UART, 90 / 960.0)
        board.go(IDLE, float(random.uniform(0.1, 0.6)))
    board.go(IDLE, float(random.uniform(0.2, 3.0)))

    true_period = period_s * (1 + sample_stretch)
    start_s = float(random.uniform(0, 0.1))
    rows = int((board.now - start_s) / true_period) - 1
    charge = np.concatenate([[0.0], np.cumsum(np.diff(board.times) * board.amps)])
    bounds = start_s + true_period * np.arange(rows + 1)
    means = np.diff(np.interp(bounds, board.times, charge)) / true_period
    samples = (means + noise * random.standard_normal(rows)).astype(np.float32)

    first_tick = int(random.integers(2**40, 2**62))
    rate = tick_rate_hz * (1 + tick_stretch)
    pulse = round(pulse_s * rate)
    timed = tuple(TimedEdge(first_tick + round(at * rate), pulse, kind, trial) for at, kind, trial in edges)
    truth = np.array([(at - start_s) / true_period for at, _, _ in edges])
    inference_s = 1e-3 if len(layers) == 1 else sum(length for length, _ in (first, *layers, last))
    return Scene(samples, timed, truth, tick_rate_hz, period_s, inference_s)


def _compute(
    board: _Current,
    duration: float,
    layers: tuple[Layer, ...],
    ends: tuple[Layer, Layer],
    sign: float,
) -> None:
    """Whole inferences, about as long as asked."""
    middle = ((duration, layers[0][1]),) if len(layers) == 1 else layers
    inference = ends[0], *middle, ends[1]
    for _ in range(max(1, round(duration / sum(length for length, _ in inference)))):
        for length, amps in inference:
            board.go(CPU + sign * (amps - CPU), length)
