"""Runs sweeps: begins nights when they are due, adds their jobs in small pieces, and ends them with their report.

All that it knows stands in the database, so a daemon that died goes on where it was: a night is there once for each
time it was due, a cell once in its night. It looks when something was changed, when jobs end, and at least every half
minute, since a wall clock may be set. What is wrong with one sweep costs that sweep's night and no other; what the
database refuses is tried again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Coroutine
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Protocol

import structlog
from sqlmodel import Session, col, select

from labd.clock import WALL, Clock
from labd.config import LabConfig, LiveConfig
from labd.errors import LabError, StoreError
from labd.model import ledger_sweeps as ledger
from labd.model.database import Database
from labd.model.ledger_sweeps import CellJob
from labd.model.states import UNDER_WAY, NightState, SweepState
from labd.model.tables import Night, Sweep
from labd.schedule.nights import STRANDED, Overlap, Terms, fire, next_due
from labd.schedule.waiting import first_of

LOOK_S = 30.0
"""Longest pause between two looks at the clock, s."""
GATHER_S = 0.2
"""How long commits gather before a night is looked at again, s."""
AGAIN_S = 2.0
"""Pause after the database refused something, s."""
REPORT_TRIES = 3
"""How often a report is tried that the database refuses to be read for; then its night ends without."""
CHUNK = 250
"""Most jobs of one transaction: others wait for the writer no longer than these take."""
LISTED = 3
"""Most cells that a night's reason names as left out."""


@dataclass(frozen=True, slots=True)
class NightPlan:
    """A night in full.

    Args:
        spec: The sweep as it was then, with every board by its id: what a later look makes the same plan of.
        jobs: Its jobs, in the order in which they are queued.
        left_out: Cells that no board can serve now: what each is called, and why.
    """

    spec: dict[str, Any]
    jobs: tuple[CellJob, ...]
    left_out: tuple[tuple[str, str], ...]


class SweepWork(Protocol):
    """What the sweeper needs to know of a sweep's specification."""

    def terms(self, spec: dict[str, Any]) -> Terms:
        """When it is run.

        Raises:
            LabError: this labd, or this host, cannot use it.
        """
        ...

    def plan(self, spec: dict[str, Any], sweep: str, night_id: int) -> NightPlan:
        """The jobs of a night; called in a thread.

        Raises:
            LabError: it cannot be built, or is too large.
        """
        ...

    def boards_for(self, requirement: str) -> Collection[str]:
        """Ids of the lab's boards that can do a job which asks this, whether they work or not; called in a thread."""
        ...


