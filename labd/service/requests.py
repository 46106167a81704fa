"""What a lab can be asked, one function a request, each in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter
from sqlmodel import Session, select

from labd.benchmarks import BENCHMARKS
from labd.errors import NotFoundError, RequestError, UnmatchableError
from labd.model import ledger
from labd.model.states import RunState
from labd.model.tables import Run
from labd.schedule.match import can_ever_match
from labd.service.audit import AUDIT_VERBS
from labd.service.documents import board_documents, job_documents, job_summaries
from labd.service.exchange import Asked, Change, Done, Query, Verb, nothing
from labd.service.health_requests import HEALTH_VERBS
from labd.service.lab import Lab
from labd.service.lab_requests import LAB_VERBS
from labd.service.messages import (
    BoardPage,
    BoardQuery,
    Envelope,
    JobAccepted,
    JobDocument,
    JobPage,
    JobQuery,
    JobRef,
    JobSpec,
    Message,
)
from labd.service.report_requests import REPORT_VERBS
from labd.service.reservation_requests import RESERVATION_VERBS
from labd.service.sweep_requests import SWEEP_VERBS
from labd.service.trace_requests import TRACE_VERBS


class UnknownBenchmarkError(RequestError):
    """The job names a benchmark that labd does not have."""

    kind = "unknown_benchmark"


def submit_job(lab: Lab, session: Session, spec: JobSpec, asked: Asked) -> Done:
    """Queue a job that some board of the lab can serve."""
    benchmark = BENCHMARKS.get(spec.benchmark)
    if benchmark is None:
        raise UnknownBenchmarkError(
            f"there is no benchmark {spec.benchmark!r}",
            where="params.benchmark",
            remedy=f"use one of: {', '.join(BENCHMARKS)}",
        )
    mismatch = can_ever_match(spec.requirement, lab.config)
    if mismatch is not None:
        raise UnmatchableError(
            mismatch.message, where=f"params.{mismatch.field}", remedy="list the boards to see what they can do"
        )
    job = ledger.submit_job(
        session,
        benchmark=spec.benchmark,
        mode=spec.mode,
        client=asked.client,
        spec=spec.filled(benchmark).model_dump(mode="json"),
        now=asked.at,
    )
    return Done(_accepted(job.id, job.state), lab.wake)


def cancel_job(lab: Lab, session: Session, job: JobRef, asked: Asked) -> Done:
    """Cancel a queued job at once; stop the run of a running one, which then ends as cancelled."""
    row = ledger.cancel_job(session, job.id, asked.at)
    run_id = session.exec(select(Run.id).where(Run.job_id == job.id, Run.state == RunState.RUNNING)).first()
    return Done(_accepted(row.id, row.state), nothing if run_id is None else lambda: lab.cancel_run(run_id))


def _accepted(job_id: int | None, state: Any) -> dict[str, Any]:
    assert job_id is not None, "rows have their number after a flush"
    return JobAccepted(job_id=job_id, state=state).model_dump(mode="json")


def get_job(lab: Lab, session: Session, job: JobRef) -> Message:
    """The whole of one job."""
    found = job_documents(session, [job.id], lab.traces_url)
    if not found:
        raise NotFoundError(f"there is no job {job.id}", where="params.id", remedy="list the jobs to see their numbers")
    return found[0]


def list_jobs(lab: Lab, session: Session, query: JobQuery) -> Message:
    """A page of jobs, newest first."""
    jobs = job_summaries(session, state=query.state, before=query.before, limit=query.limit)
    return JobPage(jobs=tuple(jobs), next_before=jobs[-1].id if len(jobs) == query.limit else None)


def list_boards(lab: Lab, session: Session, query: BoardQuery) -> Message:
    """All boards."""
    return BoardPage(boards=tuple(board_documents(session, lab.config)))


VERBS: Mapping[str, Verb] = {
    "job.submit": Change(TypeAdapter(Envelope[JobSpec]), submit_job, JobAccepted),
    "job.cancel": Change(TypeAdapter(Envelope[JobRef]), cancel_job, JobAccepted),
    "job.get": Query(TypeAdapter(Envelope[JobRef]), get_job, JobDocument),
    "job.list": Query(TypeAdapter(Envelope[JobQuery]), list_jobs, JobPage),
    "board.list": Query(TypeAdapter(Envelope[BoardQuery]), list_boards, BoardPage),
    **AUDIT_VERBS,
    **LAB_VERBS,
    **RESERVATION_VERBS,
    **HEALTH_VERBS,
    **TRACE_VERBS,
    **SWEEP_VERBS,
    **REPORT_VERBS,
}
