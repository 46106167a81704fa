"""Noise told from a trace's rests: what it makes of a window's mean, held against noise that is known.

Boards, their lines, warm-ups, sync load and settling are in every trace; only noise tells the cells apart. The error of
a window is that of the noise itself, averaged over it: what the board does is not in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from drivers.api import Quantity
from labd.score.noise import Noise, Rest, measure_noise, noise_terms
from labd.score.rules import Doubt
from labd.score.spectrum import Line
from labd.score.uncertainty import Scope, TermName, quadrature
from tests.score.boards import (
    BUSY_A,
    SUPPLY_V,
    Load,
    Run,
    band_limited,
    draw_run,
    flicker,
    hear,
    hum,
    rests_of,
    score,
    white,
)

Floats = npt.NDArray[np.float64]
Make = Callable[[np.random.Generator, int, float], Floats]

PERIOD_S = 204.8e-6
DECLARED_A = 3.8e-6
FELT = {Quantity.CURRENT: SUPPLY_V, Quantity.VOLTAGE: BUSY_A}
RUNS = 24

CELLS: dict[str, Make] = {
    "as declared": lambda rng, rows, _: white(rng, rows, DECLARED_A),
    "five times": lambda rng, rows, _: white(rng, rows, 5 * DECLARED_A),
    "hum": lambda rng, rows, period_s: white(rng, rows, DECLARED_A) + hum(rng, rows, period_s, 1e-4),
    "hum of 60 Hz": lambda rng, rows, period_s: white(rng, rows, DECLARED_A) + hum(rng, rows, period_s, 1e-4, 60.0),
    "flicker": lambda rng, rows, _: white(rng, rows, DECLARED_A) + flicker(rng, rows, 20e-6),
    "2 kHz": lambda rng, rows, period_s: band_limited(rng, rows, period_s, DECLARED_A, 2e3),
}


def ratios(run: Run, noise_a: Floats) -> list[float]:
    """Error of each window's mean by the noise, over what is stated for it."""
    noise = measure_noise(rests_of(run, hear(run, noise_a)), FELT)
    assert noise is not None
    made = []
    for start, stop in run.windows:
        error_w = SUPPLY_V * float(noise_a[round(start) : round(stop)].mean())
        duration_s = (stop - start) * run.period_s
        stated_j = quadrature(noise_terms(noise, SUPPLY_V * DECLARED_A, duration_s, run.period_s))
        made.append(error_w * duration_s / stated_j)
    return made


def rms_ratio(cell: str, load: Load, period_s: float, *, runs: int = RUNS, window_s: float = 1.0) -> float:
    rng = np.random.default_rng(5)
    found: list[float] = []
    for _ in range(runs):
        run = draw_run(rng, load, period_s, window_s=window_s)
        found += ratios(run, CELLS[cell](rng, run.rows, period_s))
    return float(np.sqrt(np.mean(np.square(found))))


@pytest.mark.parametrize("load", list(Load))
@pytest.mark.parametrize("cell", ["as declared", "five times", "2 kHz"])
def test_white_noise_is_stated_as_it_is_whatever_the_board_does(cell: str, load: Load) -> None:
    assert 0.8 < rms_ratio(cell, load, PERIOD_S) < 1.2


@pytest.mark.parametrize("load", [Load.PHASES, Load.BURSTS])
@pytest.mark.parametrize("cell", ["hum", "hum of 60 Hz", "flicker"])
def test_noise_that_is_not_white_counts(cell: str, load: Load) -> None:
    assert rms_ratio(cell, load, PERIOD_S) < 1.3


@pytest.mark.parametrize("cell", ["as declared", "2 kHz", "flicker"])
def test_the_same_holds_at_a_hundred_kilosamples(cell: str) -> None:
    ratio = rms_ratio(cell, Load.PHASES, 1e-5, runs=6, window_s=0.3)
    assert (0.5 if cell == "flicker" else 0.7) < ratio < 1.3


def test_the_median_of_a_run_is_as_far_off_as_it_says() -> None:
    rng = np.random.default_rng(9)
    found: dict[str, list[float]] = {"as declared": [], "flicker": []}
    for cell, errors in found.items():
        for _ in range(RUNS):
            run = draw_run(rng, Load.SQUARE, PERIOD_S, window_s=0.5)
            made = score(run, hear(run, CELLS[cell](rng, run.rows, PERIOD_S)), declared_a=DECLARED_A)
            median = made.energy_j_per_inference
            assert median is not None
            truth = float(np.median([run.true_j(window) for window in run.windows])) / run.inferences
            errors.append((median.value - truth) / median.standard_uncertainty)
    assert 0.7 < np.sqrt(np.mean(np.square(found["as declared"]))) < 1.3
    assert np.sqrt(np.mean(np.square(found["flicker"]))) < 1.3


def test_noise_far_above_the_declared_is_remarked_and_breaks_no_rule() -> None:
    rng = np.random.default_rng(3)
    run = draw_run(rng, Load.PHASES, PERIOD_S)
    quiet, humming, loud = (
        score(run, hear(run, CELLS[cell](rng, run.rows, PERIOD_S)), declared_a=DECLARED_A)
        for cell in ("as declared", "hum", "five times")
    )
    assert quiet.remarks == ()
    assert humming.valid
    (remark,) = humming.remarks
    assert remark.about is Doubt.NOISE
    assert "hum of 50 Hz" in remark.detail
    (remark,) = loud.remarks
    assert "times as noisy as the instrument declares: white noise as measured" in remark.detail


