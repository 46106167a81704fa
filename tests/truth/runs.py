"""One simulated run: errors drawn from what is declared, a real trace written, and what its score says of the truth."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import numpy as np

from drivers.api import Accuracy, Block, Column, Edge, Identity, Provenance, Quantity, SampleKind, TriggerSource
from labd.bench.scoring import score_trace
from labd.benchmarks import Mode
from labd.score.energy import RunScore
from labd.score.uncertainty import TermName
from labd.trace.journal import EdgeSeen, SyncPulse, TrialEnded, TrialStarted
from labd.trace.meta import HostClock, TraceMeta
from labd.trace.reader import Trace
from labd.trace.seal import seal
from labd.trace.writer import TraceWriter
from labd.virtual.instrument_errors import AnalyzerErrors, AnalyzerSpec, observe
from tests.truth.boards import INFERENCE_S, BoardTrace, TrueWindow

PERIOD_S = 204.8e-6
CURRENT = Accuracy(range_max=0.1, gain=0.025e-2, offset=10e-6, noise_rms=3.8e-6)
VOLTAGE = Accuracy(range_max=20.0, gain=0.025e-2, offset=1.2e-3, noise_rms=825e-6)
"""The N6781A's ranges that a small board is measured on."""
CLOCK_PPM = 50.0
START_OFFSET_S = 50e-6
"""The first sample begins between 0 and this after the trigger."""
TICK_HZ = 25_000_000.0
JITTER_S = 10e-9
TRIALS = 5
BLOCK = 2000
PIN, SYNC_PIN = 3, 15
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)

ANALYZER = AnalyzerSpec.from_accuracy(
    CURRENT,
    VOLTAGE,
    clock_ppm=CLOCK_PPM,
    start_offset_max_s=START_OFFSET_S,
    lsb_current_a=2 * 1.02 * CURRENT.range_max / 2**18,
    lsb_voltage_v=2 * 1.02 * VOLTAGE.range_max / 2**18,
)

SYSTEMATIC = (
    TermName.CURRENT_GAIN,
    TermName.CURRENT_OFFSET,
    TermName.VOLTAGE_GAIN,
    TermName.VOLTAGE_OFFSET,
)
"""What the instrument's maker answers for; all else is labd's own."""


