"""What a benchmark finds: numbers, each held against a limit that does not depend on the machine."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Better(StrEnum):
    """On which side of its limit a value has to be."""

    HIGHER = "higher"
    LOWER = "lower"


@dataclass(frozen=True, slots=True)
class Figure:
    """One number that a benchmark finds.

    Args:
        name: What it tells.
        value: What was found.
        unit: Its unit; "1" for a ratio.
        limit: What it has to reach, or must not pass.
        better: Which of the two.
        against: What it was measured against in the same run, with the absolute figures behind it, for people.
    """

    name: str
    value: float
    unit: str
    limit: float
    better: Better
    against: str

    @property
    def ok(self) -> bool:
        """Whether the limit is kept; a value that is no number does not keep it."""
        return self.value >= self.limit if self.better is Better.HIGHER else self.value <= self.limit


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Median of the ratios of neighbours in time, so that a slow spell of the machine meets both sides."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
