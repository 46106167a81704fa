"""The caretaker with a care that the test holds in its hand: what is checked when, and what becomes of the board."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import structlog
import structlog.testing
from sqlmodel import Session, col, select

from labd.benchmarks import Mode
from labd.clock import WALL
from labd.config import Board, Health, LiveConfig, resources_of
from labd.errors import StoreError
from labd.model import ledger, ledger_health, ledger_lab
from labd.model.causes import Cause, Ending
from labd.model.checks import CheckStep, Examination, Finding, Outcome
from labd.model.database import Database
from labd.model.ledger_leases import interrupt_checks
from labd.model.migrations import upgrade
from labd.model.states import BoardState, CheckTrigger, InstrumentState
from labd.model.tables import Board as BoardRow
from labd.model.tables import Check, Event, Hold, Lease
from labd.schedule.caretaker import Caretaker
from tests.deadline import HUNG_S
from tests.schedule.rack import BOARDS, rack

GOOD = Examination(Outcome.PASSED, (Finding(CheckStep.IDLE, passed=True, figures={"current_a": 1e-3}),))
BAD = Examination(Outcome.FAILED, (Finding(CheckStep.HANDSHAKE, passed=False, message="no answer"),))
BURNT = Examination(Outcome.DANGEROUS, (Finding(CheckStep.RAIL_OFF, passed=False, message="3 V"),))


@dataclass
class HeldCare:
    """Boards are as the test says; what was asked is noted."""

    found: dict[str, Examination] = field(default_factory=dict)
    ports: dict[str, bool] = field(default_factory=lambda: dict.fromkeys(BOARDS, True))
    examined: list[str] = field(default_factory=list)
    held: set[str] = field(default_factory=set)
    """Boards whose check does not end."""
    cleaned: list[str] = field(default_factory=list)
    breaks: Exception | None = None
    seal: Callable[[], None] | None = None
    """Done while a check is on: what happens to the record meanwhile."""

    def deadline_s(self, board: Board) -> float:
        return 60.0

    async def examine(self, board: Board) -> Examination:
        self.examined.append(board.id)
        try:
            if board.id in self.held:
                await asyncio.Event().wait()
        finally:
            self.cleaned.append(board.id)
        if self.seal is not None:
            self.seal()
        if self.breaks is not None:
            raise self.breaks
        return self.found.get(board.id, GOOD)

    async def survey(self, left_alone: frozenset[str]) -> None:
        return

    async def present(self, boards: tuple[Board, ...]) -> Mapping[str, bool]:
        return dict(self.ports)

    async def tend_golden(self) -> None:
        return


@dataclass(frozen=True)
class Scene:
    """A lab on paper with its caretaker."""

    database: Database
    care: HeldCare
    caretaker: Caretaker
    task: asyncio.Task[None]

    async def write(self, change: Callable[[Session], object]) -> None:
        await self.database.write(change)

    async def board(self, board_id: str = "b1") -> BoardRow:
        return await self.database.read(lambda session: session.get_one(BoardRow, board_id))

    async def becomes(self, state: BoardState, board_id: str = "b1") -> BoardRow:
        return await self.until(board_id, lambda row: row.state is state)

    async def until(self, board_id: str, is_so: Callable[[BoardRow], bool]) -> BoardRow:
        async with asyncio.timeout(HUNG_S):
            while not is_so(row := await self.board(board_id)):
                assert not self.task.done()
                await asyncio.sleep(0.01)
        return row

    async def checks(self, board_id: str = "b1") -> list[Check]:
        return await self.database.read(lambda session: ledger_health.last_checks(session, board_id, 99))

    async def failed_run(self, board_id: str = "b1", cause: Cause = Cause.BOARD_SILENT) -> int:
        """A job that ends on the board by a fault of the board's."""

        def fail(session: Session) -> int:
            job = ledger.submit_job(
                session, benchmark="digits01", mode=Mode.ACCURACY, client="test", spec={}, now=now()
            )
            assert job.id is not None
            run = ledger.start_run(session, job.id, board_id, now(), 60.0)
            assert run.id is not None
            ledger.end_run(session, run.id, Ending(cause, "as the test says"), now())
            return job.id

        return await self.database.write(fail)


def now() -> datetime:
    return WALL.now()


