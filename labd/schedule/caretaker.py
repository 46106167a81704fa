"""Looks after boards and instruments: begins the checks that are due and applies what follows from them.

It wakes when something was committed, when a check is due, and when a board's port comes or goes. What goes wrong here
is logged and tried again: the lab goes on. All that it knows beyond the database are hints, so a restart loses nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import structlog
from sqlmodel import Session, col, select

from labd.clock import WALL, Clock
from labd.config import Board, Health, LiveConfig, resources_of
from labd.errors import StateError
from labd.model import ledger_health, ledger_lab
from labd.model.checks import Examination
from labd.model.database import Database
from labd.model.ledger_leases import held_resources, leases_in_force
from labd.model.states import BoardState, InstrumentState, RunState
from labd.model.tables import Board as BoardRow
from labd.model.tables import Check, Instrument
from labd.schedule import health
from labd.schedule.waiting import first_of

CHECKS_MAX = 4
"""Most checks under way at once."""
LOOK_MAX_S = 30.0
"""Longest pause between two looks: the clock may have been set, s."""
PACE_S = 0.2
"""Shortest pause between two looks, however much is committed, s."""
SIGNS_S = 1.0
"""Pause between two looks at whether the boards' ports are there, s."""
SURVEY_S = 30.0
"""Pause between two surveys of the instruments, s."""
SURVEY_SOON_S = 3.0
"""The same while one of them is away, s."""

_WATCHED = frozenset({BoardState.ONLINE, BoardState.SUSPECT, BoardState.QUARANTINED})


class Care(Protocol):
    """What the caretaker needs done, and somebody else does."""

    def deadline_s(self, board: Board) -> float:
        """How long a check of the board may take, s."""
        ...

    async def examine(self, board: Board) -> Examination:
        """Check the board; raise only when cancelled, after clean-up, or if the lab's own record cannot be read."""
        ...

    async def survey(self, left_alone: frozenset[str]) -> None:
        """Ask every instrument but these how it is, and note it."""
        ...

    async def present(self, boards: tuple[Board, ...]) -> Mapping[str, bool]:
        """Whether the serial port of each board is there, by the board's id."""
        ...

    async def tend_golden(self) -> None:
        """Queue the golden jobs that are due, and judge those that have ended."""
        ...


@dataclass(frozen=True, slots=True)
class _Seen:
    """The lab at one look."""

    boards: Mapping[str, BoardRow]
    leased: frozenset[str]
    held: frozenset[str]
    """What else somebody holds, by name."""
    begun: Mapping[int, str]
    """Checks that have not ended, with their boards."""
    away: Mapping[str, InstrumentState]
    """Instruments that do not serve now."""
    stopped: bool


