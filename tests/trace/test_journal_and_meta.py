"""The journal and the sidecar: what is torn never happened, what is damaged is an error."""

from __future__ import annotations

import threading
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from drivers.api import Edge, Interval, IntervalKind
from labd.errors import TraceError
from labd.trace.journal import (
    EdgeSeen,
    JournalFile,
    Marked,
    Record,
    SyncPulse,
    TrialEnded,
    TrialStarted,
    read_journal,
    trials_of,
)
from labd.trace.meta import read_meta
from labd.trace.reader import Trace
from labd.trace.timing.edges import Polarity, hold_off
from labd.trace.writer import TraceWriter
from tests.trace.recording import WHEN, I, make_meta, make_signal, record


def edge(sequence: int, ticks: int, level: int = 0, pin: int = 0) -> EdgeSeen:
    return EdgeSeen(pin=pin, level=level, ticks=ticks, sequence=sequence)


RECORDS: tuple[Record, ...] = (
    SyncPulse(pin=3, ticks=2**63, sequence=0, u_latency_s=1e-6),
    edge(1, 100),
    TrialStarted(index=0, input="µ\u2028 7", inferences=10, warmups=1, at=WHEN),
    edge(2, 1000),
    edge(3, 1010, level=1),
    edge(4, 900_000),
    TrialEnded(index=0, results=(0.5, 0.25), at=WHEN),
    Marked.of(Interval(IntervalKind.CLIPPED, 3, 9)),
    TrialStarted(index=1, input="x", inferences=10, warmups=1, at=WHEN),
    edge(5, 1_900_000),
)


@given(lost=st.integers(0, 400))
def test_a_torn_last_line_never_happened(tmp_path_factory: pytest.TempPathFactory, lost: int) -> None:
    folder = tmp_path_factory.mktemp("journal")
    file = JournalFile(folder / "journal.jsonl")
    for record_ in RECORDS:
        file.append(record_)
    file.close()
    data = (folder / "journal.jsonl").read_bytes()
    kept = data[: len(data) - lost]
    (folder / "journal.jsonl").write_bytes(kept)
    assert read_journal(folder) == RECORDS[: kept.count(b"\n")]


def test_damage_before_the_last_line_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").write_bytes(RECORDS[1].model_dump_json().encode() + b'\n{"record": "edge"}\nx')
    with pytest.raises(TraceError, match=r"journal\.jsonl: line 2"):
        read_journal(tmp_path)


def test_trials_take_the_edges_between_their_start_and_end() -> None:
    first, second = trials_of(RECORDS)
    assert [e.sequence for e in first.edges] == [2, 3, 4]
    assert first.ended == RECORDS[6]
    assert [e.sequence for e in second.edges] == [5]
    assert second.ended is None


def test_an_end_without_a_start_is_refused() -> None:
    with pytest.raises(TraceError, match="trial 0 ended"):
        trials_of(RECORDS[6:])


def test_many_threads_write_whole_lines(tmp_path: Path) -> None:
    writer = TraceWriter.create(tmp_path, make_meta())
    threads = [
        threading.Thread(target=lambda k=k: [writer.journal(edge(1000 * k + j, j)) for j in range(200)])
        for k in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close()
    found = {record_.sequence for record_ in read_journal(writer.folder) if isinstance(record_, EdgeSeen)}
    assert found == {1000 * k + j for k in range(4) for j in range(200)}
    with pytest.raises(TraceError, match="after the trace was closed"):
        writer.journal(edge(1, 1))


def test_hold_off_counts_from_the_last_kept_edge() -> None:
    ticks = [0, 49, 50, 90, 99, 100, 5000]
    edges = [Edge(0, 0, t, n) for n, t in enumerate(ticks)]
    kept = hold_off(edges, pin=0, polarity=Polarity.FALLING, tick_rate_hz=1e6, hold_off_s=50e-6)
    assert [e.ticks for e in kept] == [0, 50, 100, 5000]


def test_other_pins_and_levels_hold_nothing_off() -> None:
    edges = [Edge(1, 0, 0, 0), Edge(0, 1, 5, 1), Edge(0, 0, 10, 2), Edge(0, 1, 11, 3)]
    for polarity, expected in ((Polarity.FALLING, [10]), (Polarity.RISING, [5])):
        kept = hold_off(edges, pin=0, polarity=polarity, tick_rate_hz=1e6, hold_off_s=50e-6)
        assert [e.ticks for e in kept] == expected


def test_time_that_goes_backwards_is_refused() -> None:
    edges = [Edge(0, 0, 10, 0), Edge(0, 0, 9, 1)]
    with pytest.raises(TraceError, match="edge 1 at tick 9 lies before"):
        hold_off(edges, pin=0, polarity=Polarity.FALLING, tick_rate_hz=1e6, hold_off_s=0)


@given(st.lists(st.integers(0, 1000), max_size=30).map(sorted), st.integers(0, 100))
def test_kept_edges_are_never_closer_than_the_hold_off(ticks: list[int], least: int) -> None:
    edges = [Edge(0, 0, t, n) for n, t in enumerate(ticks)]
    kept = hold_off(edges, pin=0, polarity=Polarity.FALLING, tick_rate_hz=1.0, hold_off_s=least)
    assert all(b.ticks - a.ticks >= least for a, b in pairwise(kept))
    assert kept[:1] == tuple(edges[:1])
    for dropped in set(edges) - set(kept):
        assert any(k.ticks <= dropped.ticks < k.ticks + least for k in kept)


def test_the_sidecar_comes_back_as_it_was_written(tmp_path: Path) -> None:
    meta = make_meta()
    folder = TraceWriter.create(tmp_path, meta)
    assert read_meta(folder.folder) == meta
    folder.close()


@pytest.mark.parametrize(
    "change",
    [
        {"trace_id": "../x"},
        {"trace_id": ""},
        {"period_s": 0},
        {"period_s": float("nan")},
        {"columns": ()},
        {"tick_rate_hz": None},
        {"firmware_sha256": "abc"},
    ],
)
def test_a_sidecar_that_makes_no_sense_cannot_be_made(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        make_meta(**change)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', '{"format": 2}'])
def test_a_foreign_sidecar_is_refused(tmp_path: Path, text: str) -> None:
    folder = record(tmp_path, make_signal(5))
    (folder / "meta.json").write_text(text)
    with pytest.raises(TraceError, match=r"meta\.json"):
        Trace.open(folder)


def test_a_folder_that_lacks_a_part_is_refused_with_its_name(tmp_path: Path) -> None:
    for name in ("meta.json", "samples.arrow", "samples.index", "journal.jsonl"):
        folder = record(tmp_path, make_signal(5), trace_id=name.replace(".", "-"))
        (folder / name).unlink()
        with pytest.raises(TraceError, match=name):
            Trace.open(folder)


def test_foreign_samples_are_refused(tmp_path: Path) -> None:
    ours = record(tmp_path, make_signal(5), trace_id="ours")
    theirs = record(tmp_path, make_signal(5, quantities=(I,)), trace_id="theirs")
    (theirs / "samples.arrow").replace(ours / "samples.arrow")
    with pytest.raises(TraceError, match="not those that the sidecar declares"):
        Trace.open(ours)
    (ours / "samples.arrow").write_bytes(b"GIF89a, certainly no Arrow stream at all, however long it is")
    with pytest.raises(TraceError, match="not an Arrow stream"):
        Trace.open(ours)
