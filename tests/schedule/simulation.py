"""A lab of which only the decisions are real: boards take jobs, time passes from end to end, accounts are charged."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from labd.benchmarks import Mode
from labd.config import Board, Firmware, Lab, LabConfig, Limits, Measure, Serial, Supply, Timing
from labd.config.models import Queue as Rules
from labd.config.models import User
from labd.model.states import BoardState, LeasePurpose
from labd.schedule.fairness import Account, charged
from labd.schedule.fleet import Fleet
from labd.schedule.match import Requirement
from labd.schedule.order import Decision, decide
from labd.schedule.queue import Queue, Waiting
from labd.schedule.snapshot import BoardNow, Holder, Snapshot

BENCHMARKS = ("alpha", "beta", "gamma")
"""Each is a firmware of its own."""


def fleet(count: int, rules: Rules | None = None, shares: dict[str, float] | None = None, mux: int = 0) -> Fleet:
    """Boards b0, b1, ...: those with an even number have an fpu; `mux` > 0 lets so many neighbours share a mux."""
    boards = tuple(
        Board(
            id=f"b{index}",
            tags=("even",) if index % 2 == 0 else ("odd",),
            limits=Limits(voltage_max_v=3.6, current_max_a=0.1),
            supply=Supply(instrument="psu", channel=index + 1, voltage_v=3.0),
            measure=Measure(instrument="psu", channel=index + 1),
            timing=Timing(instrument="stamps", pin=index),
            serial=Serial(port=f"pty{index}"),
            capabilities={"memory_kb": 64 * (1 + index % 4), "fpu": index % 2 == 0},
            resources=(f"mux-{index // mux}",) if mux else (),
        )
        for index in range(count)
    )
    images = {Mode.PERFORMANCE: Path("p.elf"), Mode.ENERGY: Path("e.elf")}
    config = LabConfig(
        lab=Lab(name="paper"),
        board=boards,
        queue=rules or Rules(),
        user=tuple(User(name=name, role="operator", share=share) for name, share in (shares or {}).items()),
        firmware=tuple(
            Firmware(
                name=name,
                benchmark=name,
                target="native",
                images={mode: Path(name) / path for mode, path in images.items()},
            )
            for name in BENCHMARKS
        ),
    )
    return Fleet(config)


class Simulation:
    """Plays a queue on a fleet; what happened is in `started`: (time, job, board), and `board_s` by requester."""

    def __init__(self, boards: Fleet) -> None:
        self.fleet = boards
        self.queue = Queue(boards)
        self.now_s = 0.0
        self.accounts: dict[str, Account] = {}
        self.boards = {board_id: BoardNow(BoardState.ONLINE) for board_id in boards.board_ids}
        self.started: list[tuple[float, Waiting, str]] = []
        self.expired: list[int] = []
        self.board_s: defaultdict[str, float] = defaultdict(float)
        self.took_s: dict[int, float] = {}
        """What a job really takes, where that is not its estimate, s."""
        self.ends: list[tuple[float, str, Waiting]] = []

    def snapshot(self) -> Snapshot:
        held = {
            resource: board_id
            for board_id, now in self.boards.items()
            if now.holder is not None
            for resource in self.fleet.resources(board_id)
        }
        return Snapshot(self.now_s, dict(self.boards), held, dict(self.accounts))

    def submit(self, jobs: Iterable[Waiting]) -> None:
        for job in jobs:
            self.queue.add(job)

    def decide(self) -> Decision:
        """Decide, start what was decided, and end what has expired."""
        decision = decide(self.queue, self.snapshot())
        for job_id in decision.expired:
            self.expired.append(job_id)
            self.queue.remove(job_id)
        for start in decision.assignments:
            job = self.queue.remove(start.job_id)
            assert job is not None
            took_s = self.took_s.get(job.job_id, job.estimate_s)
            self._charge(job.requester, start.least_used_s, job.estimate_s)
            board = self.boards[start.board_id]
            image = self.fleet.image(job.requirement, start.board_id)
            since_s = board.firmware_since_s if board.firmware == image else self.now_s
            holder = Holder(LeasePurpose.RUN, job.requester, self.now_s + job.estimate_s, job.job_id)
            self.boards[start.board_id] = BoardNow(BoardState.BUSY, "", holder, None, image, since_s)
            self.started.append((self.now_s, job, start.board_id))
            heapq.heappush(self.ends, (self.now_s + took_s, start.board_id, job))
        return decision

    def end_next(self) -> bool:
        """Let time pass until the next run ends; False if none is on."""
        if not self.ends:
            return False
        self.now_s, board_id, job = heapq.heappop(self.ends)
        took_s = self.took_s.get(job.job_id, job.estimate_s)
        self.board_s[job.requester] += took_s
        self._charge(job.requester, 0.0, took_s - job.estimate_s)
        board = self.boards[board_id]
        self.boards[board_id] = BoardNow(
            BoardState.ONLINE, firmware=board.firmware, firmware_since_s=board.firmware_since_s
        )
        return True

    def run(self) -> None:
        """Until nothing waits that can start, and nothing is on."""
        self.decide()
        while self.end_next():
            self.decide()

    def _charge(self, requester: str, least_s: float, cost_s: float) -> None:
        account = self.accounts.get(requester, Account(0.0, self.now_s))
        half_life_s = self.fleet.config.queue.half_life_s
        self.accounts[requester] = charged(account, self.now_s, least_s, cost_s, half_life_s)


def job(number: int, requester: str = "ann", *, benchmark: str = "alpha", **more: object) -> Waiting:
    """A job for any board unless `requirement` says otherwise; submitted at its number unless said."""
    told: dict[str, object] = {"submitted_s": float(number), "estimate_s": 10.0, **more}
    requirement = told.pop("requirement", Requirement(benchmark, Mode.PERFORMANCE))
    return Waiting(number, requirement, requester, **told)  # type: ignore[arg-type]
