"""One run: everything drawn, a real trace folder written as a daemon would, and what labd's score of it is worth.

What the wiring tells of time is drawn here too: the sync pulse that starts the capture, the pulses of the sync load
while the board idles, and the brackets of ticks that the host reads about the first sample and the last.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import numpy as np
import numpy.typing as npt

from drivers.api import Block, Column, Identity, Provenance, Quantity, SampleKind, TriggerSource
from labd.benchmarks import Mode
from labd.trace.journal import Bracket, EdgeSeen, LoadPulse, Record, SyncPulse, TrialEnded, TrialStarted
from labd.trace.meta import Headroom, HostClock, SyncLoad, TraceMeta
from labd.trace.writer import TraceWriter
from tests.truth.analyzers import MODELS, Errors, Model, Rate, Recording, Source, record
from tests.truth.boards import PULSE_S, Board, Life, Shape, TrueWindow, draw_board
from tests.truth.clocks import Clock
from tests.truth.currents import Current

TRIALS = 5
PIN, LOAD_PIN, SYNC_PIN = 3, 14, 15
TICK_HZ = 25_000_000.0
JITTER_S = 10e-9
SUPPLY_V = 3.0
LOAD = SyncLoad(pin=LOAD_PIN, ohm=330.0)
LOAD_PAUSES_S = (6e-3, 10e-3, 15e-3)
WANDER_PPM = 0.1
BLOCK = 100_000
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Anchor(StrEnum):
    """What ties the timestamper's ticks to the samples."""

    SYNC = "sync pulse"
    LOAD = "sync load"
    BOTH = "pulse and load"
    STEPS = "steps alone"

    @property
    def pulsed(self) -> bool:
        """Whether a pulse starts the capture."""
        return self in (Anchor.SYNC, Anchor.BOTH)

    @property
    def loaded(self) -> bool:
        """Whether a load is switched."""
        return self in (Anchor.LOAD, Anchor.BOTH)


class Subject(StrEnum):
    """Which of a score's two estimates is judged."""

    WINDOWS = "windows"  # what these windows took
    BOARD = "board"  # what the board needs, over all trials that it could be given


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What all runs of a cell have in common, beside what is drawn for each.

    Args:
        anchor: What ties ticks to samples.
        shape: What the windows look like.
        rate: Of the samples.
        windows_s: Limits of a log-uniform draw of their length, s.
        clock_ppm: Declared half width of both clocks' errors, ppm.
        noise_a: Declared noise of a sample of the current, A; None for the analyzer's.
        noise_factor, flicker_a, hum_a: See `Errors`.
        bandwidth_hz: Corner of both low-passes, Hz; None for the analyzer's.
        ohm: Limits of the resistance behind the supply, Ω.
        drift: Limits of a log-uniform draw of how much trials differ, relative.
        memory: Correlation of one trial with the next.
        delay_s: The first sample begins between 0 and this after the trigger's edge, s.
        subject: What is judged.
        kind: What a sample stands for.
        gains, offsets: Which quantities are off by a gain or an offset; none where labd's own error is judged.
        step_a: By how much the current changes at least at both edges of a window, A; 0 for any board.
        lead_s: How long the board idles before its first trial, s.
    """

    anchor: Anchor
    shape: Shape = Shape.PHASES
    step_a: float = 0.0
    lead_s: float = 0.0
    rate: Rate = Rate.ELOG
    windows_s: tuple[float, float] = (0.1, 10.0)
    clock_ppm: float = 50.0
    noise_a: float | None = None
    noise_factor: float = 1.0
    flicker_a: float = 0.0
    hum_a: float = 0.0
    bandwidth_hz: float | None = None
    ohm: tuple[float, float] = (0.02, 0.3)
    drift: tuple[float, float] = (1e-5, 1e-3)
    memory: float = 0.0
    delay_s: float = 50e-6
    subject: Subject = Subject.WINDOWS
    kind: SampleKind = SampleKind.MEAN
    gains: frozenset[Quantity] = frozenset()
    offsets: frozenset[Quantity] = frozenset()


@dataclass(slots=True)
class Script:
    """What happened in true time; a fault changes it before the trace is written.

    Args:
        meta: The sidecar to be.
        windows: The true windows.
        edges: Per trial: times of the falling edges that are reported, s.
        pulses: True times at which the load was on, s.
        pulse_pins: The same as the timestamper's pin saw them, s.
        trigger_s: True time of the trigger's edge as reported; None without.
        delay_s: Longest time from there to the first sample as declared, s.
        asked_s: True time at which the capture was asked for, s.
        first_s: True time of the first sample, s.
        end_s: True time up to which samples are recorded, s.
        amps, volts: The samples.
    """

    meta: TraceMeta
    windows: tuple[TrueWindow, ...]
    edges: list[list[float]]
    pulses: list[tuple[float, float]]
    pulse_pins: list[tuple[float, float]]
    trigger_s: float | None
    delay_s: float
    asked_s: float
    first_s: float
    end_s: float
    amps: npt.NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    volts: npt.NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))


@dataclass(frozen=True, slots=True)
class Rack:
    """Everything drawn for one run, but for the samples.

    Args:
        board: The board.
        own: What it draws itself.
        fed: That and the load across it.
        energies_j: True energy of each window, J.
        board_energies_j: What each would be if all trials were alike, J; without ramps and inrush.
        inferences: N of each window.
        sample_clock, tick_clock: The two clocks.
        tick_start: Ticks at true time 0.
        model, errors, source: The analyzer and the supply.
    """

    board: Board
    own: Current
    fed: Current
    energies_j: tuple[float, ...]
    board_energies_j: tuple[float, ...]
    inferences: int
    sample_clock: Clock
    tick_clock: Clock
    tick_start: float
    model: Model
    errors: Errors
    source: Source

    def ticks(self, at_s: float) -> int:
        """What the timestamper's counter shows at a true time."""
        return int(self.tick_start + self.tick_clock.shows(at_s) * TICK_HZ)