class Sweeper:
    """Keeps the sweeps of a lab going.

    Args:
        live: The lab, as it is now.
        database: Where the sweeps are.
        work: What knows their specifications.
        report: Makes the report of a night whose jobs have all ended.
        jobs_added: Called when jobs were queued.
        clock: Makes nights due, and dates them.
    """

    def __init__(
        self,
        live: LiveConfig,
        database: Database,
        work: SweepWork,
        *,
        report: Callable[[int], Awaitable[dict[str, Any]]],
        jobs_added: Callable[[], None],
        clock: Clock = WALL,
    ) -> None:
        self._live = live
        self._database = database
        self._work = work
        self._report = report
        self._jobs_added = jobs_added
        self._clock = clock
        self._news = asyncio.Event()
        self._looked_at: datetime | None = None
        self._plan: tuple[int, LabConfig, NightPlan] | None = None
        self._refused = False
        """Whether the database refused something in this look."""
        self._unreported: Counter[int] = Counter()
        """How often a report was tried in vain, by its night."""
        self._log = structlog.get_logger()

    def wake(self) -> None:
        """Say that a sweep or a night was added or changed."""
        self._news.set()

    async def run(self) -> None:
        """Look after the sweeps until cancelled."""
        while True:
            self._news.clear()
            commits, self._refused = self._database.commits, False
            try:
                await self._look()
                if not self._refused:
                    await self._rest(commits)
            except StoreError as error:
                self._refused = True
                self._log.error("sweeps_not_read", error=str(error))
            if self._refused:
                await asyncio.sleep(AGAIN_S)

    async def _look(self) -> None:
        """Do what there is to do. Raises `StoreError` if the sweeps cannot be read."""
        now = self._clock.now()
        if self._looked_at is None or now < self._looked_at:
            self._looked_at = None
            await self._set_back(now)
        if not self._refused:
            self._looked_at = now
        await self._fire(now)
        await self._serve_nights()

    # --- what is due ------------------------------------------------------------------------------------------

    async def _set_back(self, now: datetime) -> None:
        """At a start, and when the clock was set back: what is due is the next time that was not fired yet."""
        for sweep in await self._database.read(_active_sweeps):
            await self._guarded(sweep, self._revise(sweep, now))

    async def _revise(self, sweep: Sweep, now: datetime) -> None:
        schedule = self._work.terms(sweep.spec).schedule
        if schedule is None or (sweep.due_at is not None and sweep.due_at <= now):
            return

        def work(session: Session) -> datetime:
            due_at = next_due(schedule, now, lambda due: ledger.night_at(session, _key(sweep), due) is not None)
            ledger.set_due(session, _key(sweep), due_at, now)
            return due_at

        due_at = await self._database.write(work)
        if due_at != sweep.due_at:
            self._log.info("sweep_due_revised", sweep=sweep.name, due_at=due_at.isoformat())

    async def _fire(self, now: datetime) -> None:
        for sweep in await self._database.read(_active_sweeps):
            if sweep.due_at is not None and sweep.due_at <= now:
                await self._guarded(sweep, self._begin(sweep, now))

    async def _begin(self, sweep: Sweep, now: datetime) -> None:
        terms = self._work.terms(sweep.spec)
        schedule = terms.schedule
        if schedule is None:
            return

        def work(session: Session) -> list[Night]:
            fresh = session.get_one(Sweep, _key(sweep))
            if fresh.state is not SweepState.ACTIVE or fresh.due_at is None or fresh.due_at != sweep.due_at:
                return []  # changed since it was read: looked at again
            firing = fire(terms, schedule, fresh.due_at, now, _under_way(session, _key(sweep)))
            begun = []
            for night in firing.nights:
                add = ledger.start_night if night.begins else ledger.skip_night
                begun.append(add(session, _key(sweep), night.due_at, now, night.reason))
            ledger.set_due(session, _key(sweep), firing.next_due, now)
            return [night for night in begun if night is not None]

        for night in await self._database.write(work):
            self._log.info("night_" + _VERBS[night.state], sweep=sweep.name, night=night.id, reason=night.reason)

    # --- nights under way -------------------------------------------------------------------------------------

    async def _serve_nights(self) -> None:
        for night, sweep in await self._database.read(_live_nights):
            serve = self._expand if night.state is NightState.EXPANDING else self._end
            await self._guarded(sweep, serve(night, sweep), night)

    async def _expand(self, night: Night, sweep: Sweep) -> None:
        """Add what is missing of the night's jobs, as far as the queue takes them."""
        terms = self._work.terms(night.spec)
        if terms.overlap is Overlap.CANCEL:
            await self._cancel_earlier(night)
        night_id = _key(night)
        if await self._database.read(lambda session: ledger.room(session, self._live.now.queue.max_queued)) == 0:
            return  # the next look tells whether the queue has room again
        plan = await self._planned(night, sweep)
        there = await self._database.read(lambda session: ledger.cells_of(session, night_id))
        missing = [job for job in plan.jobs if job.cell not in there]
        deadline = terms.deadline(night.due_at)
        while missing:
            taken = await self._database.write(partial(self._add, night_id, missing[:CHUNK], deadline))
            if taken is None:
                return  # the queue is full, or the night expands no more: the next look tells
            missing = missing[taken:]
            self._jobs_added()
        await self._database.write(partial(self._end_expansion, night_id, _left_out(plan)))
        self._plan = None
        self._log.info("night_expanded", sweep=sweep.name, night=night_id, jobs=len(plan.jobs))

    async def _planned(self, night: Night, sweep: Sweep) -> NightPlan:
        """The night in full: made once, unless lab.toml changes while it waits for room in the queue."""
        config, night_id = self._live.now, _key(night)
        if self._plan is None or self._plan[0] != night_id or self._plan[1] is not config:
            plan = await asyncio.to_thread(self._work.plan, night.spec, sweep.name, night_id)
            if plan.spec != night.spec:
                await self._database.write(
                    lambda session: ledger.set_night_spec(session, night_id, plan.spec, len(plan.jobs))
                )
            self._plan = night_id, config, plan
        return self._plan[2]

    def _add(self, night_id: int, jobs: list[CellJob], deadline: datetime | None, session: Session) -> int | None:
        """How many of `jobs` are settled now; None if none can be."""
        room = ledger.room(session, self._live.now.queue.max_queued)
        if room == 0 or session.get_one(Night, night_id).state is not NightState.EXPANDING:
            return None
        ledger.add_cells(session, night_id, jobs[:room], deadline=deadline, now=self._clock.now())
        return len(jobs[:room])

    def _end_expansion(self, night_id: int, reason: str, session: Session) -> None:
        night = session.get_one(Night, night_id)
        if night.state is NightState.EXPANDING:
            ledger.end_expansion(session, night, self._clock.now(), reason)

    async def _cancel_earlier(self, night: Night) -> None:
        """Cancel, in pieces, what has not started of the nights before this one."""
        now = self._clock.now()

        def piece(session: Session) -> int:
            cancelled = 0
            for earlier in ledger.live_nights_of(session, night.sweep_id):
                if _key(earlier) < _key(night):
                    if earlier.state is NightState.EXPANDING:
                        ledger.end_expansion(session, earlier, now, f"cancelled by night {night.id}")
                    cancelled += ledger.cancel_queued(session, _key(earlier), CHUNK, now)
            return cancelled

        while cancelled := await self._database.write(piece):
            self._log.info("night_jobs_cancelled", by=night.id, jobs=cancelled)

    async def _end(self, night: Night, sweep: Sweep) -> None:
        """End the night with its report if none of its jobs is under way, or waits for a board of the lab."""
        night_id = _key(night)
        boards = self._boards
        if not await self._database.read(lambda session: ledger.is_over(session, night_id, boards)):
            if night.started_at + STRANDED <= self._clock.now():
                await self._end_stranded(night, sweep)
            return
        try:
            report = await self._report(night_id)
        except LabError as error:
            self._log.error("night_report_failed", sweep=sweep.name, night=night_id, error=str(error))
            self._unreported[night_id] += 1
            if isinstance(error, StoreError) and self._unreported[night_id] < REPORT_TRIES:
                raise
            report = {"error": str(error)}
        self._unreported.pop(night_id, None)
        now = self._clock.now()
        if await self._database.write(lambda session: ledger.end_night(session, night_id, report, now, boards)):
            self._log.info("night_ended", sweep=sweep.name, night=night_id)

    async def _end_stranded(self, night: Night, sweep: Sweep) -> None:
        """End, in pieces, what is left of an old night if all boards that can do it are out of work."""
        night_id = _key(night)
        asked = await self._database.read(lambda session: ledger.asked_by_waiting(session, night_id))
        if not asked or None in asked:
            return
        able = await asyncio.to_thread(
            lambda: {board for text in asked if text for board in self._work.boards_for(text)}
        )
        deadline, now = night.started_at + STRANDED, self._clock.now()
        while ended := await self._database.write(
            lambda session: ledger.expire_stranded(session, night_id, able, deadline=deadline, limit=CHUNK, now=now)
        ):
            self._log.warning("night_jobs_stranded", sweep=sweep.name, night=night_id, jobs=ended, boards=sorted(able))

    @property
    def _boards(self) -> list[str]:
        """Ids of the lab's boards, as it is now."""
        return [board.id for board in self._live.now.board]

    # --- faults and pauses ------------------------------------------------------------------------------------

    async def _guarded(self, sweep: Sweep, work: Coroutine[Any, Any, None], night: Night | None = None) -> None:
        """Do `work`; what is wrong with it ends the night's expansion, or pauses the sweep, and is told."""
        try:
            await work
            return
        except StoreError as error:
            self._refused = True
            self._log.error("sweep_not_served", sweep=sweep.name, night=night and night.id, error=str(error))
            return
        except LabError as error:
            reason = str(error)
            self._log.error("sweep_failed", sweep=sweep.name, night=night and night.id, error=reason)
        except Exception as error:  # a mistake of labd's in one sweep must not cost all others their night
            reason = f"labd itself made a mistake: {error!r}; report it with the daemon's log"
            self._log.exception("sweep_crashed", sweep=sweep.name, night=night and night.id)
        now = self._clock.now()

        def give_up(session: Session) -> None:
            fresh = session.get_one(Sweep, _key(sweep))
            row = session.get_one(Night, _key(night)) if night is not None else None
            if row is None and fresh.state is SweepState.ACTIVE:
                ledger.pause_sweep(session, fresh, now, reason)
            elif row is not None and row.state is NightState.EXPANDING:
                ledger.end_expansion(session, row, now, reason)
            elif row is not None and row.state is NightState.RUNNING:
                ledger.end_night(session, _key(row), {"error": reason}, now, self._boards)

        try:
            await self._database.write(give_up)
        except StoreError as error:
            self._refused = True
            self._log.error("sweep_not_given_up", sweep=sweep.name, night=night and night.id, error=str(error))

    async def _rest(self, commits: int) -> None:
        """Wait for what there may be to do next: a change, the time that is due first, or the end of a job."""
        now = self._clock.now()
        active, nights = await self._database.read(lambda session: (_active_sweeps(session), _live_nights(session)))
        dues = [(sweep.due_at - now) / timedelta(seconds=1) for sweep in active if sweep.due_at is not None]
        waits: list[Coroutine[Any, Any, Any]] = [
            self._news.wait(),
            self._clock.sleep(max(0.0, min([LOOK_S, *dues]))),
        ]
        if nights:
            waits.append(self._gathered(commits))
        await first_of("sweeper", *waits)

    async def _gathered(self, commits: int) -> None:
        await self._database.committed_since(commits)
        await asyncio.sleep(GATHER_S)