@asynccontextmanager
async def scene(folder: Path, *, care: HeldCare | None = None, **told: float) -> AsyncIterator[Scene]:
    url = f"sqlite:///{folder / 'labd.db'}"
    upgrade(url)
    care = care or HeldCare()
    live = LiveConfig(rack().model_copy(update={"health": Health(**{"quarantine_after": 2, "retry_s": 0.3, **told})}))
    async with Database.open(url) as database:
        for board_id in BOARDS:
            await database.write(partial(ledger_lab.bring_up, board_id=board_id, now=now()))
        caretaker = Caretaker(live, database, care, lambda: None)
        task = asyncio.create_task(caretaker.run(), name="caretaker")
        try:
            yield Scene(database, care, caretaker, task)
        finally:
            task.cancel()
            await asyncio.wait({task})


async def test_a_board_whose_run_failed_by_its_fault_is_checked_at_once_and_comes_back(tmp_path: Path) -> None:
    async with scene(tmp_path) as lab:
        await lab.failed_run()
        await lab.until("b1", lambda row: row.state is BoardState.ONLINE and row.well_at is not None)
        (check,) = await lab.checks()
        assert (check.trigger, check.passed) == (CheckTrigger.FAILURE, True)
        assert check.findings["idle"]["current_a"] == 1e-3
        assert lab.care.examined == ["b1"], "nobody else's health was in doubt"


async def test_a_broken_board_is_quarantined_and_returns_when_it_is_well_again(tmp_path: Path) -> None:
    async with scene(tmp_path) as lab:
        lab.care.found["b1"] = BAD
        await lab.failed_run()
        row = await lab.becomes(BoardState.QUARANTINED)
        assert (row.strikes, row.reason) == (2, "handshake: no answer")
        lab.care.found["b1"] = GOOD
        row = await lab.becomes(BoardState.ONLINE)
        assert row.strikes == 0
        assert "back from quarantine" in row.reason
        states = await lab.database.read(
            lambda session: [event.state for event in session.exec(select(Event).where(Event.kind == "board"))]
        )
        assert states[-3:] == ["suspect", "quarantined", "online"]


async def test_what_endangers_hardware_is_quarantined_by_one_check(tmp_path: Path) -> None:
    async with scene(tmp_path, quarantine_after=5) as lab:
        lab.care.found["b1"] = BURNT
        await lab.failed_run()
        await lab.becomes(BoardState.QUARANTINED)
        assert len(await lab.checks()) == 1


async def test_a_board_on_which_every_job_fails_is_quarantined_by_name_though_its_checks_pass(tmp_path: Path) -> None:
    async with scene(tmp_path, retry_s=3600) as lab:
        first = await lab.failed_run()
        await lab.until("b1", lambda row: row.state is BoardState.ONLINE and row.checked_at is not None)
        second = await lab.failed_run()
        row = await lab.becomes(BoardState.QUARANTINED)
        assert f"{first}, {second}" in row.reason


async def test_a_port_that_comes_and_goes_makes_a_check_due_at_once(tmp_path: Path) -> None:
    async with scene(tmp_path, retry_s=3600) as lab:
        lab.care.found["b2"] = BURNT
        async with asyncio.timeout(HUNG_S):
            while not lab.care.examined:  # the first look at the ports has to have been before this one
                lab.care.ports["b2"] = not lab.care.ports["b2"]
                await asyncio.sleep(1.1)
        await lab.becomes(BoardState.QUARANTINED, "b2")
        lab.care.found["b2"] = GOOD
        lab.care.ports["b2"] = not lab.care.ports["b2"]
        await lab.becomes(BoardState.ONLINE, "b2")


async def test_a_port_that_came_back_while_no_daemon_was_there_is_seen_at_the_start(tmp_path: Path) -> None:
    unplugged = Examination(Outcome.DANGEROUS, (Finding(CheckStep.PORT, passed=False, message="no such file"),))
    async with scene(tmp_path, care=HeldCare(found={"b1": unplugged}), retry_s=3600) as lab:
        await lab.failed_run()
        await lab.becomes(BoardState.QUARANTINED)
    async with scene(tmp_path, retry_s=3600) as lab:
        await lab.becomes(BoardState.ONLINE)


