"""Nights of a sweep in a database, with scores as a noisy rack would have given them."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlmodel import Session

from labd.benchmarks import Mode
from labd.model import ledger, ledger_sweeps
from labd.model.causes import Cause, Ending
from labd.model.states import BoardState
from labd.model.tables import Board, Score

DUE = datetime(2025, 3, 1, 23, 0, tzinfo=UTC)
CELLS = tuple(f"digits01/{mode}/{board}" for board in ("b1", "b2") for mode in ("energy", "performance"))


def estimate(value: float) -> dict[str, Any]:
    spread = value * 5e-4
    return {"value": value, "standard_uncertainty": spread, "interval": [value - 2 * spread, value + 2 * spread]}


class Nights:
    """Fills nights one after another; a night begins a day after the one before it.

    Args:
        session: The writer's.
        spec: The sweep's specification.
        spread: Relative spread of the nights.
    """

    def __init__(self, session: Session, spec: dict[str, Any] | None = None, spread: float = 0.003) -> None:
        self._session = session
        self._noise = random.Random(1)
        self._spread = spread
        sweep = ledger_sweeps.create_sweep(
            session, "nightly", owner="ann", spec=spec or {"baseline": "first:5"}, due_at=None, now=DUE
        )
        assert sweep.id is not None
        self._sweep_id = sweep.id
        self._count = 0
        self.night_id = 0
        self.now = DUE

    def night(
        self,
        factors: dict[str, float] | None = None,
        endings: dict[str, list[Ending]] | None = None,
        left: frozenset[str] = frozenset(),
        scores: dict[str, dict[str, Any]] | None = None,
    ) -> int:
        """Run a night: figures of cells times `factors`, attempts as `endings` say, cells in `left` not at all.

        `scores` is what the scores of cells hold besides.
        """
        self.now = DUE + timedelta(days=self._count)
        self._count += 1
        night = ledger_sweeps.start_night(self._session, self._sweep_id, self.now, self.now)
        assert night is not None
        assert night.id is not None
        self.night_id = night.id
        for number, cell in enumerate(CELLS):
            _, mode, board = cell.split("/")
            job = self.job(cell, Mode(mode), board, self.night_id, number)
            if cell in left:
                ledger.cancel_job(self._session, job, self.now)
                continue
            for ending in (endings or {}).get(cell, [Ending()]):
                more = (scores or {}).get(cell, {})
                self.attempt(job, board, Mode(mode), ending, (factors or {}).get(cell, 1.0), more=more)
        ledger_sweeps.end_expansion(self._session, night, self.now)
        return self.night_id

    def job(self, cell: str, mode: Mode, board: str, night_id: int | None = None, number: int | None = None) -> int:
        labels = {"labd.cell": f"{cell}/rep1"} if night_id else {"labd.purpose": "golden"}
        job = ledger.submit_job(
            self._session,
            benchmark="digits01",
            mode=mode,
            client="test",
            requester="ann" if night_id else "labd",
            spec={"benchmark": "digits01", "mode": mode.value, "board": {"id": board}, "labels": labels},
            now=self.now,
            night_id=night_id,
            cell=number,
        )
        assert job.id is not None
        return job.id

    def attempt(
        self,
        job: int,
        board: str,
        mode: Mode,
        ending: Ending,
        factor: float = 1.0,
        *,
        more: dict[str, Any] | None = None,
    ) -> None:
        if self._session.get_one(Board, board).state is not BoardState.ONLINE:
            ledger.set_board_state(self._session, board, BoardState.ONLINE, "", self.now)
        run = ledger.start_run(self._session, job, board, self.now, 600.0)
        assert run.id is not None
        self.now += timedelta(minutes=10)
        value = factor * (1 + self._noise.gauss(0, self._spread))
        key, level = ("energy_j_per_inference", 14e-6) if mode is Mode.ENERGY else ("inferences_per_s", 85.0)
        result: dict[str, Any] = {key: estimate(level * value), f"board_{key}": None, "findings": []}
        if ending.cause is Cause.WINDOW_SHORT:
            result["findings"] = [{"rule": "min_window", "detail": "the window lasted 0.9 s, the rule asks for 1 s"}]
        result |= more or {}
        self._session.add(Score(run_id=run.id, scorer="labd/1", result=result, created_at=self.now))
        ledger.end_run(self._session, run.id, ending, self.now)

    def end(self, report: dict[str, Any]) -> None:
        assert ledger_sweeps.end_night(self._session, self.night_id, report, self.now, ()) is not None

    def golden(self, board: str, factor: float, more: dict[str, Any] | None = None) -> None:
        """The golden job of a board, and what its score holds besides."""
        self.attempt(self.job("", Mode.ENERGY, board), board, Mode.ENERGY, Ending(), factor, more=more)
