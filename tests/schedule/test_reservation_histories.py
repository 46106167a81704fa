"""Random histories of people who hold boards: none is held twice, lost, cut short, kept too long, or left under power.

The warden, the dispatcher, the reloader and the requests are the real ones; `tests.schedule.reserving` is the rest of
the lab. People ask for boards and change their minds, time passes and clocks are set, boards come and go, jobs run
beside them, outputs take their time or stay on, and the daemon is killed at any commit. What was promised is kept in
the books here by the time that has passed, which nobody can set.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
import structlog
from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    precondition,
    rule,
)
from sqlmodel import Session

from labd.benchmarks import Mode
from labd.config import resources_of
from labd.model import ledger, ledger_lab, ledger_leases
from labd.model.causes import Cause
from labd.model.states import BoardState
from labd.model.tables import Board as BoardRow
from labd.schedule.match import Requirement
from labd.schedule.reservations import LOOK_S
from labd.service.messages import ErrorKind
from tests.schedule.histories import ESTIMATE_S, Kill, play
from tests.schedule.reservation_books import ADMIN, BOARDS, FILES, LATE_S, PEOPLE, WARN_S, Books
from tests.schedule.reserving import Daemon, output_of

STEPS = 25
WISHES = st.sampled_from(
    [
        *({"board": {"id": board_id}} for board_id in BOARDS),
        {"board": {"tags": ["m4"]}},
        {"board": {"tags": ["m7"]}},
        {"require": 'supply.voltage_v >= 3 and tag("fpu")'},
        {"require": 'analyzer.id == "psu"'},
        {},
    ]
)
USER = st.sampled_from(PEOPLE)
DURATIONS = st.sampled_from([20.0, 40.0, 90.0, 150.0])
HURRY = st.sampled_from([False, False, False, True])
"""Whether the next thing happens before all that follows from this one is done."""
KILLS = st.tuples(st.integers(0, 5), st.sampled_from([Kill.BEFORE_COMMIT, Kill.AFTER_COMMIT]))
FILE = st.sampled_from(["whole", *FILES])


class Histories(Books):
    """Rules are what people, boards, clocks and kills do; after each the record has to make sense."""

    @initialize(
        seed=st.integers(0, 2**32 - 1), asked=st.lists(st.tuples(USER, WISHES, DURATIONS), min_size=2, max_size=5)
    )
    def come_to_work(self, seed: int, asked: list[tuple[str, dict[str, Any], float]]) -> None:
        self.world.random.seed(seed)
        self.world.gate.set()
        self.daemon = Daemon(self.world, self.loop)
        self.go_on(hurry=False)
        for user, wish, duration_s in asked:
            self.reserve(user, wish, duration_s, hurry=False)

    # --- people -----------------------------------------------------------------------------------------------

    @rule(user=USER, wish=WISHES, duration_s=DURATIONS, hurry=HURRY)
    def reserve(self, user: str, wish: dict[str, Any], duration_s: float, hurry: bool) -> None:
        self.ask(user, "board.reserve", duration_s=duration_s, purpose="history", **wish)
        self.go_on(hurry=hurry)

    @precondition(lambda self: self.live())
    @rule(data=st.data(), by=st.sampled_from([30, 60, 120]), hurry=HURRY)
    def extend(self, data: st.DataObject, by: int, hurry: bool) -> None:
        row = self.one_of(data, self.live())
        self.ask(row.owner, "reservation.extend", id=row.id, duration_s=float(by))
        self.go_on(hurry=hurry)

    @precondition(lambda self: self.live())
    @rule(data=st.data(), to=st.sampled_from(PEOPLE), hurry=HURRY)
    def hand_over(self, data: st.DataObject, to: str, hurry: bool) -> None:
        row = self.one_of(data, self.live())
        self.ask(row.owner, "reservation.hand_over", id=row.id, to=to)
        self.go_on(hurry=hurry)

    @precondition(lambda self: self.live())
    @rule(data=st.data(), admin=st.sampled_from([False, False, True]), hurry=HURRY)
    def release(self, data: st.DataObject, admin: bool, hurry: bool) -> None:
        row = self.one_of(data, self.live())
        self.ask(ADMIN if admin else row.owner, "board.release", id=row.id)
        self.go_on(hurry=hurry)

    @precondition(lambda self: self.live())
    @rule(data=st.data(), verb=st.sampled_from(["reservation.extend", "reservation.hand_over", "board.release"]))
    def meddle(self, data: st.DataObject, verb: str) -> None:
        """Somebody else tries to change it."""
        self.go_on(hurry=False)
        live = self.live()
        if not live:
            return
        row = self.one_of(data, live)
        other = next(name for name in PEOPLE if name != row.owner)
        params = {"reservation.extend": {"duration_s": 10.0}, "reservation.hand_over": {"to": other}}.get(verb, {})
        asking = self.ask(other, verb, id=row.id, **params)
        self.go_on(hurry=False)
        assert asking.reply is not None
        assert asking.reply.error is not None, "changed by somebody whose it is not"
        assert asking.reply.error.kind is ErrorKind.FORBIDDEN
        self.told["refused"] += 1

    @precondition(lambda self: self.in_hand())
    @rule(data=st.data())
    def switch_on(self, data: st.DataObject) -> None:
        """What one has a board for."""
        row = self.one_of(data, self.in_hand())
        board = self.board(row.board_id)
        if board is not None and f"channel psu/{board.supply.channel}" in self.holds():
            self.world.on.add(output_of(board))

    # --- jobs -------------------------------------------------------------------------------------------------

    @rule(user=st.sampled_from(PEOPLE), board=st.sampled_from([None, *BOARDS]), hurry=HURRY)
    def submit(self, user: str, board: str | None, hurry: bool) -> None:
        asked, now = Requirement("digits01", Mode.ACCURACY, board_id=board).canonical(), self.world.clock.now()

        def submit(session: Session) -> object:
            return ledger.submit_job(
                session,
                benchmark="digits01",
                mode=Mode.ACCURACY,
                client=user,
                spec={},
                now=now,
                requirement=asked,
                estimate_s=ESTIMATE_S,
            )

        self.change(submit)
        self.go_on(hurry=hurry)

    @rule(cause=st.sampled_from([None, None, Cause.BOARD_SILENT]), hurry=HURRY)
    def end_runs(self, cause: Cause | None, hurry: bool) -> None:
        for future in self.daemon.bench.performing.values():
            if not future.done():
                future.set_result(cause)
        self.go_on(hurry=hurry)

    # --- boards -----------------------------------------------------------------------------------------------

    @rule(board=st.sampled_from(BOARDS), verb=st.sampled_from(["board.maintain", "board.quarantine"]), hurry=HURRY)
    def withdraw(self, board: str, verb: str, hurry: bool) -> None:
        self.ask(ADMIN, verb, id=board, reason="history")
        self.go_on(hurry=hurry)

    @rule(hurry=HURRY)
    def look_at_boards(self, hurry: bool) -> None:
        """A person returns those in maintenance; what was to be checked is well, and is dark after its check."""
        now, boards = self.world.clock.now(), self.daemon.live.now.board

        def check(session: Session) -> None:
            held = ledger_leases.held_resources(session)
            for board in boards:
                row = session.get(BoardRow, board.id)
                if row is None or held & resources_of(board) or row.state in (BoardState.OFFLINE, BoardState.BUSY):
                    continue
                self.world.on.discard(output_of(board))
                ledger.set_board_state(session, board.id, BoardState.ONLINE, "", now)

        self.change(check)
        self.go_on(hurry=hurry)

    @rule(file=FILE, hurry=HURRY)
    def reload(self, file: str, hurry: bool) -> None:
        self.world.file = FILES[file]
        self.ask(ADMIN, "lab.reload")
        self.go_on(hurry=hurry)

    @rule(slow=st.booleans())
    def let_outputs_take_their_time(self, slow: bool) -> None:
        if slow:
            self.world.gate.clear()
        else:
            self.world.gate.set()
        self.go_on(hurry=False)

    @rule()
    def let_an_output_stay_on(self) -> None:
        self.world.obeys = False

    @rule(really=st.sampled_from([False, False, True]), hurry=HURRY)
    def stop_or_go_on(self, really: bool, hurry: bool) -> None:
        """A stopped lab goes on; one in three times a lab at work is stopped."""
        if self.look(ledger_lab.stop_of) is not None:
            self.ask(ADMIN, "lab.resume")
        elif really:
            self.ask(ADMIN, "lab.stop", reason="history")
        self.go_on(hurry=hurry)

    # --- time -------------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([1, 10, 30, 90]))
    def pass_time(self, seconds: int) -> None:
        self.pass_s(float(seconds))

    @precondition(lambda self: self.in_hand())
    @rule(data=st.data(), what=st.sampled_from(["reservation.extend", "board.release", "lab.reload", ""]))
    def come_to_the_end(self, data: st.DataObject, what: str) -> None:
        """A warning or an end comes, and just before it somebody asks for a change."""
        self.go_on(hurry=False)
        held = self.in_hand()
        if not held:
            return
        row = self.one_of(data, held)
        left_s = self.promised[self.number(row)] - self.world.clock.passed
        self.pass_s(max(0.0, (left_s - WARN_S if left_s > WARN_S else left_s) - LATE_S))
        if what == "lab.reload":
            self.ask(ADMIN, what)
        elif what:
            self.ask(row.owner, what, id=row.id, **({"duration_s": 70.0} if what == "reservation.extend" else {}))
        self.go_on(hurry=True)
        self.pass_s(LATE_S)

    @precondition(lambda self: self.set_at + LOOK_S + LATE_S <= self.world.clock.passed)
    @rule(step=st.sampled_from([timedelta(hours=-1), timedelta(days=1)]))
    def set_clock(self, step: timedelta) -> None:
        self.go_on(hurry=False)
        self.world.clock.set_by(step)
        self.set_at = self.world.clock.passed
        self.told["clock set"] += 1

    # --- kills ------------------------------------------------------------------------------------------------

    @rule(kills=st.lists(KILLS, min_size=1, max_size=2))
    def doom(self, kills: list[tuple[int, Kill]]) -> None:
        """The daemon is killed at a commit soon, and perhaps once more in the start that follows."""
        self.world.doom.to_come = kills

    @rule(
        down_s=st.sampled_from([0, 0, 20, 100]),
        step=st.sampled_from([0, 0, 0, -3600, 86_400]),
        file=st.sampled_from([None, None, *FILES]),
        really=st.sampled_from([False, True]),
    )
    def kill(self, down_s: int, step: int, file: str | None, really: bool) -> None:
        if really:
            self.world.file = self.world.file if file is None else FILES[file]
            self.restart(float(down_s), timedelta(seconds=step))

    def teardown(self) -> None:
        """When everything is well every reservation gets its board and ends, in the time that was promised."""
        try:
            if hasattr(self, "daemon"):
                self.drain()
        finally:
            if hasattr(self, "daemon"):
                self.daemon.bury()
            self.loop.end()
            shutil.rmtree(self.world.folder)


@contextmanager
def silence() -> Iterator[None]:
    """Nobody reads what so many labs would log."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)


def run_histories(examples: int, least: int) -> str:
    """Run so many histories, with at least so many kills, grants, ends and warnings; what happened in them, counted."""
    Histories.told.clear()
    with silence():
        play(Histories, examples, STEPS)
    told = Histories.told
    assert told["histories"] >= examples
    assert min(told["kills"], told["grants"], told["expiries"], told["warnings"]) >= least
    return ", ".join(f"{number} {what}" for what, number in told.most_common())


def test_a_few_histories() -> None:
    print(f"\n{run_histories(20, least=1)}")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_five_hundred_histories() -> None:
    print(f"\n{run_histories(500, least=126)}")
