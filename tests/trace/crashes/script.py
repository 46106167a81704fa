"""What a recording holds: everything follows from a seed, so the judge knows it without having seen it.

A sample is a hash of its index and of the trace's seed: a batch that lies in the wrong place, or is another trace's, is
never equal by chance. A script says in which blocks, at which pace, with which holes, marks and edges they come.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt

from drivers.api import Block, Edge, Interval, IntervalKind, Quantity
from labd.trace.journal import EdgeSeen, Marked, Record
from labd.trace.meta import TraceMeta
from tests.trace.recording import D, I, V, make_meta

LONGEST_BLOCK = 300_000
QUANTITIES = (I, V, D)


@dataclass(frozen=True, slots=True)
class Step:
    """One call of `write` and what goes before it.

    Args:
        edges: Journalled first.
        start: Samples of the trace before it; a hole lies between them and `first`.
        first: Index of the block's first sample.
        stop: Index after its last one.
        marks: Go with the block.
        pause_s: How long nothing comes afterwards, s.
    """

    edges: tuple[Edge, ...]
    start: int
    first: int
    stop: int
    marks: tuple[Interval, ...]
    pause_s: float

    @property
    def records(self) -> tuple[Record, ...]:
        """Everything that the journal holds of this step, in order: the writer marks a hole that nothing speaks of."""
        marks = [Marked.of(mark) for mark in self.marks]
        if self.first > self.start and not any(mark.kind is IntervalKind.OVERFLOW for mark in self.marks):
            marks.insert(0, Marked.of(Interval(IntervalKind.GAP, self.start, self.first)))
        return (*map(EdgeSeen.of, self.edges), *marks)


@dataclass(frozen=True)
class Script:
    """One recording."""

    trace_id: str
    salt: int
    sync_s: float
    coalesce_s: float
    steps: tuple[Step, ...]

    @property
    def meta(self) -> TraceMeta:
        """The sidecar."""
        return make_meta(self.trace_id, QUANTITIES)

    @property
    def rows(self) -> int:
        """Samples of the whole recording, those of holes among them."""
        return self.steps[-1].stop

    @cached_property
    def records(self) -> tuple[Record, ...]:
        """The journal of the whole recording."""
        return tuple(record for step in self.steps for record in step.records)

    @cached_property
    def columns(self) -> dict[Quantity, npt.NDArray[Any]]:
        """All samples; NaN in holes, 0 in their digital column."""
        mixed = np.arange(self.rows, dtype=np.uint32)
        mixed *= np.uint32(2_654_435_761)
        mixed += np.uint32(self.salt)
        mixed ^= mixed >> np.uint32(15)
        mixed *= np.uint32(2_246_822_519)
        mixed ^= mixed >> np.uint32(13)
        columns: dict[Quantity, npt.NDArray[Any]] = {
            I: (mixed >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-28),
            V: (mixed & np.uint32(0xFFFF)).astype(np.float32) * np.float32(2.0**-18) + np.float32(3.0),
            D: (mixed >> np.uint32(5)).astype(np.uint8),
        }
        for step in self.steps:
            for quantity, values in columns.items():
                values[step.start : step.first] = 0 if quantity is D else np.nan
        return columns

    def block(self, step: Step) -> Block:
        """What the instrument hands over."""
        return Block(step.first, {q: values[step.first : step.stop] for q, values in self.columns.items()}, step.marks)

    def records_before(self, rows: int) -> int:
        """How many records were journalled before samples up to `rows` could be written."""
        return sum(len(step.records) for step in self.steps if step.start < rows)


@dataclass(frozen=True, slots=True)
class Style:
    """What scripts are like.

    Args:
        rows_most: Samples at most, about.
        sync_s: Intervals between syncs to choose from, s.
        pauses_s: Sum of all pauses, least and most, s.
    """

    rows_most: int = 2_500_000
    sync_s: tuple[float, ...] = (0.05, 0.2, 1.0)
    pauses_s: tuple[float, float] = (0.0, 0.8)


def draw(seed: str, style: Style) -> Script:
    """Draw the script of a seed."""
    random = Random(seed)
    steps: list[Step] = []
    wanted = int(np.exp(random.uniform(np.log(20_000), np.log(style.rows_most))))
    edges = _edges(random)
    at = 0
    while at < wanted:
        sizes, weights, count = random.choice(
            (
                ((1, 60), (0.0, 4.0), random.randint(4, 25)),  # a slow instrument
                ((300, 25_000), (0.0, 1.0), random.randint(5, 50)),
                ((50_000, LONGEST_BLOCK), (0.0, 0.0), random.randint(1, 6)),  # as fast as it goes
            )
        )
        for _ in range(count):
            step = _step(random, at, random.randint(*sizes), random.uniform(*weights), edges)
            steps.append(step)
            at = step.stop
    pauses = [step.pause_s for step in steps]
    if sum(pauses) == 0:
        pauses = [1.0] * len(steps)
    factor = random.uniform(*style.pauses_s) / sum(pauses)
    return Script(
        trace_id="t" + "".join(c if c.isalnum() else "_" for c in seed),
        salt=random.getrandbits(32),
        sync_s=random.choice(style.sync_s),
        coalesce_s=random.choice((0.0, 0.02, 0.1)),
        steps=tuple(replace(step, pause_s=factor * pause) for step, pause in zip(steps, pauses, strict=True)),
    )


def _step(random: Random, at: int, size: int, pause_s: float, edges: Iterator[Edge]) -> Step:
    first = at + (random.randint(1, 4 * size) if random.random() < 0.12 else 0)
    stop = first + size
    marks = []
    if random.random() < 0.3:  # right before the samples that it speaks of
        start = random.randint(first, stop - 1)
        marks.append(Interval(IntervalKind.CLIPPED, start, random.randint(start + 1, stop)))
    if first > at and random.random() < 0.5:
        marks.append(Interval(IntervalKind.OVERFLOW, at, first))
    seen = tuple(next(edges) for _ in range(random.choice((0, 0, 0, 1, 2, 40))))
    return Step(seen, at, first, stop, tuple(marks), pause_s)


def _edges(random: Random) -> Iterator[Edge]:
    ticks = sequence = 0
    while True:
        ticks += random.randint(1_000_000, 5_000_000)
        yield Edge(pin=0, level=sequence % 2, ticks=ticks, sequence=sequence)
        sequence += 1
