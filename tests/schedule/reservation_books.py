"""What has to be true of reservations, whatever happens to them: that is up to `test_reservation_histories`.

What was promised is kept here by the time that has passed, which nobody can set.
"""

from __future__ import annotations

import shutil
from collections import Counter
from datetime import timedelta
from random import Random
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
)
from sqlmodel import Session, col, func, select

from labd.config import Board, LabConfig, ReservationRules, User, resources_of
from labd.config.derived import lab_facts
from labd.model import ledger_lab, ledger_leases
from labd.model.ledger_reservations import TIME_UP, WARNED
from labd.model.states import BoardState, LeasePurpose, ReservationState, RunState
from labd.model.tables import Board as BoardRow
from labd.model.tables import Event, Hold, Lease, Request, Reservation, Run
from labd.schedule.reservations import LOOK_S
from labd.schedule.wishes import Wish, candidates
from labd.service.messages import ErrorKind
from labd.service.reservations.requests import reservation_document
from tests.schedule.hand_clock import HandClock
from tests.schedule.histories import lab_of_four, memory
from tests.schedule.quiet_loop import QuietLoop
from tests.schedule.reserving import Asking, Daemon, World, output_of

WARN_S = 60.0
RULES = ReservationRules(max_s=240, warn_s=WARN_S, max_per_owner=4)
PEOPLE = ("ann", "bob", "cy")
ADMIN = "root"
LATE_S = 1.0
"""How late what is due may be done: so much time passes at most while the warden looks around."""
BETWEEN_S = 1e-3
"""Two times that differ by less are the same, s."""
REFUSALS = frozenset({ErrorKind.CONFLICT, ErrorKind.UNMATCHABLE, ErrorKind.FORBIDDEN, ErrorKind.NOT_FOUND})
"""What may be said to somebody who was too slow, or wants too much."""


def labs() -> dict[str, LabConfig]:
    """What lab.toml may say: all four boards, all but one, or one wired to another channel."""
    users = (*(User(name=name, role="operator") for name in PEOPLE), User(name=ADMIN, role="admin"))
    whole = lab_of_four().model_copy(update={"reservation": RULES, "user": users})
    *others, last = whole.board
    wired = last.model_copy(update={"supply": last.supply.model_copy(update={"channel": 5})})
    found = {"whole": whole, "b4 wired anew": whole.model_copy(update={"board": (*others, wired)})}
    for board in whole.board:
        left = tuple(each for each in whole.board if each is not board)
        found[f"without {board.id}"] = whole.model_copy(update={"board": left})
    return found


FILES = labs()
BOARDS = [board.id for board in FILES["whole"].board]


