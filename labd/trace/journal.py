"""What happens in a trace besides samples: `journal.jsonl`, a line each, written as it happens.

The file only grows. A line counts once its newline is there: a torn last line is a record that never happened. A torn
line that is not the last one is damage, and an error.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from drivers.api import Edge, Interval, IntervalKind
from labd.errors import TraceError

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
        ticks: Time of its rising edge.
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


Record = EdgeSeen | TrialStarted | TrialEnded | Marked | SyncPulse
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
        self._closed = False
        self.bytes = 0

    def append(self, record: Record) -> None:
        """Write one record. Raises `TraceError` if the file is closed or the disk refuses it."""
        line = record.model_dump_json().encode() + b"\n"
        with self._lock:
            if self._closed:
                raise TraceError("a record came after the trace was closed", where=str(self._path))
            try:
                rest = memoryview(line)
                while rest:
                    rest = rest[os.write(self._fd, rest) :]
            except OSError as error:
                raise TraceError(f"the journal cannot be written: {error.strerror}", where=str(self._path)) from error
            self.bytes += len(line)

    def sync(self) -> None:
        """Make durable what was written."""
        os.fdatasync(self._fd)

    def close(self) -> None:
        """Close the file; harmless a second time."""
        with self._lock:
            if not self._closed:
                self._closed = True
                os.close(self._fd)


def read_journal(folder: Path) -> tuple[Record, ...]:
    """Read all whole lines of a trace's journal.

    Raises:
        TraceError: it is missing, or a whole line is not a record.
    """
    path = folder / JOURNAL
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TraceError(f"the journal cannot be read: {error.strerror}", where=str(path)) from error
    whole = data[: data.rfind(b"\n") + 1]
    records = []
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            records.append(_RECORD.validate_json(line))
        except ValidationError as error:
            raise TraceError(
                f"line {number} is not a journal record: {error.errors()[0]['msg']}", where=str(path)
            ) from error
    return tuple(records)


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
