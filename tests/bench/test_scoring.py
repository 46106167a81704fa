"""A score made of a trace folder: known energy in, and every way in which a trial can be spoilt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from drivers.api import Edge, Interval, IntervalKind, Quantity
from labd.bench.scoring import score_trace
from labd.model.causes import Cause
from labd.score.energy import RunScore
from labd.score.rules import Rule
from labd.trace.journal import EdgeSeen, Marked, SyncPulse, TrialEnded, TrialStarted
from labd.trace.reader import Trace
from labd.trace.seal import seal
from labd.trace.writer import TraceWriter
from tests.trace.recording import WHEN, cut, make_meta

PERIOD_S = 204.8e-6
TICK_HZ = 125e6
LEAD, LENGTH, REST = 3000.25, 5000.5, 2000.0
"""Samples before the first window, in a window, and between windows."""
IDLE_A, BUSY_A, SUPPLY_V = 0.002, 0.012, 3.0
WINDOWS = [(start, start + LENGTH) for start in LEAD + (LENGTH + REST) * np.arange(5)]
ROWS = int(WINDOWS[-1][1] + REST)
TRUE_J = SUPPLY_V * BUSY_A * LENGTH * PERIOD_S / 100


def ticks(sample: float) -> int:
    return 10**9 + round(sample * PERIOD_S * TICK_HZ)


@dataclass(frozen=True)
class Spoilt:
    """What is wrong with the third trial."""

    edges: Sequence[float] = WINDOWS[2]
    failure: str = ""
    marked: Interval | None = None
    rows: int = ROWS


def record(folder: Path, spoilt: Spoilt, **meta: object) -> Path:
    k = np.arange(spoilt.rows)
    share = sum(np.clip(np.minimum(k + 1, stop) - np.maximum(k, start), 0, 1) for start, stop in WINDOWS)
    current = (IDLE_A + (BUSY_A - IDLE_A) * share).astype(np.float32)
    signal = {Quantity.CURRENT: current, Quantity.VOLTAGE: np.full(spoilt.rows, SUPPLY_V, dtype=np.float32)}
    writer = TraceWriter.create(folder, make_meta(sync_pin=15, **meta))
    writer.journal(SyncPulse(pin=15, ticks=ticks(0), sequence=0, sample=0.0, u_latency_s=1e-6))
    sequence = 0
    for trial, window in enumerate(WINDOWS):
        writer.journal(TrialStarted(index=trial, input="0", inferences=100, warmups=10, at=WHEN))
        for sample in spoilt.edges if trial == 2 else window:
            sequence += 1
            writer.journal(EdgeSeen.of(Edge(pin=0, level=0, ticks=ticks(sample), sequence=sequence)))
        writer.journal(TrialEnded(index=trial, failure=spoilt.failure if trial == 2 else "", at=WHEN))
    if spoilt.marked is not None:
        writer.journal(Marked.of(spoilt.marked))
    for block in cut(signal, [1000, 777]):
        writer.write(block)
    return writer.close().folder


def score(folder: Path, spoilt: Spoilt | None = None, **meta: object) -> RunScore:
    return score_trace(Trace.open(record(folder, spoilt or Spoilt(), **meta)))


def test_known_energy_comes_out(tmp_path: Path) -> None:
    made = score(tmp_path)
    assert made.valid
    assert made.energy_j_per_inference is not None
    assert made.energy_j_per_inference.value == pytest.approx(TRUE_J, rel=1e-5)
    assert [window.trial for window in made.windows] == [0, 1, 2, 3, 4]
    assert made.windows[0].duration_s == pytest.approx(LENGTH * PERIOD_S, rel=1e-5)
    assert made.windows[0].mean_power_w == pytest.approx(SUPPLY_V * BUSY_A, rel=1e-5)


def test_a_sealed_trace_scores_the_same_and_names_its_digests(tmp_path: Path) -> None:
    folder = record(tmp_path, Spoilt())
    hot = score_trace(Trace.open(folder))
    sealed = seal(folder)
    again = score_trace(Trace.open(folder))
    assert again.windows == hot.windows
    assert hot.inputs["state"] == "not sealed"
    assert again.inputs["samples.parquet"] == sealed.sha256["samples.parquet"]
    assert again.inputs["trace"] == "t1"


@pytest.mark.parametrize(
    ("spoilt", "rule", "cause"),
    [
        (Spoilt(edges=WINDOWS[2][:1]), Rule.TWO_EDGES, Cause.EDGES_MISSING),
        (Spoilt(edges=(*WINDOWS[2], WINDOWS[2][1] + 500)), Rule.TWO_EDGES, Cause.EDGES_EXTRA),
        (Spoilt(failure="the board was silent"), Rule.TRIALS, Cause.TRIALS_MISSING),
        (
            Spoilt(marked=Interval(IntervalKind.CLIPPED, int(WINDOWS[2][0]) + 9, int(WINDOWS[2][0]) + 10)),
            Rule.UNDAMAGED,
            Cause.CAPTURE_DAMAGED,
        ),
    ],
)
def test_a_spoilt_trial_is_refused_and_the_others_scored(
    tmp_path: Path, spoilt: Spoilt, rule: Rule, cause: Cause
) -> None:
    made = score(tmp_path, spoilt)
    assert [window.trial for window in made.windows] == [0, 1, 3, 4]
    assert (made.findings[0].rule, made.findings[0].cause, made.findings[0].trial) == (rule, cause, 2)
    assert (made.findings[-1].rule, made.findings[-1].trial) == (Rule.TRIALS, None)
    assert not made.valid


def test_a_window_that_the_capture_missed_is_refused(tmp_path: Path) -> None:
    made = score(tmp_path, Spoilt(rows=int(WINDOWS[4][1]) - 500))
    assert [window.trial for window in made.windows] == [0, 1, 2, 3]
    assert made.findings[0].rule is Rule.RECORDED


def test_a_capture_that_overflowed_says_so_where_the_windows_cannot_be_found(tmp_path: Path) -> None:
    made = score(tmp_path, Spoilt(rows=25, marked=Interval(IntervalKind.OVERFLOW, 20, 25)))
    assert not made.windows
    assert {finding.cause for finding in made.findings[:-1]} == {Cause.CAPTURE_DAMAGED}
    assert "the trace has 25 samples" in made.findings[0].detail
    assert "samples 20 to 25 are marked overflow: the analyzer was not read in time" in made.findings[0].detail


def test_the_rules_are_those_of_the_trace(tmp_path: Path) -> None:
    made = score(tmp_path, min_window_s=1.1)
    assert {finding.rule for finding in made.findings} == {Rule.MIN_WINDOW}
    assert len(made.windows) == 5


def test_a_trace_without_trials_has_no_energy(tmp_path: Path) -> None:
    writer = TraceWriter.create(tmp_path, make_meta())
    folder = writer.close().folder
    made = score_trace(Trace.open(folder))
    assert made.energy_j_per_inference is None
    assert [finding.rule for finding in made.findings] == [Rule.TRIALS]
