"""Documents made from rows: what clients see of jobs, boards, instruments, events and the lab.

Each function reads with the session it is given; many jobs cost as many statements as one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from importlib.metadata import version
from typing import TypeVar

from sqlmodel import Session, col, func, select

from labd.benchmarks import Mode
from labd.config import LabConfig
from labd.keep.space import Space
from labd.model import ledger_lab
from labd.model.causes import Cause
from labd.model.states import BoardState, JobState, LeasePurpose, TraceState
from labd.model.tables import (
    LIVE_JOBS,
    Board,
    Event,
    Instrument,
    Job,
    Lease,
    Night,
    Run,
    Score,
    Sweep,
    Trace,
    Trial,
    Window,
)
from labd.schedule.caretaker import check_due_at
from labd.service.messages import (
    BoardDocument,
    CauseDocument,
    EventDocument,
    InstrumentDocument,
    JobDocument,
    JobQuery,
    JobSummary,
    LabState,
    LabStatus,
    RunDocument,
    ScoreDocument,
    SpaceDocument,
    StopDocument,
    TraceDocument,
    TrialDocument,
    WindowDocument,
)
from labd.trace.meta import HostClock

Row = TypeVar("Row")

VERSION = version("labd")


def job_documents(session: Session, job_ids: Sequence[int], traces_url: str) -> list[JobDocument]:
    """The whole of these jobs, in the order of their numbers; one that does not exist is left out."""
    jobs = session.exec(select(Job).where(col(Job.id).in_(job_ids)).order_by(col(Job.id))).all()
    runs = session.exec(select(Run).where(col(Run.job_id).in_(job_ids)).order_by(col(Run.id))).all()
    job_of = {run.id: run.job_id for run in runs}
    by_job = _by(run_documents(session, runs, traces_url), lambda run: job_of[run.id])
    return [
        JobDocument(
            id=_number(job.id),
            benchmark=job.benchmark,
            mode=job.mode,
            state=job.state,
            client=job.client,
            requester=job.requester,
            priority=job.priority,
            deadline=job.deadline,
            cause=_cause(job.cause, job.detail),
            submitted_at=job.submitted_at,
            ended_at=job.ended_at,
            spec=job.spec,
            runs=tuple(by_job[_number(job.id)]),
        )
        for job in jobs
    ]


def run_documents(session: Session, runs: Sequence[Run], traces_url: str) -> list[RunDocument]:
    """The whole of these runs, in their order."""
    if not runs:
        return []
    ids = [_number(run.id) for run in runs]
    trials = session.exec(select(Trial).where(col(Trial.run_id).in_(ids)).order_by(col(Trial.id))).all()
    windows = session.exec(select(Window).join(Trial).where(col(Trial.run_id).in_(ids))).all()
    scores = session.exec(select(Score).where(col(Score.run_id).in_(ids)).order_by(col(Score.id))).all()
    traces = session.exec(select(Trace).where(col(Trace.run_id).in_(ids)).order_by(col(Trace.started_at))).all()
    window_of = {window.trial_id: _window(window) for window in windows}
    trials_of = _by(trials, lambda trial: trial.run_id)
    scores_of = _by(scores, lambda score: score.run_id)
    traces_of = _by(traces, lambda trace: trace.run_id)
    return [
        RunDocument(
            id=run_id,
            attempt=run.attempt,
            board_id=run.board_id,
            state=run.state,
            step=run.step,
            cause=_cause(run.cause, run.detail),
            firmware_sha256=run.firmware_sha256,
            facts=run.facts,
            started_at=run.started_at,
            ended_at=run.ended_at,
            trials=tuple(_trial(trial, window_of.get(_number(trial.id))) for trial in trials_of[run_id]),
            scores=tuple(score_document(score) for score in scores_of[run_id]),
            traces=tuple(_trace(trace, traces_url) for trace in traces_of[run_id]),
        )
        for run_id, run in zip(ids, runs, strict=True)
    ]


def job_summaries(session: Session, asked: JobQuery) -> list[JobSummary]:
    """A page of jobs, newest first."""
    query = select(Job).order_by(col(Job.id).desc()).limit(asked.limit)
    if asked.state is not None:
        query = query.where(Job.state == asked.state)
        if not asked.state.ended:
            query = query.where(LIVE_JOBS)  # what has not ended has an index of its own
    if asked.requester is not None:
        query = query.where(Job.requester == asked.requester)
    if asked.sweep is not None:
        nights = select(Night.id).join(Sweep).where(Sweep.name == asked.sweep)
        query = query.where(col(Job.night_id).in_(nights))
    for key, value in asked.label.items():
        query = query.where(col(Job.spec)["labels"][key].as_string() == value)
    if asked.before is not None:
        query = query.where(col(Job.id) < asked.before)
    jobs = session.exec(query).all()
    runs = session.exec(
        select(Run.job_id, Run.board_id).where(col(Run.job_id).in_([job.id for job in jobs])).order_by(col(Run.id))
    )
    board_of = {job_id: board_id for job_id, board_id in runs}  # noqa: C416 - the latest run of a job wins
    return [
        JobSummary(
            id=_number(job.id),
            benchmark=job.benchmark,
            mode=job.mode,
            state=job.state,
            client=job.client,
            requester=job.requester,
            priority=job.priority,
            deadline=job.deadline,
            cause=_cause(job.cause, job.detail),
            submitted_at=job.submitted_at,
            ended_at=job.ended_at,
            board_id=board_of.get(_number(job.id)),
        )
        for job in jobs
    ]


def board_documents(session: Session, config: LabConfig, only: Collection[str] | None = None) -> list[BoardDocument]:
    """The boards of lab.toml in its order; one that was never seen is offline.

    Args:
        session: Where they are read.
        config: The lab.
        only: Ids of those that are wanted; None for all. Of two hundred a batch of events touches a few.
    """
    wanted = {board.id for board in config.board} if only is None else set(only)
    among = col(Lease.board_id).in_(wanted)
    rows = {row.id: row for row in session.exec(select(Board).where(col(Board.id).in_(wanted)))}
    held = session.exec(
        select(Lease.board_id, Lease.run_id, Run.job_id).join(Run).where(col(Lease.released_at).is_(None), among)
    )
    holder = {board_id: (run_id, job_id) for board_id, run_id, job_id in held}
    leases = {
        lease.board_id: lease
        for lease in session.exec(
            select(Lease).where(col(Lease.released_at).is_(None), col(Lease.run_id).is_(None), among)
        )
    }
    documents = []
    for board in config.board:
        if board.id not in wanted:
            continue
        row = rows.get(board.id)
        run_id, job_id = holder.get(board.id, (None, None))
        lease = leases.get(board.id)
        reserved = lease is not None and lease.purpose is LeasePurpose.RESERVATION
        documents.append(
            BoardDocument(
                id=board.id,
                tags=board.tags,
                modes=tuple(mode for mode in Mode if board.can(mode)),
                state=row.state if row else BoardState.OFFLINE,
                reason=row.reason if row else "not seen yet",
                changed_at=row.changed_at if row else None,
                run_id=run_id,
                job_id=job_id,
                check_id=lease.check_id if lease else None,
                strikes=row.strikes if row else 0,
                checked_at=row.checked_at if row else None,
                check_due_at=check_due_at(row, config.health) if row else None,
                reserved_by=lease.owner if lease and reserved else None,
                reserved_until=lease.expires_at if lease and reserved else None,
            )
        )
    return documents


def instrument_documents(session: Session, config: LabConfig) -> list[InstrumentDocument]:
    """All instruments of lab.toml that the daemon has seen."""
    known = {instrument.id for instrument in config.instrument}
    return [
        InstrumentDocument(
            id=row.id,
            driver=row.driver,
            state=row.state,
            reason=row.reason,
            identity=row.identity,
            changed_at=row.changed_at,
        )
        for row in session.exec(select(Instrument).order_by(col(Instrument.id)))
        if row.id in known
    ]


def removed_devices(session: Session, config: LabConfig) -> tuple[list[str], list[str]]:
    """Ids of boards and of instruments that were seen once, and have been taken out of lab.toml."""
    boards = set(session.exec(select(Board.id))) - {board.id for board in config.board}
    instruments = set(session.exec(select(Instrument.id))) - {instrument.id for instrument in config.instrument}
    return sorted(boards), sorted(instruments)


def lab_status(
    session: Session, *, since: datetime, traces_url: str, host_clock: HostClock, space: Space, archive: str
) -> LabStatus:
    """The lab as it is now."""
    counted = session.exec(select(Job.state, func.count()).where(LIVE_JOBS).group_by(col(Job.state)))
    counts = {state: count for state, count in counted}  # noqa: C416 - dict() cannot take rows for the type checker
    return LabStatus(
        state=LabState.ONLINE,
        version=VERSION,
        since=since,
        queue_length=counts.get(JobState.QUEUED, 0),
        running=counts.get(JobState.RUNNING, 0),
        host_clock=host_clock,
        space=SpaceDocument(state=space.state, notice=space.notice),
        archive=archive,
        traces_url=traces_url,
        stopped=stop_document(stopped) if (stopped := ledger_lab.stop_of(session)) is not None else None,
    )


def stop_document(event: Event) -> StopDocument:
    """The emergency stop that an event tells of."""
    return StopDocument(at=event.at, by=event.actor, reason=event.reason)


def event_document(event: Event) -> EventDocument:
    """One state change."""
    return EventDocument(
        number=_number(event.id),
        at=event.at,
        kind=event.kind,
        subject=event.subject,
        state=event.state,
        reason=event.reason,
        actor=event.actor,
        job_id=event.job_id,
        run_id=event.run_id,
        board_id=event.board_id,
    )


def _number(row_id: int | None) -> int:
    assert row_id is not None, "rows that were read have their number"
    return row_id


def _by(rows: Iterable[Row], key: Callable[[Row], int]) -> defaultdict[int, list[Row]]:
    groups: defaultdict[int, list[Row]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return groups


def _cause(cause: Cause | None, detail: str) -> CauseDocument | None:
    if cause is None:
        return None
    return CauseDocument(kind=cause, sentence=cause.meaning.sentence, remedy=cause.meaning.remedy, detail=detail)


def _window(window: Window) -> WindowDocument:
    return WindowDocument(
        method=window.method,
        start_ticks=window.start_ticks,
        stop_ticks=window.stop_ticks,
        tick_rate_hz=window.tick_rate_hz,
        duration_s=window.duration_s,
    )


def _trial(trial: Trial, window: WindowDocument | None) -> TrialDocument:
    return TrialDocument(
        number=trial.number,
        input=trial.input,
        inferences=trial.inferences,
        state=trial.state,
        cause=_cause(trial.cause, trial.detail),
        results=tuple(trial.results),
        window=window,
    )


def score_document(score: Score) -> ScoreDocument:
    """What a scorer made of a run."""
    return ScoreDocument(scorer=score.scorer, result=score.result, inputs=score.inputs, created_at=score.created_at)


def trace_url(trace: Trace, traces_url: str) -> str | None:
    """Where the files of a trace are served; None if there are none, or none any more."""
    return None if trace.state in (TraceState.LOST, TraceState.REMOVED) else f"{traces_url}/{trace.id}/"


def _trace(trace: Trace, traces_url: str) -> TraceDocument:
    return TraceDocument(
        id=trace.id,
        state=trace.state,
        rows=trace.rows,
        period_s=trace.period_s,
        bytes=trace.bytes,
        sha256=trace.sha256,
        started_at=trace.started_at,
        url=trace_url(trace, traces_url),
    )