class Caretaker:
    """Looks after the boards and instruments of a lab.

    Args:
        live: The lab, as it is now.
        database: Where their health is noted.
        care: Does what a caretaker cannot.
        wake: Told when a board may have become free.
        clock: Makes checks due.
    """

    def __init__(
        self, live: LiveConfig, database: Database, care: Care, wake: Callable[[], None], clock: Clock = WALL
    ) -> None:
        self._live = live
        self._database = database
        self._care = care
        self._wake = wake
        self._clock = clock
        self._news = asyncio.Event()
        self._checking: set[str] = set()
        """Boards with a check, from before its start is committed until its end is."""
        self._examining: dict[str, asyncio.Task[None]] = {}
        self._halts = 0
        self._prompted: set[str] = set()
        """Boards with a sign of change: to be checked at once."""
        self._waiting: set[str] = set()
        """Boards that wait for an instrument."""
        self._present: dict[str, bool] = {}
        self._away: Mapping[str, InstrumentState] = {}
        self._survey_now = asyncio.Event()
        self._log = structlog.get_logger()

    def halt(self) -> None:
        """Cut off every check that is under way; the stop of the lab has been committed, so that none begins."""
        self._halts += 1
        for task in self._examining.values():
            task.cancel()

    async def run(self) -> None:
        """Look after the lab until cancelled; checks that are under way are cut off then, with their outputs off."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._forever(self._survey), name="survey")
            group.create_task(self._forever(self._watch_ports), name="ports")
            group.create_task(self._forever(self._golden), name="golden")
            while True:
                commits = self._database.commits
                self._news.clear()
                due_s = LOOK_MAX_S
                try:
                    due_s = await self._look(group)
                except Exception:  # whatever it is, the lab goes on
                    self._log.exception("caretaking_failed")
                await self._pause(commits, due_s)

    # --- boards -----------------------------------------------------------------------------------------------

    async def _look(self, group: asyncio.TaskGroup) -> float:
        """Begin what is due; return how long nothing else will be, s."""
        config, now_s = self._live.now, self._clock.now().timestamp()
        rules = rules_of(self._live.now.health)
        seen = await self._database.read(_see)
        next_s = LOOK_MAX_S
        if seen.away != self._away:  # a person has taken one or given it back, or it was lost in a run
            self._away = seen.away
            self._survey_now.set()
        await self._cut_off_unserved(seen)
        if seen.stopped:
            return next_s
        for board in config.board:
            row = seen.boards.get(board.id)
            if row is None or row.state not in _WATCHED | {BoardState.MAINTENANCE}:
                continue
            if await self._waits(board, row, seen):
                continue
            due_s = health.due_at_s(standing_of(row), rules)
            if board.id in self._prompted and row.state in _WATCHED:
                due_s = now_s
            if due_s is None or board.id in self._checking or board.id in seen.leased:
                continue
            if resources_of(board) & seen.held:  # of a board that shares something with this one
                continue
            if due_s > now_s:
                next_s = min(next_s, due_s - now_s)
            elif len(self._checking) < CHECKS_MAX:
                self._prompted.discard(board.id)
                self._checking.add(board.id)
                group.create_task(self._check(board, standing_of(row)), name=f"check-{board.id}")
        return next_s

    async def _waits(self, board: Board, row: BoardRow, seen: _Seen) -> bool:
        """Whether the board waits for an instrument; it goes on with a check as soon as that is back."""
        away = sorted(board.instruments & seen.away.keys())
        if not away:
            if board.id in self._waiting:
                self._waiting.discard(board.id)
                self._prompted.add(board.id)
            return False
        self._waiting.add(board.id)
        if row.state is BoardState.ONLINE and board.id not in seen.leased:
            reason = f"waits for {', '.join(f'{each} ({seen.away[each]})' for each in away)}"
            now = self._clock.now()
            await self._database.write(lambda session: ledger_health.make_suspect(session, board.id, reason, now))
        return True

    async def _check(self, board: Board, standing: health.Standing) -> None:
        """Do one check from its lease to its verdict."""
        log = self._log.bind(board=board.id)
        this_task = asyncio.current_task()
        assert this_task is not None
        try:
            trigger, lease_s, begun_at = health.trigger_of(standing), self._care.deadline_s(board), self._clock.now()
            halts = self._halts
            check = await self._database.write(
                lambda session: ledger_health.start_check(
                    session, board.id, trigger, resources_of(board), now=begun_at, lease_s=lease_s
                )
            )
            stopped: asyncio.CancelledError | None = None
            found: Examination | None = None
            try:
                self._examining[board.id] = this_task
                if halts != self._halts:  # the lab was stopped between the commit of the start and here
                    raise asyncio.CancelledError
                found = await self._care.examine(board)
            except asyncio.CancelledError as error:
                stopped = error
            except Exception:  # a check that labd itself breaks says nothing of the board
                log.exception("check_broke")
            # From here on there is nothing to cut off.
            self._examining.pop(board.id, None)
            now, rules = self._clock.now(), rules_of(self._live.now.health)
            verdict = await self._database.write(lambda session: conclude(session, check, found, rules, now))
            log.info("check_ended", trigger=trigger, outcome=found and found.outcome, state=verdict and verdict.state)
            self._wake()
            if stopped is not None:
                raise stopped
        except StateError as error:  # a run or a reservation had it first, or the lab was stopped
            log.info("check_overtaken", reason=error.message)
        except Exception:  # the record could not be written: the next look finds the check, and cuts it off
            log.exception("check_not_noted")
        finally:
            self._examining.pop(board.id, None)
            self._checking.discard(board.id)
            self._news.set()

    async def _cut_off_unserved(self, seen: _Seen) -> None:
        """End checks that no task serves: their end could not be written, and they hold their boards."""
        left = [check_id for check_id, board_id in seen.begun.items() if board_id not in self._checking]
        if not left:
            return
        now = self._clock.now()
        for check in await self._database.write(lambda session: cut_off(session, left, now)):
            self._log.warning("unserved_check_cut_off", check=check.id, board=check.board_id)
        self._wake()

    # --- signs and instruments --------------------------------------------------------------------------------

    async def _watch_ports(self) -> None:
        """Have a board checked as soon as its port comes or goes, also if it came while no daemon was there."""
        present = await self._care.present(self._live.now.board)
        changed = {name for name, is_there in present.items() if self._present.get(name, is_there) != is_there}
        if any(name not in self._present for name in present):
            without = await self._database.read(ledger_health.boards_without_port)
            changed |= {name for name in without - self._present.keys() if present.get(name)}
        self._present = dict(present)
        if changed:
            self._log.info("ports_changed", boards=sorted(changed))
            self._prompted |= changed
            self._news.set()
        await asyncio.sleep(SIGNS_S)

    async def _survey(self) -> None:
        seen = await self._database.read(_see)
        left_alone = frozenset(name for name, state in seen.away.items() if state is InstrumentState.MAINTENANCE)
        await self._care.survey(left_alone)
        seen = await self._database.read(_see)
        missing = any(state is InstrumentState.OFFLINE for state in seen.away.values())
        try:
            async with asyncio.timeout(SURVEY_SOON_S if missing else SURVEY_S):
                await self._survey_now.wait()
        except TimeoutError:
            return
        self._survey_now.clear()

    async def _golden(self) -> None:
        await self._care.tend_golden()
        await self._clock.sleep(LOOK_MAX_S)
        await asyncio.sleep(PACE_S)

    async def _forever(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do the work again and again; what it fails with is logged, and tried again."""
        while True:
            try:
                await work()
            except Exception:  # whatever it is, the lab goes on
                self._log.exception("caretaking_failed")
                await asyncio.sleep(SIGNS_S)

    async def _pause(self, commits: int, longest_s: float) -> None:
        """Wait for something to look at."""
        committed = self._database.committed_since(commits)
        await first_of("caretaker", self._news.wait(), committed, self._clock.sleep(longest_s))
        await asyncio.sleep(PACE_S)


