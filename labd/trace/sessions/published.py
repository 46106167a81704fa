"""What a published session says, whichever runner wrote it: frozen, checked, and with every printed digit kept.

A *session* is one benchmark on one board: up to three results sets, one for each mode, each in a folder of its own. A
results set holds what the runner printed (`Printed`), the inferences that it asked for, and for energy one capture or
more with the windows that it cut out of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt

from labd.benchmarks import Mode
from labd.errors import TraceError
from labd.trace.sessions.monitors import Monitor


class SessionError(TraceError):
    """A published session cannot be read, or contradicts itself; `where` names the file, the message the field."""

    kind = "session"


class SessionFormat(StrEnum):
    """Who wrote the session."""

    ENERGYRUNNER = "energyrunner"
    MLCOMMONS = "mlcommons"


@dataclass(frozen=True, slots=True)
class PrintedWindow:
    """Energy of a window as `results.txt` prints it; a decimal keeps how many digits that are.

    Args:
        index: The number it is printed under.
        energy_uj: Energy, µJ.
        per_inference_uj: Energy of one inference, µJ; None if it is not printed.
        start_s: When it began since the trace's start, s; None if it is not printed.
        duration_s: How long it lasted, s.
        inferences: N; None if it is not printed here.
    """

    index: int
    energy_uj: Decimal
    per_inference_uj: Decimal | None
    start_s: Decimal | None
    duration_s: Decimal
    inferences: int | None = None


@dataclass(frozen=True, slots=True)
class PrintedRate:
    """Throughput of a window as `results.txt` prints it: number, N, s, inferences/s."""

    index: int
    inferences: int
    runtime_s: Decimal
    inferences_per_s: Decimal


@dataclass(frozen=True, slots=True)
class PrintedDetections:
    """How often a streaming benchmark heard its word, as `results.txt` prints it."""

    true_positives: int
    false_negatives: int
    false_positives: int


@dataclass(frozen=True, slots=True)
class Printed:
    """All that a `results.txt` says; None for what it does not.

    Args:
        format: Whose way of printing it is; None if both print so.
        windows: Energies, in the order printed.
        rates: Throughputs, in the order printed.
        median_uj_per_inference: µJ.
        median_inferences_per_s: Inferences/s.
        top1_percent: Top-1 accuracy, %.
        auc: Area under the ROC curve.
        detections: What a streaming benchmark heard, and missed.
        duty_cycle: Share of the time in which a streaming benchmark computes.
        period_s: From one of its frames to the next, s.
        estimated_inferences_per_s: Frames/s that it could take: of one frame's time of computing.
        complaints: What the runner itself found wrong, as it says it.
    """

    format: SessionFormat | None = None
    windows: tuple[PrintedWindow, ...] = ()
    rates: tuple[PrintedRate, ...] = ()
    median_uj_per_inference: Decimal | None = None
    median_inferences_per_s: Decimal | None = None
    top1_percent: Decimal | None = None
    auc: Decimal | None = None
    detections: PrintedDetections | None = None
    duty_cycle: Decimal | None = None
    period_s: Decimal | None = None
    estimated_inferences_per_s: Decimal | None = None
    complaints: tuple[str, ...] = ()

    @property
    def is_streaming(self) -> bool:
        """Whether a streaming benchmark printed it."""
        return self.detections is not None or self.estimated_inferences_per_s is not None


@dataclass(frozen=True, slots=True)
class Inference:
    """One `infer N W` of the dialogue.

    Args:
        input: Name of the file that had been loaded; empty if the log does not tell.
        expected: Its class, where the session tells.
        inferences: N.
        warmups: W.
        results: What the board printed.
        laps_us: The board's own two timestamps, µs; empty in energy mode.
    """

    input: str
    expected: int | None
    inferences: int
    warmups: int
    results: tuple[float, ...]
    laps_us: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Stream:
    """What became of one recording that was played to a streaming benchmark.

    Args:
        detections_ms: When the board reported its word, ms; the first one marks the recording's start.
        windows_s: Where the word is said in the recording: opening and closing time, s.
        starts_s: When frames began to be computed, s; as many as were recorded.
        stops_s: When they were done, s.
    """

    detections_ms: tuple[int, ...]
    windows_s: tuple[tuple[float, float], ...]
    starts_s: tuple[float, ...]
    stops_s: tuple[float, ...]


class SampleSource(Protocol):
    """The samples of a capture, wherever they lie: read in stretches, each checked to be numbers."""

    @property
    def rows(self) -> int:
        """Number of samples."""
        ...

    def read(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Samples `start` to `stop`, float32 or float64, finite. Raises `SessionError`."""
        ...


