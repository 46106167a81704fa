"""Nothing goes wrong: in each mode a run completes, and what it says agrees with what only the rack knows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlmodel import select

from labd.benchmarks import BENCHMARKS, Mode
from labd.model.causes import Ending
from labd.model.tables import Score, Trial, Window
from labd.score.accuracy import AccuracyScore
from labd.score.energy import RunScore
from labd.score.performance import PerformanceScore
from labd.score.uncertainty import Estimate
from labd.trace.meta import read_meta
from labd.trace.reader import Trace
from labd.virtual.endpoints import CALIBRATED_ON
from labd.virtual.truth import TrueWindow
from tests.bench.benches import TestBench, bench_on_rack
from tests.faults.scene import BOARD, SPEED, TRIALS, energy, nothing_is_left, output_is_off, trace_of

AGREES = 4.0
"""A measured value lies within so many standard uncertainties of the true one."""


def agrees(estimate: Estimate, true: float) -> bool:
    return abs(estimate.value - true) <= AGREES * estimate.standard_uncertainty


async def score_of(bench: TestBench, run_id: int) -> Score:
    return await bench.database.read(lambda session: session.exec(select(Score).where(Score.run_id == run_id)).one())


async def true_windows(bench: TestBench, run_id: int) -> list[TrueWindow]:
    """What the rack knows of the run's windows, in the order of the trials, found by the ticks of their edges."""
    rows: Sequence[Window] = await bench.database.read(
        lambda session: session.exec(
            select(Window).join(Trial).where(Trial.run_id == run_id).order_by(Trial.number)  # type: ignore[arg-type]
        ).all()
    )
    known = {(true.opened_ticks, true.closed_ticks): true for true in bench.rack.seats[BOARD].truth.windows}
    return [known[row.start_ticks, row.stop_ticks] for row in rows]


async def test_an_energy_run_measures_the_true_energy_of_each_window(tmp_path: Path) -> None:
    async with bench_on_rack(tmp_path, speed=SPEED) as bench:
        ending, run_id = await energy(bench)
        assert ending == Ending()
        score = RunScore.model_validate((await score_of(bench, run_id)).result, strict=False)
        truth = await true_windows(bench, run_id)
        assert len(score.windows) == len(truth) == TRIALS
        for window, true in zip(score.windows, truth, strict=True):
            assert window.duration_s >= 0.2
            assert agrees(window.energy_j, true.energy_j)
        assert output_is_off(bench)
        await nothing_is_left(bench)


async def test_a_trace_says_who_measured_it_how_it_was_wired_and_when_that_was_calibrated(tmp_path: Path) -> None:
    async with bench_on_rack(tmp_path, speed=SPEED) as bench:
        assert (await energy(bench))[0] == Ending()
        (folder,) = bench.config.traces_dir.iterdir()
        meta = read_meta(folder)
        board = bench.config.board_by_id(BOARD)
        assert board is not None
        assert (meta.instrument.model, meta.calibrated_on) == ("N6705C", CALIBRATED_ON)
        assert meta.instrument.serial
        assert meta.wiring is not None
        assert (meta.wiring.measure, meta.wiring.serial_port) == (board.supply.instrument, board.serial.port)


async def test_both_ends_of_a_capture_lie_between_what_was_read_of_the_edge_sources_clock(tmp_path: Path) -> None:
    async with bench_on_rack(tmp_path, speed=SPEED) as bench:
        ending, run_id = await energy(bench)
        assert ending == Ending()
        folder = await trace_of(bench, run_id)
        assert folder is not None
        trace = Trace.open(folder)
        begin, end = trace.brackets()
        (pulse,) = trace.sync_pulses()
        assert (begin.sample, end.sample) == (0, trace.rows)
        assert begin.earliest_ticks <= pulse.ticks <= begin.latest_ticks
        assert trace.meta.tick_rate_hz is not None
        # The clocks differ by up to 100 ppm, and the trigger by up to a quarter of a sample.
        true_end = pulse.ticks + (trace.rows * trace.meta.period_s) * trace.meta.tick_rate_hz
        reach = (1 + 1e-4 * trace.rows) * trace.meta.period_s * trace.meta.tick_rate_hz
        assert end.earliest_ticks - reach <= true_end <= end.latest_ticks + reach
        last_edge = max(edge.ticks for trial in trace.trials() for edge in trial.edges)
        assert last_edge < end.latest_ticks


async def test_a_performance_run_measures_the_rate_that_the_energy_image_shows_the_rack(tmp_path: Path) -> None:
    async with bench_on_rack(tmp_path, speed=SPEED) as bench:
        ending, energy_run = await energy(bench)
        assert ending == Ending()
        inferences = (
            RunScore.model_validate((await score_of(bench, energy_run)).result, strict=False).windows[0].inferences
        )
        true_rate = inferences / (await true_windows(bench, energy_run))[0].duration_s
        ending, run_id = await bench.run(Mode.PERFORMANCE, trials=TRIALS, min_window_s=0.2)
        assert ending == Ending()
        score = PerformanceScore.model_validate((await score_of(bench, run_id)).result, strict=False)
        assert len(score.windows) == TRIALS
        assert score.inferences_per_s is not None
        assert agrees(score.inferences_per_s, true_rate)
        assert output_is_off(bench)
        await nothing_is_left(bench)


@pytest.mark.slow
async def test_an_accuracy_run_finds_what_the_model_gets_right(tmp_path: Path) -> None:
    async with bench_on_rack(tmp_path, speed=40.0) as bench:
        ending, run_id = await bench.run(Mode.ACCURACY)
        assert ending == Ending()
        score = AccuracyScore.model_validate((await score_of(bench, run_id)).result, strict=False)
        assert score.samples == len(BENCHMARKS["digits01"].inputs())
        assert score.correct == 355
        assert output_is_off(bench)
        await nothing_is_left(bench)


async def test_the_sync_record_holds_the_fall_that_the_trigger_input_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench_on_rack(tmp_path, speed=SPEED) as bench:
        analyzer, stamper = bench.rack.analyzers["psu-1"], bench.rack.timestampers["stamps-1"]
        driven: list[tuple[int, float]] = []
        drive = analyzer.drive_trigger

        def noted(level: int, at_s: float) -> None:
            driven.append((level, at_s))
            drive(level, at_s)

        monkeypatch.setattr(analyzer, "drive_trigger", noted)
        ending, run_id = await energy(bench)
        assert ending == Ending()
        folder = await trace_of(bench, run_id)
        assert folder is not None
        (sync,) = Trace.open(folder).sync_pulses()
        assert [level for level, _ in driven] == [1, 0, 1]  # rests high before it is armed, then one low pulse
        assert sync.ticks == pytest.approx(stamper.ticks(driven[1][1]), abs=5)