def draw(rng: np.random.Generator, here: Circumstances) -> tuple[Rack, Script]:
    """Draw board, supply, analyzer, clocks and wiring, and let the board run."""
    model = MODELS[here.rate]
    window_s = float(np.exp(rng.uniform(*np.log(here.windows_s))))
    board = draw_board(rng, here.shape, window_s, here.step_a)
    life = Life(
        board,
        rng,
        drift=float(np.exp(rng.uniform(*np.log(here.drift)))),
        memory=here.memory,
        jitter=float(np.exp(rng.uniform(np.log(1e-8), np.log(1e-5)))),
    )
    inferences = max(10, round(window_s / board.inference_s))
    brisk = here.rate in (Rate.HUNDRED, Rate.MEGA)
    asked_s = float(rng.uniform(0.35, 0.4))  # a capture that starts too early finds a board that idles
    life.wait(asked_s + here.lead_s + float(rng.uniform(0.02, 0.06 if brisk else 0.3)))
    pins: list[tuple[float, float]] = []
    windows = []
    for _ in range(TRIALS):
        _idle(life, rng, here, pins)
        windows.append(life.trial(inferences))
    _idle(life, rng, here, pins)
    end_s = life.now_s
    life.wait(0.5)
    switch_s = rng.uniform(0, LOAD.switch_s, 2)
    pulses = [(on + switch_s[0], off + switch_s[1]) for on, off in pins]
    source = Source(SUPPLY_V + float(rng.uniform(-5e-3, 5e-3)), float(rng.uniform(*here.ohm)))
    ohm = LOAD.ohm * (1 + float(rng.uniform(-LOAD.tolerance, LOAD.tolerance)))
    own, fed = life.current(pulses, source.volts / ohm)
    energies, board_energies = [], []
    for window in windows:
        first, second = own.charge(window.start_s, window.stop_s)
        energies.append(source.volts * first - source.ohm * second)
        board_energies.append(source.volts * first / window.level - source.ohm * second / window.level**2)
    clocks = [
        Clock(rng, rate_ppm=float(rng.uniform(-1, 1)) * here.clock_ppm, wander_ppm=WANDER_PPM, span_s=life.now_s)
        for _ in range(2)
    ]
    rack = Rack(
        board=board,
        own=own,
        fed=fed,
        energies_j=tuple(energies),
        board_energies_j=tuple(board_energies),
        inferences=inferences,
        sample_clock=clocks[0],
        tick_clock=clocks[1],
        tick_start=float(rng.uniform(100 * TICK_HZ, 1000 * TICK_HZ)),
        model=model,
        errors=_errors(rng, here, model),
        source=source,
    )
    pulsed = here.anchor.pulsed
    script = Script(
        meta=_meta(here, rack, window_s),
        windows=tuple(windows),
        edges=[[window.start_s, window.stop_s] for window in windows],
        pulses=pulses,
        pulse_pins=pins,
        trigger_s=asked_s if pulsed else None,
        delay_s=here.delay_s,
        asked_s=asked_s,
        first_s=asked_s + (float(rng.uniform(0, here.delay_s)) if pulsed else float(rng.uniform(0, 2e-3))),
        end_s=end_s,
    )
    return rack, script


