"""Applies the decisions: starts runs on free boards, ends them in the ledger, and cancels them when asked.

The waiting jobs are in memory. They are read once, and from then on the dispatcher follows the events of the ledger, so
whoever queues, cancels, parks or releases a job only has to commit it. What it holds is a copy: a start that the ledger
refuses changes nothing, and a restart loses nothing.

Every run is a task of one group. A run that fails costs nobody else anything; a database that cannot commit ends the
daemon, whose next start recovers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Protocol

import structlog
from sqlmodel import Session

from labd.clock import WALL, Clock
from labd.config import LabConfig, LiveConfig, resources_of
from labd.config.derived import BoardFacts
from labd.errors import StateError
from labd.model import ledger, ledger_lab, ledger_leases, ledger_queue, ledger_share
from labd.model.attempts import Terms
from labd.model.causes import Cause, Ending
from labd.model.database import Database
from labd.model.ledger import Begun
from labd.model.ledger_queue import Commission
from labd.model.states import RunState
from labd.model.tables import Run
from labd.schedule.backlog import Backlog, Reader, UnreadableJobError
from labd.schedule.explain import Explanation, why, why_not_waiting
from labd.schedule.fleet import Fleet
from labd.schedule.order import Assignment, decide
from labd.schedule.retry import Patience
from labd.schedule.snapshot import Holder, Snapshot
from labd.schedule.view import Accounts, Flashed, snapshot_of
from labd.schedule.waiting import first_of

LOOK_MAX_S = 30.0
"""Longest pause between two decisions: the clock may have been set, s."""
AGAIN_S = 1.0
"""Pause before a decision that the ledger has overruled is made again, s."""
TICK_S = 0.001
"""Added to the time of what is due then, so that it is past, s."""
RECLAIM_S = 60.0
"""Pause between two looks for leases that nobody is behind, s."""


class Work(Reader, Protocol):
    """What the dispatcher needs to know of jobs and boards, and what does them."""

    def facts(self, config: LabConfig) -> Mapping[str, BoardFacts]:
        """What is known of each board, by id."""
        ...

    def lease_s(self, job: Commission) -> float:
        """How long a run of the job may hold its board, s. Raises `UnreadableJobError`."""
        ...

    async def perform(self, job: Commission, run: Begun) -> Ending:
        """Do one run and return how it ended; raise only when cancelled, after clean-up."""
        ...

    async def make_safe(self, board_id: str) -> None:
        """Switch the board's output off: whoever held it is gone."""
        ...


def nobody_waits() -> Mapping[str, Holder]:
    """A lab without reservations that wait for a board."""
    return {}


def terms_of(config: LabConfig) -> Terms:
    """By what the ends of runs are settled, as lab.toml says."""
    told = config.queue
    return Terms(Patience(told.flaky_retries, told.interruptions_max).judge, told.half_life_s)


@dataclass(frozen=True, slots=True)
class Started:
    """A run whose start was committed, and how long its lease is, s."""

    job: Commission
    run: Begun
    lease_s: float

    def charged_s(self, ending: Ending, now: datetime) -> float:
        """What the ledger charges the requester for it when it ends now, s."""
        if ending.state is RunState.INTERRUPTED:
            return 0.0
        return min(max(0.0, (now - self.run.started_at).total_seconds()), self.lease_s)


