"""Runs of boards that are known to the joule, and the noise of instruments, made of plain arrays and scored.

A board sleeps, sends lines, warms up, runs N inferences between two edges, sends lines and sleeps, five times; before
and after, a sync load is pulsed. Its power is drawn on a grid `FINE` times finer than the samples; the samples are the
means of the grid, or instants of it. Nothing here knows of `labd.virtual`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

from drivers.api import Accuracy, Column, Interval, Provenance, Quantity, SampleKind
from labd.bench.rest import read_rests
from labd.bench.window import read_window
from labd.score.energy import RunScore, score_run
from labd.score.noise import Rest
from labd.score.reading import Instrument, Placement
from labd.score.rules import Rules

Floats = npt.NDArray[np.float64]

FINE = 8
SUPPLY_V = 3.0
IDLE_A, BUSY_A, UART_A, LOAD_A = 0.8e-3, 12e-3, 0.6e-3, 3e-3
BYTE_S = 10 / 9600
TRIALS = 5


class Load(StrEnum):
    """What an inference draws."""

    SQUARE = "square"
    PHASES = "phases"
    BURSTS = "bursts"
    RAMPS = "ramps"
    INRUSH = "inrush"


@dataclass(frozen=True)
class Run:
    """A run as it was: the current of each fine step, and where the windows lie on the samples.

    Args:
        period_s: Sample period.
        fine_a: Current on the grid, shape (rows · FINE,).
        windows: Start and stop in samples.
        inferences: N.
    """

    period_s: float
    fine_a: Floats
    windows: Sequence[tuple[float, float]]
    inferences: int

    @property
    def rows(self) -> int:
        return len(self.fine_a) // FINE

    def true_j(self, window: tuple[float, float]) -> float:
        first, end = (round(edge * FINE) for edge in window)
        return float(self.fine_a[first:end].sum()) * SUPPLY_V * self.period_s / FINE

    def means_a(self) -> Floats:
        return np.asarray(self.fine_a[: self.rows * FINE].reshape(-1, FINE).mean(axis=1))

    def instants_a(self) -> Floats:
        return self.fine_a[: self.rows * FINE : FINE].copy()


@dataclass
class Tape:
    """A current written step by step."""

    step_s: float
    parts: list[Floats] = field(default_factory=list)
    length: int = 0

    def add(self, current: Floats) -> None:
        self.parts.append(current)
        self.length += len(current)

    def hold(self, current_a: float, span_s: float) -> None:
        self.add(np.full(round(span_s / self.step_s), current_a))

    def line(self, count: int, base_a: float) -> None:
        """Bytes of a line, each a little restless."""
        for _ in range(count):
            self.hold(base_a + UART_A, 0.9 * BYTE_S)
            self.hold(base_a, 0.1 * BYTE_S)


def inference(load: Load, span_s: float, step_s: float, rng: np.random.Generator) -> Floats:
    """The current of one inference."""
    count = max(FINE, round(span_s / step_s))
    at = np.arange(count) / count
    match load:
        case Load.SQUARE:
            return np.full(count, BUSY_A)
        case Load.PHASES:
            levels = BUSY_A * rng.uniform(0.4, 1.4, 9)
            ends = np.sort(rng.uniform(0, 1, 8))
            return np.asarray(levels[np.searchsorted(ends, at)])
        case Load.BURSTS:
            current = np.full(count, 0.3 * BUSY_A)
            for place in rng.uniform(0, 1, 6):
                width_s = float(np.exp(rng.uniform(math.log(10e-6), math.log(1e-3))))
                begin = int(place * count)
                current[begin : begin + max(1, round(width_s / step_s))] += 2 * BUSY_A
            return current
        case Load.RAMPS:
            return BUSY_A * (0.5 + at)
        case Load.INRUSH:
            return BUSY_A * (1 + 2 * np.exp(-at / 0.05))


def draw_run(
    rng: np.random.Generator,
    load: Load,
    period_s: float,
    *,
    window_s: float = 1.0,
    drift: float = 3e-4,
    idle_s: tuple[float, float] = (0.05, 0.3),
) -> Run:
    """Draw one run's boards; currents drift by `drift` from trial to trial, in sleep too."""
    step_s = period_s / FINE
    tape = Tape(step_s)
    span_s = float(rng.uniform(2e-3, 12e-3))
    shape = inference(load, span_s, step_s, rng)
    count = max(10, round(window_s / (len(shape) * step_s)))
    tape.hold(IDLE_A, float(rng.uniform(0.02, 0.2)))
    for _ in range(3):
        tape.hold(IDLE_A + LOAD_A, 2e-3)
        tape.hold(IDLE_A, float(rng.uniform(0.01, 0.03)))
    windows = []
    for _ in range(TRIALS):
        factor = 1 + drift * float(rng.standard_normal())
        tape.hold(IDLE_A * factor, float(rng.uniform(*idle_s)))
        tape.line(18, 0.4 * BUSY_A)
        tape.add(np.tile(shape * factor, 10))
        tape.line(30, 0.4 * BUSY_A)
        start = tape.length / FINE
        tape.add(np.tile(shape * factor, count))
        windows.append((start, tape.length / FINE))
        tape.hold(0.4 * BUSY_A, 20e-6)
        tape.line(60, 0.4 * BUSY_A)
        # Decoupling capacitors and a regulator that goes to sleep.
        settling = np.arange(round(0.02 / step_s)) * step_s
        tape.add(IDLE_A * factor * (1 + 0.5 * np.exp(-settling / 2e-3)))
        tape.hold(IDLE_A * factor, 0.05)
    for _ in range(3):
        tape.hold(IDLE_A + LOAD_A, 2e-3)
        tape.hold(IDLE_A, float(rng.uniform(0.01, 0.03)))
    tape.hold(IDLE_A, float(rng.uniform(0.02, 0.1)))
    return Run(period_s, np.concatenate(tape.parts), windows, count)


