"""Holds what a crash has left against what the child had said before.

First a reader looks at the folder as it lies there: all that it gives must be true, or it must refuse. Then the folder
is salvaged, and must be a whole sealed trace of true samples, with every mark that speaks of one of them, and hold at
least what was sure.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt

from drivers.api import IntervalKind
from labd.errors import TraceError
from labd.trace.journal import Marked, Record, Salvaged
from labd.trace.layout import BLOCKS, PYRAMID, SEAL, locked, pyramid_row, summarised
from labd.trace.reader import Trace
from labd.trace.seal import SEALED_FILES, SealState, salvage, seal, verify
from tests.trace.crashes.script import QUANTITIES, Script
from tests.trace.recording import D, I, V

Floats = npt.NDArray[np.float64]
PIECE = 1 << 19


@dataclass(frozen=True, slots=True)
class Account:
    """What is known of a recording at the moment of the crash.

    Args:
        script: What it was to hold.
        created: Whether `create` had returned.
        rows_sure: Samples that must come back.
        rows_most: Samples that the writer may have had.
        records_sure: Records of the journal that must come back.
        records_most: Records that it may have had.
        closed: Whether `close` had returned.
        sealed: Whether `seal` had returned.
        readable: Whether a reader must be able to open it as it is.
    """

    script: Script
    created: bool
    rows_sure: int
    rows_most: int
    records_sure: int
    records_most: int
    closed: bool
    sealed: bool
    readable: bool


@dataclass(slots=True)
class Verdict:
    """What came of one folder.

    Args:
        rows: Samples of the salvaged trace; holes made by the salvage among them.
        intact: Samples before the first that was lost.
        refused: What the reader said that would not open the folder as it lay there; empty if it did.
        state: State of the seal; None if there is nothing to seal.
        broken: What is wrong, a sentence each.
    """

    rows: int = 0
    intact: int = 0
    refused: str = ""
    state: SealState | None = None
    broken: list[str] = field(default_factory=list)


Step = Callable[[Path], object]


def judge(folder: Path, account: Account, *, seed: str, salvaged_before: Step | None = None) -> Verdict:
    """Judge one folder; it is salvaged.

    Args:
        folder: The trace's folder as the crash has left it.
        account: What is known of it.
        seed: Of the windows that are looked at.
        salvaged_before: Begins to salvage the folder, and may be cut off itself.
    """
    verdict = Verdict()
    random = Random(seed)
    try:
        _before(folder, account, verdict, random)
        if salvaged_before is not None:
            salvaged_before(folder)
        _after(folder, account, verdict, random)
    except Exception as error:  # whatever is raised is what the judge has found
        place = traceback.extract_tb(error.__traceback__)[-1]
        verdict.broken.append(f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})")
    return verdict


def _before(folder: Path, account: Account, verdict: Verdict, random: Random) -> None:
    try:
        trace = Trace.open(folder)
        findings = [*_untrue(trace, account), *_unlike(trace, random)]
    except TraceError as error:
        verdict.refused = str(error)
        if account.readable:
            verdict.broken.append(f"a reader refused what a kill had left: {error}")
        return
    verdict.broken += [f"before the salvage: {finding}" for finding in findings]
    if account.readable and trace.rows < account.rows_sure:
        verdict.broken.append(f"a reader saw {trace.rows} samples of {account.rows_sure} that had been written")
    if account.sealed:
        verify(folder)


def _after(folder: Path, account: Account, verdict: Verdict, random: Random) -> None:
    try:
        made = salvage(folder)
    except TraceError as error:
        if account.created:
            verdict.broken.append(f"salvage failed: {error}")
        return  # a trace that was never created holds nothing
    verdict.state = made.state
    if verify(folder) != made or seal(folder) != made or salvage(folder) != made:
        verdict.broken.append("a second seal is another one")
    left = {path.name for path in folder.iterdir()}
    if left != {*SEALED_FILES, SEAL}:
        verdict.broken.append(f"the folder holds {sorted(left)}")
    with locked(folder):
        pass
    trace = Trace.open(folder)
    told, doubted = _journal(trace, account)
    verdict.rows = trace.rows
    verdict.intact = min((mark.start for mark in doubted), default=trace.rows)
    verdict.broken += [*_untrue(trace, account), *_unlike(trace, random), *_pyramid_wrong(folder, trace)]
    if verdict.intact < account.rows_sure:
        verdict.broken.append(f"{verdict.intact} samples came back of {account.rows_sure} that were sure")
    if told < account.records_sure:
        verdict.broken.append(f"{told} records came back of {account.records_sure} that were sure")
    if account.closed and (made.state, made.rows) != (SealState.SEALED, account.script.rows):
        verdict.broken.append(f"a closed trace became {made.state.value} with {made.rows} samples")


def _journal(trace: Trace, account: Account) -> tuple[int, list[Marked]]:
    """How many records are the recorder's own, and the gaps that stand for what a crash has taken."""
    own = account.script.records
    told = next((at for at, (found, wrote) in enumerate(zip(trace.records, own, strict=False)) if found != wrote), None)
    told = min(len(trace.records), len(own)) if told is None else told
    return told, [record for record in trace.records[told:] if isinstance(record, Marked)]


