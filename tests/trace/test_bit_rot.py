"""A closed trace whose disk flips bits before it is sealed: what is vouched for is what was recorded, or is marked."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from drivers.api import Block, Interval, IntervalKind
from labd.errors import TraceError
from labd.trace.files import LocalFiles
from labd.trace.index import ENTRY
from labd.trace.journal import JOURNAL, EdgeSeen, Record, TrialEnded, read_journal
from labd.trace.layout import INDEX, PYRAMID
from labd.trace.reader import Trace
from labd.trace.seal import SealState, salvage, seal, verify
from labd.trace.writer import TraceWriter
from tests.trace.recording import WHEN, D, I, V, make_meta, make_signal

ROWS, BATCH = 40_500, 4_000
SIGNAL = make_signal(ROWS, quantities=(I, V, D))
POWER = SIGNAL[I].astype(np.float64) * SIGNAL[V]


def record(base: Path, told: Iterable[Record] = ()) -> Path:
    """Record batches of 4,000 samples with an edge before each, and some records before the last one."""
    writer = TraceWriter.create(base, make_meta(quantities=(I, V, D)), coalesce_s=0.0)
    for first in range(0, ROWS, BATCH):
        writer.journal(EdgeSeen(pin=0, level=0, ticks=1000 + first, sequence=first // BATCH))
        for one in told if first + BATCH >= ROWS else ():
            writer.journal(one)
        writer.write(Block(first, {q: values[first : first + BATCH] for q, values in SIGNAL.items()}))
    return writer.close().folder


def flip(path: Path, at: int, bit: int = 1) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= bit
    path.write_bytes(data)


@pytest.mark.parametrize("level", range(len(PYRAMID)))
def test_a_row_of_the_pyramid_that_has_changed_is_not_sealed(tmp_path: Path, level: int) -> None:
    folder = record(tmp_path)
    right = (folder / PYRAMID[level]).read_bytes()
    flip(folder / PYRAMID[level], 46, 0x10)  # in a sum of power
    assert seal(folder).state is SealState.SEALED
    assert verify(folder).rows == ROWS
    assert (folder / PYRAMID[level]).read_bytes() == right
    trace = Trace.open(folder)
    assert trace.energy(0, ROWS) == pytest.approx(POWER.sum() * trace.period_s, rel=1e-12)


def test_a_figure_that_has_changed_in_the_journal_is_not_sealed(tmp_path: Path) -> None:
    folder = record(tmp_path)
    lines = (folder / JOURNAL).read_bytes().splitlines(keepends=True)
    flip(folder / JOURNAL, sum(map(len, lines[:5])) + lines[5].index(b"21000") + 1)  # 21000 ticks become 20000
    read_journal(folder)  # every line is still a record
    with pytest.raises(TraceError, match="journal has changed"):
        seal(folder)
    assert salvage(folder).state is SealState.SALVAGED
    trace = Trace.open(folder)
    np.testing.assert_array_equal(trace.samples(I), SIGNAL[I])
    assert trace.marked() == (Interval(IntervalKind.GAP, 0, ROWS),)  # nobody can tell which line it is


def test_a_salvage_that_was_killed_is_one_even_if_it_left_the_journal_as_long_as_it_was(tmp_path: Path) -> None:
    """The last line is damaged, and just as long as what the salvage says instead of it."""

    def salvaged(base: Path, length: int) -> tuple[Path, dict[str, bytes], int, int]:
        folder = record(base, [TrialEnded(index=0, failure="x" * length, at=WHEN)])
        size = (folder / JOURNAL).stat().st_size
        flip(folder / JOURNAL, size - 3)
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        assert salvage(folder).state is SealState.SALVAGED
        return folder, before, size, (folder / JOURNAL).stat().st_size

    _, _, size, after = salvaged(tmp_path / "first", 50)
    folder, before, size, after = salvaged(tmp_path / "second", 50 + after - size)
    assert after == size
    (folder / "seal.json").unlink()  # as if it had been killed before it sealed
    (folder / "samples.parquet").unlink()
    for name, data in before.items():
        if name != JOURNAL:
            (folder / name).write_bytes(data)
    assert salvage(folder).state is SealState.SALVAGED


@pytest.mark.parametrize("place", [2, 5, 8])
def test_an_entry_of_the_index_that_has_changed_never_leads_to_other_samples(tmp_path: Path, place: int) -> None:
    folder = record(tmp_path)
    flip(folder / INDEX, place * ENTRY.itemsize + 5)  # its first sample, by 2^40
    for start in range(0, ROWS - 20, 1999):
        for read in (
            lambda t, a=start: t.samples(I, a, a + 10).tolist() == SIGNAL[I][a : a + 10].tolist(),
            lambda t, a=start: t.energy(a, a + 10) == pytest.approx(POWER[a : a + 10].sum() * t.period_s, rel=1e-12),
        ):
            try:
                assert read(Trace.open(folder)), start
            except TraceError as error:
                assert "damaged" in error.message, start  # noqa: PT017
    assert salvage(folder).rows == ROWS
    assert len(Trace.open(folder).marked()) == 1


def test_a_seal_of_other_samples_is_refused(tmp_path: Path) -> None:
    long, short = record(tmp_path / "long"), tmp_path / "short"
    writer = TraceWriter.create(short, make_meta(quantities=(I, V, D)))
    writer.write(Block(0, {q: values[:10] for q, values in SIGNAL.items()}))
    other = writer.close().folder
    for folder in (long, other):
        seal(folder)
    (long / "samples.parquet").write_bytes((other / "samples.parquet").read_bytes())
    with pytest.raises(TraceError, match="10 samples"):
        Trace.open(LocalFiles(long)).samples(I, 0, 5)


def test_no_byte_of_the_sealed_samples_that_has_changed_is_read_as_a_sample(tmp_path: Path) -> None:
    folder = record(tmp_path)
    seal(folder)
    path, random = folder / "samples.parquet", np.random.default_rng(8)
    data = path.read_bytes()
    for place in random.integers(0, len(data), 60).tolist():
        flip(path, place, 1 << int(random.integers(8)))
        with suppress(TraceError):  # named, or it makes no difference
            for piece in Trace.open(folder).pieces():
                for quantity, values in piece.columns.items():
                    np.testing.assert_array_equal(values, SIGNAL[quantity])
        path.write_bytes(data)
