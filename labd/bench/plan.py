"""What one run has to do, with everything looked up: no step after this reads a job or `lab.toml`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from labd.benchmarks import Benchmark, Mode
from labd.config import Board

SLOWEST_S = 10.0
"""Longest inference of a board that labd measures, s; a slower one is given up when its speed is found out."""
PREPARE_S = 900.0
"""Longest time before the first trial, s: discharging, comparing and writing the image, handshake, calibration."""
LOAD_S_PER_BYTE = 5e-3
"""Longest time to load an input, s a byte: 2.5 ms for its digits, the command and the reply at 9600 baud, and for each
command of 31 bytes two turns of a USB adapter of 16 ms and the board's own time."""
ROUND_S = 10.0
"""Added for each round, s: commits, and edges that have to come in."""


USUAL_PREPARE_S = 15.0
"""Usual time before the first trial, s: discharging, comparing the image, handshake, calibration; writing is rare."""
USUAL_ROUND_S = 0.5
"""Usual time of a round beside its window and its warm-ups, s, plus the load at 9600 baud."""
USUAL_LOAD_S_PER_BYTE = 2.5e-3


@dataclass(frozen=True, slots=True)
class RunPlan:
    """One run of one job on one board.

    Args:
        job_id, run_id: Whose run it is.
        board: The board and its wiring.
        benchmark: The task and its rules.
        mode: What is measured.
        trials: Trials of a performance or energy run.
        min_window_s: Shortest window, s.
        inferences: Inferences in each window; None to find how many the window needs.
        voltage_v: Supply voltage, V.
        period_s: Sample period asked for, s; None for the analyzer's shortest.
        image: The firmware image that the board has to hold.
        image_sha256: Digest that the job asks the image to have; None if any will do.
    """

    job_id: int
    run_id: int
    board: Board
    benchmark: Benchmark
    mode: Mode
    trials: int
    min_window_s: float
    inferences: int | None
    voltage_v: float
    period_s: float | None
    image: Path
    image_sha256: str | None = None

    @property
    def rounds(self) -> int:
        """How often an input is loaded and inferred: the trials, or every input in accuracy mode."""
        return rounds_of(self.benchmark, self.mode, self.trials)

    @property
    def lease_s(self) -> float:
        """How long the run may hold its board, s."""
        return lease_s(self.benchmark, self.mode, self.trials, self.min_window_s, self.inferences)


def rounds_of(benchmark: Benchmark, mode: Mode, trials: int) -> int:
    """How often a run loads and infers an input."""
    return len(benchmark.inputs()) if mode is Mode.ACCURACY else trials


def lease_s(benchmark: Benchmark, mode: Mode, trials: int, min_window_s: float, inferences: int | None = None) -> float:
    """How long such a run may hold its board, s: more than the slowest board takes that is not given up before.

    It cuts off no legal run. One that hangs meets the deadline of what it waits for, which follows from the board's
    own speed, long before.

    Args:
        benchmark, mode, trials, min_window_s: What is measured, see `RunPlan`.
        inferences: Inferences in each window; None to find how many the window needs.
    """
    if mode is Mode.ACCURACY:
        window_s = SLOWEST_S
    else:
        timed_s = max(min_window_s, SLOWEST_S * (inferences or benchmark.min_inferences))
        window_s = 2.0 * (timed_s + SLOWEST_S * benchmark.warmups)
    load_s = LOAD_S_PER_BYTE * len(benchmark.inputs().payload(0))
    return PREPARE_S + rounds_of(benchmark, mode, trials) * (window_s + load_s + ROUND_S)


def estimate_s(benchmark: Benchmark, mode: Mode, trials: int, min_window_s: float) -> float:
    """How long such a run usually takes, s: for plans and previews, not for deadlines; arguments as in `RunPlan`."""
    window_s = 0.0 if mode is Mode.ACCURACY else 1.2 * min_window_s  # windows come out a little long
    round_s = USUAL_ROUND_S + USUAL_LOAD_S_PER_BYTE * len(benchmark.inputs().payload(0)) + window_s
    return USUAL_PREPARE_S + rounds_of(benchmark, mode, trials) * round_s
