"""When the daemon is killed: by chance in time, and at every place where a kill could leave a mess."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from random import Random

from labd.model.states import RunStep


class Kind(StrEnum):
    """How a moment is found."""

    START = "start"
    """A random share of the time that a start takes, after the process was begun."""
    RECOVERY = "recovery"
    """Just after the starting daemon has said that it found a run of its predecessor."""
    STEP = "step"
    """Just after a run has begun a step."""
    TIME = "time"
    """At any time while the lab is at work."""


@dataclass(frozen=True, slots=True)
class Moment:
    """When to kill.

    Args:
        kind: How the moment is found.
        share: Where in the stretch that `kind` names, 0 to 1.
        step: The step to wait for.
        after_jobs: Jobs that are completed before; those of a start or a recovery come as they come.
    """

    kind: Kind
    share: float
    after_jobs: int
    step: RunStep | None = None

    def __str__(self) -> str:
        return self.step or self.kind


_CYCLE: tuple[Kind | RunStep, ...] = (
    RunStep.MEASURE,
    Kind.RECOVERY,
    RunStep.SEAL,
    Kind.START,
    Kind.TIME,
    RunStep.SCORE,
    Kind.START,
    RunStep.FLASH,
    Kind.TIME,
    Kind.RECOVERY,
    RunStep.SEAL,
    Kind.START,
    RunStep.POWER_ON,
    Kind.TIME,
    RunStep.CALIBRATE,
    Kind.START,
    RunStep.DISCHARGE,
    Kind.RECOVERY,
    RunStep.HANDSHAKE,
    RunStep.SCORE,
)


def moments(rng: Random, kills: int, jobs: int) -> list[Moment]:
    """Draw so many moments, spread over the campaign."""
    kinds = [_CYCLE[number % len(_CYCLE)] for number in range(kills)]
    rng.shuffle(kinds)
    return [
        Moment(
            kind=Kind.STEP if isinstance(kind, RunStep) else kind,
            share=rng.random(),
            after_jobs=number * jobs // kills,
            step=kind if isinstance(kind, RunStep) else None,
        )
        for number, kind in enumerate(kinds)
    ]


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a campaign is: jobs completed, and the step of every run under way."""

    completed: int
    steps: tuple[str, ...]


def standing(database: Path) -> Standing:
    """Look into the lab's database without disturbing it; an empty one is a campaign that has not begun."""
    with _reading(database) as connection:
        try:
            (completed,) = connection.execute("SELECT count(*) FROM job WHERE state = 'completed'").fetchone()
            steps = connection.execute("SELECT step FROM run WHERE state = 'running' ORDER BY id").fetchall()
        except sqlite3.OperationalError:  # the daemon was killed before it made its tables
            return Standing(0, ())
    return Standing(completed, tuple(step for (step,) in steps))


@contextmanager
def _reading(database: Path) -> Iterator[sqlite3.Connection]:
    if not database.exists():
        with closing(sqlite3.connect(":memory:")) as nothing:
            yield nothing
        return
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=5.0)) as connection:
        yield connection