async def test_boards_wait_for_an_instrument_that_is_away_without_a_strike(tmp_path: Path) -> None:
    async with scene(tmp_path) as lab:
        await lab.write(
            lambda s: ledger.set_instrument_state(s, "stamps", "labd-timestamper", InstrumentState.OFFLINE, now())
        )
        row = await lab.becomes(BoardState.SUSPECT, "b1")
        assert (row.reason, row.strikes) == ("waits for stamps (offline)", 0)
        assert (await lab.board("b3")).state is BoardState.ONLINE, "it is not wired to that one"
        assert lab.care.examined == []
        await lab.write(
            lambda s: ledger.set_instrument_state(s, "stamps", "labd-timestamper", InstrumentState.ONLINE, now())
        )
        await lab.becomes(BoardState.ONLINE, "b1")
        await lab.becomes(BoardState.ONLINE, "b2")


async def test_a_check_holds_the_board_and_all_that_it_needs_and_lets_go_of_it_when_it_is_cut_off(
    tmp_path: Path,
) -> None:
    async with scene(tmp_path, care=HeldCare(held={"b1"})) as lab:
        await lab.failed_run()
        async with asyncio.timeout(HUNG_S):
            while not lab.care.examined:
                await asyncio.sleep(0.01)
        holds = await lab.database.read(lambda session: set(session.exec(select(Hold.resource))))
        assert holds == resources_of(rack().board[0])
        lab.task.cancel()
        await asyncio.wait({lab.task})
        assert lab.care.cleaned == ["b1"]
        (check,) = await lab.checks()
        assert (check.passed, check.ended_at is None) == (None, False)
        assert (await lab.board()).state is BoardState.SUSPECT, "it is looked at again at the next start"
        left = await lab.database.read(lambda session: [each.released_at for each in session.exec(select(Lease))])
        assert None not in left


async def test_a_check_that_a_dead_daemon_left_ends_without_a_verdict_and_the_board_is_checked_again(
    tmp_path: Path,
) -> None:
    async with scene(tmp_path) as lab:
        lab.task.cancel()
        await asyncio.wait({lab.task})
        await lab.failed_run()
        board = rack().board[0]
        await lab.write(
            lambda s: ledger_health.start_check(
                s, "b1", CheckTrigger.FAILURE, resources_of(board), now=now(), lease_s=60.0
            )
        )
        await lab.write(lambda s: interrupt_checks(s, now()))
        (check,) = await lab.checks()
        assert check.passed is None
        told = await lab.database.read(
            lambda s: [(event.state, event.board_id) for event in s.exec(select(Event).where(Event.kind == "check"))]
        )
        assert told == [("started", "b1"), ("cut_off", "b1")]
    async with scene(tmp_path) as lab:
        await lab.becomes(BoardState.ONLINE)
        assert [check.passed for check in await lab.checks()] == [True, None]


async def test_a_persons_word_during_a_check_stands(tmp_path: Path) -> None:
    async with scene(tmp_path, care=HeldCare(held={"b1"})) as lab:
        await lab.failed_run()
        async with asyncio.timeout(HUNG_S):
            while not lab.care.examined:
                await asyncio.sleep(0.01)
        await lab.write(lambda s: ledger_health.withdraw_board(s, "b1", BoardState.MAINTENANCE, "mine now", now()))
        lab.task.cancel()
        await asyncio.wait({lab.task})
        row = await lab.board()
        assert (row.state, row.reason) == (BoardState.MAINTENANCE, "mine now")


async def test_a_board_that_was_long_not_seen_well_is_checked_by_itself(tmp_path: Path) -> None:
    async with scene(tmp_path, check_every_s=3600) as lab:
        await lab.write(lambda s: _seen_well(s, "b2", now() - timedelta(hours=2)))
        await lab.until("b2", lambda row: row.checked_at is not None)
        (check,) = await lab.checks("b2")
        assert check.trigger is CheckTrigger.PERIODIC


async def test_a_check_that_breaks_says_nothing_of_the_board_and_ends_nothing(tmp_path: Path) -> None:
    async with scene(tmp_path, care=HeldCare(breaks=StoreError("the record is away"))) as lab:
        await lab.failed_run()
        async with asyncio.timeout(HUNG_S):
            while not (await lab.checks()):
                await asyncio.sleep(0.01)
        lab.care.breaks = None
        await lab.becomes(BoardState.ONLINE)
        assert (await lab.board()).strikes == 0


