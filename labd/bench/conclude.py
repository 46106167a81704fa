"""The score of a run from what was committed of it: the trace for energy, laps and results for the rest."""

from __future__ import annotations

import asyncio

from sqlmodel import Session, col, select

from labd.bench.failure import RunFailedError
from labd.bench.run import Run
from labd.bench.scoring import score_trace
from labd.benchmarks import Mode
from labd.dut.protocol import lap_resolution_us
from labd.errors import ScoreError
from labd.model.causes import Cause, Ending
from labd.model.tables import Trial, Window
from labd.score.accuracy import AccuracyScore, score_accuracy
from labd.score.energy import RunScore
from labd.score.performance import PerformanceScore, TimedWindow, score_performance
from labd.score.rules import Rules
from labd.trace.reader import Trace


async def conclude(run: Run) -> Ending:
    """Score the run, keep the score, and say how the run ended by the rules."""
    try:
        score = await _score(run)
    except ScoreError as error:
        raise RunFailedError(Cause.SCORE_FAILED, str(error)) from error
    await run.add_score(score.scorer, score.inputs, score.model_dump(mode="json"))
    if not score.findings:
        return Ending()
    worst = score.findings[0]
    return Ending(worst.cause, "; ".join(finding.detail for finding in score.findings))


async def _score(run: Run) -> RunScore | PerformanceScore | AccuracyScore:
    plan, database = run.plan, run.bench.database
    inputs = {"run": str(plan.run_id), "firmware_sha256": run.firmware_sha256, "benchmark": plan.benchmark.id}
    match plan.mode:
        case Mode.ENERGY:
            assert run.trace is not None, "an energy run that came this far has a trace"
            folder = run.trace
            return await asyncio.to_thread(lambda: score_trace(Trace.open(folder)))
        case Mode.PERFORMANCE:
            windows = await database.read(lambda session: _windows(session, plan.run_id))
            rules = Rules(
                trials=plan.trials, min_window_s=plan.min_window_s, min_inferences=plan.benchmark.min_inferences
            )
            return score_performance(windows, clock_ppm=plan.board.clock_ppm, rules=rules, inputs=inputs)
        case Mode.ACCURACY:
            labels = [int(label) for label in plan.benchmark.inputs().labels]
            results = await database.read(lambda session: _results(session, plan.run_id))
            return score_accuracy(results, labels, top1_target=plan.benchmark.top1_target, inputs=inputs)


def _windows(session: Session, run_id: int) -> list[TimedWindow]:
    """The windows of a run; the step of the clock that timed them is seen in its readings, not taken on trust."""
    rows = session.exec(
        select(Trial, Window)
        .where(col(Window.trial_id) == col(Trial.id), Trial.run_id == run_id)
        .order_by(col(Trial.number))
    ).all()
    step_us = lap_resolution_us([ticks for _, window in rows for ticks in (window.start_ticks, window.stop_ticks)])
    return [
        TimedWindow(
            trial=trial.number,
            inferences=trial.inferences,
            duration_s=window.duration_s,
            resolution_s=step_us * 1e-6,
        )
        for trial, window in rows
    ]


def _results(session: Session, run_id: int) -> list[list[float]]:
    trials = session.exec(select(Trial).where(Trial.run_id == run_id).order_by(col(Trial.number)))
    return [trial.results for trial in trials]
