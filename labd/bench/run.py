"""One run under way: its plan, what it shares with others, and its place in the procedure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import structlog
from sqlmodel import Session

from drivers.api import Driver
from labd.bench.devices import Devices
from labd.bench.plan import RunPlan
from labd.bench.progress import Progress, ProgressFeed
from labd.clock import WALL, Clock
from labd.model import ledger, ledger_measures
from labd.model.database import Database
from labd.model.states import RunStep
from labd.model.tables import Score, Window


@dataclass(frozen=True, slots=True)
class Bench:
    """What all runs of a lab share."""

    devices: Devices
    drivers: Mapping[str, Driver]
    database: Database
    progress: ProgressFeed
    traces_dir: Path
    clock: Clock = WALL


class Run:
    """A run's own hand on the bench: every step is committed before it is told."""

    def __init__(self, plan: RunPlan, bench: Bench) -> None:
        self.plan = plan
        self.bench = bench
        self.log = structlog.get_logger()
        self.firmware_sha256 = ""
        self.supply_voltage_v = 0.0
        """What the board's supply is set to, as read back, V; 0 before it is on."""
        self.trace: Path | None = None
        """Folder of the run's trace, once there is one."""
        self._progress = Progress(plan.job_id, plan.run_id, plan.board.id, RunStep.LEASED, trials=plan.rounds)

    @property
    def step(self) -> RunStep:
        """The step that was begun last."""
        return self._progress.step

    async def enter(self, step: RunStep, **facts: Any) -> None:
        """Begin a step; `facts` are what was read back so far."""
        run_id = self.plan.run_id
        await self.bench.database.write(lambda session: ledger.set_step(session, run_id, step, facts))
        self.report(step=step)
        self.log.debug("run_step_entered", step=step)

    def report(self, **changes: Any) -> None:
        """Tell whoever watches how far the run is."""
        self._progress = replace(self._progress, **changes)
        self.bench.progress.report(self._progress)

    async def start_trial(self, number: int, input_index: int, inferences: int) -> int:
        """Note a trial that begins; return its id."""
        run_id = self.plan.run_id
        self.report(trial=number + 1, share=number / self.plan.rounds)
        return await self.bench.database.write(
            lambda session: ledger_measures.start_trial(
                session, run_id, number=number, input_index=input_index, inferences=inferences
            )
        )

    async def end_trial(self, trial_id: int, results: Sequence[float], window: Window) -> None:
        """Note what a trial measured."""
        await self.bench.database.write(lambda session: ledger_measures.end_trial(session, trial_id, results, window))

    async def add_trial(self, number: int, input_index: int, inferences: int, results: Sequence[float]) -> None:
        """Note a trial without a window once it is over, in one commit: accuracy has hundreds of short ones."""
        run_id = self.plan.run_id

        def add(session: Session) -> None:
            trial_id = ledger_measures.start_trial(
                session, run_id, number=number, input_index=input_index, inferences=inferences
            )
            ledger_measures.end_trial(session, trial_id, results, None)

        await self.bench.database.write(add)

    async def add_score(self, scorer: str, inputs: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        """Keep a score of this run."""
        score = Score(
            run_id=self.plan.run_id,
            scorer=scorer,
            inputs=dict(inputs),
            result=dict(result),
            created_at=self.bench.clock.now(),
        )
        await self.bench.database.write(lambda session: ledger_measures.add_score(session, score))
