"""Where what repeats begins and ends, on currents of boards that are known to the microsecond."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest

from drivers.api import SampleKind
from labd.trace.timing.repeats import UNSURE_S, find_repeats
from labd.trace.timing.steps import Signal
from labd.trace.timing.timebase import Anchor, AnchorKind, Clocks
from labd.trace.timing.windows import TimedEdge

PERIOD_S = 1e-5
TICK_HZ = 1e6
INFERENCES = 60
WINDOWS = 5
NOISE_A = 17e-6
WORK_A, IDLE_A = 8e-3, 3e-3
PHASES = ((0.31e-3, 25e-3), (0.08e-3, 8e-3), (0.52e-3, 12e-3), (0.4e-3, 31e-3))
"""Spans and currents of an inference; one draws what the work outside draws."""


@dataclass
class Board:
    """A recording: levels over time, and where the pin's edges lie, s."""

    levels: list[tuple[float, float]]
    edges: list[tuple[float, AnchorKind]]

    @property
    def now_s(self) -> float:
        return sum(span for span, _ in self.levels)

    def samples(self) -> npt.NDArray[np.float32]:
        ends = np.concatenate([[0.0], np.cumsum([span for span, _ in self.levels])])
        charge = np.concatenate([[0.0], np.cumsum([span * level for span, level in self.levels])])
        at = np.arange(0, ends[-1], PERIOD_S)
        noise = NOISE_A * np.random.default_rng(2).standard_normal(len(at) - 1)
        return (np.diff(np.interp(at, ends, charge)) / PERIOD_S + noise).astype(np.float32)


def board(lag_s: float, lead_s: float, phases: tuple[tuple[float, float], ...] = PHASES) -> Board:
    """A board that works for `lag_s` after an opening edge and for `lead_s` before a closing one."""
    made = Board([(20e-3, IDLE_A)], [])
    for _ in range(WINDOWS):
        made.levels += [(10e-3, IDLE_A), (1.04e-3, WORK_A + 1e-3), (0.13e-3, WORK_A)]
        made.edges.append((made.now_s, AnchorKind.OPENING))
        made.levels += [(lag_s, WORK_A), *phases * INFERENCES, (lead_s, WORK_A)]
        made.edges.append((made.now_s, AnchorKind.CLOSING))
        made.levels += [(0.2e-3, WORK_A), (1.04e-3, WORK_A + 1e-3)]
    made.levels.append((20e-3, IDLE_A))
    return made


def told(made: Board, samples: npt.NDArray[np.float32], late_s: float = 0.0) -> dict[AnchorKind, float]:
    """What is told where the edges are thought to lie `late_s` later than they do."""
    clocks = Clocks(tick_rate_hz=TICK_HZ, period_s=PERIOD_S, u_stretch=1e-6)
    signal = Signal(lambda a, b: samples[a:b], len(samples), NOISE_A, SampleKind.MEAN, clocks)
    edges = [TimedEdge(round(at * TICK_HZ), 10, kind, k // 2) for k, (at, kind) in enumerate(made.edges)]
    base = clocks.fit([Anchor(0, late_s / PERIOD_S, 0.1)])
    window_s = made.edges[1][0] - made.edges[0][0]
    return dict(find_repeats(signal, edges, window_s, INFERENCES, base))


@pytest.mark.parametrize(("lag_s", "lead_s"), [(20e-6, 20e-6), (0.4e-3, 20e-6), (20e-6, 0.4e-3), (0.3e-3, 0.45e-3)])
def test_work_beside_the_edges_is_told_from_what_repeats(lag_s: float, lead_s: float) -> None:
    made = board(lag_s, lead_s)
    found = told(made, made.samples())
    assert found[AnchorKind.OPENING] == pytest.approx(lag_s, abs=UNSURE_S)
    assert found[AnchorKind.CLOSING] == pytest.approx(-lead_s, abs=UNSURE_S)


def test_edges_that_are_thought_elsewhere_show() -> None:
    made = board(20e-6, 20e-6)
    found = told(made, made.samples(), late_s=0.6e-3)
    assert found[AnchorKind.OPENING] == pytest.approx(-0.58e-3, abs=UNSURE_S)
    assert found[AnchorKind.CLOSING] == pytest.approx(-0.62e-3, abs=UNSURE_S)


def test_edges_far_off_tell_nothing() -> None:
    made = board(20e-6, 20e-6)
    assert told(made, made.samples(), late_s=10e-3) == {}


def test_windows_between_which_samples_were_lost_tell_nothing() -> None:
    made = board(20e-6, 20e-6)
    samples = made.samples()
    middle = len(samples) // 2
    assert told(made, np.delete(samples, slice(middle, middle + 50))) == {}


def test_inferences_too_short_for_the_rate_are_not_asked() -> None:
    made = board(20e-6, 20e-6, phases=((10e-6, 25e-3), (15e-6, 8e-3)))
    assert told(made, made.samples()) == {}
