"""What the caretaker needs done: a check planned from what the lab knows of a board, surveys, ports, golden jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

from sqlmodel import Session, col, select

from labd.bench.checkup import CheckImage, CheckPlan, examine
from labd.bench.idle import LEARNED_LAST
from labd.bench.run import Bench
from labd.benchmarks import Mode
from labd.config import Board, LiveConfig
from labd.model import ledger_health
from labd.model.checks import Examination
from labd.model.tables import Job, Run
from labd.service.health.golden import GoldenJobs


class LabCare:
    """Cares for the boards of one lab; what the caretaker calls.

    Args:
        live: The lab, as it is now.
        bench: What its runs share.
        wake: Told when a golden job was queued.
    """

    def __init__(self, live: LiveConfig, bench: Bench, wake: Callable[[], None]) -> None:
        self._live = live
        self._bench = bench
        self._wake = wake
        self._golden = GoldenJobs(live, bench.database, bench.clock)

    def deadline_s(self, board: Board) -> float:
        """How long a check of the board may take, s."""
        return CheckPlan(board, self._usual_image(board)).deadline_s

    async def examine(self, board: Board) -> Examination:
        """Check the board with the image that its last run left in it."""

        def look(session: Session) -> tuple[Job | None, tuple[float, ...]]:
            return _last_held(session, board.id), ledger_health.earlier_idle_a(session, board.id, LEARNED_LAST)

        job, earlier_a = await self._bench.database.read(look)
        image = None if job is None else self._image_of(board, job)
        return await examine(CheckPlan(board, image or self._usual_image(board), earlier_a), self._bench)

    async def survey(self, left_alone: frozenset[str]) -> None:
        """Ask every instrument but these how it is, and note it."""
        await self._bench.devices.survey(left_alone)

    async def present(self, boards: tuple[Board, ...]) -> Mapping[str, bool]:
        """Whether each board's port is there; one that is no path always is."""
        return await asyncio.to_thread(lambda: {board.id: _is_there(board.serial.port) for board in boards})

    async def tend_golden(self) -> None:
        """Queue the golden jobs that are due, and judge those that have ended."""
        if await self._golden.tend():
            self._wake()

    def _image_of(self, board: Board, job: Job) -> CheckImage | None:
        if board.flash is None:
            return None
        name = (job.spec.get("firmware") or {}).get("name")
        path = self._live.now.firmware_for(board, job.benchmark, job.mode, name)
        return None if path is None else CheckImage(path, job.mode.image)

    def _usual_image(self, board: Board) -> CheckImage | None:
        """The first image that fits the board: for energy if it is wired for that."""
        if board.flash is None:
            return None
        modes = (Mode.ENERGY, Mode.PERFORMANCE) if board.can(Mode.ENERGY) else (Mode.PERFORMANCE,)
        for mode in modes:
            for build in self._live.now.firmware:
                if build.target == board.target and mode in build.images:
                    return CheckImage(build.images[mode], mode)
        return None


def _last_held(session: Session, board_id: str) -> Job | None:
    """The job whose image a board got last."""
    query = (
        select(Job)
        .join(Run)
        .where(Run.board_id == board_id, Run.firmware_sha256 != "")
        .order_by(col(Run.id).desc())
        .limit(1)
    )
    return session.exec(query).first()


def _is_there(port: str) -> bool:
    return not port.startswith("/") or Path(port).exists()