class Dispatcher:
    """Keeps the boards of a lab busy.

    Args:
        live: The lab, as it is now.
        database: Where jobs wait.
        work: What does them.
        captures_start: Whether there is room for a capture now; jobs that need one wait until it says so after a
            `wake`.
        clock: Dates what happens.
        wanted: Who is to have a board as soon as it is free, by its id: no run is started there before.
    """

    def __init__(
        self,
        live: LiveConfig,
        database: Database,
        work: Work,
        captures_start: Callable[[], Awaitable[bool]],
        clock: Clock = WALL,
        *,
        wanted: Callable[[], Mapping[str, Holder]] = nobody_waits,
    ) -> None:
        self._live = live
        self._database = database
        self._work = work
        self._captures_start = captures_start
        self._clock = clock
        self._wanted = wanted
        self._news = asyncio.Event()
        self._news.set()
        self._backlog = Backlog(database, work, Fleet(live.now, work.facts(live.now)))
        self._accounts = Accounts({})
        self._flashed = Flashed()
        self._running: dict[int, asyncio.Task[None]] = {}
        self._served: set[int] = set()
        """Runs from the commit of their start to that of their end."""
        self._cancelled: set[int] = set()
        self._starting = asyncio.Lock()
        """Held while starts are committed: only then can a run that begins be told from one that was left behind."""
        self._halted = False
        self._log = structlog.get_logger()

    @property
    def queue_length(self) -> int:
        """How many jobs wait, as of the last event that was followed."""
        return len(self._backlog.queue)

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

    async def explain(self, job_id: int) -> Explanation:
        """Why a job has not started, and when it may.

        Raises:
            NotFoundError: there is no such job.
        """
        if await self._backlog.follow():
            self.wake()  # what this has seen, the dispatcher has not
        snapshot = await self._look()
        waiting = self._backlog.queue.get(job_id)
        if waiting is not None:
            return why(waiting, self._backlog.queue, snapshot)
        job = await self._database.read(lambda session: ledger.job_row(session, job_id))
        return why_not_waiting(job_id, job.state, job.detail)

    async def begin(self) -> None:
        """Read what waits and what everybody has had, so that the first decision is a short one."""
        self._halted = await self._database.read(ledger_lab.is_stopped)
        self._accounts = Accounts(await self._database.read(ledger_share.accounts))
        await self._backlog.follow()
        queue = self._backlog.queue
        self._log.info("queue_loaded", jobs=len(queue), classes=queue.classes)

    async def run(self) -> None:
        """Dispatch, after `begin`, until cancelled; then every run is ended as interrupted before this returns."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._reclaim(), name="reclaim-leases")
                await self._keep_busy(group)
        finally:
            # A start that was committed while this was cancelled has no task that could end it. The write is done even
            # if this is cancelled once more.
            await self._interrupt_unserved(Cause.DAEMON_STOPPED)

    async def _keep_busy(self, group: asyncio.TaskGroup) -> None:
        due_s = 0.0
        while True:
            commits, told = self._database.commits, self._news.is_set()
            self._news.clear()
            if await self._backlog.follow() or told or due_s <= 0.0:
                due_s = await self._dispatch(group)
            due_s -= await self._pause(commits, due_s)

    # --- deciding ---------------------------------------------------------------------------------------------

    async def _dispatch(self, group: asyncio.TaskGroup) -> float:
        """Decide once and apply it; return after how long to decide again even if nothing happens, s."""
        queue = self._backlog.queue
        if queue.fleet.config is not self._live.now:
            queue.refit(Fleet(self._live.now, self._work.facts(self._live.now)))
        await self._park_unreadable()
        snapshot = await self._look()
        decision = decide(queue, snapshot)
        expired = await asyncio.gather(*map(self._expire, decision.expired))
        async with self._starting:
            self._cancelled &= self._served  # all that have begun so far are served, or have ended
            outcomes = await asyncio.gather(*map(self._start, decision.assignments))
            for assignment, outcome in zip(decision.assignments, outcomes, strict=True):
                if outcome is not None:
                    self._launch(group, assignment, outcome)
        if any(outcome is None for outcome in outcomes) or not all(expired):
            return AGAIN_S
        if decision.next_change_s is None:
            return LOOK_MAX_S
        return min(LOOK_MAX_S, max(0.0, decision.next_change_s - snapshot.now_s) + TICK_S)

    async def _look(self) -> Snapshot:
        """The lab as it is now."""
        queue = self._backlog.queue
        captures = any(members.captures for party in queue.parties.values() for members in party.classes.values())
        no_captures = captures and not await self._captures_start()
        rack = await self._database.read(ledger_queue.rack_now)
        return snapshot_of(
            rack,
            queue.fleet,
            self._clock.now(),
            accounts=self._accounts,
            flashed=self._flashed,
            wanted=self._wanted(),
            no_captures="there is no room for a trace" if no_captures else "",
            stopped="the lab is stopped" if self._halted else "",
        )

    async def _pause(self, commits: int, longest_s: float) -> float:
        """Wait until something was said or committed, at most so long; return how long that took, s."""
        began = self._clock.now()
        committed = self._database.committed_since(commits)
        await first_of("dispatcher", self._news.wait(), committed, self._clock.sleep(longest_s))
        took_s = (self._clock.now() - began).total_seconds()
        return took_s if 0.0 <= took_s <= longest_s else longest_s  # the clock was set: look at everything again

    async def _expire(self, job_id: int) -> bool:
        """End a job whose deadline has passed; False if it was changed meanwhile."""
        now = self._clock.now()
        ended = await self._database.write(lambda session: ledger.expire_job(session, job_id, now))
        if ended is not None:
            self._backlog.queue.remove(job_id)
            self._log.info("job_expired", job=job_id)
        return ended is not None

    async def _park_unreadable(self) -> None:
        now = self._clock.now()
        for job_id, reason in list(self._backlog.unreadable.items()):
            ending = Ending(Cause.UNREADABLE, reason)
            await self._database.write(partial(ledger.park_job, job_id=job_id, ending=ending, now=now))
            self._backlog.unreadable.pop(job_id, None)
            self._log.warning("job_parked", job=job_id, reason=reason)

    # --- runs -------------------------------------------------------------------------------------------------

    async def _start(self, assignment: Assignment) -> Started | None:
        """Commit the start of a run, in one transaction with others; None if the ledger refuses it."""
        board = self._live.now.board_by_id(assignment.board_id)
        if board is None:
            return None
        job_id, now, log = assignment.job_id, self._clock.now(), self._log.bind(job=assignment.job_id, board=board.id)

        def begin(session: Session) -> Started:
            job = ledger_queue.commission(session, job_id)
            lease_s = self._work.lease_s(job)
            run = ledger.start_run(session, job_id, board.id, now, lease_s, resources=resources_of(board))
            if assignment.least_used_s > 0.0:
                half_life_s = self._live.now.queue.half_life_s
                ledger_share.raise_to(session, job.requester, assignment.least_used_s, now, half_life_s)
            return Started(job, run, lease_s)

        try:
            return await self._database.write(begin)
        except UnreadableJobError as error:
            self._backlog.queue.remove(job_id)
            self._backlog.unreadable[job_id] = str(error)
        except StateError as error:  # cancelled, or the board was given away, between the decision and here
            log.info("assignment_overtaken", reason=error.message)
        return None

    def _launch(self, group: asyncio.TaskGroup, assignment: Assignment, started: Started) -> None:
        queue, now_s, half_life_s = self._backlog.queue, self._clock.now().timestamp(), self._live.now.queue.half_life_s
        estimate_s = 0.0
        if waited := queue.remove(assignment.job_id):
            estimate_s = waited.estimate_s
            self._flashed.note(queue.fleet, waited.requirement, assignment.board_id, now_s)
        requester = started.job.requester
        self._accounts.charge(requester, estimate_s, now_s, half_life_s, least_s=assignment.least_used_s)
        self._served.add(started.run.id)
        group.create_task(self._serve(started, estimate_s), name=f"run-{started.run.id}")

    async def _serve(self, started: Started, estimate_s: float) -> None:
        job, run, run_id = started.job, started.run, started.run.id
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
            now, terms = self._clock.now(), terms_of(self._live.now)
            try:
                await self._database.write(lambda session: ledger.end_run(session, run_id, ending, now, terms))
            except StateError as error:  # it has been ended already: that is no reason to end all others
                self._log.error("run_end_refused", state=ending.state, cause=ending.cause, reason=error.message)
            self._served.discard(run_id)
            charged_s = started.charged_s(ending, now)
            self._accounts.charge(job.requester, charged_s - estimate_s, now.timestamp(), terms.half_life_s)
            self._log.info("run_ended", state=ending.state, cause=ending.cause, detail=ending.detail)
            self.wake()
            if stopped is not None and run_id not in self._cancelled and not self._halted:
                raise stopped

    def _why_cancelled(self, run_id: int) -> Cause:
        if run_id in self._cancelled:
            return Cause.CANCELLED
        return Cause.LAB_STOPPED if self._halted else Cause.DAEMON_STOPPED

    # --- what nobody is behind --------------------------------------------------------------------------------

    async def _reclaim(self) -> None:
        """Free what was left behind, now and again: runs that no task serves, leases of what has ended."""
        while True:
            await self._clock.sleep(RECLAIM_S)
            for run in await self._interrupt_unserved(Cause.DAEMON_DIED):
                await self._work.make_safe(run.board_id)
            now = self._clock.now()
            for lease in await self._database.write(partial(ledger_leases.reclaim_leases, now=now)):
                self._log.error("lease_reclaimed", lease=lease.id, board=lease.board_id, purpose=lease.purpose)
                await self._work.make_safe(lease.board_id)

    async def _interrupt_unserved(self, cause: Cause) -> list[Run]:
        async with self._starting:
            now, terms, served = self._clock.now(), terms_of(self._live.now), frozenset(self._served)
            left = await self._database.write(
                lambda session: ledger.interrupt_unserved(session, now, served, terms, cause=cause)
            )
        for run in left:
            self._log.warning("unserved_run_interrupted", run=run.id, job=run.job_id, board=run.board_id)
        return left
