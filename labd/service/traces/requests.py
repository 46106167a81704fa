"""What a lab can be asked about its traces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter
from sqlmodel import Session, col, select

from labd.keep.collect import commit, decide, foreign_names
from labd.keep.retention import Going
from labd.model import ledger_traces
from labd.model.tables import Job, Run, Score, Trace
from labd.service.access import Caller, Role
from labd.service.documents import score_document, trace_url
from labd.service.exchange import Asked, Change, Done, Query, Verb, nothing, once
from labd.service.lab import Lab
from labd.service.messages import Envelope, Message
from labd.service.sessions.importing import SessionImport
from labd.service.traces.messages import (
    Collected,
    GoingDocument,
    TraceCollection,
    TraceDetails,
    TracePage,
    TracePin,
    TraceQuery,
    TraceRef,
    TraceSummary,
)

LISTED = 200
"""Most traces that a reply to `trace.gc` lists."""
AT_ONCE = 1000
"""Most traces that go in the transaction of one request; what is left is the housekeeper's."""


def list_traces(lab: Lab, session: Session, query: TraceQuery) -> Message:
    """A page of traces, newest first."""
    found = ledger_traces.list_traces(
        session, state=query.state, board=query.board, job=query.job, before=query.before, limit=query.limit
    )
    traces = tuple(_summary(trace, run, lab.traces_url) for trace, run in found)
    return TracePage(traces=traces, next_before=traces[-1].id if len(traces) == query.limit else None)


def get_trace(lab: Lab, session: Session, ref: TraceRef) -> Message:
    """All that the record has of one trace."""
    trace = ledger_traces.get_trace(session, ref.id)
    run = session.get_one(Run, trace.run_id)
    job = session.get_one(Job, run.job_id)
    scores = session.exec(select(Score).where(Score.run_id == trace.run_id).order_by(col(Score.id)))
    return TraceDetails(
        **_summary(trace, run, lab.traces_url).model_dump(),
        benchmark=job.benchmark,
        mode=job.mode,
        client=job.client,
        labels=job.spec.get("labels", {}),
        firmware_sha256=run.firmware_sha256,
        sha256=trace.sha256,
        scores=tuple(map(score_document, scores)),
    )


def pin_trace(lab: Lab, session: Session, pin: TracePin, asked: Asked) -> Done:
    """Keep a trace from ever going."""
    return _changed(lab, session, ledger_traces.pin_trace(session, pin.id, pin.reason, asked.at))


def unpin_trace(lab: Lab, session: Session, ref: TraceRef, asked: Asked) -> Done:
    """Let the lab's rules hold for a trace again."""
    return _changed(lab, session, ledger_traces.unpin_trace(session, ref.id, asked.at))


class Collection:
    """`trace.gc`. All traces are looked at in a reader's thread; the writer only commits what was found.

    Want of room on the disk is only told in a dry run. Room is made by the housekeeper alone, who looks at the disk
    after each deletion: two who go by one look would let go twice of what is needed.
    """

    envelope = TypeAdapter(Envelope[TraceCollection])
    result = Collected
    role = Role.ADMIN

    async def answer(self, lab: Lab, verb: str, payload: bytes, caller: Caller) -> dict[str, Any]:
        """Decide, and unless it is a dry run commit; the files are deleted after the commit."""
        envelope = self.envelope.validate_json(payload)
        dry_run = envelope.params.dry_run
        missing_bytes = lab.space().reclaim_bytes if dry_run else 0
        going, foreign = await lab.database.read(lambda session: _decided(lab, session, missing_bytes))
        if dry_run:
            return _collected(going, len(going), foreign, dry_run=True).model_dump(mode="json")

        def change(session: Session, asked: Asked) -> Done:
            gone = commit(session, going[:AT_ONCE], asked.at)
            told = _collected(gone, len(going[AT_ONCE:]) + len(gone), foreign, dry_run=False)
            return Done(told.model_dump(mode="json"), lab.collect)

        return await once(lab, verb, envelope, change, caller)


def _decided(lab: Lab, session: Session, missing_bytes: int) -> tuple[list[Going], list[str]]:
    going = decide(
        session,
        lab.config.keep,
        archive=lab.config.store.archive_url is not None,
        missing_bytes=missing_bytes,
        now=lab.now(),
    )
    return going, foreign_names(session, lab.config.traces_dir)


def _collected(going: Sequence[Going], of: int, foreign: Sequence[str], *, dry_run: bool) -> Collected:
    listed = going[:LISTED]
    return Collected(
        dry_run=dry_run,
        count=len(going),
        bytes=sum(each.frees for each in going),
        going=tuple(
            GoingDocument(
                id=each.trace.id, way=each.way, reason=each.reason, bytes=each.frees, ended_at=each.trace.ended_at
            )
            for each in listed
        ),
        left=of - len(going),
        foreign=tuple(foreign[:LISTED]),
    )


def _changed(lab: Lab, session: Session, trace: Trace) -> Done:
    document = _summary(trace, session.get_one(Run, trace.run_id), lab.traces_url)
    return Done(document.model_dump(mode="json"), nothing)


def _summary(trace: Trace, run: Run, traces_url: str) -> TraceSummary:
    assert run.id is not None, "rows that were read have their number"
    return TraceSummary(
        id=trace.id,
        state=trace.state,
        job_id=run.job_id,
        run_id=run.id,
        board_id=run.board_id,
        outcome=run.state,
        rows=trace.rows,
        period_s=trace.period_s,
        duration_s=trace.rows * trace.period_s,
        bytes=trace.bytes,
        started_at=trace.started_at,
        pinned=trace.pinned,
        local=trace.local,
        archived_at=trace.archived_at,
        removed_at=trace.removed_at,
        reason=trace.reason,
        url=trace_url(trace, traces_url),
    )


TRACE_VERBS: Mapping[str, Verb] = {
    "trace.list": Query(TypeAdapter(Envelope[TraceQuery]), list_traces, TracePage),
    "trace.get": Query(TypeAdapter(Envelope[TraceRef]), get_trace, TraceDetails),
    "trace.pin": Change(TypeAdapter(Envelope[TracePin]), pin_trace, TraceSummary),
    "trace.unpin": Change(TypeAdapter(Envelope[TraceRef]), unpin_trace, TraceSummary),
    "trace.gc": Collection(),
    "trace.import": SessionImport(),
}
