"""What clients send and get about traces."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from labd.benchmarks import Mode
from labd.keep.retention import Way
from labd.model.states import RunState, TraceState
from labd.service.messages import Id, Message, Number, ScoreDocument
from labd.trace.names import TraceId


class TraceQuery(Message):
    """Asks for a page of traces, newest first."""

    state: TraceState | None = None
    board: Id | None = None
    job: Number | None = None
    limit: Annotated[int, Field(ge=1, le=500)] = 50
    before: TraceId | None = None
    """Only traces that began before this one."""


class TraceRef(Message):
    """Names one trace."""

    id: TraceId


class TracePin(Message):
    """A trace that must never go, and why."""

    id: TraceId
    reason: Annotated[str, StringConstraints(max_length=256)] = ""


class TraceCollection(Message):
    """Asks to let go what has to go; with `dry_run` only for what that is."""

    dry_run: bool = False


class TraceSummary(Message):
    """One trace, as the lab's record has it. `url` lists its files; null when there are none."""

    id: str
    state: TraceState
    job_id: int
    run_id: int
    board_id: str
    outcome: RunState
    """How its run ended, or that it goes on."""
    rows: int
    period_s: float
    duration_s: float
    bytes: int
    started_at: datetime
    pinned: bool
    local: bool
    archived_at: datetime | None
    removed_at: datetime | None
    reason: str
    """Why it is pinned, or why it was removed."""
    url: str | None


class TraceDetails(TraceSummary):
    """One trace with what it was recorded for, and what was made of it."""

    benchmark: str
    mode: Mode
    client: str
    labels: dict[str, Any]
    firmware_sha256: str
    sha256: str
    """Digest of the seal, which holds those of all files."""
    scores: tuple[ScoreDocument, ...]
    """All scores of its run, oldest first."""


class TracePage(Message):
    """Reply to `trace.list`, newest first; `next_before` asks for the next page, None at the end."""

    traces: tuple[TraceSummary, ...]
    next_before: str | None


class GoingDocument(Message):
    """A trace that goes: for good, or only its copy in the lab's own folder; and why."""

    id: str
    way: Way
    reason: str
    bytes: int
    """What that frees in the lab's own folder."""
    ended_at: datetime


class Collected(Message):
    """Reply to `trace.gc`: what goes, or went. The files are deleted right after the reply.

    `going` lists the first of them; `count` and `bytes` are of all.
    """

    dry_run: bool
    count: int
    bytes: int
    going: tuple[GoingDocument, ...]
    left: int
    """How many more the housekeeper lets go after the reply."""
    foreign: tuple[str, ...]
    """What lies in the folder of the traces and is none of this lab's; it is never touched."""


class SessionRef(Message):
    """Names one session of the lab's inbox by its digest: nothing that could lead out of it."""

    session: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class SessionImported(Message):
    """Reply to `trace.import`: the jobs that the session has become, one for each of its modes."""

    jobs: tuple[Number, ...]
