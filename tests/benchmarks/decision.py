"""What a decision of the scheduler costs as the queue grows, and what the queue itself takes in memory."""

from __future__ import annotations

import random
import statistics
import sys
import time
from dataclasses import replace

from labd.benchmarks import Mode
from labd.model.states import BoardState, LeasePurpose
from labd.schedule.match import Requirement
from labd.schedule.order import decide
from labd.schedule.queue import Queue, Waiting
from labd.schedule.snapshot import BoardNow, Holder, Snapshot
from tests.benchmarks.figure import Better, Figure, median_ratio
from tests.benchmarks.memory import measured, rss_anon_mb
from tests.schedule.simulation import BENCHMARKS, fleet

RATIO_MAX = 2.0
MEMORY_MAX_MB = 60.0
REQUIRES = ("", "fpu", "memory_kb >= 128", "memory_kb >= 256 and not fpu", 'tag("even") or memory_kb == 64')
REQUESTERS = ("ann", "bob", "cyd", "dan", "eve")
NOW_S = 1_000_000.0


async def decision(boards: int = 200, few: int = 1_000, many: int = 100_000, rounds: int = 40) -> tuple[Figure, ...]:
    """Time of a decision at `many` waiting jobs over that at `few`, and the memory of `many`.

    One decision fills a board that has become free, the other all of them; after each the jobs that it chose are taken
    out and as many come, as in life. The memory is that of a process of its own that does nothing but wait.
    """
    small, large = queue_of(boards, few), queue_of(boards, many)
    one, all_free = snapshots(boards)
    figures = []
    for name, snapshot in (("decision_one_free", one), ("decision_all_free", all_free)):
        times = [(_time_s(large, snapshot), _time_s(small, snapshot)) for _ in range(rounds)]
        large_s, small_s = ([pair[side] for pair in times] for side in (0, 1))
        against = (
            f"{statistics.median(small_s) * 1e3:.2f} ms at {few} jobs; {statistics.median(large_s) * 1e3:.2f} ms at "
            f"{many}, {large.classes} classes, {boards} boards"
        )
        ratio = median_ratio(large_s, small_s)
        figures.append(Figure(name, ratio, "1", RATIO_MAX, Better.LOWER, against))
    idle_mb, most_mb = await measured("tests.benchmarks.decision", str(boards), str(many))
    against = f"a process without the queue, {idle_mb:.0f} MB"
    figures.append(Figure("queue_memory", most_mb - idle_mb, "MB", MEMORY_MAX_MB, Better.LOWER, against))
    different = queue_of(boards, many // 10, different=True)
    different_s = statistics.median(_time_s(different, one) for _ in range(5))
    against = f"{many // 10} jobs that all ask for something else, {different.classes} classes"
    figures.append(Figure("decision_all_different", different_s * 1e3, "ms", 1000.0, Better.LOWER, against))
    return tuple(figures)


def queue_of(boards: int, count: int, *, different: bool = False) -> Queue:
    """Jobs of several requesters, requirements and priorities; if `different`, each names its own set of boards."""
    chance = random.Random(20)
    queue = Queue(fleet(boards))
    for number in range(1, count + 1):
        require = chance.choice(REQUIRES)
        if different:
            ids = ", ".join(f'"b{index}"' for index in sorted(chance.sample(range(boards), 3)))
            require = f"id in [{ids}]"
        requirement = Requirement(chance.choice(BENCHMARKS), chance.choice(list(Mode)), require=require)
        text = requirement.canonical()
        queue.add(
            Waiting(
                job_id=number,
                requirement=Requirement.parse(text),
                requester=chance.choice(REQUESTERS),
                submitted_s=NOW_S - count + number + chance.random(),
                priority=chance.randint(-10, 10),
                estimate_s=chance.uniform(10.0, 300.0),
            )
        )
    return queue


def snapshots(boards: int) -> tuple[Snapshot, Snapshot]:
    """A lab with one board free, and one with all."""
    busy = BoardNow(BoardState.BUSY, "", Holder(LeasePurpose.RUN, "ann", NOW_S + 60.0, 1))
    free = {
        f"b{index}": BoardNow(BoardState.ONLINE, firmware="alpha/p.elf", firmware_since_s=NOW_S)
        for index in range(boards)
    }
    all_free = Snapshot(NOW_S, free)
    return replace(
        all_free, boards={**dict.fromkeys(free, busy), "b7": free.get("b7", busy), "b0": free["b0"]}
    ), all_free


def _time_s(queue: Queue, snapshot: Snapshot) -> float:
    """How long a decision takes, s; the jobs that it chose make room for others like them."""
    began = time.perf_counter()
    decided = decide(queue, snapshot)
    took_s = time.perf_counter() - began
    newest = max((job.job_id for job in queue), default=0)
    for number, start in enumerate(decided.assignments, start=newest + 1):
        job = queue.remove(start.job_id)
        assert job is not None, "what was chosen waited"
        queue.add(replace(job, job_id=number))
    return took_s


def main() -> None:
    """Print this process's memory without a queue and with one, MB."""
    boards, count = map(int, sys.argv[1:])
    queue_of(boards, 10)
    idle_mb = rss_anon_mb()
    queue = queue_of(boards, count)
    decide(queue, snapshots(boards)[0])
    print(idle_mb, rss_anon_mb())


if __name__ == "__main__":
    main()