class Anchor(StrEnum):
    """What ties the timestamper's ticks to the samples."""

    SYNC = "sync"
    STEPS = "steps"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run's score was worth; errors are relative, of the median energy per inference of these windows.

    Args:
        anchor: How edges were placed.
        window_s: Length of its windows, s.
        refusal: What the score found against the run; empty if nothing. Then errors are not numbers.
        error: Score over truth, less 1.
        uncertainty: Stated standard uncertainty.
        own_error: Error of the same run by an instrument without gain and offset errors.
        own_uncertainty: Stated standard uncertainty without the terms of gain and offset.
        length_ratio: Root mean square over its windows of the error of their length on the trace over what is stated.
    """

    anchor: Anchor
    window_s: float
    refusal: str
    error: float
    uncertainty: float
    own_error: float
    own_uncertainty: float
    length_ratio: float


@dataclass(frozen=True, slots=True)
class Rack:
    """Everything drawn for one run."""

    anchor: Anchor
    window_s: float
    inferences: int
    analyzer: AnalyzerErrors
    tick_ppm: float
    tick_start: float
    lead_s: float
    noise_seed: int
    windows: tuple[TrueWindow, ...]
    board: BoardTrace


def draw_rack(rng: np.random.Generator, anchor: Anchor, windows_s: tuple[float, float]) -> Rack:
    """Draw board, instruments and window length; `windows_s` are the limits of a log-uniform draw."""
    asked_s = float(np.exp(rng.uniform(*np.log(windows_s))))
    board = BoardTrace(
        rng,
        clock_ppm=float(rng.uniform(-CLOCK_PPM, CLOCK_PPM)),
        drift=float(np.exp(rng.uniform(np.log(1e-5), np.log(1e-3)))),
    )
    lead_s = float(rng.uniform(0.02, 0.5))
    board.sleep(lead_s + 0.1)
    inferences = max(10, round(asked_s / INFERENCE_S))
    return Rack(
        anchor=anchor,
        window_s=inferences * INFERENCE_S,
        inferences=inferences,
        analyzer=AnalyzerErrors.draw(ANALYZER, rng),
        tick_ppm=float(rng.uniform(-CLOCK_PPM, CLOCK_PPM)),
        tick_start=float(rng.uniform(0, 1000 * TICK_HZ)),
        lead_s=lead_s,
        noise_seed=int(rng.integers(2**63)),
        windows=tuple(board.trial(inferences) for _ in range(TRIALS)),
        board=board,
    )


def play(
    rng: np.random.Generator, anchor: Anchor, folder: Path, windows_s: tuple[float, float] = (0.1, 10.0)
) -> Outcome:
    """Simulate one run, write its trace twice (as drawn, and without gain and offset errors), and score both."""
    rack = draw_rack(rng, anchor, windows_s)
    true_j = float(np.median([window.energy_j / window.inferences for window in rack.windows]))
    flawless = dataclasses.replace(
        rack.analyzer, gain_current=0.0, offset_current_a=0.0, gain_voltage=0.0, offset_voltage_v=0.0
    )
    drawn, own = (
        _score(rack, errors, folder, name) for errors, name in ((rack.analyzer, "drawn"), (flawless, "flawless"))
    )
    stated, bare = drawn.energy_j_per_inference, own.energy_j_per_inference
    findings = (*drawn.findings, *own.findings)
    if findings or stated is None or bare is None:
        refusal = "; ".join(sorted({finding.detail for finding in findings}))
        return Outcome(anchor, rack.window_s, refusal, *[math.nan] * 5)
    return Outcome(
        anchor=anchor,
        window_s=rack.window_s,
        refusal="",
        error=stated.value / true_j - 1,
        uncertainty=stated.relative_uncertainty,
        own_error=bare.value / true_j - 1,
        own_uncertainty=bare.part(*(set(TermName) - set(SYSTEMATIC))) / bare.value,
        length_ratio=_length_ratio(rack, own),
    )


def _length_ratio(rack: Rack, score: RunScore) -> float:
    ratios = []
    for window, true in zip(score.windows, rack.windows, strict=True):
        length = (true.stop_s - true.start_s) / rack.analyzer.period_s(PERIOD_S)
        ratios.append((window.stop_sample - window.start_sample - length) / window.u_length_samples)
    return float(np.sqrt(np.mean(np.square(ratios))))


def _score(rack: Rack, errors: AnalyzerErrors, folder: Path, name: str) -> RunScore:
    path = write_trace(rack, errors, folder, name)
    return score_trace(Trace.open(path))


def write_trace(rack: Rack, errors: AnalyzerErrors, folder: Path, name: str) -> Path:
    """Record and seal the trace that a daemon would have; return its folder."""
    rng = np.random.default_rng(rack.noise_seed)
    writer = TraceWriter.create(folder, _meta(rack, name), sync_s=3600.0)
    stamps = _Stamps(rack, rng)
    if rack.anchor is Anchor.SYNC:
        pulse = stamps.edge(SYNC_PIN, 1, rack.lead_s)
        writer.journal(
            SyncPulse(
                pin=SYNC_PIN,
                ticks=pulse.ticks,
                sequence=pulse.sequence,
                sample=-START_OFFSET_S / 2 / PERIOD_S,
                u_latency_s=START_OFFSET_S / 12**0.5,
            )
        )
    for index, window in enumerate(rack.windows):
        writer.journal(TrialStarted(index=index, input=str(index), inferences=window.inferences, warmups=10, at=NOON))
        for at_s in (window.start_s, window.stop_s):
            writer.journal(EdgeSeen.of(stamps.edge(PIN, 0, at_s)))
            writer.journal(EdgeSeen.of(stamps.edge(PIN, 1, at_s + 10e-6)))
        writer.journal(TrialEnded(index=index, at=NOON))
    span_s = rack.board.now_s - rack.lead_s - errors.start_offset_s
    count = int(span_s / errors.period_s(PERIOD_S)) - 1
    current, voltage = observe(
        rack.board.record.means,
        errors,
        start_s=rack.lead_s,
        period_s=PERIOD_S,
        first=0,
        count=count,
        rng=rng,
    )
    for first in range(0, count, BLOCK):
        part = slice(first, first + BLOCK)
        writer.write(Block(first, {Quantity.CURRENT: current[part], Quantity.VOLTAGE: voltage[part]}))
    writer.close()
    path = writer.folder
    seal(path)
    return path


class _Stamps:
    """The timestamper: true times in, edges out."""

    def __init__(self, rack: Rack, rng: np.random.Generator) -> None:
        self._rack = rack
        self._rng = rng
        self._sequence = 0

    def edge(self, pin: int, level: int, at_s: float) -> Edge:
        at_s += JITTER_S * float(self._rng.standard_normal())
        ticks = int(self._rack.tick_start + at_s * TICK_HZ * (1 + 1e-6 * self._rack.tick_ppm))
        self._sequence += 1
        return Edge(pin=pin, level=level, ticks=ticks, sequence=self._sequence)


def _meta(rack: Rack, name: str) -> TraceMeta:
    synced = rack.anchor is Anchor.SYNC
    columns = ((Quantity.CURRENT, CURRENT), (Quantity.VOLTAGE, VOLTAGE))
    return TraceMeta(
        trace_id=name,
        job_id=1,
        run_id=1,
        board="virtual-1",
        benchmark="digits01",
        mode=Mode.ENERGY,
        min_window_s=0.9 * rack.window_s,
        min_inferences=10,
        trials=TRIALS,
        instrument=Identity("labd", "virtual analyzer", "1", "1"),
        edge_source=Identity("labd", "virtual timestamper", "1", "1"),
        channel=1,
        timing_pin=PIN,
        pulse_s=10e-6,
        columns=tuple(
            Column(quantity, SampleKind.MEAN, Provenance.MEASURED, accuracy) for quantity, accuracy in columns
        ),
        period_s=PERIOD_S,
        period_requested_s=None,
        sample_clock_ppm=CLOCK_PPM,
        tick_rate_hz=TICK_HZ,
        tick_clock_ppm=CLOCK_PPM,
        trigger=TriggerSource.EXTERNAL if synced else TriggerSource.IMMEDIATE,
        sync_pin=SYNC_PIN if synced else None,
        supply_voltage_v=3.0,
        firmware_sha256="",
        labd_version="0",
        started_at=NOON,
        host_clock=HostClock.UNKNOWN,
    )