def _idle(life: Life, rng: np.random.Generator, here: Circumstances, pins: list[tuple[float, float]]) -> None:
    """The board waits; meanwhile the host switches the load four times, with pauses that are not alike."""
    life.wait(float(rng.uniform(0.01, 0.03)))
    if here.anchor.loaded:
        begin = at = life.now_s
        for pause_s in (*LOAD_PAUSES_S, 0.0):
            long_s = float(rng.uniform(8e-3, 12e-3) if here.rate is Rate.ELOG else rng.uniform(5e-3, 7e-3))
            pins.append((at, at + long_s))
            at += long_s + pause_s + float(rng.uniform(0, 3e-3))
        life.wait(at - begin)
    life.wait(float(rng.uniform(0.01, 0.03)))


def _errors(rng: np.random.Generator, here: Circumstances, model: Model) -> Errors:
    """Errors within what is declared; those that the cell leaves out are drawn all the same, and dropped."""
    gain = {q: float(rng.uniform(-1, 1)) * (q in here.gains) for q in (Quantity.CURRENT, Quantity.VOLTAGE)}
    offset = {q: float(rng.uniform(-1, 1)) * (q in here.offsets) for q in (Quantity.CURRENT, Quantity.VOLTAGE)}
    corners = rng.uniform(*model.bandwidth_hz, 2) if here.bandwidth_hz is None else np.full(2, here.bandwidth_hz)
    return Errors(
        gain_current=gain[Quantity.CURRENT] * model.current.gain,
        gain_voltage=gain[Quantity.VOLTAGE] * model.voltage.gain,
        offset_current_a=offset[Quantity.CURRENT] * model.current.offset,
        offset_voltage_v=offset[Quantity.VOLTAGE] * model.voltage.offset,
        tau_current_s=1 / (2 * math.pi * float(corners[0])),
        tau_voltage_s=1 / (2 * math.pi * float(corners[1])),
        noise_factor=here.noise_factor * (1.0 if here.noise_a is None else here.noise_a / model.current.noise_rms),
        flicker_a=here.flicker_a,
        hum_a=here.hum_a,
    )


def sample(rack: Rack, script: Script, rng: np.random.Generator) -> None:
    """Record what the analyzer sees of a script."""
    span_s = rack.sample_clock.shows(script.end_s) - rack.sample_clock.shows(script.first_s)
    recording = record(
        rack.fed,
        rack.source,
        rack.model,
        rack.errors,
        rack.sample_clock,
        first_s=script.first_s,
        count=int(span_s / rack.model.period_s),
        rng=rng,
        kind=script.meta.columns[0].sample,
    )
    script.amps, script.volts = recording.amps, recording.volts
    script.meta = script.meta.model_copy(update={"headroom": _headroom(rack.model, recording)})


def _headroom(model: Model, recording: Recording) -> Headroom:
    """What a probe window of the same board has shown of its peaks: the largest converter point, cut off as it is."""
    return Headroom(
        current_peak_a=recording.peak_a,
        current_range_a=model.current.range_max,
        voltage_peak_v=recording.peak_v,
        voltage_range_v=model.voltage.range_max,
        records=len(recording.amps),
        record_s=model.period_s,
    )


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder that is gone afterwards, in memory where there is room: the writer's syncs cost nothing there."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="labd-truth-", dir=memory if memory.is_dir() else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def write(rack: Rack, script: Script, folder: Path, rng: np.random.Generator) -> Path:
    """Write the trace that a daemon would have; return its folder. It is closed, not sealed."""
    writer = TraceWriter.create(folder, script.meta, sync_s=3600.0, coalesce_s=3600.0)
    count = len(script.amps)
    for entry in _journal(rack, script, rng):
        writer.journal(entry)
    for first in range(0, count, BLOCK):
        part = slice(first, first + BLOCK)
        writer.write(Block(first, {Quantity.CURRENT: script.amps[part], Quantity.VOLTAGE: script.volts[part]}))
    writer.close()
    return writer.folder