_VERBS = {NightState.EXPANDING: "begun", NightState.SKIPPED: "skipped"}


def _active_sweeps(session: Session) -> list[Sweep]:
    return list(session.exec(select(Sweep).where(Sweep.state == SweepState.ACTIVE).order_by(col(Sweep.id))))


def _live_nights(session: Session) -> list[tuple[Night, Sweep]]:
    live = select(Night, Sweep).join(Sweep).where(col(Night.state).in_(ledger.LIVE)).order_by(col(Night.id))
    return list(session.exec(live))


def _under_way(session: Session, sweep_id: int) -> str:
    live = ledger.live_nights_of(session, sweep_id)
    if not live:
        return ""
    counts = ledger.counts_of(session, [_key(night) for night in live])
    left = sum(each.get(state, 0) for each in counts.values() for state in UNDER_WAY)
    return f"night {live[-1].id} still has {left} jobs to do"


def _left_out(plan: NightPlan) -> str:
    if not plan.left_out:
        return ""
    named = "; ".join(f"{text}: {reason}" for text, reason in plan.left_out[:LISTED])
    more = f"; and {len(plan.left_out) - LISTED} more" if len(plan.left_out) > LISTED else ""
    return f"left out {len(plan.left_out)} cells: {named}{more}"


def _key(row: Night | Sweep) -> int:
    assert row.id is not None, "rows that were read have their number"
    return row.id
