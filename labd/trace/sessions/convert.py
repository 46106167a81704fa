"""Turns a capture of another runner into a sealed trace of labd's: samples, edges, trials and what is known of them.

The samples become a column of energy, J a sample, float32. Times are on one axis: sample k begins at k periods, and
the runner's timestamps become edges of a clock whose tick is the step in which they were printed. A sync record ties
tick 0 to sample 0, with one such step, as a rectangle, for where in it an edge lay.

A trace made here is the same wherever and whenever it is made: its name is that of the session's digest, and it names
no job and no run (0), since none of a lab's recorded it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import numpy as np

from drivers.api import Accuracy, Block, Column, Edge, Identity, Provenance, Quantity, SampleKind, TriggerSource
from labd.benchmarks import Mode
from labd.trace.journal import EdgeSeen, Record, SyncPulse, TrialEnded, TrialStarted
from labd.trace.meta import HostClock, TraceMeta
from labd.trace.seal import Seal, seal
from labd.trace.sessions.energy_file import pieces
from labd.trace.sessions.monitors import Monitor
from labd.trace.sessions.published import Capture, Inference, ResultsSet, Session, SessionError, Span
from labd.trace.writer import TraceWriter

TRIALS = 5
MIN_WINDOW_S = 10.0
MIN_INFERENCES = 10
"""What MLPerf Tiny's rules (v1.4) ask of an energy or performance run."""
TIMING_PIN = 0
SYNC_PIN = 1
"""The trace's start has a pin of its own, which no wire carried."""
PULSE_S = 1e-6
"""Shortest low pulse of a board's timing pin (MLPerf Tiny's board interface)."""
_UNDATED = datetime(1970, 1, 1, tzinfo=UTC)
_MICRO = 1e-6
_BENCHMARKS = {"ad": "ad01", "ic": "ic01", "kws": "kws01", "sww": "sww01", "vww": "vww01"}

Checkpoint = Callable[[], None]
"""Called between pieces of work; what it raises ends the work."""


@dataclass(frozen=True, slots=True)
class Converted:
    """A trace that was made of a capture."""

    folder: Path
    meta: TraceMeta
    seal: Seal


def id_prefix(digest: str) -> str:
    """With what the ids of all traces of a session begin, and no others."""
    return f"session-{digest[:24]}-"


def session_digest(session: Session) -> str:
    """SHA-256 of a session: of its files' places and contents, wherever it lies. Raises `SessionError`."""
    whole = hashlib.sha256()
    for place, path in session_files(session):
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise SessionError(f"it cannot be read: {error.strerror}", where=str(path)) from error
        whole.update(f"{place} {digest}\n".encode())
    return whole.hexdigest()


def session_files(session: Session) -> Iterator[tuple[str, Path]]:
    """The files that make a session, each by its place in it (`energy/log.txt`), in the order of those."""
    found = {f"{mode.value}/{path.name}": path for mode, each in session.sets.items() for path in each.files.values()}
    yield from sorted(found.items())


def benchmark_of(session: Session) -> str:
    """Id of the benchmark: the board's own word, else what the folder is called."""
    return _BENCHMARKS.get(session.model, session.model)


def convert_session(session: Session, digest: str, traces_dir: Path, checkpoint: Checkpoint) -> tuple[Converted, ...]:
    """Make a sealed trace of every capture of a session; none is there already.

    Args:
        session: The session.
        digest: Its `session_digest`.
        traces_dir: Where the traces' folders go.
        checkpoint: Called now and then.

    Raises:
        SessionError: windows share an edge, or a file was changed meanwhile.
        TraceError: a trace of that name is there, or the disk refuses it.
    """
    results = session.sets.get(Mode.ENERGY)
    if results is None:
        return ()
    return tuple(
        _convert(results, capture, meta_of(session, results, capture, digest, number), traces_dir, checkpoint)
        for number, capture in enumerate(results.captures)
    )


def _convert(
    results: ResultsSet, capture: Capture, meta: TraceMeta, traces_dir: Path, checkpoint: Checkpoint
) -> Converted:
    records = tuple(_records(results, capture, meta.started_at))
    writer = TraceWriter.create(traces_dir, meta)
    try:
        for record in records:
            writer.journal(record)
        for start, stop in pieces(0, capture.samples.rows):
            checkpoint()
            energies = capture.samples.read(start, stop).astype(np.float64) * (capture.unit_uj * _MICRO)
            writer.write(Block(first=start, columns={Quantity.ENERGY: energies.astype(np.float32)}))
    finally:
        writer.close()
    checkpoint()
    return Converted(writer.folder, meta, seal(writer.folder))