def _untrue(trace: Trace, account: Account) -> list[str]:
    """What a reader gives that was never written, and marks that are missing."""
    script, rows = account.script, trace.rows
    if rows > account.rows_most:
        return [f"{rows} samples, but only {account.rows_most} were ever handed over"]
    told, doubted = _journal(trace, account)
    broken = []
    for start in range(0, rows, PIECE):
        stop = min(start + PIECE, rows)
        for quantity in QUANTITIES:
            read = trace.samples(quantity, start, stop)
            truth = script.columns[quantity][start:stop]
            bits = np.dtype(f"u{read.itemsize}")
            wrong = np.flatnonzero(read.view(bits) != truth.view(bits))
            if quantity is not D:
                wrong = wrong[~(np.isnan(read[wrong]) & np.isnan(truth[wrong]))]
            blank = read[wrong] == 0 if quantity is D else np.isnan(read[wrong])
            for mark in doubted:  # a gap says itself that nothing is known there
                inside = (wrong + start >= mark.start) & (wrong + start < mark.stop) & blank
                wrong, blank = wrong[~inside], blank[~inside]
            if len(wrong):
                broken.append(f"{len(wrong)} samples of {quantity.value} are wrong, sample {start + wrong[0]} first")
    strange: list[Record] = [record for record in trace.records[told:] if not isinstance(record, Salvaged | Marked)]
    strange += [mark for mark in doubted if mark.kind is not IntervalKind.GAP]
    if strange or told > account.records_most:
        broken.append(f"the journal tells what never happened: {(*strange, f'{told} records')[0]}")
    sure_rows = min((mark.start for mark in doubted if mark.stop >= rows), default=rows)
    if told < (needed := script.records_before(sure_rows)):
        broken.append(f"{told} records are there, but the {sure_rows} samples need {needed}")
    marked = {(mark.kind, mark.start, mark.stop) for mark in trace.marked()}
    expected = (record for record in script.records[:told] if isinstance(record, Marked))
    if missing := [mark for mark in expected if (mark.kind, mark.start, mark.stop) not in marked]:
        broken.append(f"{len(missing)} marks are not found, {missing[0]} first")
    return broken


def _analog(trace: Trace, start: int, stop: int) -> dict[str, Floats]:
    analog = {q.value: trace.samples(q, start, stop).astype(np.float64) for q in (I, V)}
    return {**analog, "power": analog[I.value] * analog[V.value]}


