"""The golden job: the same measurement on each board again and again, held against the board's own earlier ones.

It is a job like any other, of requester `labd`, low in priority, and known by its label. A result that is too far off
makes its board suspect.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import partial

import structlog
from sqlmodel import Session, col, select

from labd.benchmarks import BENCHMARKS, Mode
from labd.clock import Clock
from labd.config import Board, LabConfig, LiveConfig
from labd.model import ledger, ledger_health
from labd.model.database import Database
from labd.model.ledger_events import LABD
from labd.model.states import UNDER_WAY, BoardState, JobState, RunState
from labd.model.tables import LIVE_JOBS, Job, Mark, Run, Score
from labd.model.tables import Board as BoardRow
from labd.plus_minus import with_k
from labd.schedule.health import GOLDEN_LAST, Golden, golden_drift
from labd.service.messages import BoardChoice, JobSpec
from labd.service.queue.requirement import requirement_of
from labd.service.queue.work import estimate_of

LABEL, GOLDEN = "labd.purpose", "golden"
PRIORITY = -5
"""Level of a golden job: others go first, but ageing brings it forward."""

_EXPANDED = 2
"""Coverage factor of the uncertainty that a result is judged with."""


class GoldenJobs:
    """Queues golden jobs and judges their results.

    Args:
        live: The lab, as it is now.
        database: Where jobs and scores are.
        clock: Makes them due.
    """

    def __init__(self, live: LiveConfig, database: Database, clock: Clock) -> None:
        self._live = live
        self._database = database
        self._clock = clock
        self._log = structlog.get_logger()

    async def tend(self) -> bool:
        """Judge what has ended, queue what is due; True if a job was queued."""
        config, now = self._live.now, self._clock.now()
        if config.health.golden is None:
            return False
        boards, jobs = await self._database.read(lambda session: (_boards(session), _golden_jobs(session, config)))
        for board_id, own in jobs.items():
            if any(job.state is JobState.COMPLETED for job in own):
                await self._judge(board_id, own)
        queued = False
        for board in config.board:
            if board.id in boards and _is_due(config, board, jobs[board.id], now):
                parked = [job.id for job in jobs[board.id] if job.state is JobState.PARKED and job.id is not None]
                take_turn = partial(_take_turn, config=config, board=board, parked=parked, now=now)
                if await self._database.write(take_turn):
                    self._log.info("golden_job_queued", board=board.id, instead_of=parked)
                    queued = True
        return queued

    async def _judge(self, board_id: str, own: Iterable[Job]) -> None:
        """Judge the newest result of a board, once."""
        ended = [job.id for job in own if job.state is JobState.COMPLETED and job.id is not None]
        told, tolerance, now = f"golden.{board_id}", self._live.now.health.golden_tolerance_percent, self._clock.now()

        def judge(session: Session) -> str:
            mark = session.get(Mark, told)
            if mark is not None and mark.number >= ended[-1]:
                return ""
            session.merge(Mark(reader=told, number=ended[-1]))
            results = _results(session, ended)
            if ended[-1] not in results:
                return ""
            latest = results.pop(ended[-1])
            drift = golden_drift(latest, list(results.values()), tolerance)
            if drift is None or not drift.beyond:
                return ""
            off = with_k(drift.percent, drift.expanded_percent, "%", k=_EXPANDED)
            reason = (
                f"golden job {ended[-1]} is {'+' if drift.percent > 0 else ''}{off} from the median of "
                f"{drift.earlier} earlier ones, more than {tolerance:g} %"
            )
            ledger_health.make_suspect(session, board_id, reason, now)
            return reason

        if reason := await self._database.write(judge):
            self._log.warning("golden_job_drifted", board=board_id, reason=reason)


def _boards(session: Session) -> frozenset[str]:
    """Boards that work."""
    working = (BoardState.ONLINE, BoardState.BUSY)
    return frozenset(session.exec(select(BoardRow.id).where(col(BoardRow.state).in_(working))))


def _golden_jobs(session: Session, config: LabConfig) -> defaultdict[str, list[Job]]:
    """The golden jobs of the benchmark in use that are under way, and the newest others, oldest first, by board."""
    limit = (GOLDEN_LAST + 2) * max(1, len(config.board))
    newest = session.exec(select(Job).where(Job.requester == LABD).order_by(col(Job.id).desc()).limit(limit)).all()
    # That of a board which was away for long is older than all the newest.
    waiting = session.exec(select(Job).where(Job.requester == LABD, LIVE_JOBS)).all()
    jobs = {job.id: job for job in (*waiting, *newest) if job.id is not None}
    found: defaultdict[str, list[Job]] = defaultdict(list)
    for _, job in sorted(jobs.items()):
        if job.benchmark == config.health.golden and job.spec.get("labels", {}).get(LABEL) == GOLDEN:
            found[job.spec["board"]["id"]].append(job)
    return found


def _is_due(config: LabConfig, board: Board, own: list[Job], now: datetime) -> bool:
    benchmark = config.health.golden
    if benchmark not in BENCHMARKS or not board.can(Mode.ENERGY):
        return False
    if config.firmware_for(board, benchmark, Mode.ENERGY) is None or any(job.state in UNDER_WAY for job in own):
        return False
    return not own or own[-1].submitted_at + timedelta(seconds=config.health.golden_every_s) <= now


def _take_turn(session: Session, *, config: LabConfig, board: Board, parked: Iterable[int], now: datetime) -> bool:
    """Queue a golden job, and end those before it that are parked; False if one of them has been released meanwhile."""
    laid_aside = [ledger.job_row(session, job_id) for job_id in parked]
    if any(job.state in UNDER_WAY for job in laid_aside):
        return False
    number = _submit(session, config=config, board=board, now=now)
    for job in laid_aside:
        if job.state is JobState.PARKED and job.id is not None:
            ledger.cancel_job(session, job.id, now).detail = f"golden job {number} took its place"
    return True


def _submit(session: Session, *, config: LabConfig, board: Board, now: datetime) -> int:
    """Queue a golden job; its number."""
    benchmark = BENCHMARKS[config.health.golden or ""]
    spec = JobSpec(benchmark=benchmark.id, mode=Mode.ENERGY, board=BoardChoice(id=board.id), labels={LABEL: GOLDEN})
    submitted = ledger.submit_job(
        session,
        benchmark=benchmark.id,
        mode=Mode.ENERGY,
        client=LABD,
        requester=LABD,
        priority=PRIORITY,
        requirement=requirement_of(spec).canonical(),
        estimate_s=estimate_of(spec, benchmark),
        spec=spec.filled(benchmark).model_dump(mode="json"),
        now=now,
    )
    return submitted.id


def _results(session: Session, job_ids: list[int]) -> dict[int, Golden]:
    """The newest score of each of these jobs, by the job's number, in order."""
    rows = session.exec(
        select(Run.job_id, Score)
        .where(col(Score.run_id) == col(Run.id), col(Run.job_id).in_(job_ids), Run.state == RunState.COMPLETED)
        .order_by(col(Run.job_id), col(Score.id))
    )
    found: dict[int, Golden] = {}
    for job_id, score in rows:
        estimate = score.result.get("energy_j_per_inference")
        if estimate is not None:
            found[job_id] = Golden(float(estimate["value"]), _EXPANDED * float(estimate["standard_uncertainty"]))
    return found