def energy_column(monitor: Monitor | None, voltage_v: float | None, capture: Capture, typical: float) -> Column:
    """Declare a capture's samples as a column, J a sample.

    Args:
        monitor: Who measured; unknown, no limits of error are declared.
        voltage_v: What the board was fed with, V.
        capture: The samples.
        typical: A sample of usual size, in the capture's unit: tells the step of the last digit.
    """
    step_j = 0.0 if monitor is None else monitor.step(typical) * capture.unit_uj * _MICRO
    power_max_w = 0.0 if monitor is None or voltage_v is None else monitor.current_max_a * voltage_v
    return Column(
        quantity=Quantity.ENERGY,
        sample=SampleKind.MEAN,
        provenance=Provenance.MEASURED,
        accuracy=Accuracy(
            range_max=power_max_w * capture.period_s,
            gain=0.0 if monitor is None else monitor.gain,
            offset=0.0,
            noise_rms=step_j / math.sqrt(12),
        ),
    )


def meta_of(session: Session, results: ResultsSet, capture: Capture, digest: str, number: int) -> TraceMeta:
    """Describe the trace of a capture; what nobody states is empty, and an error that nobody states is 0."""
    monitor = results.monitor
    recorder = Identity(
        maker=monitor.maker if monitor else "",
        model=monitor.model if monitor else "unknown",
        serial="",
        firmware="",
    )
    return TraceMeta(
        trace_id=f"{id_prefix(digest)}{number}",
        job_id=0,
        run_id=0,
        board=results.board or results.profile or "unknown",
        benchmark=benchmark_of(session),
        mode=Mode.ENERGY,
        min_window_s=MIN_WINDOW_S,
        min_inferences=MIN_INFERENCES,
        trials=TRIALS,
        instrument=recorder,
        edge_source=recorder,
        channel=0,
        timing_pin=TIMING_PIN,
        pulse_s=PULSE_S,
        columns=(energy_column(monitor, results.voltage_v, capture, _typical(capture)),),
        period_s=capture.period_s,
        period_requested_s=None,
        sample_clock_ppm=0.0,
        tick_rate_hz=1 / capture.resolution_s,
        tick_clock_ppm=0.0,
        trigger=TriggerSource.EXTERNAL,
        sync_pin=SYNC_PIN,
        supply_voltage_v=results.voltage_v or 0.0,
        firmware_sha256="",
        labd_version=version("labd"),
        started_at=results.began or _UNDATED,
        host_clock=HostClock.UNKNOWN,
    )


def _typical(capture: Capture) -> float:
    """Mean of the first samples of the first window; of the capture, if it has none."""
    first = capture.windows[0].first if capture.windows else 0
    return float(np.mean(capture.samples.read(first, min(first + 1000, capture.samples.rows))))


def inference_of(results: ResultsSet, number: int, fallback: int) -> Inference:
    """What the dialogue tells of a window, by its place among the printed ones; without, only N is known."""
    if len(results.inferences) == len(results.printed.windows):
        return results.inferences[number]
    return Inference(input="", expected=None, inferences=fallback, warmups=0, results=())


def _records(results: ResultsSet, capture: Capture, began: datetime) -> Iterator[Record]:
    """Edges in the order of time, those of a window inside their trial."""
    yield SyncPulse(pin=SYNC_PIN, ticks=0, sequence=0, sample=0.0, u_latency_s=capture.resolution_s / math.sqrt(12))
    spans = sorted(capture.windows, key=lambda span: span.start_s)
    ticks = [tuple(round(time / capture.resolution_s) for time in (span.start_s, span.stop_s)) for span in spans]
    for (_, stop), (start, _) in pairwise(ticks):
        if start <= stop:
            raise SessionError(f"two windows share the edge at {stop * capture.resolution_s:g} s", where=capture.name)
    order = {window.index: number for number, window in enumerate(results.printed.windows)}
    of_windows = {tick for pair in ticks for tick in pair}
    others = [tick for tick in capture.edges if tick not in of_windows]
    sequence = 1
    for span, pair in zip(spans, ticks, strict=True):
        while others and others[0] < pair[0]:
            yield _edge(others.pop(0), sequence)
            sequence += 1
        started, ended = _trial(results, span, order[span.index], began)
        yield started
        for tick in pair:
            while others and others[0] < tick:
                yield _edge(others.pop(0), sequence)
                sequence += 1
            yield _edge(tick, sequence)
            sequence += 1
        yield ended
    for tick in others:
        yield _edge(tick, sequence)
        sequence += 1


def _edge(ticks: int, sequence: int) -> EdgeSeen:
    return EdgeSeen.of(Edge(pin=TIMING_PIN, level=0, ticks=ticks, sequence=sequence))


def _trial(results: ResultsSet, span: Span, number: int, began: datetime) -> tuple[TrialStarted, TrialEnded]:
    printed = results.printed.windows[number]
    inference = inference_of(results, number, printed.inferences or 1)
    return (
        TrialStarted(
            index=number,
            input=inference.input,
            expected=inference.expected,
            inferences=inference.inferences,
            warmups=inference.warmups,
            at=began + timedelta(seconds=span.start_s),
        ),
        TrialEnded(index=number, results=inference.results, at=began + timedelta(seconds=span.stop_s)),
    )
