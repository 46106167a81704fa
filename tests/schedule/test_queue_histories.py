"""Random histories of a lab with kills in them: nothing is held twice, lost, run twice, charged twice, or forgotten."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from itertools import combinations
from typing import Any, ClassVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from sqlmodel import select

from labd.benchmarks import Mode
from labd.config import resources_of
from labd.errors import StateError
from labd.model import ledger
from labd.model.causes import Blame, Cause
from labd.model.states import BoardState, JobState, LeasePurpose, ReservationState, RunState
from labd.model.tables import Board as BoardRow
from labd.model.tables import Check, Hold, Reservation, Share
from tests.schedule.histories import LEASE_S, Kill, KilledError, Lab, lab_of_four, memory, play

KILLS = st.sampled_from([*[Kill.NOWHERE] * 12, Kill.BEFORE_COMMIT, Kill.AFTER_COMMIT])
CAUSES = st.sampled_from([*[None] * 12, *[Cause.BOARD_SILENT] * 12, *Cause])
WISHES = st.fixed_dictionaries(
    {
        "requester": st.sampled_from(["ann", "bob", "night"]),
        "mode": st.sampled_from([Mode.ENERGY, Mode.ACCURACY]),
        "board": st.sampled_from([None, None, None, "b1", "b2"]),
        "priority": st.integers(-10, 10),
        "deadline_s": st.sampled_from([None, None, None, 30.0, 4000.0]),
    }
)
DRAIN_MAX = 200
"""A lab whose boards are all well has served everything after so many decisions."""
STEPS = 30


CONFIG = lab_of_four()
BOARDS = [board.id for board in CONFIG.board]


class Histories(RuleBasedStateMachine):
    """Rules are what people, boards and kills do; after each the record has to make sense."""

    told: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.lab = Lab(CONFIG, memory.new_folder(), memory.template())
        self.accepted: set[int] = set()
        self.ended: dict[int, JobState] = {}
        self.charges: dict[str, tuple[float, datetime]] = {}
        self.settled: set[int] = set()
        self.told["histories"] += 1

    # --- people -----------------------------------------------------------------------------------------------

    @initialize(wishes=st.lists(WISHES, min_size=2, max_size=6))
    def come_to_work(self, wishes: list[dict[str, Any]]) -> None:
        for wish in wishes:
            self.submit(wish, Kill.NOWHERE)

    @rule(wish=WISHES, kill=KILLS)
    def submit(self, wish: dict[str, Any], kill: Kill) -> None:
        before = set(self.lab.jobs())
        with self.killed_or_not():
            self.accepted.add(self.lab.submit(**wish, kill=kill))
        if kill is Kill.AFTER_COMMIT:  # nobody was told, and yet it is there
            self.accepted |= set(self.lab.jobs()) - before

    @precondition(lambda self: self.lab.jobs())
    @rule(data=st.data(), kill=KILLS)
    def cancel(self, data: st.DataObject, kill: Kill) -> None:
        live = [number for number, job in self.lab.jobs().items() if not job.state.ended]
        if live:
            number = data.draw(st.sampled_from(live))
            with self.killed_or_not():
                self.lab.commit(lambda session: ledger.cancel_job(session, number, self.lab.now), kill)

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        parked = [number for number, job in self.lab.jobs().items() if job.state is JobState.PARKED]
        if parked:
            number = data.draw(st.sampled_from(parked))
            self.lab.commit(lambda session: ledger.release_job(session, number, self.lab.now))

    @rule(board=st.sampled_from(BOARDS), kill=KILLS)
    def reserve(self, board: str, kill: Kill) -> None:
        with self.killed_or_not():
            self.refused_if_held(board, lambda: self.lab.reserve(board, kill))

    @rule(data=st.data(), kill=KILLS, forgetting=st.booleans())
    def end_reservation(self, data: st.DataObject, kill: Kill, forgetting: bool) -> None:
        query = select(Reservation.id).where(Reservation.state == ReservationState.ACTIVE)
        active = self.lab.look(lambda session: session.exec(query).all())
        if active:
            number = data.draw(st.sampled_from(active))
            assert number is not None
            with self.killed_or_not():
                self.lab.end_reservation(number, kill, forgetting=forgetting)

    # --- boards -----------------------------------------------------------------------------------------------

    @rule(board=st.sampled_from(BOARDS), kill=KILLS)
    def begin_check(self, board: str, kill: Kill) -> None:
        with self.killed_or_not():
            self.refused_if_held(board, lambda: self.lab.begin_check(board, kill))

    @rule(data=st.data(), passed=st.sampled_from([True, True, False]), kill=KILLS)
    def end_check(self, data: st.DataObject, passed: bool, kill: Kill) -> None:
        open_checks = self.lab.look(lambda session: session.exec(select(Check.id).where(Check.ended_at == None)).all())  # noqa: E711
        if open_checks:
            number = data.draw(st.sampled_from(open_checks))
            assert number is not None
            with self.killed_or_not():
                self.lab.end_check(number, passed=passed, kill=kill)

    @rule(board=st.sampled_from(BOARDS), state=st.sampled_from([*[BoardState.ONLINE] * 8, *BoardState]))
    def set_state(self, board: str, state: BoardState) -> None:
        """A person or a check says how a board is; of one that is busy only that it is taken out of work."""
        busy = self.board_states()[board] is BoardState.BUSY
        if state in (BoardState.BUSY, BoardState.OFFLINE) or (busy and state is not BoardState.MAINTENANCE):
            return
        if (
            not busy
            and board in {lease.board_id for lease in self.lab.leases()}
            and state is not BoardState.MAINTENANCE
        ):
            return
        self.lab.commit(lambda session: ledger.set_board_state(session, board, state, "said so", self.lab.now))

    # --- the daemon and time ----------------------------------------------------------------------------------

    @rule(ends=st.lists(CAUSES, max_size=4))
    def work(self, ends: list[Cause | None]) -> None:
        """A while without kills."""
        self.dispatch(Kill.NOWHERE)
        self.lab.now += timedelta(seconds=15)
        running = [run for run in self.lab.runs() if run.state is RunState.RUNNING]
        for run, cause in zip(running, ends, strict=False):
            assert run.id is not None
            self.lab.end(run.id, cause, Kill.NOWHERE)

    @rule(causes=st.lists(st.sampled_from([Cause.BOARD_SILENT, Cause.DAEMON_DIED, None]), min_size=2, max_size=4))
    def have_a_bad_day(self, causes: list[Cause | None]) -> None:
        """All that runs ends in one way, again and again."""
        for cause in causes:
            self.work([cause] * len(BOARDS))
            self.what_failed_on_two_boards_is_tried_no_more()

    @rule(kill=KILLS)
    def dispatch(self, kill: Kill) -> None:
        with self.killed_or_not():
            self.told["starts"] += self.lab.dispatch(kill)
            self.nothing_waits_for_a_free_board()

    @rule(data=st.data(), cause=CAUSES, kill=KILLS)
    def end_run(self, data: st.DataObject, cause: Cause | None, kill: Kill) -> None:
        running = [run for run in self.lab.runs() if run.state is RunState.RUNNING]
        if running:
            run = data.draw(st.sampled_from(running))
            assert run.id is not None
            with self.killed_or_not():
                self.lab.end(run.id, cause, kill)

    @rule(really=st.sampled_from([False, False, True]))
    def kill(self, really: bool) -> None:
        if really:
            self.told["kills"] += 1
            self.lab.restart()

    @rule(seconds=st.sampled_from([1.0, 20.0, 20.0, 700.0, -3600.0, 86_400.0]))
    def pass_time(self, seconds: float) -> None:
        self.lab.now += timedelta(seconds=seconds)

    # --- what always holds ------------------------------------------------------------------------------------

    @invariant()
    def nothing_is_held_twice(self) -> None:
        leases = self.lab.leases()
        for one, other in combinations(leases, 2):
            assert not self.things(one.board_id) & self.things(other.board_id), (one, other)
        holds = self.lab.look(lambda session: {row.resource: row.lease_id for row in session.exec(select(Hold))})
        assert holds == {
            thing: lease.id for lease in leases for thing in self.things(lease.board_id) if thing != lease.board_id
        }

    @invariant()
    def every_lease_belongs_to_something_alive(self) -> None:
        leases = self.lab.leases()
        runs = {run.id for run in self.lab.runs() if run.state is RunState.RUNNING}
        assert {lease.run_id for lease in leases if lease.purpose is LeasePurpose.RUN} == runs
        checks, reservations = self.lab.look(
            lambda session: (
                {row.id for row in session.exec(select(Check)) if row.ended_at is None},
                {row.id for row in session.exec(select(Reservation)) if row.state is ReservationState.ACTIVE},
            )
        )
        assert {lease.check_id for lease in leases if lease.purpose is LeasePurpose.CHECK} == checks
        assert {lease.reservation_id for lease in leases if lease.purpose is LeasePurpose.RESERVATION} == reservations
        busy = {board for board, state in self.board_states().items() if state is BoardState.BUSY}
        assert busy <= {lease.board_id for lease in leases if lease.purpose is LeasePurpose.RUN}

    @invariant()
    def no_job_is_lost_or_run_twice(self) -> None:
        jobs, runs = self.lab.jobs(), self.lab.runs()
        assert set(jobs) == self.accepted
        for number, job in jobs.items():
            own = [run for run in runs if run.job_id == number]
            states = Counter(run.state for run in own)
            assert [run.attempt for run in own] == list(range(1, len(own) + 1))
            assert states[RunState.RUNNING] == (1 if job.state is JobState.RUNNING else 0)
            assert states[RunState.COMPLETED] == (1 if job.state is JobState.COMPLETED else 0)
            assert all((run.ended_at is None) == (run.state is RunState.RUNNING) for run in own)
            if number in self.ended:
                assert job.state is self.ended[number], "what has ended stays ended"
            if job.state.ended:
                self.ended[number] = job.state
                assert job.ended_at is not None

    @invariant()
    def what_failed_on_two_boards_is_tried_no_more(self) -> None:
        runs = self.lab.runs()
        for number, job in self.lab.jobs().items():
            failed = {
                run.board_id
                for run in runs
                if run.job_id == number
                and run.attempt > job.forgiven
                and run.cause is not None
                and run.cause.meaning.blame is Blame.BOARD
            }
            assert len(failed) < 2 or job.state not in (JobState.QUEUED, JobState.RUNNING)

    @invariant()
    def every_run_is_charged_once(self) -> None:
        jobs, half_life_s = self.lab.jobs(), CONFIG.queue.half_life_s
        for run in sorted(self.lab.runs(), key=lambda run: (run.ended_at or self.lab.now, run.id or 0)):
            assert run.id is not None
            if run.ended_at is None or run.id in self.settled:
                continue
            self.settled.add(run.id)
            if run.state is RunState.INTERRUPTED:
                continue
            requester = jobs[run.job_id].requester
            took_s = min(max(0.0, (run.ended_at - run.started_at).total_seconds()), LEASE_S)
            used_s, at = self.charges.get(requester, (0.0, run.ended_at))
            faded_s = used_s * 0.5 ** (max(0.0, (run.ended_at - at).total_seconds()) / half_life_s)
            self.charges[requester] = (faded_s + took_s, run.ended_at)
        shares = self.lab.look(lambda session: {row.requester: row.used_s for row in session.exec(select(Share))})
        assert shares == pytest.approx({name: used_s for name, (used_s, _) in self.charges.items()})

    @invariant()
    def memory_is_as_the_record(self) -> None:
        self.lab.backlog_followed()
        queued = {number for number, job in self.lab.jobs().items() if job.state is JobState.QUEUED}
        assert {job.job_id for job in self.lab.backlog.queue} == queued

    def teardown(self) -> None:
        """When everything is well and nobody comes in between, every job that waits is served, in bounded time."""
        try:
            self.drain()
        finally:
            self.lab.close()

    # --- how it is done ---------------------------------------------------------------------------------------

    def drain(self) -> None:
        lab = self.lab
        lab.restart()
        for number in lab.look(lambda session: session.exec(select(Reservation.id)).all()):
            if number is not None and any(lease.reservation_id == number for lease in lab.leases()):
                lab.end_reservation(number, Kill.NOWHERE, forgetting=False)
        for board in BOARDS:
            lab.commit(
                lambda session, board=board: ledger.set_board_state(session, board, BoardState.ONLINE, "", lab.now)
            )
        for _ in range(DRAIN_MAX):
            if not lab.dispatch():
                break
            for run in lab.runs():
                if run.state is RunState.RUNNING and run.id is not None:
                    lab.end(run.id, None, Kill.NOWHERE)
        self.told["parked"] += sum(job.state is JobState.PARKED for job in lab.jobs().values())
        left = {number: job.state for number, job in lab.jobs().items() if not job.state.ended}
        assert set(left.values()) <= {JobState.PARKED}, left
        assert lab.leases() == []

    def killed_or_not(self) -> Killable:
        return Killable(self)

    def refused_if_held(self, board: str, grant: object) -> None:
        taken = {thing for lease in self.lab.leases() for thing in self.things(lease.board_id)}
        assert callable(grant)
        if taken & self.things(board):
            with pytest.raises(StateError):
                grant()
        else:
            grant()

    def nothing_waits_for_a_free_board(self) -> None:
        """A decision leaves no board idle that a waiting job fits: waiting is for boards alone."""
        taken = {thing for lease in self.lab.leases() for thing in self.things(lease.board_id)}
        states = self.board_states()
        free = [b for b in BOARDS if states[b] is BoardState.ONLINE and not taken & self.things(b)]
        for number, job in self.lab.jobs().items():
            if job.state is not JobState.QUEUED:
                continue
            waiting = self.lab.backlog.queue.get(number)
            assert waiting is not None
            fits = set(self.lab.backlog.queue.fleet.ids(self.lab.backlog.queue.fleet.fits(waiting.requirement)))
            others = fits - set(job.avoid)
            assert not (others or fits) & set(free), (number, free)

    @staticmethod
    def things(board_id: str) -> frozenset[str]:
        board = CONFIG.board_by_id(board_id)
        assert board is not None
        return resources_of(board) | {board_id}

    def board_states(self) -> dict[str, BoardState]:
        return self.lab.look(lambda session: {row.id: row.state for row in session.exec(select(BoardRow))})


class Killable:
    """A block in which the daemon may be killed; it starts again after it."""

    def __init__(self, machine: Histories) -> None:
        self._machine = machine

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        if kind is not None and issubclass(kind, KilledError):
            self._machine.told["kills"] += 1
            self._machine.lab.restart()
            return True
        return False


def run_histories(examples: int) -> Counter[str]:
    """Run so many histories; what happened in them, counted."""
    Histories.told.clear()
    play(Histories, examples, STEPS)
    return Counter(Histories.told)


def test_thirty_histories() -> None:
    assert run_histories(30)["histories"] >= 30


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_thousand_histories(capsys: pytest.CaptureFixture[str]) -> None:
    told = run_histories(2000)
    with capsys.disabled():
        print(
            f"\n{told['histories']} histories, {told['starts']} starts, {told['kills']} kills, {told['parked']} parked"
        )
    assert told["histories"] >= 2000
    assert told["kills"] > 1000