@dataclass(frozen=True, slots=True)
class Span:
    """A window of a capture.

    Args:
        index: The number that the runner prints it under.
        start_s: Its opening edge, s from the capture's start.
        stop_s: Its closing edge, s.
        first: First sample that the runner counts as the window's.
        end: The sample after the last of them.
    """

    index: int
    start_s: float
    stop_s: float
    first: int
    end: int


@dataclass(frozen=True, slots=True)
class Capture:
    """What the monitor recorded in one go: energy a sample, and the edges it saw.

    Args:
        name: File, and place in it, for messages.
        samples: The energies.
        unit_uj: Energy that a sample of 1 stands for, µJ.
        period_s: Sample period, s.
        resolution_s: Step of the edges' times, s.
        edges: Every edge seen, in steps of `resolution_s` from the capture's start.
        windows: The windows that the runner scored, in their order.
    """

    name: str
    samples: SampleSource
    unit_uj: float
    period_s: float
    resolution_s: float
    edges: tuple[int, ...]
    windows: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class ResultsSet:
    """One mode of a session.

    Args:
        format: Who wrote it.
        mode: What was measured.
        folder: Where it lies.
        files: The files that were read, by their role.
        printed: What `results.txt` says.
        inferences: The dialogue's inferences, in their order.
        captures: What was recorded; empty but for energy.
        board: Who the board says it is; empty if unknown.
        profile: Its firmware's profile; empty if unknown.
        model: The model it says it runs; empty if unknown.
        runner: Name and version of the runner, as far as it tells.
        monitor: What measured; None if the session does not tell, or it is not known here.
        voltage_v: What the board was fed with, V; None if unknown.
        began: When, by the runner's clock; None if unknown.
        dataset: The benchmark whose inputs were loaded, or which the runner was set to; empty if unknown.
        streams: What was played to a streaming benchmark.
        lacks: What was published without and could not be looked at, a sentence each.
    """

    format: SessionFormat
    mode: Mode
    folder: Path
    files: Mapping[str, Path]
    printed: Printed
    inferences: tuple[Inference, ...]
    captures: tuple[Capture, ...] = ()
    board: str = ""
    profile: str = ""
    model: str = ""
    runner: str = ""
    monitor: Monitor | None = None
    voltage_v: float | None = None
    began: datetime | None = None
    dataset: str = ""
    streams: tuple[Stream, ...] = ()
    lacks: tuple[str, ...] = ()

    @property
    def is_streaming(self) -> bool:
        """Whether a streaming benchmark was run: it hears a recording, it is not given inputs."""
        return bool(self.streams) or self.printed.is_streaming

    @property
    def spans(self) -> tuple[tuple[Capture, Span], ...]:
        """Every window with the capture it lies in, in the order printed."""
        return tuple((capture, span) for capture in self.captures for span in capture.windows)


@dataclass(frozen=True, slots=True)
class Session:
    """One benchmark on one board: its results sets by mode, at least one.

    Args:
        name: Name of its folder, with those above it as far as they tell it from the others.
        folder: Where it lies.
        sets: The results sets.
    """

    name: str
    folder: Path
    sets: Mapping[Mode, ResultsSet] = field(default_factory=dict)

    @property
    def format(self) -> SessionFormat:
        """Who wrote it."""
        return next(iter(self.sets.values())).format

    @property
    def model(self) -> str:
        """The model that the board says it runs, or the name of the folder: `kws01`, `kws`."""
        return next((each.model for each in self.sets.values() if each.model), self.folder.name)

    @property
    def dataset(self) -> str:
        """The benchmark whose inputs were loaded; empty if no set tells."""
        return next((each.dataset for each in self.sets.values() if each.dataset), "")