def _unlike(trace: Trace, random: Random) -> list[str]:
    """Overviews and energies that are not those of the samples."""
    rows, broken = trace.rows, []
    if rows == 0:
        return []
    for pixels in (1, random.randint(2, 50), 1000):
        first, stop = sorted(random.randint(0, rows) for _ in range(2)) if pixels != 1 else (0, rows)
        if first == stop:
            continue
        seen = trace.overview(first * trace.period_s, stop * trace.period_s, pixels)
        cuts = np.rint(seen.limits_s / trace.period_s).astype(np.int64)
        if not (cuts[0] <= first and cuts[-1] >= stop and np.array_equal(np.diff(cuts), seen.counts)):
            broken.append(f"an overview of {first} to {stop} has the limits {cuts[0]} to {cuts[-1]}")
            continue
        for name, values in _analog(trace, int(cuts[0]), int(cuts[-1])).items():
            low, high, mean = _envelope(values, cuts - cuts[0])
            found = seen.envelopes[name]
            for figure, ours, theirs, rtol in (
                ("min", low, found.min, 1e-6),  # the power's extremes are rounded to float32
                ("max", high, found.max, 1e-6),
                ("mean", mean, found.mean, 1e-12),
            ):
                if not np.allclose(ours, theirs, rtol=rtol, atol=0, equal_nan=True):
                    broken.append(f"the {figure} of {name} of an overview of {first} to {stop} is not the samples'")
    for _ in range(12):
        start, end = sorted(random.uniform(0, rows) for _ in range(2))
        broken += _energy_wrong(trace, start, end)
    return broken


def _energy_wrong(trace: Trace, start: float, stop: float) -> list[str]:
    first, last = math.floor(start), math.ceil(stop)
    power = _analog(trace, first, last)["power"]
    share = np.ones(last - first)
    share[0] -= start - first
    share[-1] -= last - stop
    expected = float((power * share).sum()) * trace.period_s
    try:
        energy = trace.energy(start, stop)
    except TraceError as error:
        return [f"the energy of {start} to {stop} was refused: {error}"] if np.isfinite(expected) else []
    if np.isclose(energy, expected, rtol=1e-11, atol=1e-15):
        return []
    return [f"the energy of {start} to {stop} is {energy}, not {expected}"]


def _envelope(values: Floats, cuts: npt.NDArray[np.int64]) -> tuple[Floats, Floats, Floats]:
    """Least, greatest and mean finite value between cuts."""
    at = cuts[:-1]
    finite = np.isfinite(values)
    counts = np.add.reduceat(finite.astype(np.int64), at)
    total = np.add.reduceat(np.where(finite, values, 0.0), at)
    mean = np.divide(total, counts, out=np.full(len(at), np.nan), where=counts > 0)
    return np.fmin.reduceat(values, at), np.fmax.reduceat(values, at), mean


def _pyramid_wrong(folder: Path, trace: Trace) -> list[str]:
    """Rows of the pyramid's files that are not those of the samples."""
    broken = []
    rows = trace.rows
    analog = _analog(trace, 0, rows)
    for name, block in zip(PYRAMID, BLOCKS, strict=True):
        found = np.fromfile(folder / name, dtype=pyramid_row(trace.meta))
        cuts = np.append(np.arange(0, rows, block), rows)
        if not (np.array_equal(found["first"], cuts[:-1]) and np.array_equal(found["count"], np.diff(cuts))):
            broken.append(f"{name} has {len(found)} rows, not those of {rows} samples")
            continue
        for column in summarised(trace.meta) if rows else ():
            values = analog[column]
            low, high, mean = _envelope(values, cuts)
            counts = np.add.reduceat(np.isfinite(values).astype(np.int64), cuts[:-1])
            squares = np.add.reduceat(np.where(np.isfinite(values), values * values, 0.0), cuts[:-1])
            agree = (
                np.array_equal(found[f"{column}_finite"], counts)
                and np.allclose(found[f"{column}_min"], low, rtol=1e-6, atol=0, equal_nan=True)
                and np.allclose(found[f"{column}_max"], high, rtol=1e-6, atol=0, equal_nan=True)
                and np.allclose(found[f"{column}_sum"], np.nan_to_num(mean) * counts, rtol=1e-11, atol=0)
                and np.allclose(found[f"{column}_sumsq"], squares, rtol=1e-11, atol=0)
            )
            if not agree:
                broken.append(f"{name} is not the pyramid of the samples of {column}")
    return broken