async def test_a_check_that_was_asked_for_comes_before_the_next_job_of_a_busy_board(tmp_path: Path) -> None:
    async with scene(tmp_path) as lab:

        def work(session: Session) -> None:
            job = ledger.submit_job(
                session, benchmark="digits01", mode=Mode.ACCURACY, client="test", spec={}, now=now()
            )
            assert job.id is not None
            run = ledger.start_run(session, job.id, "b1", now(), 60.0)
            assert run.id is not None
            ledger_health.ask_check(session, "b1", CheckTrigger.ASKED, now())
            ledger.end_run(session, run.id, Ending(), now())
            assert session.get_one(BoardRow, "b1").state is BoardState.SUSPECT, "nobody is given it"

        await lab.write(work)
        await lab.becomes(BoardState.ONLINE)
        assert [check.trigger for check in await lab.checks()] == [CheckTrigger.ASKED]


async def test_nothing_is_checked_in_a_stopped_lab(tmp_path: Path) -> None:
    async with scene(tmp_path) as lab:
        await lab.write(lambda s: ledger_lab.stop_lab(s, "paper", "smoke", now()))
        await lab.write(lambda s: ledger_health.ask_check(s, "b1", CheckTrigger.ASKED, now()))
        await asyncio.sleep(0.5)  # two looks
        assert lab.care.examined == []
        await lab.write(lambda s: ledger_lab.resume_lab(s, "paper", now()))
        await lab.until("b1", lambda row: row.checked_at is not None)


async def test_the_stop_of_the_lab_cuts_off_a_check_so_that_it_switches_nothing_on_again(tmp_path: Path) -> None:
    async with scene(tmp_path, care=HeldCare(held={"b1"})) as lab:
        await lab.failed_run()
        async with asyncio.timeout(HUNG_S):
            while not lab.care.examined:
                await asyncio.sleep(0.01)
        await lab.write(lambda s: ledger_lab.stop_lab(s, "paper", "smoke", now()))
        lab.caretaker.halt()
        async with asyncio.timeout(HUNG_S):
            while not lab.care.cleaned or (await lab.checks())[0].ended_at is None:
                await asyncio.sleep(0.01)
        assert (await lab.checks())[0].passed is None
        lab.care.held.clear()
        await lab.write(lambda s: ledger_lab.resume_lab(s, "paper", now()))
        await lab.becomes(BoardState.ONLINE)


async def test_boards_that_share_something_are_checked_one_after_the_other(tmp_path: Path) -> None:
    async with scene(tmp_path, care=HeldCare(held={"b1"})) as lab:
        await lab.failed_run("b1")
        async with asyncio.timeout(HUNG_S):
            while not lab.care.examined:
                await asyncio.sleep(0.01)
        shared = min(resources_of(rack().board[1]))

        def share(session: Session) -> None:
            lease = session.exec(select(Lease).where(Lease.board_id == "b1", col(Lease.released_at).is_(None))).one()
            assert lease.id is not None
            session.add(Hold(resource=shared, lease_id=lease.id))

        await lab.write(share)
        with structlog.testing.capture_logs() as told:
            await lab.failed_run("b2")
            await asyncio.sleep(0.8)  # four looks
        assert lab.care.examined == ["b1"]
        assert [each for each in told if each["event"] == "check_overtaken"] == [], "it waits and does not try"
        lab.care.held.clear()
        lab.caretaker.halt()
        await lab.becomes(BoardState.ONLINE, "b2")


async def test_a_check_whose_end_could_not_be_written_is_cut_off_and_done_again(tmp_path: Path) -> None:
    care = HeldCare()
    async with scene(tmp_path, care=care) as lab:
        with sqlite3.connect(tmp_path / "labd.db", timeout=5, isolation_level=None) as record:

            def refuse() -> None:
                care.seal = None
                record.execute(
                    "CREATE TRIGGER full BEFORE UPDATE ON \"check\" BEGIN SELECT RAISE(ABORT, 'no room'); END"
                )

            care.seal = refuse
            with structlog.testing.capture_logs() as told:
                await lab.failed_run()
                async with asyncio.timeout(HUNG_S):
                    while "check_not_noted" not in [each["event"] for each in told]:
                        await asyncio.sleep(0.01)
            record.execute("DROP TRIGGER full")
        record.close()
        await lab.becomes(BoardState.ONLINE)
        assert [check.passed for check in await lab.checks()] == [True, None]
        left = await lab.database.read(lambda session: [each.released_at for each in session.exec(select(Lease))])
        assert None not in left


def _seen_well(session: Session, board_id: str, at: datetime) -> None:
    board = session.get_one(BoardRow, board_id)
    board.well_at = at
    session.add(board)
