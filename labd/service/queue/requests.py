"""What a lab can be asked about its queue: submit, cancel, release and list jobs, and why one waits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter
from sqlmodel import Session, select

from labd.benchmarks import BENCHMARKS
from labd.errors import NotFoundError, RequestError, UnmatchableError
from labd.model import ledger
from labd.model.states import JobState, RunState
from labd.model.tables import Run
from labd.schedule.explain import Explanation
from labd.schedule.match import can_ever_match
from labd.service.access import Caller, Role
from labd.service.documents import job_documents, job_summaries
from labd.service.exchange import Asked, Change, Done, Query, Verb, heed_expiry, nothing, own
from labd.service.lab import Lab
from labd.service.messages import Envelope, JobAccepted, JobDocument, JobPage, JobQuery, JobRef, JobSpec, Message
from labd.service.queue.messages import AheadDocument, OutlookDocument, StartDocument, WhyDocument
from labd.service.queue.requirement import requirement_of
from labd.service.queue.work import estimate_of


class UnknownBenchmarkError(RequestError):
    """The job names a benchmark that labd does not have."""

    kind = "unknown_benchmark"


class QueueFullError(RequestError):
    """As many jobs wait as the lab takes."""

    kind = "queue_full"


def submit_job(lab: Lab, session: Session, spec: JobSpec, asked: Asked) -> Done:
    """Queue a job that some board of the lab can serve."""
    benchmark = BENCHMARKS.get(spec.benchmark)
    if benchmark is None:
        raise UnknownBenchmarkError(
            f"there is no benchmark {spec.benchmark!r}",
            where="params.benchmark",
            remedy=f"use one of: {', '.join(BENCHMARKS)}",
        )
    if spec.deadline is not None and spec.deadline <= asked.at:
        raise RequestError(
            f"the deadline has passed: it is {asked.at.isoformat(timespec='seconds')}",
            where="params.deadline",
            remedy="give a time in the future, or none",
        )
    waiting, most = lab.queue_length(), lab.config.queue.max_queued
    if waiting >= most:
        raise QueueFullError(
            f"{waiting} jobs wait already, and the lab takes {most}",
            where="params",
            remedy="try again when some have run, or raise queue.max_queued in lab.toml",
        )
    requirement, config = requirement_of(spec), lab.config
    mismatch = can_ever_match(requirement, config, lab.granting.facts(config))
    if mismatch is not None:
        raise UnmatchableError(
            mismatch.message, where=f"params.{mismatch.field}", remedy="list the boards to see what they can do"
        )
    filled = spec.filled(benchmark)
    job = ledger.submit_job(
        session,
        benchmark=spec.benchmark,
        mode=spec.mode,
        client=asked.client,
        requester=asked.requester,
        priority=spec.priority,
        deadline=spec.deadline,
        requirement=requirement.canonical(),
        estimate_s=estimate_of(filled, benchmark),
        spec=filled.model_dump(mode="json"),
        now=asked.at,
    )
    return Done(_accepted(job.id, job.state), lab.wake)


def cancel_job(lab: Lab, session: Session, job: JobRef, asked: Asked) -> Done:
    """Cancel a waiting or parked job at once; stop the run of a running one, which then ends as cancelled."""
    own(asked, ledger.job_row(session, job.id).requester, f"job {job.id}")
    row = ledger.cancel_job(session, job.id, asked.at)
    run_id = session.exec(select(Run.id).where(Run.job_id == job.id, Run.state == RunState.RUNNING)).first()
    return Done(_accepted(job.id, row.state), nothing if run_id is None else lambda: lab.cancel_run(run_id))


def release_job(lab: Lab, session: Session, job: JobRef, asked: Asked) -> Done:
    """Queue a parked job again, as if it had never been tried."""
    own(asked, ledger.job_row(session, job.id).requester, f"job {job.id}")
    row = ledger.release_job(session, job.id, asked.at)
    return Done(_accepted(job.id, row.state), lab.wake)


def _accepted(job_id: int, state: JobState) -> dict[str, Any]:
    return JobAccepted(job_id=job_id, state=state).model_dump(mode="json")


def get_job(lab: Lab, session: Session, job: JobRef) -> Message:
    """The whole of one job."""
    found = job_documents(session, [job.id], lab.traces_url)
    if not found:
        raise NotFoundError(f"there is no job {job.id}", where="params.id", remedy="list the jobs to see their numbers")
    return found[0]


def list_jobs(lab: Lab, session: Session, query: JobQuery) -> Message:
    """A page of jobs, newest first."""
    jobs = job_summaries(session, query)
    return JobPage(jobs=tuple(jobs), next_before=jobs[-1].id if len(jobs) == query.limit else None)


@dataclass(frozen=True, slots=True)
class Why:
    """Asks the dispatcher, not the record: only the queue in memory knows whose turn it is."""

    envelope: TypeAdapter[Envelope[JobRef]]
    result: type[Message] = WhyDocument
    role: Role = Role.VIEWER

    async def answer(self, lab: Lab, verb: str, payload: bytes, caller: Caller) -> dict[str, Any]:
        """Why a job has not started. Raises `ValidationError`, `NotFoundError`, `StoreError`."""
        envelope = self.envelope.validate_json(payload)
        heed_expiry(caller.sender)
        return _why_document(await lab.explain(envelope.params.id)).model_dump(mode="json")


def _why_document(explanation: Explanation) -> WhyDocument:
    """An explanation as clients get it."""
    starts = explanation.starts
    return WhyDocument(
        job_id=explanation.job_id,
        state=explanation.state,
        sentence=explanation.sentence,
        place=explanation.place,
        of=explanation.of,
        ahead=tuple(
            AheadDocument(requester=each.requester, waiting=each.waiting, lead_s=each.lead_s)
            for each in explanation.ahead
        ),
        boards=tuple(
            OutlookDocument(
                board_id=each.board_id, obstacle=each.obstacle, reason=each.reason, until=_time(each.until_s)
            )
            for each in explanation.boards
        ),
        starts=None
        if starts is None
        else StartDocument(at=_time(starts.start_s), exact=starts.exact, reason=starts.reason),
    )


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


QUEUE_VERBS: Mapping[str, Verb] = {
    "job.submit": Change(TypeAdapter(Envelope[JobSpec]), submit_job, JobAccepted),
    "job.cancel": Change(TypeAdapter(Envelope[JobRef]), cancel_job, JobAccepted),
    "job.release": Change(TypeAdapter(Envelope[JobRef]), release_job, JobAccepted),
    "job.get": Query(TypeAdapter(Envelope[JobRef]), get_job, JobDocument),
    "job.list": Query(TypeAdapter(Envelope[JobQuery]), list_jobs, JobPage),
    "job.why": Why(TypeAdapter(Envelope[JobRef])),
}
