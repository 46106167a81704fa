"""The benchmarks labd knows: what a board must run, on which inputs, for how long, and how good it must be.

A benchmark is data. Its rules (trials, shortest window, quality target) are read by whoever runs or scores it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labd.benchmarks.inputs import Inputs


class Mode(StrEnum):
    """What a job measures."""

    PERFORMANCE = "performance"
    ACCURACY = "accuracy"
    ENERGY = "energy"

    @property
    def image(self) -> Mode:
        """The mode that the firmware is built for: accuracy is taken with the performance image."""
        return Mode.ENERGY if self is Mode.ENERGY else Mode.PERFORMANCE


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One task and its rules.

    Args:
        id: Name in jobs.
        model_id: What the board's `profile` must answer as its model.
        classes: Number of classes, the length of a result.
        top1_target: Smallest top-1 accuracy of a valid accuracy run.
        trials: Trials of a performance or energy run.
        min_window_s: Shortest window of a performance or energy trial, s.
        min_inferences: Fewest inferences in such a window.
        warmups: Inferences before each window that are not timed.
        source: Where rules and inputs come from.
    """

    id: str
    model_id: str
    classes: int
    top1_target: float
    trials: int
    min_window_s: float
    min_inferences: int
    warmups: int
    source: str

    def inputs(self) -> Inputs:
        """The benchmark's inputs, read once."""
        from labd.benchmarks.inputs import read_inputs  # noqa: PLC0415 - loads numpy, and clients only ask for names

        return read_inputs(self.id)


BENCHMARKS = {
    benchmark.id: benchmark
    for benchmark in (
        Benchmark(
            id="digits01",
            model_id="digits01",
            classes=10,
            top1_target=0.95,
            trials=5,
            min_window_s=1.0,
            min_inferences=10,
            warmups=10,
            source="labd's own: held-out images of scikit-learn's bundled digits; trials as in MLPerf Tiny v1.4",
        ),
    )
}
