"""What a writer of a format takes and gives back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

Progress = Callable[[int, int], None]
"""Told how many samples are done, and how many there are in all."""


@dataclass(frozen=True, slots=True)
class Written:
    """Files that an export made, the main one first, and what a person should know about them."""

    paths: tuple[Path, ...]
    remarks: tuple[str, ...] = ()


def of_pass(progress: Progress, number: int, passes: int) -> Progress:
    """Progress of one of several passes over the same samples, told as a share of one pass."""

    def told(done: int, total: int) -> None:
        progress((number * total + done) // passes, total)

    return told


def noted(remarks: Sequence[str]) -> tuple[str, ...]:
    """The remarks that say something."""
    return tuple(remark for remark in remarks if remark)
