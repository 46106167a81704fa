"""What a crash or a bad disk leaves: a power cut at any sector, spoilt batches, a damaged journal, all made good."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.api import Block, Interval, IntervalKind
from labd.errors import TraceError
from labd.trace.files import LocalFiles
from labd.trace.index import ENTRY, Index
from labd.trace.journal import EdgeSeen, JournalFile, Salvaged, read_journal
from labd.trace.layout import BLOCKS, HOT, PYRAMID, pyramid_row, samples_schema
from labd.trace.meta import read_meta
from labd.trace.reader import Trace
from labd.trace.seal import SealState, salvage, seal, verify
from labd.trace.writer import TraceWriter
from tests.trace.recording import D, I, V, make_meta, make_signal

ROWS, BATCH = 60_000, 4_000
SIGNAL = make_signal(ROWS, quantities=(I, V, D))
GROWING = (*HOT, *PYRAMID, "journal.jsonl")
SECTOR = 512
SCHEMA = len(samples_schema(make_meta(quantities=(I, V, D))).serialize())
"""Bytes that are durable before the first sample comes."""


def record(base: Path, sync_s: float = 1e9) -> TraceWriter:
    """Record batches of 4,000 samples with an edge before each."""
    writer = TraceWriter.create(base, make_meta(quantities=(I, V, D)), coalesce_s=0.0, sync_s=sync_s)
    for first in range(0, ROWS, BATCH):
        writer.journal(EdgeSeen(pin=0, level=0, ticks=first, sequence=first // BATCH))
        writer.write(Block(first, {q: values[first : first + BATCH] for q, values in SIGNAL.items()}))
    return writer


def durable_sizes(folder: Path) -> tuple[int, dict[str, int]]:
    """What the writer's last entry knows to be durable: samples, and bytes of each file."""
    index = Index(LocalFiles(folder))
    number, entry, durable = -1, None, index.durable()[1]
    for number in range(len(index)):
        entry = index.entry(number)
        if entry is not None and entry.stop == durable:
            break
    if not durable or entry is None:
        return 0, dict.fromkeys(GROWING, 0) | {"samples.arrow": SCHEMA}
    safe = {"samples.arrow": entry.end, "samples.index": (number + 1) * ENTRY.itemsize, "journal.jsonl": entry.journal}
    row = pyramid_row(read_meta(folder)).itemsize
    return durable, safe | {name: durable // block * row for name, block in zip(PYRAMID, BLOCKS, strict=True)}


@settings(max_examples=40, deadline=None)
@given(sync_s=st.sampled_from([0.0, 0.002, 1e9]), seed=st.integers(0, 2**32), share=st.sampled_from([0.02, 0.3, 0.9]))
def test_a_power_cut_costs_only_what_was_not_yet_durable(
    tmp_path_factory: pytest.TempPathFactory, sync_s: float, seed: int, share: float
) -> None:
    """Every sector written since the last sync is lost, zeroed, or half there by chance, and files end anywhere."""
    base, random = tmp_path_factory.mktemp("cut"), np.random.default_rng(seed)
    writer = record(base, sync_s=sync_s)
    left = base / "left"
    shutil.copytree(writer.folder, left)
    writer.close()
    durable, safe = durable_sizes(left)
    for name, start in safe.items():
        data = bytearray((left / name).read_bytes())
        for at in range(start // SECTOR * SECTOR, len(data), SECTOR):
            if random.random() < share:
                low, high = max(at, start), min(at + SECTOR, len(data))
                low = int(random.integers(low, high)) if random.random() < 0.3 and name not in PYRAMID else low
                data[low:high] = bytes(high - low)
        (left / name).write_bytes(data[: int(random.integers(start, len(data) + 1))])
    seen = Trace.open(left)
    for quantity, values in SIGNAL.items():
        np.testing.assert_array_equal(seen.samples(quantity), values[: seen.rows])
    power = SIGNAL[I].astype(np.float64) * SIGNAL[V]
    assert seen.energy(0, seen.rows) == pytest.approx(power[: seen.rows].sum() * seen.period_s, rel=1e-12)
    made = salvage(left)
    assert made.rows == seen.rows >= durable
    assert verify(left).state is SealState.SALVAGED
    trace = Trace.open(left)
    for quantity, values in SIGNAL.items():
        np.testing.assert_array_equal(trace.samples(quantity), values[: made.rows])
    assert trace.energy(0, made.rows) == pytest.approx(power[: made.rows].sum() * trace.period_s, rel=1e-12)
    edges = [record.sequence for record in trace.records if isinstance(record, EdgeSeen)]
    assert edges == list(range(len(edges)))
    # samples whose journal is lost are not passed off as sound
    told = min(len(edges) * BATCH, made.rows)
    assert told == made.rows or trace.marked(told, made.rows)
    shutil.rmtree(base)


def spoil(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 0x40]))


