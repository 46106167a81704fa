"""Takes published sessions into the lab: from its inbox to ordinary jobs, runs, traces and scores.

A session comes as a folder `<data_dir>/inbox/<sha256>`, put there on the lab's own host and named by its digest; a
request can name nothing else. Its traces are made and scored in a hidden folder beside the lab's traces and moved among
them last; then one transaction makes all rows. What a kill leaves between the two are folders that no row names, of a
session that still lies in the inbox, to be asked for again: those, and no others, `sweep_imports` deletes.
A session that was imported before, or whose reply was lost, gives the same jobs.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import re
import shutil
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from pydantic import TypeAdapter
from sqlmodel import Session as DatabaseSession

from labd.errors import ConflictError, LabError, NotFoundError, RequestError, ScoreError, TraceError
from labd.keep.space import SpaceState
from labd.model.database import Database
from labd.model.ledger_imports import KeptTrace, MeasuredElsewhere, add_measured, imported_jobs, known_traces
from labd.service.access import Caller, Role
from labd.service.exchange import Asked, Done, nothing, once
from labd.service.lab import Lab
from labd.service.messages import Envelope
from labd.service.sessions.inbox import INBOX, STAGING, importable, place
from labd.service.sessions.job import measured_elsewhere
from labd.service.traces.messages import SessionImported, SessionRef
from labd.trace.sessions.convert import Converted, convert_session, id_prefix, session_digest
from labd.trace.sessions.folders import survey
from labd.trace.sessions.published import Session, SessionError

_log = structlog.get_logger(__name__)
_DIGEST = re.compile(r"[0-9a-f]{64}")


class ImportStoppedError(LabError):
    """The daemon stops, and an import with it; it may be asked for again when the daemon is back."""

    kind = "interrupted"


@dataclass(frozen=True, slots=True)
class Brought:
    """A session whose traces are in place and whose rows are to be made; or, with `jobs`, one that has them."""

    measured: tuple[MeasuredElsewhere, ...] = ()
    jobs: tuple[int, ...] = ()


class SessionImport:
    """`trace.import`. All but the rows is made before the transaction, in a thread."""

    envelope = TypeAdapter(Envelope[SessionRef])
    result = SessionImported
    role = Role.ADMIN

    async def answer(self, lab: Lab, verb: str, payload: bytes, caller: Caller) -> dict[str, Any]:
        """Import a session of the inbox, or tell as what it was imported. Raises as every verb does."""
        envelope = self.envelope.validate_json(payload)
        async with _brought(lab, envelope.params.session) as found:

            def change(session: DatabaseSession, asked: Asked) -> Done:
                jobs = found.jobs or tuple(
                    add_measured(session, each, client=asked.client, now=asked.at) for each in found.measured
                )
                return Done(SessionImported(jobs=jobs).model_dump(mode="json"), nothing)

            return await once(lab, verb, envelope, change, caller)


async def sweep_imports(database: Database, data_dir: Path, traces_dir: Path) -> None:
    """Delete what a killed import has left: traces of a session of the inbox that no row names.

    For the start, before anything is imported. What can only have come from elsewhere is left alone.
    """
    folders = await asyncio.to_thread(_of_waiting, data_dir / INBOX, traces_dir)
    known = await database.read(partial(known_traces, trace_ids=[folder.name for folder in folders]))
    left = [folder for folder in folders if folder.name not in known]
    for folder in left:
        _log.warning("unfinished_import_removed", trace=folder.name)
    await asyncio.to_thread(_remove, (*left, traces_dir / STAGING))


def _of_waiting(inbox: Path, traces_dir: Path) -> list[Path]:
    """Folders among the traces that have the name of one of a session that lies in the inbox."""
    waiting = [entry.name for entry in inbox.glob("*") if _DIGEST.fullmatch(entry.name)]
    return [folder for digest in waiting for folder in sorted(traces_dir.glob(f"{id_prefix(digest)}*"))]


@asynccontextmanager
async def _brought(lab: Lab, digest: str) -> AsyncIterator[Brought]:
    """A session of the inbox with its traces in place, for the transaction inside the block; then it leaves the inbox.

    Raises:
        RequestError: no such session lies in the inbox, it is damaged, another one is being imported, or the disk has
            too little room.
    """
    inbox, traces_dir = lab.config.lab.data_dir / INBOX, lab.config.traces_dir
    with _alone(inbox):
        jobs = await lab.database.read(partial(imported_jobs, digest=digest))
        if jobs:
            yield Brought(jobs=tuple(jobs))
        else:
            if lab.space().state is not SpaceState.ENOUGH:
                raise ConflictError(lab.space().notice, where="params.session", remedy="make room, and ask again")
            found = await _in_thread(partial(_bring, inbox / digest, digest, traces_dir))
            try:
                yield found
            except Exception:
                # The transaction has failed, so no row names these folders. After a cancel nobody here can know.
                await asyncio.to_thread(
                    _remove, [traces_dir / each.id for job in found.measured for each in job.traces]
                )
                raise
        await asyncio.to_thread(_remove, (inbox / digest,))


@contextmanager
def _alone(inbox: Path) -> Iterator[None]:
    """Hold the inbox: one import at a time; the kernel lets go of it on a kill."""
    try:
        inbox.mkdir(exist_ok=True)
        fd = os.open(inbox, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        message, remedy = f"the inbox cannot be opened: {error.strerror}", "check the lab's data directory"
        raise ConflictError(message, where="params.session", remedy=remedy) from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConflictError("another session is being imported", remedy="ask again when it is done") from error
        yield
    finally:
        os.close(fd)


async def _in_thread(bring: Callable[[Callable[[], None]], Brought]) -> Brought:
    """Do the work in a thread; a cancel stops it at its next piece, and goes on when it has ended."""
    stop = threading.Event()

    def checkpoint() -> None:
        if stop.is_set():
            raise ImportStoppedError("the import was stopped with the daemon", remedy="ask for it again")

    thread = asyncio.create_task(asyncio.to_thread(bring, checkpoint), name="session-import")
    try:
        return await asyncio.shield(thread)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait({thread})
        if not thread.cancelled() and (error := thread.exception()) is not None:
            _log.info("import_stopped", error=str(error))
        raise


def _bring(folder: Path, digest: str, traces_dir: Path, checkpoint: Callable[[], None]) -> Brought:
    """Read the session, make its traces, score them, and put them in their places."""
    if not folder.is_dir() or folder.is_symlink():
        raise NotFoundError(
            "no such session lies in the inbox",
            where="params.session",
            remedy="import it on the lab's host: labctl --config lab.toml trace import PATH",
        )
    try:
        sessions = importable(survey(folder)).whole()
        if len(sessions) != 1 or session_digest(sessions[0]) != digest:
            raise SessionError("what lies there is not the session of that name", where=str(folder))
        return Brought(_measured(sessions[0], digest, traces_dir, checkpoint))
    except (TraceError, ScoreError, OSError) as error:
        raise RequestError(f"the session cannot be imported: {error}", where="params.session") from error
    finally:
        _remove((traces_dir / STAGING,))


def _measured(
    session: Session, digest: str, traces_dir: Path, checkpoint: Callable[[], None]
) -> tuple[MeasuredElsewhere, ...]:
    _remove((traces_dir / STAGING,))
    made = convert_session(session, digest, traces_dir / STAGING, checkpoint)
    kept = tuple(map(_kept, made))
    measured = tuple(
        measured_elsewhere(session, results, digest, *((made, kept) if results.captures else ((), ())))
        for results in session.sets.values()
    )
    # The places last: until the rows are there, what lies in them looks like somebody else's.
    places = [traces_dir / each.folder.name for each in made]
    _remove(places)  # no job has this digest: what lies there was left by an import that ended in mid-air
    try:
        for each in made:
            place(each, traces_dir)
    except BaseException:
        _remove(places)
        raise
    return measured


def _kept(made: Converted) -> KeptTrace:
    return KeptTrace(
        id=made.meta.trace_id,
        rows=made.seal.rows,
        period_s=made.meta.period_s,
        bytes=sum(path.stat().st_size for path in made.folder.iterdir()),
        sha256=hashlib.sha256(made.seal.encode()).hexdigest(),
        started_at=made.meta.started_at,
    )


def _remove(folders: Sequence[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
