"""What happens in a trace besides samples: `journal.jsonl`, a line each, written as it happens.

The file only grows. A line counts once its newline is there: a torn last line is a record that never happened. A line
that is no record although others follow it is damage: in a sealed trace an error, in one that was cut off the end of
what the journal tells. What a salvage adds comes after `Salvaged`, so that what the recorder wrote stays known.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, Self

import xxhash
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from drivers.api import Edge, Interval, IntervalKind
from labd.errors import TraceError
from labd.trace.files import FileMissingError, TraceFiles, files_of

JOURNAL = "journal.jsonl"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EdgeSeen(_Record):
    """An edge of any watched pin, as its source reported it."""

    record: Literal["edge"] = "edge"
    pin: int
    level: int = Field(ge=0, le=1)
    ticks: int = Field(ge=0)
    sequence: int = Field(ge=0)

    @classmethod
    def of(cls, edge: Edge) -> EdgeSeen:
        """Make the record of an edge."""
        return cls(pin=edge.pin, level=edge.level, ticks=edge.ticks, sequence=edge.sequence)

    @property
    def edge(self) -> Edge:
        """The edge again."""
        return Edge(pin=self.pin, level=self.level, ticks=self.ticks, sequence=self.sequence)


class TrialStarted(_Record):
    """From here on edges belong to this trial.

    Args:
        index: Number of the trial in its run, from 0.
        input: Name of the input that was loaded.
        expected: Class of that input, where the benchmark has classes.
        inferences: Inferences asked for.
        warmups: Warm-up inferences asked for, before the window.
        at: When, by the host's clock, for people.
    """

    record: Literal["trial_started"] = "trial_started"
    index: int = Field(ge=0)
    input: str
    expected: int | None = None
    inferences: int = Field(ge=1)
    warmups: int = Field(ge=0)
    at: AwareDatetime


class TrialEnded(_Record):
    """The board has answered, or the trial was given up.

    Args:
        index: Number of the trial in its run.
        results: What the board printed as results.
        laps_us: Its own timestamps, if it is in performance mode, µs.
        failure: Why the trial does not count, one sentence; empty if it does.
        at: When, by the host's clock, for people.
    """

    record: Literal["trial_ended"] = "trial_ended"
    index: int = Field(ge=0)
    results: tuple[float, ...] = ()
    laps_us: tuple[int, ...] = ()
    failure: str = ""
    at: AwareDatetime


class Marked(_Record):
    """Samples `start` to `stop` (exclusive) cannot be trusted. They may lie beyond the last sample of the trace."""

    record: Literal["marked"] = "marked"
    kind: IntervalKind
    start: int = Field(ge=0)
    stop: int

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if self.stop <= self.start:
            raise ValueError("stop must lie after start")
        return self

    @classmethod
    def of(cls, interval: Interval) -> Marked:
        """Make the record of an interval."""
        return cls(kind=interval.kind, start=interval.start, stop=interval.stop)

    @property
    def interval(self) -> Interval:
        """The interval again."""
        return Interval(kind=self.kind, start=self.start, stop=self.stop)


class SyncPulse(_Record):
    """The edge that triggered the capture: at `ticks` of the edge source the trace was at index `sample`.

    Args:
        pin: Pin of the pulse.
        ticks: Time of its leading edge: the one that the analyzer's trigger input takes for the trigger.
        sequence: Running number of that edge.
        sample: Fractional sample index at that moment, less the mean latency of the trigger.
        u_latency_s: Standard uncertainty of the latency from pulse to sample 0, s.
    """

    record: Literal["sync"] = "sync"
    pin: int
    ticks: int = Field(ge=0)
    sequence: int = Field(ge=0)
    sample: float = Field(default=0.0, allow_inf_nan=False)
    u_latency_s: float = Field(ge=0, allow_inf_nan=False)


class LoadPulse(_Record):
    """The sync load was across the board's supply from one tick of the edge source to another.

    Args:
        pin: Pin of the edge source that switched it.
        on_ticks, off_ticks: When the pin rose and fell.
    """

    record: Literal["load"] = "load"
    pin: int
    on_ticks: int = Field(ge=0)
    off_ticks: int

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if self.off_ticks <= self.on_ticks:
            raise ValueError("off_ticks must lie after on_ticks")
        return self


class Bracket(_Record):
    """What commands and answers tell of time: the trace was at index `sample` between two ticks of the edge source.

    Args:
        sample: Index of a sample's start: 0 for the first one, the count of samples for the end of the last.
        earliest_ticks, latest_ticks: Read before what made it happen was asked for, and after it had been answered.
    """

    record: Literal["bracket"] = "bracket"
    sample: int = Field(ge=0)
    earliest_ticks: int = Field(ge=0)
    latest_ticks: int

    @model_validator(mode="after")
    def _not_reversed(self) -> Self:
        if self.latest_ticks < self.earliest_ticks:
            raise ValueError("latest_ticks must not lie before earliest_ticks")
        return self


class Salvaged(_Record):
    """From here on a salvage wrote, not the recorder.

    Args:
        journal: Bytes of the journal that the recorder wrote and that could be read.
        cut: Bytes after those that could not, and were left out.
    """

    record: Literal["salvaged"] = "salvaged"
    journal: int = Field(ge=0)
    cut: int = Field(ge=0)


Record = EdgeSeen | TrialStarted | TrialEnded | Marked | SyncPulse | LoadPulse | Bracket | Salvaged
_RECORD: TypeAdapter[Record] = TypeAdapter(Annotated[Record, Field(discriminator="record")])


@dataclass(frozen=True, slots=True)
class Trial:
    """A trial with all edges that were reported between its start and its end, of every pin, in their order."""

    started: TrialStarted
    ended: TrialEnded | None
    edges: tuple[Edge, ...]

    @property
    def index(self) -> int:
        """Number of the trial in its run."""
        return self.started.index


class JournalFile:
    """Appends records; any thread may, each line goes out whole in one write."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._closed = self._finished = False
        self._refused: OSError | None = None
        self._hash = xxhash.xxh3_64()
        self.bytes = 0
        """Bytes of the whole lines written so far."""

    def append(self, record: Record) -> None:
        """Write one record. Raises `TraceError` if the file is closed or the disk refuses it, or has refused one."""
        line = encode(record)
        with self._lock:
            if self._finished:
                raise TraceError("a record came after the trace was closed", where=str(self._path))
            if self._refused is not None:
                raise self._error(self._refused) from self._refused
            try:
                write_all(self._fd, line)
            except OSError as error:
                # Nothing may follow a torn line, or both would be lost; and what follows a lost record misleads.
                self._refused = error
                with suppress(OSError):
                    os.ftruncate(self._fd, self.bytes)
                raise self._error(error) from error
            self.bytes += len(line)
            self._hash.update(line)

    @property
    def digest(self) -> int:
        """XXH3 (64 bits) of the lines written so far."""
        return self._hash.intdigest()

    def _error(self, error: OSError) -> TraceError:
        return TraceError(f"the journal cannot be written: {error.strerror}", where=str(self._path))

    def sync(self) -> None:
        """Make durable what was written."""
        os.fdatasync(self._fd)

    def finish(self) -> None:
        """Take no more records, so that `bytes` stands; the file stays open for `sync`."""
        with self._lock:
            self._finished = True

    def close(self) -> None:
        """Close the file; harmless a second time."""
        with self._lock:
            if not self._closed:
                self._closed = self._finished = True
                os.close(self._fd)


