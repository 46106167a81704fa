"""What one run has to do, with everything looked up: no step after this reads a job or `lab.toml`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from labd.benchmarks import Benchmark, Mode
from labd.config import Board


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
        return lease_s(self.benchmark, self.mode, self.trials, self.min_window_s)


def rounds_of(benchmark: Benchmark, mode: Mode, trials: int) -> int:
    """How often a run loads and infers an input."""
    return len(benchmark.inputs()) if mode is Mode.ACCURACY else trials


def lease_s(benchmark: Benchmark, mode: Mode, trials: int, min_window_s: float) -> float:
    """How long such a run may hold its board, s: generous, so that only a run that hangs meets it."""
    window_s = 0.0 if mode is Mode.ACCURACY else min_window_s
    return 180.0 + rounds_of(benchmark, mode, trials) * (4.0 * window_s + 10.0)
