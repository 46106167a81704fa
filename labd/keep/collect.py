"""Lets traces go: what retention decides is committed first, and deleted only then.

A kill at any line leaves nothing half. Before the commit nothing has happened. After it the row itself says what is
left to do: a removed trace whose `local` or `archived_at` is set still has files, and a folder whose row is not `local`
has no business there. Both are looked for at every start and in every round. A folder that no row knows is never
touched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import datetime
from functools import partial
from pathlib import Path

import structlog
from sqlmodel import Session

from labd.config import Keep
from labd.errors import TraceError
from labd.keep.retention import Going, Way, age_limits, due, reclaim
from labd.keep.space import GB
from labd.keep.store import TraceStore
from labd.model import ledger_traces
from labd.model.database import Database

BATCH = 100
"""Most traces that go in one transaction: bounds how long other writes wait."""


def decide(session: Session, keep: Keep, *, archive: bool, missing_bytes: int, now: datetime) -> list[Going]:
    """What goes now, by age and size, and by want of room where `missing_bytes` is not 0."""
    full = keep.max_size_gb is not None and ledger_traces.local_bytes(session) > keep.max_size_gb * GB
    # Where there is room enough, only what is old needs to be looked at: in most rounds that is next to nothing.
    limits = None if full or missing_bytes > 0 else age_limits(keep, now)
    if limits == []:
        return []
    traces = ledger_traces.kept_traces(session, limits)
    going = due(traces, keep, archive=archive, now=now)
    if missing_bytes > 0:
        going += reclaim(traces, keep, missing_bytes, archive=archive, gone=going)
    return going


def commit(session: Session, going: Iterable[Going], now: datetime) -> list[Going]:
    """Write down that these traces go; what was pinned or has gone since the decision is left out of the answer."""
    return [each for each in going if _commit_one(session, each, now)]


def foreign_names(session: Session, local: Path) -> list[str]:
    """Names in the local folder that no trace of this lab has, sorted. Reads the folder too: for a reader's thread."""
    names = _names(local)  # first: what is begun meanwhile has its row before its folder
    known = ledger_traces.local_by_id(session)
    return [name for name in names if name not in known]


def _names(local: Path) -> list[str]:
    """All that lies in the local folder, but for what the store itself is about to delete; sorted."""
    try:
        return sorted(entry.name for entry in local.iterdir() if not entry.name.startswith("."))
    except FileNotFoundError:
        return []


def _commit_one(session: Session, going: Going, now: datetime) -> bool:
    match going.way:
        case Way.REMOVE:
            return ledger_traces.remove_trace(session, going.trace.id, going.reason, now)
        case Way.DROP_LOCAL:
            return ledger_traces.drop_local(session, going.trace.id, going.reason, now)


class Collector:
    """Applies retention to one lab's traces.

    Args:
        database: What the lab remembers.
        traces: Where its traces lie.
        keep: What lab.toml says.
    """

    def __init__(self, database: Database, traces: TraceStore, keep: Keep) -> None:
        self._database = database
        self._traces = traces
        self._keep = keep
        self._log = structlog.get_logger()
        self._foreign: frozenset[str] = frozenset()

    async def collect(self, now: datetime, missing_bytes: int = 0) -> list[Going]:
        """Let go what has to go, and delete it.

        Raises:
            StoreError: the database failed; what was committed before is deleted the next time.
        """
        archive = self._traces.archive is not None
        going = await self._database.read(
            lambda session: decide(session, self._keep, archive=archive, missing_bytes=missing_bytes, now=now)
        )
        gone: list[Going] = []
        for start in range(0, len(going), BATCH):
            part = going[start : start + BATCH]
            for each in await self._database.write(partial(commit, going=part, now=now)):
                self._log.info(
                    "trace_let_go", trace=each.trace.id, way=each.way, reason=each.reason, bytes=each.trace.bytes
                )
                gone.append(each)
                await self._delete_here(each.trace.id)
        await self._forget()
        return gone

    async def finish_here(self) -> None:
        """Delete what was committed to go and is still in the local folder; the archive is not asked.

        What cannot be deleted now is tried again next time.

        Raises:
            StoreError: the database failed.
        """
        for trace in await self._database.read(ledger_traces.doomed):
            await self._delete_here(trace.id)
        # The names first: what is begun meanwhile has its row before its folder.
        names = await asyncio.to_thread(_names, self._traces.local)
        local = await self._database.read(ledger_traces.local_by_id)
        for name in names:
            if local.get(name) is False:
                await self._delete_here(name)

    async def foreign(self) -> list[str]:
        """Names in the local folder that are no trace of this lab; told once in the log, and left alone.

        Raises:
            StoreError: the database failed.
        """
        found = await self._database.read(lambda session: foreign_names(session, self._traces.local))
        for name in sorted(set(found) - self._foreign):
            self._log.warning("foreign_folder_found", folder=str(self._traces.local / name))
        self._foreign = frozenset(found)
        return found

    async def _forget(self) -> None:
        """Delete the archive's copies of removed traces, and note of each of which nothing is left that it is gone.

        An archive that cannot be used now is asked once, not for each trace.
        """
        archive = self._traces.archive
        for trace in await self._database.read(ledger_traces.doomed):
            if await asyncio.to_thread(self._traces.folder(trace.id).exists):
                continue
            if archive is None:
                if trace.archived_at is not None:
                    continue  # its copy lies in an archive that the lab may have again
            elif archive.is_uploading(trace.id):
                continue  # what is still to come of it would lie there for ever
            else:
                try:
                    await archive.delete(trace.id)
                except TraceError as error:
                    self._log.error("trace_not_deleted", trace=trace.id, error=str(error))
                    return
            await self._database.write(partial(ledger_traces.note_files_gone, trace_id=trace.id))

    async def _delete_here(self, trace_id: str) -> None:
        try:
            await asyncio.to_thread(self._traces.drop_local, trace_id)
        except TraceError as error:
            self._log.error("local_copy_not_deleted", trace=trace_id, error=str(error))