def rules_of(told: Health) -> health.Rules:
    """What lab.toml says of health."""
    return health.Rules(told.check_every_s, told.quarantine_after, told.retry_s)


def standing_of(row: BoardRow) -> health.Standing:
    """A board as the decisions see it; one that was never seen well is trusted from when it came."""
    return health.Standing(
        row.state,
        row.strikes,
        well_at_s=(row.well_at or row.changed_at).timestamp(),
        due_at_s=None if row.check_due_at is None else row.check_due_at.timestamp(),
        wanted=row.check_trigger,
    )


def check_due_at(row: BoardRow, told: Health) -> datetime | None:
    """When a board is checked next; None for one that is not as it is."""
    due_s = health.due_at_s(standing_of(row), rules_of(told))
    return None if due_s is None else max(datetime.fromtimestamp(due_s, UTC), row.changed_at)


def conclude(
    session: Session, check: Check, found: Examination | None, rules: health.Rules, now: datetime
) -> health.Verdict | None:
    """End a check and apply what follows; None if it was cut off, or a person has decided on the board meanwhile."""
    assert check.id is not None, "a committed row has its number"
    ledger_health.end_check(session, check.id, found, now)
    row = session.get_one(BoardRow, check.board_id)
    decided = row.changed_at > check.started_at and row.state not in (BoardState.ONLINE, BoardState.SUSPECT)
    if found is None or decided or row.state is BoardState.OFFLINE:
        return None
    verdict = health.after_check(
        standing_of(row),
        rules,
        found.outcome,
        reason=found.reason,
        failing_jobs=health.failing_jobs(_failures(session, check.board_id), rules),
        now_s=now.timestamp(),
    )
    in_hands = verdict.state is BoardState.MAINTENANCE
    ledger_health.set_standing(
        session,
        check.board_id,
        verdict.state,
        row.reason if in_hands else verdict.reason,
        now,
        strikes=verdict.strikes,
        due_at=None if verdict.due_at_s is None else datetime.fromtimestamp(verdict.due_at_s, UTC),
        well=verdict.well,
    )
    return verdict


def cut_off(session: Session, check_ids: Collection[int], now: datetime) -> list[Check]:
    """End those of these checks that have not ended, without a verdict."""
    left = select(Check).where(col(Check.id).in_(check_ids), col(Check.ended_at).is_(None))
    return [
        ledger_health.end_check(session, check.id, None, now) for check in session.exec(left) if check.id is not None
    ]


def _failures(session: Session, board_id: str) -> list[health.Failure]:
    """The board's failures in a row, each with what other boards say of its job."""
    return [
        health.Failure(job_id, _elsewhere(session, job_id, board_id))
        for job_id in {run.job_id for run in ledger_health.failures_in_a_row(session, board_id)}
    ]


def _elsewhere(session: Session, job_id: int, board_id: str) -> health.Elsewhere:
    runs = ledger_health.runs_elsewhere(session, job_id, board_id)
    if any(run.state is RunState.COMPLETED for run in runs):
        return health.Elsewhere.COMPLETED
    if any(run.state in (RunState.FAILED, RunState.INVALID) for run in runs):
        return health.Elsewhere.FAILED
    return health.Elsewhere.UNTRIED if ledger_health.job_ended(session, job_id) else health.Elsewhere.PENDING


def _see(session: Session) -> _Seen:
    away = (InstrumentState.OFFLINE, InstrumentState.MAINTENANCE)
    leases = leases_in_force(session)
    return _Seen(
        boards={row.id: row for row in session.exec(select(BoardRow))},
        leased=frozenset(lease.board_id for lease in leases),
        held=held_resources(session),
        begun={lease.check_id: lease.board_id for lease in leases if lease.check_id is not None},
        away={row.id: row.state for row in session.exec(select(Instrument).where(col(Instrument.state).in_(away)))},
        stopped=ledger_lab.is_stopped(session),
    )
