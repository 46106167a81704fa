"""What a crash has left of a trace: found out without a change, then made whole.

- Of the samples every batch counts that is as it was meant, by its entry in the index and its digest. Beyond what was
  known to be durable the first that is not ends the trace: what a power cut leaves there comes in no order. Before
  that only damage of the disk can spoil a batch: it leaves a hole of NaN (0 in a digital column), marked as a gap, and
  what follows is kept.
- The journal is cut at its first line that is no record. Samples that were written later than that line are kept, but
  a mark that was about them may be lost: they are marked as a gap themselves, from there to the end. If all lines are
  records, but not those of the trace that was closed, there is no telling which has changed: all is marked.
- What was cut is said in the journal, by `Salvaged`, before the marks: started again, a salvage that was killed still
  knows what the recorder had written.

Of the pyramid nothing is kept: a seal makes it from the samples that it vouches for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import xxhash

from drivers.api import Interval, IntervalKind
from labd.errors import TraceError
from labd.trace.files import LocalFiles
from labd.trace.index import ENTRY, Entry, Index
from labd.trace.journal import JOURNAL, JournalFile, Marked, Record, Salvaged, Told, encode, parse
from labd.trace.layout import END_OF_STREAM, INDEX, PARQUET, SAMPLES, samples_schema, sync_file, write_durably
from labd.trace.meta import TraceMeta
from labd.trace.samples import HotSamples, examine_hot


@dataclass(frozen=True, slots=True)
class Found:
    """What is there of a trace that has no seal.

    Args:
        samples: All samples that can be trusted, with what stands for those that cannot.
        told: What can be read of the journal.
        journal_bytes: How long the journal is.
        amiss: What it lacks of a trace that was closed, one sentence; empty if nothing.
    """

    samples: HotSamples
    told: Told
    journal_bytes: int
    amiss: str


def examine(folder: Path, meta: TraceMeta) -> Found:
    """Look at every byte of a trace that is neither sealed nor being recorded.

    A file that a recording makes at its beginning and that is not there is made empty.

    Raises:
        TraceError: samples are there without their index, or were taken away, or are another trace's.
    """
    _make_missing(folder, meta)
    files = LocalFiles(folder)
    samples = examine_hot(files, meta)
    data, end = files.read(JOURNAL), _end(files)
    told = parse(data)
    if end is not None and told.recorded == end.journal and xxhash.xxh3_64_intdigest(data[: end.journal]) != end.digest:
        told = replace(told, recorded=0)
    return Found(samples, told, len(data), _amiss(files, samples, told, len(data), end))


def repair(folder: Path, found: Found) -> None:
    """Put the journal in order, so that the trace can be sealed. Raises `TraceError` if the disk refuses it."""
    try:
        for name in (SAMPLES, INDEX, JOURNAL):
            sync_file(folder / name)  # what was never synced before is about to be vouched for
        missing = [record for record in _additions(found) if record not in found.told.records]
        if missing or found.told.bytes < found.journal_bytes:
            kept = (folder / JOURNAL).read_bytes()[: found.told.bytes]
            write_durably(folder / JOURNAL, kept + b"".join(map(encode, missing)))
    except OSError as error:
        raise TraceError(f"the trace cannot be repaired: {error}", where=str(folder)) from error


def _additions(found: Found) -> list[Record]:
    """What the journal has to say of the salvage."""
    samples, told = found.samples, found.told
    gaps = list(samples.holes())
    upto = samples.told_to(told.recorded)
    if upto < samples.rows:
        gaps.append((upto, samples.rows))
    marks: list[Record] = [Marked.of(Interval(IntervalKind.GAP, *gap)) for gap in gaps]
    cut = found.journal_bytes - told.bytes
    begun = any(isinstance(record, Salvaged) for record in told.records)
    return marks if begun or not (marks or cut) else [Salvaged(journal=told.bytes, cut=cut), *marks]


def _make_missing(folder: Path, meta: TraceMeta) -> None:
    hot = [name for name in (SAMPLES, INDEX) if (folder / name).exists()]
    if not hot and (folder / PARQUET).exists():
        raise TraceError("the samples were taken away before the trace was sealed", where=str(folder / SAMPLES))
    # A power cut right after the files were made may leave either name. Beyond the schema there are batches.
    if hot == [SAMPLES] and (folder / SAMPLES).stat().st_size > samples_schema(meta).serialize().size:
        raise TraceError("the index is missing: without it samples cannot be told from damage", where=str(folder))
    for name in (SAMPLES, INDEX):
        (folder / name).touch()
    if not (folder / JOURNAL).exists():
        JournalFile(folder / JOURNAL).close()


def _end(files: LocalFiles) -> Entry | None:
    """The entry that closes the trace, if it was closed."""
    index = Index(files)
    end = index.entry(len(index) - 1) if len(index) else None
    whole = files.size(INDEX) == len(index) * ENTRY.itemsize
    return end if end is not None and end.count == 0 and whole else None


def _amiss(files: LocalFiles, samples: HotSamples, told: Told, journal_bytes: int, end: Entry | None) -> str:
    if end is None:
        return "its index has no end"
    if end.first != samples.rows or end.durable != samples.rows or any(samples.holes()):
        return f"{samples.rows} samples are there of {end.first}, or some were lost in between"
    try:
        closed = bytes(files.span(SAMPLES, end.offset, files.size(SAMPLES))) == END_OF_STREAM
    except TraceError:
        closed = False
    if not closed:
        return "its samples have no end"
    # what a salvage has added is there, but was not recorded
    return "" if told.recorded == journal_bytes == end.journal else "its journal has changed"
