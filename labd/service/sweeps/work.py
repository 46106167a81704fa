"""Sweeps as the sweeper needs them: when they are run, and the jobs of a night."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from labd.config import LiveConfig
from labd.model.ledger_sweeps import CellJob
from labd.schedule.cron import schedule
from labd.schedule.match import Requirement, candidates
from labd.schedule.matrix import in_order
from labd.schedule.nights import Terms
from labd.schedule.sweeper import NightPlan
from labd.service.queue.requirement import requirement_of
from labd.service.sweeps.messages import LABEL_CELL, LABEL_NIGHT, LABEL_SWEEP, SweepSpec
from labd.service.sweeps.plan import PlannedCell, facts_of, plan, read_spec, resolved


class LabSweeps:
    """What the sweeper asks of specifications.

    Args:
        live: The lab, as it is now.
    """

    def __init__(self, live: LiveConfig) -> None:
        self._live = live

    def terms(self, spec: dict[str, Any]) -> Terms:
        """When a sweep is run. Raises `RequestError` if this labd, or this host, cannot use it."""
        return terms_of(read_spec(spec))

    def plan(self, spec: dict[str, Any], sweep: str, night_id: int) -> NightPlan:
        """The jobs of a night. Raises `RequestError` if it cannot be built, or nobody can serve any of it."""
        config = self._live.now
        whole = resolved(read_spec(spec), config)
        planned = plan(whole, config)
        of_number = {each.cell.number: each for each in planned.cells}
        ordered = in_order((each.cell for each in planned.cells), whole.seed, night_id)
        return NightPlan(
            spec=stored(whole),
            jobs=tuple(_job(of_number[cell.number], sweep, night_id) for cell in ordered),
            left_out=tuple((each.cell.text, each.reason) for each in planned.refused),
        )

    def boards_for(self, requirement: str) -> Collection[str]:
        """Ids of the lab's boards that can do a job which asks this, whether they work or not."""
        config, asked = self._live.now, Requirement.parse(requirement)
        return candidates(asked, config, facts_of(config) if asked.require else None)


def terms_of(spec: SweepSpec) -> Terms:
    """When a sweep is run.

    Raises:
        CronError: its cron line or its zone cannot be used.
    """
    day_end = None
    if spec.not_after is not None:
        hour, minute = map(int, spec.not_after.split(":"))
        day_end = schedule(f"{minute} {hour} * * *", spec.zone)
    return Terms(
        schedule=schedule(spec.cron, spec.zone) if spec.cron is not None else None,
        not_after=day_end,
        catch_up=spec.catch_up,
        catch_up_max=spec.catch_up_max,
        overlap=spec.overlap,
    )


def stored(spec: SweepSpec) -> dict[str, Any]:
    """A specification as the database keeps it: what is as it comes is left out."""
    return spec.model_dump(mode="json", exclude_defaults=True)


def _job(planned: PlannedCell, sweep: str, night_id: int) -> CellJob:
    labels = {LABEL_SWEEP: sweep, LABEL_NIGHT: str(night_id), LABEL_CELL: planned.cell.text}
    spec = planned.spec.model_copy(update={"labels": {**planned.spec.labels, **labels}})
    return CellJob(
        cell=planned.cell.number,
        benchmark=spec.benchmark,
        mode=spec.mode,
        spec=spec.model_dump(mode="json"),
        priority=spec.priority,
        requirement=requirement_of(spec).canonical(),
        estimate_s=planned.estimate_s,
    )