@dataclass(frozen=True, slots=True)
class Told:
    """What can be read of a journal.

    Args:
        records: The records of its whole lines, up to the first that is none.
        bytes: Where those lines end.
        recorded: How far the recorder's own lines among them reach, in bytes.
        fault: Why the next line is no record, and its number; empty if nothing but a torn last line follows.
    """

    records: tuple[Record, ...]
    bytes: int
    recorded: int
    fault: str


def parse(data: bytes) -> Told:
    """Read whole lines until one is no record."""
    records: list[Record] = []
    at, recorded, fault = 0, None, ""
    for number, line in enumerate(_lines(data), start=1):
        try:
            record = _RECORD.validate_json(line)
        except ValidationError as error:
            fault = f"line {number} is not a journal record: {error.errors()[0]['msg']}"
            break
        if isinstance(record, Salvaged) and recorded is None:
            recorded = min(record.journal, at)
        records.append(record)
        at += len(line)
    return Told(tuple(records), at, at if recorded is None else recorded, fault)


def encode(record: Record) -> bytes:
    """The line of a record."""
    return record.model_dump_json().encode() + b"\n"


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of `data`; a disk that is full takes a part. Raises `OSError`."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def read_journal(where: Path | TraceFiles) -> tuple[Record, ...]:
    """Read all whole lines of a trace's journal.

    Raises:
        TraceError: it is missing, or a whole line is not a record.
    """
    files = files_of(where)
    try:
        told = parse(files.read(JOURNAL))
    except FileMissingError as error:
        raise TraceError("the journal is missing", where=f"{files.where}/{JOURNAL}") from error
    if told.fault:
        raise TraceError(told.fault, where=f"{files.where}/{JOURNAL}")
    return told.records


def _lines(data: bytes) -> Iterator[bytes]:
    """Whole lines with their newline; other characters that end a line elsewhere do not end one here."""
    start = 0
    while (end := data.find(b"\n", start)) >= 0:
        yield data[start : end + 1]
        start = end + 1


def trials_of(records: Iterable[Record]) -> tuple[Trial, ...]:
    """Group a journal into its trials: a trial takes all edges between its start and its end, or the next start."""
    trials: list[Trial] = []
    edges: list[Edge] = []
    running = False
    for record in records:
        match record:
            case TrialStarted():
                if running:
                    trials[-1] = replace(trials[-1], edges=tuple(edges))
                trials.append(Trial(started=record, ended=None, edges=()))
                edges, running = [], True
            case TrialEnded() if running and record.index == trials[-1].index:
                trials[-1] = replace(trials[-1], ended=record, edges=tuple(edges))
                running = False
            case TrialEnded():
                raise TraceError(f"trial {record.index} ended without having started")
            case EdgeSeen() if running:
                edges.append(record.edge)
            case _:
                pass
    if running:
        trials[-1] = replace(trials[-1], edges=tuple(edges))
    return tuple(trials)
