"""A board that runs digits01 as the firmware does, as exact piecewise-constant current and voltage.

Times and order are those of the native firmware: lines at 9600 baud, warm-up, line, falling edge, N inferences of
many short phases, falling edge, lines, sleep. Only the order is written down here; no program runs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from labd.virtual.activity import ActivityRecord, PowerProfile
from labd.virtual.link import Activity
from labd.virtual.rail import Rail
from labd.virtual.world import Floats

CORE_HZ = 80e6
BYTE_S = 10 / 9600
PULSE_S = 10e-6
SUPPLY_V = 3.0

INFERENCE = (
    (Activity.CPU, 600),
    (Activity.MEMORY, 864),
    (Activity.CONV, 23_148),
    (Activity.POOL, 3_372),
    (Activity.MEMORY, 2_592),
    (Activity.CONV, 78_252),
    (Activity.POOL, 3_756),
    (Activity.DENSE, 1_880),
    (Activity.SOFTMAX, 3_080),
)
"""One inference of digits01: what is done, and for how many cycles."""

INFERENCE_S = sum(cycles for _, cycles in INFERENCE) / CORE_HZ


@dataclass(frozen=True, slots=True)
class TrueWindow:
    """One window as it was: times in s of true time, energy in J."""

    start_s: float
    stop_s: float
    inferences: int
    energy_j: float


class BoardTrace:
    """Writes down what one board does, from time 0 on.

    Args:
        rng: Source of the board's currents and of what varies from trial to trial.
        clock_ppm: Error of its crystal, ppm: positive is slow.
        drift: Standard deviation of the currents' changes between trials, relative.
    """

    def __init__(self, rng: np.random.Generator, *, clock_ppm: float, drift: float) -> None:
        self.record = ActivityRecord()
        profile = PowerProfile().draw(rng)
        self._rail = Rail(profile)
        self._rail.set_v = SUPPLY_V
        self._amps = profile.currents()
        self._uart_a = profile.uart_a
        self._rng = rng
        self._slow = 1 + clock_ppm * 1e-6
        self._drift = drift
        self._factor = 1.0
        self.now_s = 0.0

    def sleep(self, span_s: float) -> None:
        """Do nothing for a while."""
        self._phases(np.array([self._amps[Activity.IDLE]]), np.array([span_s]))

    def trial(self, inferences: int) -> TrueWindow:
        """Sleep, warm up, and run one window between two pulses of the timing pin."""
        self._factor = 1 + self._drift * float(self._rng.standard_normal())
        self.sleep(float(self._rng.uniform(0.05, 0.3)))
        self._cpu(2_000)
        self._line("m-warmup-start-10")
        self._infer(10)
        self._line("m-warmup-done")
        self._line(f"m-infer-start-{inferences}")
        start_s = self.now_s
        self._cpu(PULSE_S * CORE_HZ)
        self._infer(inferences)
        stop_s = self.now_s
        self._cpu(PULSE_S * CORE_HZ)
        self._line("m-infer-done")
        self._line("m-results-[0.000,0.000,0.996,0.000,0.000,0.000,0.000,0.004,0.000,0.000]")
        self._line("m-ready")
        self.sleep(0.05)
        energy_j = self.record.energy(start_s, stop_s)
        return TrueWindow(start_s=start_s, stop_s=stop_s, inferences=inferences, energy_j=energy_j)

    def _cpu(self, cycles: float) -> None:
        self._phases(np.array([self._amps[Activity.CPU]]), np.array([cycles / CORE_HZ]))

    def _line(self, text: str) -> None:
        count = len(text) + 2
        amps = self._amps[Activity.CPU] + np.tile([0.0, self._uart_a], count)
        self._phases(amps, np.tile([40 / CORE_HZ, BYTE_S], count))

    def _infer(self, times: int) -> None:
        amps = self._amps[[activity for activity, _ in INFERENCE]]
        spans = np.array([cycles for _, cycles in INFERENCE]) / CORE_HZ
        self._phases(np.tile(amps, times), np.tile(spans, times))

    def _phases(self, amps: Floats, spans_s: Floats) -> None:
        ends = self.now_s + np.cumsum(spans_s) * self._slow
        starts = np.concatenate(([self.now_s], ends[:-1]))
        segments = self._rail.loaded(starts, amps * self._factor)
        self.record.extend(segments.starts_s, segments.amps, segments.volts)
        self.now_s = float(ends[-1])
