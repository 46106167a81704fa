"""A job as the scheduler and the bench need it: its requirement, its lease, its plan on a board."""

from __future__ import annotations

from collections.abc import Mapping

import structlog
from pydantic import ValidationError

from drivers.api import ConnectError
from labd.bench.plan import RunPlan, estimate_s, lease_s
from labd.bench.procedure import perform
from labd.bench.run import Bench
from labd.benchmarks import BENCHMARKS, Benchmark
from labd.config import LabConfig, LiveConfig
from labd.config.derived import BoardFacts, capabilities_of, lab_facts
from labd.model.causes import Cause, Ending
from labd.model.ledger import Begun
from labd.model.ledger_queue import Commission
from labd.schedule.backlog import UnreadableJobError
from labd.schedule.match import Requirement
from labd.service.messages import JobSpec
from labd.service.queue.requirement import requirement_of


class LabWork:
    """Does jobs on the benches of one lab; what the dispatcher calls.

    Args:
        live: The lab, as it is now.
        bench: What its runs share.
    """

    def __init__(self, live: LiveConfig, bench: Bench) -> None:
        self._live = live
        self._bench = bench

    def facts(self, config: LabConfig) -> Mapping[str, BoardFacts]:
        """What is known of each board, by id; no hardware is touched."""
        return lab_facts(config, capabilities_of(config, self._bench.drivers))

    def requirement(self, job: Commission) -> Requirement:
        """What the job asks of a board. Raises `UnreadableJobError`."""
        return requirement_of(_read(job)[0])

    def estimate_s(self, job: Commission) -> float:
        """How long a run of the job should take, s. Raises `UnreadableJobError`."""
        return estimate_of(*_read(job))

    def lease_s(self, job: Commission) -> float:
        """How long a run of the job may hold its board, s. Raises `UnreadableJobError`."""
        spec, benchmark = _read(job)
        trials, min_window_s = _extent(spec, benchmark)
        return lease_s(benchmark, spec.mode, trials, min_window_s, _inferences(spec))

    async def perform(self, job: Commission, run: Begun) -> Ending:
        """Do one run of the job on the board that `run` names."""
        spec, benchmark = _read(job)
        board = self._live.now.board_by_id(run.board_id)
        if board is None:  # reloaded between the start's commit and here
            return Ending(Cause.BOARD_REMOVED, f"{run.board_id} is not in lab.toml any more")
        image = self._live.now.firmware_for(board, benchmark.id, spec.mode, requirement_of(spec).firmware)
        if image is None:
            return Ending(Cause.FIRMWARE_MISSING, f"lab.toml names no {spec.mode.image} image for {board.target}")
        trials, min_window_s = _extent(spec, benchmark)
        plan = RunPlan(
            job_id=job.id,
            run_id=run.id,
            board=board,
            benchmark=benchmark,
            mode=spec.mode,
            trials=trials,
            min_window_s=min_window_s,
            inferences=_inferences(spec),
            voltage_v=spec.voltage_v if spec.voltage_v is not None else board.supply.voltage_v,
            period_s=None if spec.rate_hz is None else 1.0 / spec.rate_hz,
            image=image,
            image_sha256=spec.firmware.sha256 if spec.firmware else None,
        )
        return await perform(plan, self._bench)

    async def make_safe(self, board_id: str) -> None:
        """Switch the board's output off; one that will not go off is a debt that the devices go on collecting."""
        board = self._live.now.board_by_id(board_id)
        if board is None:  # its instruments may be gone too; what they owe is theirs to collect
            return
        try:
            await self._bench.devices.switch_off(board.supply.instrument, board.supply.channel)
        except ConnectError as error:
            structlog.get_logger().error("output_off_failed", board=board_id, error=str(error))


def estimate_of(spec: JobSpec, benchmark: Benchmark) -> float:
    """How long a run of such a job should take, s."""
    return estimate_s(benchmark, spec.mode, *_extent(spec, benchmark))


def _read(job: Commission) -> tuple[JobSpec, Benchmark]:
    """What was asked for, and the benchmark that it names.

    Raises:
        UnreadableJobError: another version of labd stored something that this one does not understand.
    """
    benchmark = BENCHMARKS.get(job.benchmark)
    if benchmark is None:
        raise UnreadableJobError(f"there is no benchmark {job.benchmark!r}")
    try:
        return JobSpec.model_validate(job.spec, strict=False), benchmark
    except ValidationError as error:
        first = error.errors()[0]
        raise UnreadableJobError(f"{first['msg']}", where=".".join(map(str, first["loc"]))) from error


def _inferences(spec: JobSpec) -> int | None:
    """Inferences in each window; None to find how many it needs."""
    return None if spec.inferences == "auto" else spec.inferences


def _extent(spec: JobSpec, benchmark: Benchmark) -> tuple[int, float]:
    """Trials and shortest window: the job's own, else the benchmark's."""
    filled = spec.filled(benchmark)
    assert filled.trials is not None
    assert filled.min_window_s is not None
    return filled.trials, filled.min_window_s
