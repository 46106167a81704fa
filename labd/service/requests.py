"""What a lab can be asked, one function a request, each in one transaction.

A change remembers its reply under the request's id in the transaction that makes the change, so a client that lost the
reply may send the request again, also after a restart. A refused request changes nothing and is not remembered.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter
from sqlalchemy import Row, bindparam, insert
from sqlmodel import Session, SQLModel, select

from labd.benchmarks import BENCHMARKS
from labd.errors import NotFoundError, RequestError, UnmatchableError
from labd.model import ledger
from labd.model.states import RunState
from labd.model.tables import Run
from labd.schedule.match import can_ever_match
from labd.service.documents import board_documents, job_documents, job_summaries
from labd.service.lab import Lab
from labd.service.messages import (
    BoardPage,
    BoardQuery,
    Envelope,
    JobAccepted,
    JobPage,
    JobQuery,
    JobRef,
    JobSpec,
    Message,
)

P = TypeVar("P", bound=Message)

# Every change of every client passes here: as rows of the table, not as objects, it takes a quarter of the time.
_REQUESTS = SQLModel.metadata.tables["request"]
_RECALL = _REQUESTS.select().where(_REQUESTS.c.request_id == bindparam("id"))
_REMEMBER = insert(_REQUESTS)


class UnknownBenchmarkError(RequestError):
    """The job names a benchmark that labd does not have."""

    kind = "unknown_benchmark"


class ReusedRequestError(RequestError):
    """The id of a request was used before, for another request."""

    kind = "request_id_reused"


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asks for a change, and when."""

    client: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Done:
    """What a change made: the reply's result, and what to do on the event loop once it is committed."""

    result: dict[str, Any]
    then: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Query(Generic[P]):
    """A request that only looks."""

    envelope: TypeAdapter[Envelope[P]]
    run: Callable[[Lab, Session, P], Message]

    async def answer(self, lab: Lab, verb: str, payload: bytes) -> dict[str, Any]:
        """Parse, look and return the result. Raises `ValidationError`, `RequestError`, `StoreError`."""
        envelope = self.envelope.validate_json(payload)
        result = await lab.database.read(lambda session: self.run(lab, session, envelope.params))
        return result.model_dump(mode="json")


@dataclass(frozen=True, slots=True)
class Change(Generic[P]):
    """A request that changes something, once for each request id."""

    envelope: TypeAdapter[Envelope[P]]
    run: Callable[[Lab, Session, P, Asked], Done]

    async def answer(self, lab: Lab, verb: str, payload: bytes) -> dict[str, Any]:
        """Parse, change or recall, and return the result after its commit.

        Raises:
            ValidationError, RequestError, StoreError: nothing was changed.
        """
        envelope = self.envelope.validate_json(payload)
        asked = Asked(envelope.client, lab.now())
        digest = _digest(verb, envelope)

        def once(session: Session) -> Done:
            connection = session.connection()
            known = connection.execute(_RECALL, {"id": envelope.request_id}).one_or_none()
            if known is not None:
                return _recalled(known, digest)
            done = self.run(lab, session, envelope.params, asked)
            connection.execute(
                _REMEMBER,
                {
                    "request_id": envelope.request_id,
                    "verb": verb,
                    "client": envelope.client,
                    "digest": digest,
                    "reply": done.result,
                    "answered_at": asked.at,
                },
            )
            return done

        done = await lab.database.write(once)
        done.then()
        return done.result


def _digest(verb: str, envelope: Envelope[Any]) -> str:
    text = f"{verb}\n{envelope.client}\n{envelope.params.model_dump_json()}"
    return hashlib.sha256(text.encode()).hexdigest()


def _recalled(known: Row[Any], digest: str) -> Done:
    if known.digest != digest:
        raise ReusedRequestError(
            f"this id belongs to another request, a {known.verb} of {known.client}",
            where="request_id",
            remedy="give every new request an id of its own, such as a random UUID",
        )
    return Done(known.reply, _nothing)


def _nothing() -> None:
    """Nothing is left to do for a request that was answered before."""


# --- the requests ---------------------------------------------------------------------------------------------


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
    return Done(_accepted(row.id, row.state), _nothing if run_id is None else lambda: lab.cancel_run(run_id))


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


VERBS: Mapping[str, Query[Any] | Change[Any]] = {
    "job.submit": Change(TypeAdapter(Envelope[JobSpec]), submit_job),
    "job.cancel": Change(TypeAdapter(Envelope[JobRef]), cancel_job),
    "job.get": Query(TypeAdapter(Envelope[JobRef]), get_job),
    "job.list": Query(TypeAdapter(Envelope[JobQuery]), list_jobs),
    "board.list": Query(TypeAdapter(Envelope[BoardQuery]), list_boards),
}
