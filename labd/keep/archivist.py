"""Brings every sealed trace into the archive, while the lab goes on measuring.

What is still to be done stands in the database, so nothing is lost when the daemon or the archive goes away: a trace
counts as archived once that is committed, and that happens after the archive was read back. The local copy goes after
it, if the configuration says so, and never before its run has ended.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlmodel import Session

from labd.clock import WALL
from labd.errors import LabError, StoreError, TraceError
from labd.keep.archive import Archive
from labd.keep.store import TraceStore
from labd.model import ledger_archive, ledger_traces
from labd.model.database import Database
from labd.model.states import TraceState
from labd.trace.object_files import PlaceError

BATCH = 100
"""Traces that are asked for at once."""
AGAIN_MIN_S, AGAIN_MAX_S = 1.0, 300.0
"""First and longest pause before an archive that failed is tried again, s; each is twice the one before."""
DROPS_EVERY_S = 600.0
"""Pause between two looks at which local copies have grown old, s."""


@dataclass(frozen=True, slots=True)
class Outage:
    """The archive cannot be used.

    Args:
        since: When that was first seen.
        message: What it said then.
    """

    since: datetime
    message: str


class Archivist:
    """Uploads the traces of a lab, one at a time.

    Args:
        lab: The lab's name.
        database: What the lab remembers.
        traces: Where its traces lie.
        archive: Where they are brought.
        keep_local: How long an archived trace keeps its local copy; None for as long as there is room.
        again_s: The pauses of `AGAIN_MIN_S` and `AGAIN_MAX_S`.
        now: Wall-clock time, aware.
    """

    def __init__(
        self,
        lab: str,
        database: Database,
        traces: TraceStore,
        archive: Archive,
        *,
        keep_local: timedelta | None = None,
        again_s: tuple[float, float] = (AGAIN_MIN_S, AGAIN_MAX_S),
        now: Callable[[], datetime] = WALL.now,
    ) -> None:
        self._lab = lab
        self._database = database
        self._traces = traces
        self._archive = archive
        self._keep_local = keep_local
        self._again_s = again_s
        self._now = now
        self._log = structlog.get_logger().bind(archive=archive.where)
        self._unfit: set[str] = set()
        """Traces that cannot be archived as they are; they are tried again at the next start."""
        self.outage: Outage | None = None
        """Set while the archive cannot be used."""

    async def run(self) -> None:
        """Archive what is to be archived, and wait for more; until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._upload(), name="archive-upload")
            if self._keep_local is not None:
                group.create_task(self._drop(self._keep_local), name="archive-drop")

    async def _upload(self) -> None:
        failures = 0
        while True:
            commits = self._database.commits
            try:
                busy = await self._archive_some()
            except (PlaceError, StoreError) as error:
                await self._begin_outage(error)
                await asyncio.sleep(self._pause_s(failures))
                failures += 1
                continue
            failures = 0
            if not busy:
                await self._database.committed_since(commits)

    async def _archive_some(self) -> bool:
        """Archive the next traces, if there are any. Raises `PlaceError` if the archive cannot be used."""
        skipped = len(self._unfit)
        waiting = await self._database.read(lambda s: ledger_traces.traces_to_archive(s, BATCH + skipped))
        todo = [trace.id for trace in waiting if trace.id not in self._unfit]
        for trace_id in todo:
            await self._archive_one(trace_id)
        return bool(todo)

    async def _archive_one(self, trace_id: str) -> None:
        log = self._log.bind(trace=trace_id)
        try:
            await self._archive.put(self._traces.folder(trace_id))
        except PlaceError:
            raise
        except TraceError as error:
            if not await self._is_removed(trace_id):
                self._unfit.add(trace_id)
                log.error("trace_not_archived", error=str(error))
                return
        else:
            await self._end_outage()
            now = self._now()
            if await self._database.write(lambda session: ledger_traces.archive_trace(session, trace_id, now)):
                log.info("trace_archived")
                return
        await self._archive.delete(trace_id)  # it was removed while it was under way
        log.info("removed_trace_taken_back")

    async def _is_removed(self, trace_id: str) -> bool:
        row = await self._database.read(lambda session: ledger_traces.get_trace(session, trace_id))
        return row.state is TraceState.REMOVED

    @property
    def notice(self) -> str:
        """What an operator should know: since when the archive cannot be used, and why; empty if it can."""
        return "" if self.outage is None else f"since {self.outage.since:%Y-%m-%d %H:%M} UTC: {self.outage.message}"

    async def _begin_outage(self, error: LabError) -> None:
        """Say it once."""
        if self.outage is not None:
            return
        self.outage = Outage(self._now(), str(error))
        self._log.warning("archive_failed", error=str(error))
        if not isinstance(error, StoreError):
            await self._note("archive_failed")

    async def _end_outage(self) -> None:
        if self.outage is None:
            return
        self._log.info("archive_recovered", since=self.outage.since.isoformat())
        self.outage = None
        await self._note("archive_recovered")

    async def _note(self, state: str) -> None:
        notice, now = self.notice, self._now()
        try:
            await self._database.write(lambda s: ledger_archive.note_archive(s, self._lab, state, notice, now))
        except StoreError as error:
            self._log.error("archive_state_not_noted", state=state, error=str(error))

    def _pause_s(self, failures: int) -> float:
        """Doubled each time up to the longest, and spread over its upper half so that labs do not come at once."""
        least, most = self._again_s
        return min(least * 2.0 ** min(failures, 30), most) * random.uniform(0.5, 1.0)

    async def _drop(self, age: timedelta) -> None:
        while True:
            commits = self._database.commits
            try:
                old = await self._old(self._now() - age)
            except StoreError as error:
                self._log.error("old_copies_not_found", error=str(error))
                old = []
            dropped = [await self._drop_one(trace_id) for trace_id in old]
            if any(dropped):
                continue
            if age:
                await asyncio.sleep(DROPS_EVERY_S)
            else:
                await self._database.committed_since(commits)

    async def _old(self, before: datetime) -> list[str]:
        return await self._database.read(lambda session: ledger_archive.archived_before(session, before, BATCH))

    async def _drop_one(self, trace_id: str) -> bool:
        now = self._now()

        def note(session: Session) -> bool:
            return ledger_traces.drop_local(session, trace_id, "the archive has it", now)

        try:
            if not await self._database.write(note):
                return False
            await asyncio.to_thread(self._traces.drop_local, trace_id)
        except LabError as error:
            self._log.error("local_copy_not_dropped", trace=trace_id, error=str(error))
            return False
        self._log.info("local_copy_dropped", trace=trace_id)
        return True