def test_trials_that_follow_each_other_are_remarked() -> None:
    run = draw_run(np.random.default_rng(4), Load.SQUARE, PERIOD_S, window_s=0.2)
    fine_a = run.fine_a.copy()
    for trial, (start, stop) in enumerate(run.windows):
        fine_a[round(start * 8) : round(stop * 8)] *= 1 + 1e-3 * trial
    warming = Run(run.period_s, fine_a, run.windows, run.inferences)
    made = score(warming, hear(warming, np.zeros(run.rows)), declared_a=DECLARED_A)
    assert made.valid
    assert [remark.about for remark in made.remarks] == [Doubt.TRIALS]


def test_rests_too_short_to_tell_leave_noise_as_declared_and_say_so() -> None:
    rng = np.random.default_rng(6)
    short = [Rest(0.0, 1e-3, 10.0, {quantity: rng.standard_normal(40) for quantity in FELT})]
    assert measure_noise(short, FELT) is None
    assert measure_noise([], FELT) is None
    (term,) = noise_terms(None, 1e-5, 2.0, 1e-4)
    assert term.standard_uncertainty == pytest.approx(2.0 * 1e-5 / math.sqrt(20_000))
    assert "declared noise of 20000 samples" in term.source


def test_white_noise_below_the_declared_is_not_believed() -> None:
    quiet = Noise(1e-20, 0.0, (), 100.0, 1.0, 1.0, 10.0)
    (term,) = noise_terms(quiet, 1e-5, 1.0, 1e-4)
    assert term.standard_uncertainty == pytest.approx(1e-7)
    assert term.degrees_of_freedom is None


def test_each_kind_of_noise_is_carried_to_the_window_by_its_law() -> None:
    noise = Noise(
        white=1e-12,
        flicker=1e-14,
        lines=(Line(50.0, 1e-5),),
        white_freedom=50.0,
        flicker_freedom=8.0,
        steady_s=1.0,
        span_s=60.0,
    )
    assert noise.hum_w(2.0) == pytest.approx(noise.hum_w(1.0) / 2)
    assert noise.hum_w(1.0) == pytest.approx(1e-5 / (math.pi * 50) / math.sqrt(2))
    frequencies = np.linspace(0.5 / 60, 400.0, 4_000_001)
    density = noise.flicker / frequencies * np.sinc(frequencies * 1.0) ** 2
    assert noise.flicker_w(1.0) ** 2 == pytest.approx(float(np.trapezoid(density, frequencies)), rel=0.01)
    term, drift = noise_terms(noise, 0.0, 1.0, 1e-4)
    assert (term.name, term.scope) == (TermName.NOISE, Scope.WINDOW)
    assert (drift.name, drift.scope) == (TermName.DRIFT, Scope.RUN)
    assert term.degrees_of_freedom is not None


def test_samples_that_are_no_numbers_are_no_rest() -> None:
    rng = np.random.default_rng(8)
    run = draw_run(rng, Load.PHASES, PERIOD_S)
    noise_a = white(rng, run.rows, DECLARED_A)
    before = measure_noise(rests_of(run, hear(run, noise_a)), FELT)
    noise_a[round(run.windows[1][1]) + 700 :: 5000] = math.nan
    after = measure_noise(rests_of(run, hear(run, noise_a)), FELT)
    assert before is not None
    assert after is not None
    assert after.white == pytest.approx(before.white, rel=0.2)


def test_rests_too_short_to_show_slow_noise_tell_it_by_their_levels_far_apart() -> None:
    rng = np.random.default_rng(11)
    block_s, rows, length = 1e-3, 8192, 40
    told = []
    for _ in range(20):
        noise = {Quantity.CURRENT: flicker(rng, rows, 20e-6) + white(rng, rows, 2e-6), Quantity.VOLTAGE: np.zeros(rows)}
        rests = [
            Rest(
                start * block_s, block_s, rows * block_s, {q: each[start : start + length] for q, each in noise.items()}
            )
            for start in range(0, rows - length, 900)
        ]
        noise_seen = measure_noise(rests, FELT)
        assert noise_seen is not None
        told.append(noise_seen.flicker)
    density = (SUPPLY_V * 20e-6) ** 2 / (math.log(rows / 2) + np.euler_gamma)  # of h/f with that variance in all
    assert min(told) > 0
    assert 0.5 < np.median(told) / density < 2


@pytest.mark.parametrize("seed", range(8))
def test_a_board_that_idles_at_two_currents_is_not_noisy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    block_s, length, levels_a = 1e-3, 80, (8e-4, 8.12e-4, 8e-3)
    rests = [
        Rest(
            k * 0.9,
            block_s,
            10.0,
            {Quantity.CURRENT: levels_a[k % 3] + white(rng, length, 2e-6), Quantity.VOLTAGE: np.zeros(length)},
        )
        for k in range(18)
    ]
    told = measure_noise(rests, FELT)
    assert told is not None
    assert told.flicker < (SUPPLY_V * 1e-6) ** 2
    assert told.white == pytest.approx((SUPPLY_V * 2e-6) ** 2 * block_s, rel=0.25)


@pytest.mark.parametrize("mains_hz", [50.0, 60.0])
@pytest.mark.parametrize("period_s", [PERIOD_S, 1e-5])
def test_hum_is_not_taken_for_flicker(mains_hz: float, period_s: float) -> None:
    rng = np.random.default_rng(13)
    seen = []
    for _ in range(24):
        run = draw_run(rng, Load.SQUARE, period_s, window_s=0.3)
        told = measure_noise(
            rests_of(run, hear(run, white(rng, run.rows, DECLARED_A) + hum(rng, run.rows, period_s, 1e-4, mains_hz))),
            FELT,
        )
        assert told is not None
        seen.append(math.sqrt(told.flicker))
    assert max(seen) < 0.004 * SUPPLY_V * 1e-4
