"""Applies the decisions: starts runs on free boards, ends them in the ledger, and cancels them when asked.

Every run is a task of one group. A run that fails costs nobody else anything; a database that cannot commit ends the
daemon, whose next start recovers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog

from labd.clock import WALL, Clock
from labd.config import LiveConfig
from labd.errors import StateError
from labd.model import ledger, ledger_lab
from labd.model.causes import Cause, Ending
from labd.model.database import Database
from labd.model.tables import Job, Run
from labd.schedule.match import Requirement
from labd.schedule.order import Assignment, Waiting, assign


class Work(Protocol):
    """What the dispatcher needs to know of jobs, and what does them."""

    def requirement(self, job: Job) -> Requirement:
        """What the job asks of a board."""
        ...

    def lease_s(self, job: Job) -> float:
        """How long a run of the job may hold its board, s."""
        ...

    async def perform(self, job: Job, run: Run) -> Ending:
        """Do one run and return how it ended; raise only when cancelled, after clean-up."""
        ...


class Dispatcher:
    """Keeps the boards of a lab busy.

    Args:
        live: The lab, as it is now.
        database: Where jobs wait.
        work: What does them.
        captures_start: Whether there is room for a capture now; jobs that need one wait until it says so after a
            `wake`.
        clock: Dates what happens.
    """

    def __init__(
        self,
        live: LiveConfig,
        database: Database,
        work: Work,
        captures_start: Callable[[], Awaitable[bool]],
        clock: Clock = WALL,
    ) -> None:
        self._live = live
        self._database = database
        self._work = work
        self._captures_start = captures_start
        self._clock = clock
        self._news = asyncio.Event()
        self._news.set()
        self._running: dict[int, asyncio.Task[None]] = {}
        self._cancelled: set[int] = set()
        self._halted = False
        self._log = structlog.get_logger()

    def wake(self) -> None:
        """Say that something changed: a job came, a board is free, or there is room for captures again."""
        self._news.set()

    def cancel(self, run_id: int) -> None:
        """Stop a run whose job's cancellation has been committed; harmless if it has ended."""
        self._cancelled.add(run_id)
        if task := self._running.get(run_id):
            task.cancel()

    def halt(self) -> None:
        """Interrupt every run and begin none until `go_on`; the stop of the lab has been committed."""
        self._halted = True
        for task in self._running.values():
            task.cancel()

    def go_on(self) -> None:
        """Begin runs again, after the lab's resumption has been committed."""
        self._halted = False
        self.wake()

    async def run(self) -> None:
        """Dispatch until cancelled; then every run is ended as interrupted before this returns."""
        self._halted = await self._database.read(ledger_lab.stop_of) is not None
        async with asyncio.TaskGroup() as group:
            while True:
                await self._news.wait()
                self._news.clear()
                for assignment in await self._decide():
                    if started := await self._start(assignment):
                        self._launch(group, *started)

    async def _decide(self) -> list[Assignment]:
        if self._halted:
            return []
        jobs, free = await self._database.read(
            lambda session: (ledger.queued_jobs(session), ledger.free_boards(session))
        )
        waiting = [Waiting(job.id, self._work.requirement(job)) for job in jobs if job.id is not None]
        if any(job.requirement.captures for job in waiting) and not await self._captures_start():
            # a job that needs no capture passes those that wait for room
            waiting = [job for job in waiting if not job.requirement.captures]
        return assign(waiting, free, self._live.now)

    async def _start(self, assignment: Assignment) -> tuple[Job, Run] | None:
        """Commit the start of a run; None if the job was cancelled between decision and start."""
        job = await self._database.read(lambda session: session.get_one(Job, assignment.job_id))
        lease_s, now = self._work.lease_s(job), self._clock.now()
        try:
            run = await self._database.write(
                lambda session: ledger.start_run(session, assignment.job_id, assignment.board_id, now, lease_s)
            )
        except StateError as error:
            self._log.info(
                "assignment_overtaken", job=assignment.job_id, board=assignment.board_id, reason=error.message
            )
            self.wake()  # the board that it would have had may serve the next one
            return None
        return job, run

    def _launch(self, group: asyncio.TaskGroup, job: Job, run: Run) -> None:
        assert run.id is not None, "a committed row has its id"
        group.create_task(self._serve(job, run, run.id), name=f"run-{run.id}")

    async def _serve(self, job: Job, run: Run, run_id: int) -> None:
        this_task = asyncio.current_task()
        assert this_task is not None
        with structlog.contextvars.bound_contextvars(job=job.id, run=run_id, board=run.board_id):
            self._log.info("run_started", benchmark=job.benchmark, mode=job.mode, attempt=run.attempt)
            stopped: asyncio.CancelledError | None = None
            try:
                # From here on a cancel is heard; one that came before, since the start's commit, is in the books.
                self._running[run_id] = this_task
                if run_id in self._cancelled or self._halted:
                    raise asyncio.CancelledError
                ending = await self._work.perform(job, run)
            except asyncio.CancelledError as error:
                stopped = error
                ending = Ending(self._why_cancelled(run_id))
            # From here on there is nothing to cancel: a cancel in the commit would lose the wake-up for the free board.
            self._running.pop(run_id, None)
            now = self._clock.now()
            await self._database.write(lambda session: ledger.end_run(session, run_id, ending, now))
            self._log.info("run_ended", state=ending.state, cause=ending.cause, detail=ending.detail)
            self.wake()
            if stopped is not None and run_id not in self._cancelled and not self._halted:
                raise stopped
            self._cancelled.discard(run_id)

    def _why_cancelled(self, run_id: int) -> Cause:
        if run_id in self._cancelled:
            return Cause.CANCELLED
        return Cause.LAB_STOPPED if self._halted else Cause.DAEMON_STOPPED
