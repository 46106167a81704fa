"""Whether what `[queue]`, `[health]` and `[reservation]` say makes sense."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from labd.benchmarks import BENCHMARKS, Mode
from labd.config.findings import Finding, one_of
from labd.config.models import Board, Firmware, Health, Queue, ReservationRules

DAY_S = 86_400.0


def check_queue(queue: Queue) -> Iterator[Finding]:
    """A sweep that is allowed must find room in the queue."""
    if queue.max_sweep_jobs > queue.max_queued:
        path = ("queue", "max_sweep_jobs" if "max_sweep_jobs" in queue.model_fields_set else "max_queued")
        message = f"a sweep of {queue.max_sweep_jobs:,} jobs would never fit into a queue of {queue.max_queued:,}"
        yield Finding(path, message, "raise max_queued, or lower max_sweep_jobs")


def check_health(health: Health) -> Iterator[Finding]:
    """The golden benchmark is one that labd has, and a quarantined board is looked at once a day at least."""
    if health.golden is not None and health.golden not in BENCHMARKS:
        remedy = one_of(health.golden, BENCHMARKS, none="")
        yield Finding(("health", "golden"), f"there is no benchmark {health.golden!r}", remedy)
    if health.golden is None:
        for key in ("golden_every_s", "golden_tolerance_percent"):
            if key in health.model_fields_set:
                yield Finding(("health", key), "is not used without a golden job", "add golden = ..., or remove it")
    if health.retry_s > DAY_S:
        message = f"{health.retry_s:g} s is more than a day, which the pause never exceeds"
        yield Finding(("health", "retry_s"), message, "write 86400 or less")


def warn_health(health: Health, boards: Mapping[int, Board], builds: Mapping[int, Firmware]) -> Iterator[Finding]:
    """A golden job that some board has no image for never watches over it."""
    if health.golden is None:
        return
    for board in boards.values():
        mode = Mode.ENERGY if board.can(Mode.ENERGY) else Mode.PERFORMANCE
        fits = [build for build in builds.values() if (build.benchmark, build.target) == (health.golden, board.target)]
        if not any(mode.image in build.images for build in fits):
            message = f"board {board.id} has no {mode.image} image of {health.golden}: no golden job runs there"
            yield Finding(("health", "golden"), message, "add a [[firmware]] for it")


def check_reservations(rules: ReservationRules) -> Iterator[Finding]:
    """The warning comes before the end of the longest reservation, and after its beginning."""
    if rules.warn_s >= rules.max_s:
        message = f"{rules.warn_s:g} s is not below max_s = {rules.max_s:g}: every reservation would begin with it"
        path = ("reservation", "warn_s" if "warn_s" in rules.model_fields_set else "max_s")
        yield Finding(path, message, "lower warn_s, or raise max_s")
