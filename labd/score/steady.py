"""Where a board is steady: the stretches of its rests in which nothing of its own is seen.

What a board does looks like an instrument's noise. In frames of 20 ms, those that scatter about as little as the
quietest are steady: a line on the UART, a warm-up, a pulse of the sync load scatter more. Frames that follow each other
at one level are a stretch, and of the stretches those at the lowest level are taken: there a board sleeps. All limits
are relative to what the quietest frames show, so that they hold for noise of any strength, and a level is one level as
long as it wanders by no more than slow noise does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

FRAME = 20
"""Blocks of a frame: a period of 50 Hz, so that hum scatters alike in each."""
QUIETEST = 5.0
"""Percentile of the frames' variances that is surely of steady ones."""
QUIET = 8.0
"""A frame is steady if its variance is at most so many times that percentile, which is 0.53 times the mean for white
noise; 4.2 times the mean is one frame in 10^8 of white noise, and one in 10^3 of flicker."""
LEVEL = 6.0
"""Frames are at one level if their means differ by at most so many standard deviations of such differences, and so are
stretches: a board that idles now at one current and now at another is not noisy."""
MET = 4
"""A level is met again and again if so many stretches are at it."""
TRIMMED = 4
"""Runs of so many steady frames are used without the first and the last."""


def steady(powers: Sequence[Floats]) -> list[list[slice]]:
    """Of each rest, the stretches of whole frames in which the board does nothing that is seen."""
    framed = [power[: len(power) // FRAME * FRAME].reshape(-1, FRAME) for power in powers]
    variances = [frames.var(axis=1, ddof=1) for frames in framed]
    known = np.concatenate(variances)
    known = known[np.isfinite(known)]
    if not len(known):
        return [[] for _ in powers]
    limit = QUIET * float(np.percentile(known, QUIETEST))
    runs = [list(_runs(variance <= limit)) for variance in variances]
    apart = LEVEL * _level_scatter([frames[run] for frames, mine in zip(framed, runs, strict=True) for run in mine])
    return [
        [slice(part.start * FRAME, part.stop * FRAME) for run in mine for part in _cut(frames, run, apart)]
        for frames, mine in zip(framed, runs, strict=True)
    ]


def _runs(flags: npt.NDArray[np.bool_]) -> Iterator[slice]:
    """The runs of true flags; of long ones without their ends, where a board settles."""
    ends = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    for begin, end in zip(ends[::2].tolist(), ends[1::2].tolist(), strict=True):
        yield slice(begin + 1, end - 1) if end - begin >= TRIMMED else slice(begin, end)


def _level_scatter(runs: Sequence[Floats]) -> float:
    """Standard deviation of the differences of neighbouring frames' means, by their median (1.4826 MAD)."""
    differences = [np.abs(np.diff(run.mean(axis=1))) for run in runs]
    white = [float(run.var(axis=1, ddof=1).mean()) for run in runs]
    seen = np.concatenate([*differences, np.empty(0)])
    least = math.sqrt(2 * float(np.mean(white)) / FRAME) if white else 0.0
    return max(1.4826 * float(np.median(seen)) if len(seen) else 0.0, least)


def _cut(frames: Floats, run: slice, apart: float) -> Iterator[slice]:
    """A run of frames, cut where the level changes."""
    steps = run.start + 1 + np.flatnonzero(np.abs(np.diff(frames[run].mean(axis=1))) > apart)
    for begin, end in pairwise([run.start, *steps.tolist(), run.stop]):
        yield slice(begin, end)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive steady blocks of one level.

    Args:
        start_s: When they begin, s.
        power: The blocks, shape (n,).
        quiet: The same without hum, shape (n,).
    """

    start_s: float
    power: Floats
    quiet: Floats


def lowest(stretches: Sequence[Stretch], least: int) -> list[Stretch]:
    """Those at the lowest level that holds `least` blocks, else at that of most: a board asleep does least.

    A level that is met again and again goes first, since that tells slow noise too (`MET`).
    """
    ordered = sorted(stretches, key=lambda stretch: float(stretch.quiet.mean()))
    levels = np.array([float(stretch.quiet.mean()) for stretch in ordered])
    if not ordered:
        return []
    cuts = (1 + np.flatnonzero(np.diff(levels) > LEVEL * _wander(ordered))).tolist()
    groups = [ordered[begin:end] for begin, end in pairwise([0, *cuts, len(ordered)])]
    counts = [sum(len(stretch.power) for stretch in group) for group in groups]
    enough = [k for k, count in enumerate(counts) if count >= least]
    again = [k for k in enough if len(groups[k]) >= MET]
    chosen = next(iter(again or enough), int(np.argmax(counts)))
    return sorted(groups[chosen], key=lambda stretch: stretch.start_s)


def _wander(stretches: Sequence[Stretch]) -> float:
    """Standard deviation of the differences of neighbouring half frames' means, by their median (1.4826 MAD)."""
    half = FRAME // 2
    halves = [
        stretch.quiet[: len(stretch.quiet) // half * half].reshape(-1, half).mean(axis=1) for stretch in stretches
    ]
    seen = np.abs(np.concatenate([np.diff(each) for each in halves]))
    return 1.4826 * float(np.median(seen)) if len(seen) else 0.0
