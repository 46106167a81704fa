"""The database at run time: one writer thread with group commit, a few readers, and an event loop that only awaits.

A write is a function of a session. All writes that wait when the writer gets to them share one transaction, each in a
savepoint of its own, and one commit; nobody is told of success before that commit is on the disk.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog
from sqlalchemy import Connection, Engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlmodel import Session

from labd.errors import StoreError, StoreFullError
from labd.model.engine import Access, damaged, lasts, make_engine, store_error
from labd.model.integrity import looked_through_at_start
from labd.model.migrations import newest_revision, revision_of

T = TypeVar("T")

READERS = 2
BATCH_MAX = 256
"""Most writes of one transaction: bounds how long the first of them waits."""

_log = structlog.get_logger(__name__)


def _no_room() -> bool:
    """A database that has nothing to give way."""
    return False


@dataclass(slots=True, eq=False)
class _Write:
    """A function that waits for the writer, then its outcome."""

    change: Callable[[Session], Any]
    future: asyncio.Future[Any]
    result: Any = field(default=None)
    error: BaseException | None = field(default=None)


class Database:
    """An open database; made by `Database.open`."""

    def __init__(self, url: str, loop: asyncio.AbstractEventLoop, make_room: Callable[[], bool]) -> None:
        self._url = url
        self._loop = loop
        self._make_room = make_room
        self._writes: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._writer = make_engine(url, Access.WRITE)
        self._kept: Connection | None = None
        self._readers = make_engine(url, Access.READ, connections=READERS)
        self._read_threads = ThreadPoolExecutor(READERS, thread_name_prefix="database-read")
        self._write_thread = threading.Thread(target=self._serve_writes, name="database-write")
        self._stopped = asyncio.Event()
        self._commits = 0
        self._next_commit = asyncio.Event()
        self._closing = False

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str, *, make_room: Callable[[], bool] = _no_room) -> AsyncIterator[Database]:
        """Open the database at `url`, check it, and close it at the end when all accepted writes are done.

        A large file is only looked at where it begins; see `labd.model.integrity`.

        Args:
            url: Where it lies.
            make_room: Called in the writer thread when the disk is full; True if there is room now, and what was
                refused is tried again.

        Raises:
            StoreError: it cannot be opened, is damaged, or its schema is not this labd's.
        """
        database = cls(url, asyncio.get_running_loop(), make_room)
        try:
            await database._on_reader(lambda: _check(database._readers, url))
            database._write_thread.start()
            try:
                yield database
            finally:
                await database._stop_writer()
        finally:
            # Reads are short; their results come back through the loop's own queue, so this cannot deadlock.
            database._read_threads.shutdown(wait=True)
            database._readers.dispose()
            database._writer.dispose()

    async def write(self, change: Callable[[Session], T]) -> T:
        """Run `change` in the writer thread and return its result once it is committed.

        If `change` raises, its own changes are undone and the error is raised here. If the caller is cancelled, the
        write still happens. Rows that `change` returns may be used freely: they are detached, and loaded.

        Raises:
            StoreError: the database refused the change or the commit, or is closed.
        """
        if self._closing:
            raise StoreError("is closed", where=self._where)
        future: asyncio.Future[T] = self._loop.create_future()
        self._writes.put(_Write(change, future))
        return await future

    async def read(self, query: Callable[[Session], T]) -> T:
        """Run `query` on one snapshot in a reader thread; it cannot change anything.

        Raises:
            StoreError: the database refused the query, or is closed.
        """
        if self._closing:
            raise StoreError("is closed", where=self._where)

        def run() -> T:
            try:
                with Session(self._readers, expire_on_commit=False) as session:
                    return query(session)
            except DBAPIError as error:
                raise store_error(error, self._url) from error

        return await self._on_reader(run)

    @property
    def commits(self) -> int:
        """How many transactions were committed since the database was opened."""
        return self._commits

    async def committed_since(self, commits: int) -> None:
        """Wait until more than `commits` transactions were committed. The caller sets the deadline, if it has one."""
        while self._commits <= commits:
            await self._next_commit.wait()

    @property
    def _where(self) -> str:
        return make_url(self._url).render_as_string()

    def _on_reader(self, work: Callable[[], T]) -> asyncio.Future[T]:
        return self._loop.run_in_executor(self._read_threads, work)

    async def _stop_writer(self) -> None:
        """Let the writer finish what it accepted; no thread outlives this, even if it is cancelled."""
        self._closing = True
        self._writes.put(None)
        try:
            await self._stopped.wait()
        finally:
            self._write_thread.join()

    def _settle(self, batch: Sequence[_Write]) -> None:
        """Hand out the outcomes, then wake those who follow the commits."""
        for write in batch:
            if not write.future.cancelled():
                if write.error is None:
                    write.future.set_result(write.result)
                else:
                    write.future.set_exception(write.error)
            elif write.error is not None:
                _log.error("unattended_write_failed", error=repr(write.error))
        self._commits += 1
        self._next_commit.set()
        self._next_commit = asyncio.Event()

    # --- in the writer thread ---------------------------------------------------------------------------------

    def _serve_writes(self) -> None:
        while (first := self._writes.get()) is not None:
            batch = [first]
            more = self._drain(batch)
            self._commit(batch)
            self._loop.call_soon_threadsafe(self._settle, batch)
            if not more:
                break
        self._let_go()
        self._loop.call_soon_threadsafe(self._stopped.set)

    def _drain(self, batch: list[_Write]) -> bool:
        """Add what else waits to `batch`; False if the writer was told to stop."""
        while len(batch) < BATCH_MAX:
            try:
                write = self._writes.get_nowait()
            except queue.Empty:
                return True
            if write is None:
                return False
            batch.append(write)
        return True

    def _commit(self, batch: Sequence[_Write]) -> None:
        """Commit `batch`, and once more what a full disk has refused of it, if room can be made."""
        self._try_commit(batch)
        if any(isinstance(write.error, StoreFullError) for write in batch) and self._make_room():
            refused = [write for write in batch if write.error is not None]
            for write in refused:
                write.error = None
            self._try_commit(refused)

    def _try_commit(self, batch: Sequence[_Write]) -> None:
        """Run `batch` in one transaction and note each outcome."""
        try:
            if self._all_done(batch) or len(batch) == 1:
                return
            with self._transaction() as connection:
                for write in batch:
                    write.error = None
                    with Session(
                        connection, expire_on_commit=False, join_transaction_mode="create_savepoint"
                    ) as session:
                        self._change(session, write)
        except BaseException as error:
            self._let_go()
            for write in batch:
                write.result, write.error = None, write.error or _told(error, self._url)

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """One transaction of the writer's; its connection is kept if it lasts: lending it takes as long as two rows."""
        connection = self._kept or self._writer.connect()
        self._kept = connection
        with connection.begin():
            yield connection
        if not lasts(self._writer):
            self._let_go()

    def _let_go(self) -> None:
        """Give the writer's connection back; the next transaction gets one that was tried."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _all_done(self, batch: Sequence[_Write]) -> bool:
        """Run `batch` without savepoints, which would take a third of a short write's time; False if one was refused.

        Then nothing has happened, and whoever is refused has its error. Changes are seldom refused.
        """
        with self._transaction() as connection:
            for write in batch:
                # A session each: no row object is shared between two callers.
                with Session(connection, expire_on_commit=False, join_transaction_mode="rollback_only") as session:
                    self._change(session, write)
                if write.error is not None:
                    return False
        return True

    def _change(self, session: Session, write: _Write) -> None:
        """Do one write in a session of its own and note its outcome."""
        try:
            result = write.change(session)
            session.commit()
            write.result = result
        except BaseException as error:
            session.rollback()
            write.error = _told(error, self._url)


def _told(error: BaseException, url: str) -> BaseException:
    if not isinstance(error, DBAPIError):
        return error
    told = store_error(error, url)
    told.__cause__ = error
    return told


def _check(engine: Engine, url: str) -> None:
    where = make_url(url).render_as_string()
    try:
        with engine.connect() as connection:
            if looked_through_at_start(url):
                verdict = connection.exec_driver_sql("PRAGMA quick_check").scalar_one()
                if verdict != "ok":
                    raise damaged(where, str(verdict).splitlines()[0])
            revision = revision_of(connection)
    except DBAPIError as error:
        raise store_error(error, url) from error
    if revision != newest_revision():
        raise StoreError(
            f"has schema {revision or 'none'}, this labd needs {newest_revision()}",
            where=where,
            remedy="run `labd db upgrade`",
        )