def test_a_batch_that_the_disk_has_spoilt_is_a_marked_gap_and_the_rest_is_kept(tmp_path: Path) -> None:
    folder = record(tmp_path).close().folder
    entry = Index(LocalFiles(folder)).entry(3)
    assert entry is not None
    spoil(folder / "samples.arrow", entry.end - 20)
    with pytest.raises(TraceError, match="cut off"):
        seal(folder)
    made = salvage(folder)
    assert (made.state, made.rows) == (SealState.SALVAGED, ROWS)
    trace = Trace.open(folder)
    gap = Interval(IntervalKind.GAP, 3 * BATCH, 4 * BATCH)
    assert trace.marked() == (gap,)
    assert np.isnan(trace.samples(I, gap.start, gap.stop)).all()
    assert not trace.samples(D, gap.start, gap.stop).any()
    for start, stop in ((0, gap.start), (gap.stop, ROWS)):
        np.testing.assert_array_equal(trace.samples(V, start, stop), SIGNAL[V][start:stop])
    with pytest.raises(TraceError, match="not numbers"):
        trace.energy(0, ROWS)
    verify(folder)


def test_a_spoilt_entry_of_the_index_costs_its_own_batch_alone(tmp_path: Path) -> None:
    folder = record(tmp_path).close().folder
    spoil(folder / "samples.index", 5 * ENTRY.itemsize + 8)
    with pytest.raises(TraceError, match="damaged"):
        Trace.open(folder).samples(I, 5 * BATCH, 5 * BATCH + 1)
    assert salvage(folder).rows == ROWS
    assert Trace.open(folder).marked() == (Interval(IntervalKind.GAP, 5 * BATCH, 6 * BATCH),)


@pytest.mark.parametrize("left", [0, 100, None])
def test_a_trace_cut_off_while_its_files_were_made_is_salvaged_as_empty(tmp_path: Path, left: int | None) -> None:
    writer = TraceWriter.create(tmp_path, make_meta())
    folder = shutil.copytree(writer.folder, tmp_path / "cut" / "t1")
    writer.close()
    (folder / "samples.index").unlink()
    if left is not None:
        os.truncate(folder / "samples.arrow", left)
    assert salvage(folder).rows == 0
    assert verify(folder).rows == 0


def test_samples_without_their_index_are_not_given_up_for_nothing(tmp_path: Path) -> None:
    folder = record(tmp_path).close().folder
    (folder / "samples.index").unlink()
    with pytest.raises(TraceError, match="index is missing"):
        salvage(folder)
    assert (folder / "samples.arrow").exists()


def test_a_damaged_journal_is_cut_and_what_it_may_not_tell_is_marked(tmp_path: Path) -> None:
    folder = record(tmp_path).close().folder
    lines = (folder / "journal.jsonl").read_bytes().splitlines(keepends=True)
    kept = sum(map(len, lines[:6]))
    spoil(folder / "journal.jsonl", kept)
    untold = Interval(IntervalKind.GAP, 6 * BATCH, ROWS)
    assert Trace.open(folder).marked() == (untold,)
    assert salvage(folder).rows == ROWS
    trace = Trace.open(folder)
    np.testing.assert_array_equal(trace.samples(I), SIGNAL[I])
    assert trace.marked() == (untold,)
    said = next(record for record in read_journal(folder) if isinstance(record, Salvaged))
    assert (said.journal, said.cut) == (kept, sum(map(len, lines[6:])))


def test_a_salvage_that_was_killed_still_knows_what_the_recorder_wrote(tmp_path: Path) -> None:
    folder = record(tmp_path).close().folder
    spoil(folder / "journal.jsonl", 1)
    before = {name: (folder / name).read_bytes() for name in (*HOT, *PYRAMID)}
    made = salvage(folder)
    (folder / "seal.json").unlink()  # as if it had been killed just before
    (folder / "samples.parquet").unlink()
    for name, data in before.items():
        (folder / name).write_bytes(data)
    assert salvage(folder) == made
    assert Trace.open(folder).marked() == (Interval(IntervalKind.GAP, 0, ROWS),)


def test_a_pyramid_that_is_not_whole_is_made_again(tmp_path: Path) -> None:
    folder = record(tmp_path).close().folder
    right = {name: (folder / name).read_bytes() for name in PYRAMID}
    with (folder / PYRAMID[0]).open("r+b") as file:
        file.seek(SECTOR)
        file.write(bytes(SECTOR))
    assert seal(folder).state is SealState.SEALED
    assert {name: (folder / name).read_bytes() for name in PYRAMID} == right


def test_a_full_disk_leaves_no_torn_line_in_the_journal(tmp_path: Path) -> None:
    import resource
    import signal

    journal = JournalFile(tmp_path / "journal.jsonl")
    edge = EdgeSeen(pin=0, level=0, ticks=1, sequence=1)
    journal.append(edge)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (journal.bytes + 10, limits[1]))
        with pytest.raises(TraceError, match="cannot be written"):
            journal.append(edge)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert os.stat(tmp_path / "journal.jsonl").st_size == journal.bytes
    with pytest.raises(TraceError, match="cannot be written") as again:
        journal.append(edge)  # what follows a lost record would mislead
    assert isinstance(again.value.__cause__, OSError)  # by which a full disk is told from other faults
    journal.close()
    assert read_journal(tmp_path) == (edge,)


def test_a_trace_of_the_first_format_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "meta.json").write_text('{"format": 1, "trace_id": "t1"}')
    for step in (Trace.open, salvage, seal):
        with pytest.raises(TraceError, match="is of format 1"):
            step(tmp_path)
