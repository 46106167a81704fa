"""What becomes of traces after they are closed: pinned, archived, dropped from the local folder, removed.

As in `labd.model.ledger`, every function takes a session and the time, changes row and event in one transaction, and
none commits.

What is to be deleted is committed before it is deleted, so a kill in between is put right later: `doomed` names the
removed traces whose files may still be there, and what lies in the local folder of a trace that is not `local` is left
over.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy
from sqlalchemy import ColumnElement, and_, false, or_, true, tuple_
from sqlmodel import Session, col, func, select

from labd.errors import ConflictError, NotFoundError
from labd.model.kept import AgeLimit, Kept
from labd.model.ledger_events import note_of_run
from labd.model.states import RunState, TraceState, check_transition
from labd.model.tables import Job, Run, Trace, UtcDateTime

CLOSED = (TraceState.SEALED, TraceState.SALVAGED)
"""States of a trace that is whole, and will not change any more."""

# --- looking --------------------------------------------------------------------------------------------------


def get_trace(session: Session, trace_id: str) -> Trace:
    """The row of one trace. Raises `NotFoundError` if there is none."""
    trace = session.get(Trace, trace_id)
    if trace is None:
        raise NotFoundError(
            f"there is no trace {trace_id!r}", where="params.id", remedy="list the traces to see their ids"
        )
    return trace


def list_traces(
    session: Session, *, state: TraceState | None, board: str | None, job: int | None, before: str | None, limit: int
) -> list[tuple[Trace, Run]]:
    """At most `limit` traces with their runs, newest first.

    Args:
        session: Where to look.
        state: Only traces in this state.
        board: Only traces of this board.
        job: Only traces of this job.
        before: Only traces that began before this one.
        limit: Most traces of the page.

    Raises:
        NotFoundError: there is no trace `before`.
    """
    query = select(Trace, Run).join(Run).order_by(col(Trace.started_at).desc(), col(Trace.id).desc()).limit(limit)
    if state is not None:
        query = query.where(Trace.state == state)
    if board is not None:
        query = query.where(Run.board_id == board)
    if job is not None:
        query = query.where(Run.job_id == job)
    if before is not None:
        last = session.get(Trace, before)
        if last is None:
            raise NotFoundError(
                f"there is no trace {before!r}", where="params.before", remedy="begin again with the first page"
            )
        query = query.where(tuple_(col(Trace.started_at), col(Trace.id)) < (last.started_at, last.id))
    return [(trace, run) for trace, run in session.exec(query)]


_ENDED_AT = func.coalesce(col(Run.ended_at), col(Trace.started_at), type_=UtcDateTime())


def kept_traces(session: Session, limits: Sequence[AgeLimit] | None = None) -> list[Kept]:
    """Closed traces that were not removed, in no order; a hundred thousand of them take about a second.

    Args:
        session: Where to look.
        limits: Only those that are past one of these; None for all.
    """
    query = (
        sqlalchemy.select(
            col(Trace.id),
            col(Trace.bytes),
            _ENDED_AT,
            col(Run.state),
            col(Job.spec)["labels"],
            col(Trace.pinned),
            col(Trace.archived_at).is_not(None),
            col(Trace.local),
        )
        .select_from(Trace)
        .join(Run, col(Trace.run_id) == col(Run.id))
        .join(Job, col(Run.job_id) == col(Job.id))
        .where(col(Trace.state).in_(CLOSED))
    )
    if limits is not None:
        query = query.where(or_(false(), *map(_past, limits)))
    return [
        Kept(trace_id, size, ended_at, outcome, labels or {}, pinned, archived, local)
        for trace_id, size, ended_at, outcome, labels, pinned, archived, local in session.connection().execute(query)
    ]


def _past(limit: AgeLimit) -> ColumnElement[bool]:
    ended_at = _ENDED_AT
    old = ended_at < limit.before
    return and_(old, col(Run.state).in_(limit.outcomes)) if limit.outcomes else old


def local_bytes(session: Session) -> int:
    """What the closed traces of the local folder take, bytes."""
    query = select(func.sum(Trace.bytes)).where(col(Trace.state).in_(CLOSED), col(Trace.local) == true())
    return int(session.exec(query).one() or 0)


def left_open(session: Session) -> list[Trace]:
    """Traces whose run has ended, and whose writer never closed them."""
    query = select(Trace).join(Run).where(Trace.state == TraceState.RECORDING, Run.state != RunState.RUNNING)
    return list(session.exec(query))


def traces_to_archive(session: Session, limit: int) -> list[Trace]:
    """At most `limit` closed traces that are in no archive yet, oldest first."""
    query = (
        select(Trace)
        .where(col(Trace.state).in_(CLOSED), col(Trace.local) == true(), col(Trace.archived_at).is_(None))
        .order_by(col(Trace.started_at), col(Trace.id))
        .limit(limit)
    )
    return list(session.exec(query))


def doomed(session: Session) -> list[Trace]:
    """Removed traces whose files may still be there, here or in the archive only."""
    removed = select(Trace).where(Trace.state == TraceState.REMOVED)
    # Two questions, each the beginning of the index; one with an "or" walks through all that was ever removed.
    here = removed.where(col(Trace.local) == true())
    there = removed.where(col(Trace.local) == false(), col(Trace.archived_at).is_not(None))
    return [*session.exec(here), *session.exec(there)]


def local_by_id(session: Session) -> dict[str, bool]:
    """Every trace that the lab ever began, and whether its files are meant to be in the local folder."""
    return {trace_id: local for trace_id, local in session.exec(select(Trace.id, Trace.local))}  # noqa: C416 - rows


# --- changing -------------------------------------------------------------------------------------------------


def pin_trace(session: Session, trace_id: str, reason: str, now: datetime) -> Trace:
    """Keep a trace from ever being removed; a pinned one gets the new reason.

    Raises:
        NotFoundError: there is no such trace.
        ConflictError: it has no samples any more.
    """
    trace = get_trace(session, trace_id)
    if trace.state in (TraceState.REMOVED, TraceState.LOST):
        raise ConflictError(f"trace {trace_id} is {trace.state}: it has no samples to be kept", where="params.id")
    if (trace.pinned, trace.reason) != (True, reason):
        trace.pinned, trace.reason = True, reason
        _note(session, trace, now, f"pinned: {reason}" if reason else "pinned")
    return trace


def unpin_trace(session: Session, trace_id: str, now: datetime) -> Trace:
    """Let the rules of retention hold for a trace again. Raises `NotFoundError`."""
    trace = get_trace(session, trace_id)
    if trace.pinned:
        trace.pinned, trace.reason = False, ""
        _note(session, trace, now, "unpinned")
    return trace


def archive_trace(session: Session, trace_id: str, now: datetime) -> bool:
    """Note that the archive holds a complete and checked copy of a closed trace.

    Returns:
        False if the trace was removed meanwhile: nothing is noted, and the copy has to go again.

    Raises:
        NotFoundError: there is no such trace.
        ConflictError: it is not closed.
    """
    trace = get_trace(session, trace_id)
    if trace.state is TraceState.REMOVED:
        return False
    _closed(trace)
    if trace.archived_at is None:
        trace.archived_at = now
        _note(session, trace, now, "archived")
    return True


def drop_local(session: Session, trace_id: str, reason: str, now: datetime) -> bool:
    """Note that the local copy of an archived trace goes; the files are deleted after the commit.

    Returns:
        False, and nothing is noted, if it may not go any more: it was pinned, removed or dropped meanwhile.

    Raises:
        NotFoundError: there is no such trace.
        ConflictError: no archive holds it.
    """
    trace = get_trace(session, trace_id)
    if trace.pinned or not trace.local or trace.state is TraceState.REMOVED:
        return False
    if trace.archived_at is None:
        raise ConflictError(f"trace {trace_id} is in no archive", where="params.id")
    trace.local = False
    _note(session, trace, now, reason)
    return True


def remove_trace(session: Session, trace_id: str, reason: str, now: datetime) -> bool:
    """Remove a closed trace for good; its files are deleted after the commit, then `note_files_gone` is called.

    Returns:
        False, and nothing is noted, if it may not go any more: it was pinned or removed meanwhile.

    Raises:
        NotFoundError: there is no such trace.
        ConflictError: it is not closed.
    """
    trace = get_trace(session, trace_id)
    if trace.pinned or trace.state is TraceState.REMOVED:
        return False
    _closed(trace)
    trace.state = check_transition(f"trace {trace_id}", trace.state, TraceState.REMOVED)
    trace.removed_at, trace.reason = now, reason
    _note(session, trace, now, reason)
    return True


def note_files_gone(session: Session, trace_id: str) -> None:
    """Note that nothing is left of a removed trace's files, here or in the archive. Raises `NotFoundError`."""
    trace = get_trace(session, trace_id)
    trace.local, trace.archived_at = False, None
    session.add(trace)


def _closed(trace: Trace) -> None:
    if trace.state not in CLOSED:
        raise ConflictError(f"trace {trace.id} is {trace.state}, not sealed or salvaged", where="params.id")


def _note(session: Session, trace: Trace, now: datetime, reason: str) -> None:
    session.add(trace)
    note_of_run(session, trace.run_id, now, kind="trace", subject=trace.id, state=trace.state, reason=reason)
