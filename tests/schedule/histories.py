"""A lab without clocks, boards or tasks: the real ledger and the real decisions, applied one step after another.

It does what the dispatcher does, with the same functions, and can be killed anywhere: in the middle of a transaction,
whose changes are then gone, or after its commit, before anybody heard of it. Everything in memory is lost then, and
what follows is what `labd.app` does at a start.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Coroutine, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from enum import Enum
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test
from sqlmodel import Session, col, select

from labd.benchmarks import Mode
from labd.config import Board, LabConfig, Queue, resources_of
from labd.config.derived import lab_facts
from labd.model import ledger, ledger_lab, ledger_leases, ledger_queue, ledger_share
from labd.model.causes import Cause, Ending
from labd.model.engine import Access, make_engine
from labd.model.migrations import upgrade
from labd.model.states import BoardState, CheckTrigger, LeasePurpose, ReservationState
from labd.model.tables import Check, Job, Lease, Reservation, Run
from labd.schedule.backlog import Backlog
from labd.schedule.dispatcher import terms_of
from labd.schedule.fleet import Fleet
from labd.schedule.match import Requirement
from labd.schedule.order import decide
from labd.schedule.snapshot import Snapshot
from labd.schedule.view import Accounts, Flashed, snapshot_of
from tests.schedule.rack import rack

T = TypeVar("T")

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
LEASE_S = 600.0
ESTIMATE_S = 60.0


class Kill(Enum):
    """Where the daemon is killed."""

    NOWHERE = "nowhere"
    BEFORE_COMMIT = "before_commit"
    AFTER_COMMIT = "after_commit"


class KilledError(Exception):
    """The daemon is no more."""


def at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that has nothing to wait for."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError("it waits")


class Lab:
    """One lab in a folder of its own.

    Args:
        config: The lab.
        folder: Where its database lies.
        template: A database with the schema, that is copied.
    """

    def __init__(self, config: LabConfig, folder: Path, template: Path) -> None:
        self.config = config
        self.now = BEGAN
        folder.mkdir()
        shutil.copy(template, folder / "labd.db")
        self._folder = folder
        self._engine = make_engine(f"sqlite:///{folder / 'labd.db'}", Access.WRITE)
        self.restart()

    def close(self) -> None:
        """Forget the lab."""
        self._engine.dispose()
        shutil.rmtree(self._folder)

    # --- the database, as one writer and as readers have it ---------------------------------------------------

    def commit(self, change: Callable[[Session], T], kill: Kill = Kill.NOWHERE) -> T:
        """Do a change in a transaction of its own, and lose it, or all knowledge of it, when killed."""
        with Session(self._engine, expire_on_commit=False) as session:
            result = change(session)
            if kill is Kill.BEFORE_COMMIT:
                session.flush()
                session.rollback()
                raise KilledError
            session.commit()
        if kill is Kill.AFTER_COMMIT:
            raise KilledError
        return result

    async def read(self, query: Callable[[Session], T]) -> T:
        """What the backlog asks of a database."""
        return self.look(query)

    def look(self, query: Callable[[Session], T]) -> T:
        """Read something."""
        with Session(self._engine, expire_on_commit=False) as session:
            return query(session)

    # --- the daemon -------------------------------------------------------------------------------------------

    def requirement(self, job: Job) -> Requirement:
        """Of jobs that were stored without one."""
        return Requirement(job.benchmark, job.mode, board_id=job.spec.get("board"))

    def estimate_s(self, _job: Job) -> float:
        """The same for all."""
        return ESTIMATE_S

    def _begin(self) -> None:
        self.backlog = Backlog(self, self, Fleet(self.config, lab_facts(self.config, {})))  # type: ignore[arg-type]
        self.accounts = Accounts(self.look(ledger_share.accounts))
        self.flashed = Flashed()
        at_once(self.backlog.follow())

    def restart(self) -> None:
        """Lose what is in memory, and begin again."""
        for change in recovery(self.config, self.now):
            self.commit(change)
        self._begin()

    def backlog_followed(self) -> None:
        """Take up what was committed."""
        at_once(self.backlog.follow())

    def snapshot(self) -> Snapshot:
        """As a decision sees the lab."""
        return snapshot_of(
            self.look(ledger_queue.rack_now),
            self.backlog.queue.fleet,
            self.now,
            accounts=self.accounts,
            flashed=self.flashed,
            wanted={},
            no_captures="",
            stopped="",
        )

    def dispatch(self, kill: Kill = Kill.NOWHERE) -> int:
        """Decide once and apply it; how many runs began."""
        at_once(self.backlog.follow())
        decision = decide(self.backlog.queue, self.snapshot())
        for job_id in decision.expired:
            self.commit(lambda session, job_id=job_id: ledger.expire_job(session, job_id, self.now))
            self.backlog.queue.remove(job_id)

        def begin(session: Session) -> None:
            for each in decision.assignments:
                board = self.config.board_by_id(each.board_id)
                assert board is not None
                ledger.start_run(session, each.job_id, board.id, self.now, LEASE_S, resources=resources_of(board))

        self.commit(begin, kill)
        half_life_s = self.config.queue.half_life_s
        for each in decision.assignments:
            job = self.backlog.queue.remove(each.job_id)
            assert job is not None, "only what waits is started"
            self.accounts.charge(
                job.requester, ESTIMATE_S, self.now.timestamp(), half_life_s, least_s=each.least_used_s
            )
            self.flashed.note(self.backlog.queue.fleet, job.requirement, each.board_id, self.now.timestamp())
        return len(decision.assignments)

    # --- what befalls it --------------------------------------------------------------------------------------

    def submit(
        self, requester: str, *, mode: Mode, board: str | None, priority: int, deadline_s: float | None, kill: Kill
    ) -> int:
        """Queue a job; one in two is stored as an older labd did it."""
        deadline = None if deadline_s is None else self.now + timedelta(seconds=deadline_s)
        asked = Requirement("digits01", mode, board_id=board)
        old = priority % 2 == 1
        job = self.commit(
            lambda session: ledger.submit_job(
                session,
                benchmark="digits01",
                mode=mode,
                client="histories",
                requester=requester,
                priority=priority,
                deadline=deadline,
                requirement=None if old else asked.canonical(),
                estimate_s=0.0 if old else ESTIMATE_S,
                spec={"board": board},
                now=self.now,
            ),
            kill,
        )
        assert job.id is not None
        return job.id

    def end(self, run_id: int, cause: Cause | None, kill: Kill) -> None:
        """End a run."""
        terms = terms_of(self.config)
        self.commit(lambda session: ledger.end_run(session, run_id, Ending(cause, "seen"), self.now, terms), kill)

    def begin_check(self, board_id: str, kill: Kill) -> None:
        """Hold a board for a check."""

        def grant(session: Session) -> None:
            check = Check(board_id=board_id, trigger=CheckTrigger.PERIODIC, started_at=self.now)
            session.add(check)
            session.flush()
            self._grant(session, board_id, LeasePurpose.CHECK, "labd", check_id=check.id)

        self.commit(grant, kill)

    def end_check(self, check_id: int, *, passed: bool, kill: Kill) -> None:
        """End a check: the board is online if it passed, else quarantined."""

        def end(session: Session) -> None:
            check = session.get_one(Check, check_id)
            check.ended_at, check.passed = self.now, passed
            session.add(check)
            for lease in session.exec(select(Lease).where(Lease.check_id == check_id)).all():
                assert lease.id is not None
                ledger_leases.release_lease(session, lease.id, self.now)
            state = BoardState.ONLINE if passed else BoardState.QUARANTINED
            ledger.set_board_state(session, check.board_id, state, "checked", self.now)

        self.commit(end, kill)

    def reserve(self, board_id: str, kill: Kill) -> None:
        """Hold a board for a person."""

        def grant(session: Session) -> None:
            row = Reservation(
                state=ReservationState.ACTIVE,
                requirement="{}",
                board_id=board_id,
                owner="eve",
                duration_s=LEASE_S,
                requested_at=self.now,
            )
            session.add(row)
            session.flush()
            self._grant(session, board_id, LeasePurpose.RESERVATION, "eve", reservation_id=row.id)

        self.commit(grant, kill)

    def end_reservation(self, reservation_id: int, kill: Kill, *, forgetting: bool) -> None:
        """End a reservation; one that forgets its lease leaves an orphan."""

        def end(session: Session) -> None:
            row = session.get_one(Reservation, reservation_id)
            row.state, row.ended_at = ReservationState.ENDED, self.now
            session.add(row)
            session.flush()
            if forgetting:
                ledger_leases.reclaim_leases(session, self.now)
                return
            for lease in session.exec(select(Lease).where(Lease.reservation_id == reservation_id)).all():
                assert lease.id is not None
                ledger_leases.release_lease(session, lease.id, self.now)
            ledger_leases.note(session, self.now, kind="reservation", subject=str(row.id), state=row.state)

        self.commit(end, kill)

    def _grant(self, session: Session, board_id: str, purpose: LeasePurpose, owner: str, **served: Any) -> None:
        board = self.config.board_by_id(board_id)
        assert board is not None
        expires_at = self.now + timedelta(seconds=LEASE_S)
        ledger_leases.grant_lease(
            session, board_id, purpose, owner, resources_of(board), now=self.now, expires_at=expires_at, **served
        )

    # --- what is in the record --------------------------------------------------------------------------------

    def jobs(self) -> Mapping[int, Job]:
        """All jobs."""
        return {row.id or 0: row for row in self.look(lambda session: session.exec(select(Job)).all())}

    def runs(self) -> list[Run]:
        """All runs, in the order of their beginning."""
        return list(self.look(lambda session: session.exec(select(Run).order_by(col(Run.id))).all()))

    def leases(self) -> list[Lease]:
        """All leases in force."""
        return self.look(ledger_leases.leases_in_force)


def recovery(config: LabConfig, now: datetime) -> Iterator[Callable[[Session], object]]:
    """What `labd.app` commits at a start before anything else, one transaction after another."""
    yield lambda session: ledger.interrupt_runs(session, now, terms_of(config))
    yield lambda session: ledger_leases.reclaim_leases(session, now)

    def bring_up(session: Session) -> None:
        ledger_lab.retire_boards(session, [board.id for board in config.board], now)
        for board in config.board:
            ledger_lab.bring_up(session, board.id, now)

    yield bring_up


# --- where it happens -------------------------------------------------------------------------------------------


def lab_of_four() -> LabConfig:
    """Four boards: the first two share a mux, the last two a probe; the third has no analyzer, the fourth has one."""
    plain = rack()
    first, second, third = plain.board
    fourth = first.model_copy(
        update={
            "id": "b4",
            "supply": first.supply.model_copy(update={"channel": 4}),
            "measure": first.measure and first.measure.model_copy(update={"channel": 4}),
            "timing": first.timing and first.timing.model_copy(update={"pin": 4}),
            "serial": first.serial.model_copy(update={"port": "/dev/null4"}),
        }
    )
    boards = (_with(first, "mux"), _with(second, "mux"), _with(third, "probe"), _with(fourth, "probe"))
    return plain.model_copy(update={"board": boards, "queue": Queue(interruptions_max=3)})


def _with(board: Board, resource: str) -> Board:
    return board.model_copy(update={"resources": (resource,)})


class Memory:
    """Folders for all histories of this process, in memory if the host has some: nothing waits for a disk there."""

    def __init__(self) -> None:
        self._numbers = count()
        self._kept: tempfile.TemporaryDirectory[str] | None = None

    def new_folder(self) -> Path:
        """A path where nothing is yet."""
        return self._folder() / str(next(self._numbers))

    def template(self) -> Path:
        """An empty database with the schema, in one file."""
        path = self._folder() / "template.db"
        if not path.exists():
            upgrade(f"sqlite:///{path}")
        return path

    def forget(self) -> None:
        """Leave nothing behind."""
        if self._kept is not None:
            self._kept.cleanup()
            self._kept = None

    def _folder(self) -> Path:
        if self._kept is None:
            shm = Path("/dev/shm")
            self._kept = tempfile.TemporaryDirectory(prefix="labd-histories-", dir=shm if shm.is_dir() else None)
        return Path(self._kept.name)


memory = Memory()


def play(machine: type[RuleBasedStateMachine], examples: int, steps: int) -> None:
    """Let so many random histories of a machine happen, each of at most so many steps."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )
