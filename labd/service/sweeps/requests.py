"""What a lab can be asked of sweeps. A sweep is planned in a thread before its transaction: it may have many jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import TypeAdapter
from sqlmodel import Session

from labd.errors import ConflictError, NotFoundError, RequestError
from labd.model import ledger_sweeps as ledger
from labd.model.tables import Sweep
from labd.schedule.nights import Overlap, Terms
from labd.service.access import Caller, Role
from labd.service.exchange import Asked, Change, Done, Query, Verb, once, own
from labd.service.lab import Lab
from labd.service.messages import Envelope, Message
from labd.service.sweeps.documents import sweep_documents
from labd.service.sweeps.messages import (
    LeftOut,
    NightAccepted,
    PlannedJob,
    SweepAccepted,
    SweepCreate,
    SweepDocument,
    SweepPage,
    SweepPlanned,
    SweepPreview,
    SweepQuery,
    SweepRef,
    SweepSpec,
)
from labd.service.sweeps.plan import PlannedCell, Refused, SweepPlan, plan, read_spec, resolved, wall_s
from labd.service.sweeps.work import stored, terms_of

SHOWN = 5
"""Jobs that a preview shows from both ends, and cells of each reason."""
DUES = 3
"""Times that a preview shows."""


class Creation:
    """`sweep.create`."""

    envelope = TypeAdapter(Envelope[SweepCreate])
    result = SweepAccepted
    role = Role.OPERATOR

    async def answer(self, lab: Lab, verb: str, payload: bytes, caller: Caller) -> dict[str, Any]:
        """Add a sweep, or replace one. Raises as every verb does."""
        envelope = self.envelope.validate_json(payload)
        spec, name = envelope.params.spec, envelope.params.name
        terms, planned = await asyncio.to_thread(_planned, spec, lab)

        def change(session: Session, asked: Asked) -> Done:
            due_at = _next(terms, asked.at)
            sweep = None
            if envelope.params.replace:
                sweep = _own(session, name, asked)
                ledger.replace_sweep(session, sweep, spec=stored(spec), due_at=due_at, now=asked.at)
            else:
                sweep = ledger.create_sweep(
                    session, name, owner=asked.requester, spec=stored(spec), due_at=due_at, now=asked.at
                )
            return _accepted(lab, sweep, jobs=len(planned.cells), left_out=len(planned.refused))

        return await once(lab, verb, envelope, change, caller)


class Preview:
    """`sweep.preview`."""

    envelope = TypeAdapter(Envelope[SweepPreview])
    result = SweepPlanned
    role = Role.VIEWER

    async def answer(self, lab: Lab, verb: str, payload: bytes, caller: Caller) -> dict[str, Any]:
        """Tell what a sweep would do. Raises as every verb does."""
        spec = self.envelope.validate_json(payload).params
        terms, planned = await asyncio.to_thread(_planned, spec, lab)
        document = await asyncio.to_thread(_preview, spec, terms, planned, lab.now())
        return document.model_dump(mode="json")


def list_sweeps(lab: Lab, session: Session, query: SweepQuery) -> Message:
    """All sweeps."""
    return SweepPage(sweeps=tuple(sweep_documents(session, owner=query.owner, nights=1)))


def get_sweep(lab: Lab, session: Session, ref: SweepRef) -> Message:
    """One sweep with its last nights."""
    found = sweep_documents(session, names=[ref.name])
    if not found:
        remedy = "list the sweeps to see their names"
        raise NotFoundError(f"there is no sweep {ref.name!r}", where="params.name", remedy=remedy)
    return found[0]


def pause_sweep(lab: Lab, session: Session, ref: SweepRef, asked: Asked) -> Done:
    """Let a sweep's cron line count no more."""
    sweep = _own(session, ref.name, asked)
    ledger.pause_sweep(session, sweep, asked.at)
    return _accepted(lab, sweep)


def resume_sweep(lab: Lab, session: Session, ref: SweepRef, asked: Asked) -> Done:
    """Let a sweep's cron line count again, from now on."""
    sweep = _own(session, ref.name, asked)
    ledger.resume_sweep(session, sweep, _next(terms_of(read_spec(sweep.spec)), asked.at), asked.at)
    return _accepted(lab, sweep)


def remove_sweep(lab: Lab, session: Session, ref: SweepRef, asked: Asked) -> Done:
    """Take a sweep away; its jobs in the queue stay."""
    sweep = _own(session, ref.name, asked)
    ledger.remove_sweep(session, sweep, asked.at)
    return _accepted(lab, sweep)


def run_sweep(lab: Lab, session: Session, ref: SweepRef, asked: Asked) -> Done:
    """Begin a night now, also of a paused sweep."""
    sweep = _own(session, ref.name, asked)
    assert sweep.id is not None, "rows that were read have their number"
    live = ledger.live_nights_of(session, sweep.id)
    if live and terms_of(read_spec(sweep.spec)).overlap is Overlap.SKIP:
        raise ConflictError(
            f"night {live[-1].id} of sweep {ref.name!r} is still under way",
            where="params.name",
            remedy='wait for its end, or give the sweep overlap = "queue" or "cancel"',
        )
    night = ledger.start_night(session, sweep.id, asked.at, asked.at, f"asked for by {asked.requester}")
    if night is None or night.id is None:
        raise ConflictError(f"sweep {ref.name!r} was begun at this very moment", where="params.name")
    accepted = NightAccepted(name=ref.name, night=night.id, state=night.state)
    return Done(accepted.model_dump(mode="json"), lab.sweeps_changed)


def _own(session: Session, name: str, asked: Asked) -> Sweep:
    sweep = ledger.sweep_named(session, name)
    own(asked, sweep.owner, f"sweep {name!r}", "params.name")
    return sweep


def _accepted(lab: Lab, sweep: Sweep, jobs: int | None = None, left_out: int | None = None) -> Done:
    accepted = SweepAccepted(name=sweep.name, state=sweep.state, due_at=sweep.due_at, jobs=jobs, left_out=left_out)
    return Done(accepted.model_dump(mode="json"), lab.sweeps_changed)


def _next(terms: Terms, now: datetime) -> datetime | None:
    return None if terms.schedule is None else terms.schedule.next_after(now)


def _planned(spec: SweepSpec, lab: Lab) -> tuple[Terms, SweepPlan]:
    config = lab.config
    try:
        return terms_of(spec), plan(resolved(spec, config), config)
    except RequestError as error:
        if not error.where.startswith("params."):
            error.where = f"params.{error.where}" if error.where else "params"
        raise


def _preview(spec: SweepSpec, terms: Terms, planned: SweepPlan, now: datetime) -> SweepPlanned:
    dues: Iterable[datetime] = terms.schedule.after(now) if terms.schedule is not None else ()
    return SweepPlanned(
        jobs=len(planned.cells),
        axes=dict(planned.axes),
        left_out=_left_out(planned.refused),
        idle_excludes=planned.idle_excludes,
        first=tuple(map(_shown, planned.cells[:SHOWN])),
        last=tuple(map(_shown, planned.cells[SHOWN:][-SHOWN:])),
        board_s=sum(each.estimate_s for each in planned.cells),
        wall_s=wall_s(planned.cells),
        due=tuple(due.astimezone(ZoneInfo(spec.zone)).isoformat() for due in islice(dues, DUES)),
    )


def _shown(planned: PlannedCell) -> PlannedJob:
    return PlannedJob(cell=planned.cell.text, boards=planned.boards, estimate_s=planned.estimate_s)


def _left_out(refused: Iterable[Refused]) -> tuple[LeftOut, ...]:
    by_reason: dict[tuple[str, str], list[str]] = {}
    for each in refused:
        by_reason.setdefault((each.field, each.reason), []).append(each.cell.text)
    return tuple(
        LeftOut(reason=reason, field=field, count=len(cells), cells=tuple(cells[:SHOWN]))
        for (field, reason), cells in by_reason.items()
    )


SWEEP_VERBS: Mapping[str, Verb] = {
    "sweep.create": Creation(),
    "sweep.preview": Preview(),
    "sweep.list": Query(TypeAdapter(Envelope[SweepQuery]), list_sweeps, SweepPage),
    "sweep.get": Query(TypeAdapter(Envelope[SweepRef]), get_sweep, SweepDocument),
    "sweep.pause": Change(TypeAdapter(Envelope[SweepRef]), pause_sweep, SweepAccepted),
    "sweep.resume": Change(TypeAdapter(Envelope[SweepRef]), resume_sweep, SweepAccepted),
    "sweep.remove": Change(TypeAdapter(Envelope[SweepRef]), remove_sweep, SweepAccepted),
    "sweep.run": Change(TypeAdapter(Envelope[SweepRef]), run_sweep, NightAccepted),
}