# --- noise -----------------------------------------------------------------------------------------------------


def white(rng: np.random.Generator, rows: int, rms: float) -> Floats:
    return rms * rng.standard_normal(rows)


def hum(rng: np.random.Generator, rows: int, period_s: float, amplitude: float, mains_hz: float = 50.0) -> Floats:
    """Mains with its frequency as it is kept: within 20 mHz."""
    frequency = mains_hz + float(rng.uniform(-0.02, 0.02))
    phase = float(rng.uniform(0, 2 * math.pi))
    return amplitude * np.sin(2 * math.pi * frequency * period_s * np.arange(rows) + phase)


def flicker(rng: np.random.Generator, rows: int, rms: float) -> Floats:
    """1/f noise from the whole length (times four, so that its mean is not none) up to half the sample rate."""
    length = 4 * rows
    frequencies = np.fft.rfftfreq(length)
    shape = np.zeros(len(frequencies))
    shape[1:] = 1 / np.sqrt(frequencies[1:])
    made = np.fft.irfft(shape * np.fft.rfft(rng.standard_normal(length)), length)
    expected = math.sqrt(2 * float(np.sum(shape**2)) / length)
    return np.asarray(rms * made[:rows] / expected)


def band_limited(rng: np.random.Generator, rows: int, period_s: float, rms: float, band_hz: float) -> Floats:
    """White noise behind a low-pass of first order, with the stated standard deviation of a sample."""
    memory = math.exp(-2 * math.pi * band_hz * period_s)
    fresh = rms * math.sqrt(1 - memory**2) * rng.standard_normal(rows)
    fresh[0] = rms * float(rng.standard_normal())
    return np.asarray(lfilter([1.0], [1.0, -memory], fresh))


@dataclass(frozen=True)
class Tables:
    """Columns in memory as the glue reads them."""

    columns: dict[Quantity, Floats]

    @property
    def rows(self) -> int:
        return len(self.columns[Quantity.CURRENT])

    def samples(self, quantity: Quantity, start: int, stop: int) -> npt.NDArray[Any]:
        return self.columns[quantity][start:stop]

    def power(self, start: int, stop: int) -> Floats:
        return self.columns[Quantity.CURRENT][start:stop] * self.columns[Quantity.VOLTAGE][start:stop]

    def marked(self, start: float, stop: float) -> tuple[Interval, ...]:
        return ()


def placed(run: Run) -> list[Placement]:
    return [Placement(start, stop, 0.0, 0.0, 0.0) for start, stop in run.windows]


def hear(run: Run, noise_a: Floats, *, noise_v: Floats | None = None) -> Tables:
    """What an instrument with this noise records of a run; `noise_v` of None for a quiet voltage."""
    voltage = np.full(run.rows, SUPPLY_V)
    return Tables(
        {
            Quantity.CURRENT: run.means_a() + noise_a,
            Quantity.VOLTAGE: voltage if noise_v is None else voltage + noise_v,
        }
    )


def rests_of(run: Run, recorded: Tables) -> tuple[Rest, ...]:
    return read_rests(recorded, recorded.columns, placed(run), period_s=run.period_s)


def score(run: Run, recorded: Tables, *, declared_a: float, declared_v: float = 0.0) -> RunScore:
    """The score of a run by an instrument without gain or offset errors, whose noise is declared as given."""
    declared = ((Quantity.CURRENT, declared_a), (Quantity.VOLTAGE, declared_v))
    columns = tuple(
        Column(quantity, SampleKind.MEAN, Provenance.MEASURED, Accuracy(1.0, 0.0, 0.0, rms))
        for quantity, rms in declared
    )
    readings = [
        read_window(recorded, recorded.columns, window, trial=trial, inferences=run.inferences)
        for trial, window in enumerate(placed(run))
    ]
    return score_run(
        readings,
        Instrument(columns, run.period_s, 0.0),
        Rules(trials=TRIALS, min_window_s=0.0, min_inferences=1),
        rests=rests_of(run, recorded),
    )
