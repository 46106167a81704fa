"""A run made up for pictures: load, warm-up, window and results of each trial, exact means of a known current."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from drivers.api import Edge, Interval, IntervalKind, Quantity
from labd.trace.journal import EdgeSeen, Marked, SyncPulse, TrialEnded, TrialStarted
from labd.trace.seal import seal
from labd.trace.writer import TraceWriter
from tests.trace.recording import WHEN, cut, make_meta

TICK_HZ = 125e6
SUPPLY_V = 3.0
IDLE_A, LINE_A = 0.8e-3, 9.2e-3
LAYERS = ((13e-3, 0.1), (14e-3, 0.2), (10e-3, 0.05), (15.2e-3, 0.55), (12.5e-3, 0.1))
"""What the layers of a net draw, and their shares of an inference."""
BUSY_A = sum(current * share for current, share in LAYERS)


@dataclass(frozen=True)
class StagedRun:
    """What happens in the run, s and numbers.

    Args:
        marks: Marked samples; those of a gap are not numbers.
        spoilt: Samples for whose current the instrument sent something else, A; nothing marks them.
        synced: Whether a pulse ties edges to samples.
        sync_late_s: How much later than it did the pulse is said to have come, s.
    """

    trials: int = 5
    inferences: int = 40
    warmups: int = 4
    inference_s: float = 25e-3
    period_s: float = 204.8e-6
    line_s: float = 30e-3
    load_s: float = 0.3
    idle_s: float = 0.2
    noise_a: float = 20e-6
    synced: bool = True
    sync_late_s: float = 0.0
    marks: tuple[Interval, ...] = ()
    spoilt: Mapping[int, float] = field(default_factory=dict)
    quantities: Sequence[Quantity] = (Quantity.CURRENT, Quantity.VOLTAGE)
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def windows_s(self) -> list[tuple[float, float]]:
        """Where the windows lie, s."""
        return [(start, start + self.inferences * self.inference_s) for start in self._starts()]

    @property
    def energy_j(self) -> float:
        """What an inference needs, J."""
        return BUSY_A * SUPPLY_V * self.inference_s

    def record(self, folder: Path) -> Path:
        """Write the trace, sealed."""
        current = self._current()
        values = {
            Quantity.CURRENT: current,
            Quantity.VOLTAGE: np.full(len(current), SUPPLY_V),
            Quantity.POWER: current * SUPPLY_V,
            Quantity.ENERGY: current * SUPPLY_V * self.period_s,
        }
        at_s = np.arange(len(current)) * self.period_s
        pulses = [(at_s >= edge_s) & (at_s < edge_s + 1e-3) for window in self.windows_s for edge_s in window]
        low = np.any(pulses, axis=0) if pulses else np.zeros(len(current), dtype=bool)
        values[Quantity.DIGITAL] = np.where(low, 0, 1)
        signal = {quantity: values[quantity].astype(np.float32) for quantity in self.quantities}
        if Quantity.DIGITAL in signal:
            signal[Quantity.DIGITAL] = signal[Quantity.DIGITAL].astype(np.uint8)
        meta = {"min_window_s": 0.1, "trials": max(self.trials, 1), "sync_pin": 15, "period_s": self.period_s}
        writer = TraceWriter.create(folder, make_meta(quantities=signal, **(meta | dict(self.meta))))
        if self.synced and Quantity.DIGITAL not in self.quantities:
            writer.journal(
                SyncPulse(pin=15, ticks=self._ticks(self.sync_late_s), sequence=0, sample=0.0, u_latency_s=1e-6)
            )
        for trial, window in enumerate(self.windows_s):
            writer.journal(
                TrialStarted(index=trial, input="0", inferences=self.inferences, warmups=self.warmups, at=WHEN)
            )
            for k, at_s in enumerate(window if Quantity.DIGITAL not in self.quantities else ()):
                writer.journal(EdgeSeen.of(Edge(pin=0, level=0, ticks=self._ticks(at_s), sequence=2 * trial + k + 1)))
            writer.journal(TrialEnded(index=trial, at=WHEN))
        for mark in self.marks:
            writer.journal(Marked.of(mark))
        for block in cut(signal, [1000, 777]):
            writer.write(block)
        folder = writer.close().folder
        seal(folder)
        return folder

    def _ticks(self, at_s: float) -> int:
        return 10**9 + round(at_s * TICK_HZ)

    def _starts(self) -> list[float]:
        warm_s = self.warmups * self.inference_s + 2 * self.line_s
        before_s = self.idle_s + self.load_s + warm_s
        whole_s = before_s + self.inferences * self.inference_s + self.line_s
        return [before_s + k * whole_s for k in range(self.trials)]

    def _current(self) -> npt.NDArray[np.float64]:
        """Exact means over each sample's period of what the board draws."""
        steps: list[tuple[float, float]] = []  # current until when
        for start_s, stop_s in self.windows_s:
            warm_s = start_s - self.line_s - self.warmups * self.inference_s
            begin_s = warm_s - self.line_s - self.load_s
            steps.append((IDLE_A, begin_s))
            for k in range(6):
                at_s = begin_s + k * self.load_s / 6
                steps += [(LINE_A, at_s + 0.25 * self.load_s / 6), (IDLE_A, at_s + self.load_s / 6)]
            steps.append((LINE_A, warm_s))
            steps += self._inferences(warm_s, self.warmups)
            steps.append((LINE_A, start_s))
            steps += self._inferences(start_s, self.inferences)
            steps.append((LINE_A, stop_s + self.line_s))
        end_s = (self.windows_s[-1][1] if self.trials else 0.0) + self.line_s + self.idle_s
        steps.append((IDLE_A, end_s))
        until = np.array([stop for _, stop in steps])
        charge = np.concatenate([[0.0], np.cumsum([current for current, _ in steps] * np.diff(until, prepend=0.0))])
        rows = int(end_s / self.period_s)
        at = np.arange(rows + 1) * self.period_s
        total = np.interp(at, np.concatenate([[0.0], until]), charge)
        current = np.diff(total) / self.period_s + self.noise_a * np.random.default_rng(7).standard_normal(rows)
        for mark in self.marks:
            if mark.kind is IntervalKind.GAP:
                current[mark.start : mark.stop] = np.nan
            if mark.kind is IntervalKind.CLIPPED:
                current[mark.start : mark.stop] = 20e-3
        for sample, sent in self.spoilt.items():
            current[sample] = sent
        return current

    def _inferences(self, start_s: float, count: int) -> list[tuple[float, float]]:
        ends = np.cumsum([share for _, share in LAYERS]) * self.inference_s
        return [
            (current, start_s + k * self.inference_s + float(end))
            for k in range(count)
            for (current, _), end in zip(LAYERS, ends, strict=True)
        ]