class Books(RuleBasedStateMachine):
    """A lab with reservations, and what was promised in it; `check` looks whether the record makes sense."""

    told: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.loop = QuietLoop()
        folder = memory.new_folder()
        folder.mkdir()
        shutil.copy(memory.template(), folder / "labd.db")
        self.world = World(folder, FILES["whole"], Random(0), HandClock())
        self.asked: list[Asking] = []
        self.requests = 0
        self.quiet = True
        self.set_at = -LOOK_S - LATE_S
        """When the clock was set last, by what has passed, s."""
        self.rows: dict[int, Reservation] = {}
        self.heard: dict[int, Any] = {}
        self.position = 0
        self.promised: dict[int, float] = {}
        """Until when each has its board, by what will have passed then, s."""
        self.warned: Counter[int] = Counter()
        self.grants: Counter[int] = Counter()
        self.unwarned: set[int] = set()
        """Those whose end came while the daemon was down."""
        self.things: dict[int, frozenset[str]] = {}
        self.rested: tuple[LabConfig, frozenset[int], int] | None = None
        """The lab, who waited in it and the newest run when all was done last."""
        self.config: LabConfig | None = None
        self.seen: Session | None = None
        """The look at the record that is being checked."""
        self.told["histories"] += 1

    def drain(self) -> None:
        self.world.doom.to_come, self.world.obeys = [], True
        self.world.gate.set()
        self.go_on(hurry=False)
        self.world.file = FILES["whole"]
        self.restart(0.0, timedelta(0))
        if self.look(ledger_lab.stop_of) is not None:
            self.stop_or_go_on(really=False, hurry=False)
        now_s = self.world.clock.passed
        longest_s = sum(
            (row.duration_s if row.board_id is None else self.promised[number] - now_s) + LOOK_S
            for number, row in self.rows.items()
            if row.state is not ReservationState.ENDED
        )
        while self.live():
            assert self.world.clock.passed - now_s <= longest_s + LOOK_S, self.live()
            self.look_at_boards(hurry=True)
            self.end_runs(None, hurry=True)
            self.pass_s(LOOK_S)
        for what, number in self.world.doom.told.items():
            self.told["kills" if what == "commits" else f"killed at {what}"] += number

    # --- what always holds ------------------------------------------------------------------------------------

    def check(self) -> None:
        """After every step, in one look at the record."""
        assert not self.world.faults, self.world.faults
        with self.daemon.database.session() as seen:
            self.seen = seen
            try:
                self.check_record()
            finally:
                self.seen = None

    def check_record(self) -> None:
        rows = {self.number(row): row for row in self.look(lambda s: s.exec(select(Reservation)).all())}
        events = self.look(lambda s: s.exec(select(Event).where(col(Event.id) > self.position)).all())
        events = sorted(events, key=lambda event: event.id or 0)
        self.position = max([self.position, *(event.id or 0 for event in events)])
        own = [event for event in events if event.kind == "reservation"]
        before, self.rows = self.rows, rows
        config, self.config = self.config, self.daemon.live.now
        self.nothing_is_held_twice(rows)
        self.each_change_is_heard(rows, own)
        self.none_is_lost(before, rows, own)
        self.promises_are_kept(before, rows, own)
        if config is self.config:
            self.first_come_first_served(before, rows)
        self.what_is_free_is_dark()
        if self.quiet:
            self.all_is_done_that_is_due(rows)
            self.nobody_waits_for_a_free_board(rows)
        self.answers_are_true()

    def nothing_is_held_twice(self, rows: dict[int, Reservation]) -> None:
        def see(session: Session) -> tuple[list[Lease], list[Hold], set[int], set[str]]:
            running = select(Run.id).where(Run.state == RunState.RUNNING)
            busy = select(BoardRow.id).where(BoardRow.state == BoardState.BUSY)
            return (
                ledger_leases.leases_in_force(session),
                list(session.exec(select(Hold))),
                {number for number in session.exec(running) if number is not None},
                set(session.exec(busy)),
            )

        leases, holds, running, busy = self.look(see)
        assert len({lease.board_id for lease in leases}) == len(leases)
        held: Counter[str] = Counter()
        for lease in leases:
            assert lease.id is not None
            own = frozenset(hold.resource for hold in holds if hold.lease_id == lease.id)
            if lease.id not in self.things:
                wirings = [resources_of(b) for file in FILES.values() for b in file.board if b.id == lease.board_id]
                assert own in wirings, "a board is held with all that it needs"
                self.things[lease.id] = own
            assert own == self.things[lease.id]
            held.update(own)
        assert not held or max(held.values()) == 1
        assert sum(held.values()) == len(holds)
        assert {lease.run_id for lease in leases if lease.purpose is LeasePurpose.RUN} == running
        assert busy <= {lease.board_id for lease in leases}
        by_reservation = {lease.reservation_id: lease for lease in leases if lease.purpose is LeasePurpose.RESERVATION}
        active = {number: row for number, row in rows.items() if row.state is ReservationState.ACTIVE}
        assert by_reservation.keys() == active.keys()
        for number, row in active.items():
            lease = by_reservation[number]
            assert (lease.board_id, lease.owner, lease.expires_at) == (row.board_id, row.owner, row.ends_at)

    def each_change_is_heard(self, rows: dict[int, Reservation], events: list[Event]) -> None:
        """Whoever follows the events, and looks at what each is about, knows everything."""
        self.heard |= {int(event.subject): reservation_document(rows[int(event.subject)]) for event in events}
        assert self.heard == {number: reservation_document(row) for number, row in rows.items()}

    def none_is_lost(self, before: dict[int, Reservation], rows: dict[int, Reservation], events: list[Event]) -> None:
        asked = self.look(lambda s: s.exec(select(func.count()).where(Request.verb == "board.reserve")).one())
        assert len(rows) == asked, "one reservation for each that was asked for"
        assert before.keys() <= rows.keys()
        for number, row in before.items():
            if row.state is ReservationState.ENDED:
                assert rows[number] == row, "what has ended stays as it is"
            elif row.state is ReservationState.ACTIVE:
                assert rows[number].state is not ReservationState.WAITING
                assert (rows[number].board_id, rows[number].starts_at) == (row.board_id, row.starts_at)
        for event in events:
            number = int(event.subject)
            if event.state == ReservationState.ACTIVE and not event.reason:
                self.grants[number] += 1
                self.told["grants"] += 1
            if event.state == ReservationState.ENDED:
                self.told["ends"] += 1
                self.told["expiries"] += event.reason == TIME_UP
        assert not self.grants or max(self.grants.values()) == 1, "granted once"

    def promises_are_kept(
        self, before: dict[int, Reservation], rows: dict[int, Reservation], events: list[Event]
    ) -> None:
        now, passed_s = self.world.clock.now(), self.world.clock.passed
        for number, row in rows.items():
            old = before.get(number)
            if row.starts_at is not None and (old is None or old.starts_at is None):
                ago_s = (now - row.starts_at).total_seconds()
                assert 0.0 <= ago_s <= LATE_S, "it begins when it is granted"
                self.promised[number] = passed_s - ago_s + row.duration_s
            elif old is not None and old.starts_at is not None:
                self.promised[number] += row.duration_s - old.duration_s
            ends = row.state is ReservationState.ENDED and (old is None or old.state is not ReservationState.ENDED)
            if ends and row.reason == TIME_UP:
                assert passed_s >= self.promised[number] - BETWEEN_S, "cut short"
        extended = set()
        for event in events:
            number = int(event.subject)
            if event.reason.startswith("extended by"):
                self.warned[number] = 0
                extended.add(number)
            elif event.reason == WARNED:
                self.told["warnings"] += 1
                self.warned[number] += 1
                assert self.warned[number] == 1, "warned once"
                left_s = self.promised[number] - passed_s
                assert number in extended or left_s <= WARN_S + BETWEEN_S, "warned too early"
            elif event.reason == TIME_UP and rows[number].duration_s > WARN_S and number not in self.unwarned:
                assert self.warned[number] == 1, "ended without a warning"

    def first_come_first_served(self, before: dict[int, Reservation], rows: dict[int, Reservation]) -> None:
        for number, row in rows.items():
            if row.board_id is None or (number in before and before[number].board_id is not None):
                continue
            for other, passed_over in rows.items():
                if other < number and passed_over.state is ReservationState.WAITING:
                    assert row.board_id not in self.fits(passed_over), (other, "was before", number)

    def what_is_free_is_dark(self) -> None:
        states, holds = self.states(), self.holds()
        for board in self.daemon.live.now.board:
            instrument, channel = output_of(board)
            if (instrument, channel) in self.world.on and f"channel {instrument}/{channel}" not in holds:
                assert states[board.id] is not BoardState.ONLINE, f"{board.id} is under power, and given to anybody"

    def all_is_done_that_is_due(self, rows: dict[int, Reservation]) -> None:
        now, passed_s = self.world.clock.now(), self.world.clock.passed
        if passed_s < self.set_at + LOOK_S + LATE_S:  # the warden has yet to see that the clock was set
            return
        for number, row in rows.items():
            if row.state is not ReservationState.ACTIVE or row.board_id in self.world.darkening:
                continue
            assert row.ends_at is not None
            left_s = self.promised[number] - passed_s
            assert left_s > -LATE_S, ("kept too long", row)
            if left_s <= 0:
                continue
            assert not row.reason, "not given back"
            assert self.board(row.board_id) is not None, "not taken back"
            assert abs((row.ends_at - now).total_seconds() - left_s) < BETWEEN_S, "another end than was promised"
            if left_s <= WARN_S - LATE_S and row.duration_s > WARN_S:
                assert row.warned_at is not None, ("not warned", row)

    def nobody_waits_for_a_free_board(self, rows: dict[int, Reservation]) -> None:
        config, states, held = self.daemon.live.now, self.states(), self.holds()
        leases = self.look(ledger_leases.leases_in_force)
        leased = {lease.board_id for lease in leases}
        waiting = {number: row for number, row in rows.items() if row.state is ReservationState.WAITING}
        runs = {number for lease in leases if (number := lease.run_id) is not None}
        newest = max([0, *runs])
        wanted = {number: self.fits(row) for number, row in waiting.items()}
        if self.look(ledger_lab.stop_of) is None:
            for number, fits in wanted.items():
                for board in config.board:
                    free = states[board.id] is BoardState.ONLINE and board.id not in leased
                    free = free and not held & resources_of(board)
                    assert not (free and board.id in fits), f"{number} waits for {board.id}, which is free"
        if self.rested is not None and self.rested[0] is config:
            needed: frozenset[str] = frozenset()
            for number in self.rested[1] & waiting.keys():
                needed = needed.union(*(resources_of(b) for b in config.board if b.id in wanted[number]))
            for lease in leases:
                if lease.run_id is not None and lease.run_id > self.rested[2]:
                    board = self.board(lease.board_id)
                    assert board is None or not needed & resources_of(board), "a job was let past who waits"
        self.rested = config, frozenset(waiting), max(newest, self.rested[2] if self.rested else 0)

    def answers_are_true(self) -> None:
        """What somebody was told is in the record, with its event."""
        for asking in [each for each in self.asked if each.reply is not None]:
            self.asked.remove(asking)
            assert asking.reply is not None
            if asking.reply.error is not None:
                assert asking.reply.error.kind in REFUSALS, asking.reply.error
                continue
            told = asking.reply.result
            if told is None or "ends_at" not in told:
                continue
            assert told["id"] in self.rows
            query = select(Event.state).where(Event.kind == "reservation", Event.subject == str(told["id"]))
            assert told["state"] in self.look(lambda s, query=query: set(s.exec(query)))

    # --- how it is done ---------------------------------------------------------------------------------------

    def ask(self, user: str, verb: str, **params: Any) -> Asking:
        self.requests += 1
        asking = Asking(user, verb, params, f"request-{self.requests}")
        self.asked.append(asking)
        self.loop.create_task(self.daemon.ask(asking), name=asking.request_id)
        return asking

    def change(self, change: Any) -> None:
        self.loop.create_task(self.daemon.database.write(change), name="change")

    def go_on(self, *, hurry: bool) -> None:
        """Let what is under way be done, or only begin; start again what was killed meanwhile."""
        if hurry:
            self.loop.turn(self.world.random.randrange(8))
        else:
            self.loop.settle()
        self.quiet = not hurry
        if self.daemon.dead:
            self.restart(0.0, timedelta(0))
        else:
            self.check()

    def pass_s(self, seconds: float) -> None:
        clock = self.world.clock
        while seconds > 0:
            piece_s = min(seconds, max(LATE_S, clock.next_due_s(LOOK_S)))
            if not self.quiet:
                piece_s = min(seconds, LATE_S)
            self.loop.create_task(clock.move(piece_s), name="time")
            seconds -= piece_s
            self.go_on(hurry=False)

    def restart(self, down_s: float, step: timedelta) -> None:
        """What the daemon had in memory is gone; what it finds is as it was."""
        clock = self.world.clock
        self.quiet = False
        self.daemon.database.dead = True
        self.check()
        self.daemon.bury()
        clock.passed += down_s
        clock.set_by(step)
        self.set_at = -LOOK_S - LATE_S
        self.world.darkening.clear()
        if any(board.id == "b4" for board in self.world.file.board):  # wired anew, it has one output all the same
            self.world.on -= {("psu", 4), ("psu", 5)}
        left = {}
        for number, row in self.rows.items():
            if row.state is ReservationState.ACTIVE and row.ends_at is not None:
                left[number] = min((row.ends_at - clock.now()).total_seconds(), row.duration_s)
                self.promised[number] = clock.passed + max(0.0, left[number])
                if left[number] <= 0:
                    self.unwarned.add(number)
        before = dict(self.rows)
        self.daemon = Daemon(self.world, self.loop)
        self.told["starts"] += 1
        self.loop.settle()
        if self.daemon.dead:
            self.restart(0.0, timedelta(0))
            return
        self.quiet = True
        self.check()
        for number, row in before.items():
            after = self.rows[number]
            assert (after.owner, after.duration_s) == (row.owner, row.duration_s)
            if number in left and left[number] > 0 and not row.reason and self.board(row.board_id) is not None:
                assert after.state is ReservationState.ACTIVE
                assert after.ends_at == clock.now() + timedelta(seconds=left[number])
        for asking in self.asked:  # whoever heard nothing asks again
            self.loop.create_task(self.daemon.ask(asking), name=asking.request_id)
        self.go_on(hurry=False)

    def live(self) -> list[Reservation]:
        return [row for row in self.rows.values() if row.state is not ReservationState.ENDED]

    def in_hand(self) -> list[Reservation]:
        """Those that somebody uses."""
        passed_s = self.world.clock.passed
        return [
            row
            for number, row in self.rows.items()
            if row.state is ReservationState.ACTIVE and not row.reason and self.promised[number] > passed_s
        ]

    def one_of(self, data: st.DataObject, rows: list[Reservation]) -> Reservation:
        return self.rows[data.draw(st.sampled_from([self.number(row) for row in rows]))]

    def look(self, query: Any) -> Any:
        return self.daemon.database.look(query) if self.seen is None else query(self.seen)

    def board(self, board_id: str | None) -> Board | None:
        return None if board_id is None else self.daemon.live.now.board_by_id(board_id)

    def fits(self, row: Reservation) -> tuple[str, ...]:
        config = self.daemon.live.now
        return candidates(Wish.parse(row.requirement), config, lab_facts(config, {}))

    def holds(self) -> frozenset[str]:
        held: frozenset[str] = self.look(ledger_leases.held_resources)
        return held

    def states(self) -> dict[str, BoardState]:
        known = self.look(lambda session: {row.id: row.state for row in session.exec(select(BoardRow))})
        return {board.id: BoardState.OFFLINE for board in self.daemon.live.now.board} | known

    @staticmethod
    def number(row: Reservation) -> int:
        assert row.id is not None
        return row.id