def _journal(rack: Rack, script: Script, rng: np.random.Generator) -> Iterator[Record]:
    """All records, in the order of their times."""
    count = len(script.amps)
    last_s = script.end_s
    entries: list[tuple[float, Record]] = []
    sequence = 0

    def stamp(at_s: float) -> int:
        return rack.ticks(at_s + JITTER_S * float(rng.standard_normal()))

    about_s = rng.uniform(0.25e-3, 10e-3, 2)
    early, late = script.asked_s - float(about_s[0]), script.asked_s + 2e-3 + float(about_s[1])
    entries.append((early, Bracket(sample=0, earliest_ticks=rack.ticks(early), latest_ticks=rack.ticks(late))))
    after_s = rng.uniform(0.5e-3, 20e-3, 2)
    early, late = last_s - float(after_s[0]), last_s + float(after_s[1])
    entries.append((late, Bracket(sample=count, earliest_ticks=rack.ticks(early), latest_ticks=rack.ticks(late))))
    if script.trigger_s is not None:
        sequence += 1
        entries.append(
            (
                script.trigger_s,
                SyncPulse(
                    pin=SYNC_PIN,
                    ticks=stamp(script.trigger_s),
                    sequence=sequence,
                    sample=-script.delay_s / 2 / rack.model.period_s,
                    u_latency_s=script.delay_s / math.sqrt(12),
                ),
            )
        )
    entries += [
        (on, LoadPulse(pin=LOAD_PIN, on_ticks=stamp(on), off_ticks=stamp(off))) for on, off in script.pulse_pins
    ]
    for index, (window, edges) in enumerate(zip(script.windows, script.edges, strict=True)):
        begun = TrialStarted(index=index, input=str(index), inferences=rack.inferences, warmups=10, at=NOON)
        entries.append((window.start_s - 8e-3, begun))
        for at_s in edges:
            for level, edge_s in ((0, at_s), (1, at_s + PULSE_S)):
                sequence += 1
                entries.append((edge_s, EdgeSeen(pin=PIN, level=level, ticks=stamp(edge_s), sequence=sequence)))
        entries.append((window.stop_s + 8e-3, TrialEnded(index=index, at=NOON)))
    return (entry for _, entry in sorted(entries, key=lambda each: each[0]))


def _meta(here: Circumstances, rack: Rack, window_s: float) -> TraceMeta:
    model = rack.model
    noise_a = here.noise_a if here.noise_a is not None else model.current.noise_rms
    accuracies = (
        (
            Quantity.CURRENT,
            type(model.current)(model.current.range_max, model.current.gain, model.current.offset, noise_a),
        ),
        (Quantity.VOLTAGE, model.voltage),
    )
    pulsed = here.anchor.pulsed
    return TraceMeta(
        trace_id="run",
        job_id=1,
        run_id=1,
        board="drawn",
        benchmark="drawn",
        mode=Mode.ENERGY,
        min_window_s=0.8 * min(window_s, rack.inferences * rack.board.inference_s),
        min_inferences=10,
        trials=TRIALS,
        instrument=Identity("none", "drawn analyzer", "1", "1"),
        edge_source=Identity("none", "drawn timestamper", "1", "1"),
        channel=1,
        timing_pin=PIN,
        pulse_s=PULSE_S,
        columns=tuple(Column(q, here.kind, Provenance.MEASURED, accuracy) for q, accuracy in accuracies),
        period_s=model.period_s,
        period_requested_s=None,
        sample_clock_ppm=here.clock_ppm,
        tick_rate_hz=TICK_HZ,
        tick_clock_ppm=here.clock_ppm,
        trigger=TriggerSource.EXTERNAL if pulsed else TriggerSource.IMMEDIATE,
        sync_pin=SYNC_PIN if pulsed else None,
        sync_load=LOAD if here.anchor.loaded else None,
        supply_voltage_v=SUPPLY_V,
        firmware_sha256="",
        labd_version="0",
        started_at=NOON,
        host_clock=HostClock.UNKNOWN,
    )
