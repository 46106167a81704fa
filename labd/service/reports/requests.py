"""Asking for the morning report, and its place at the broker."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pydantic import TypeAdapter, ValidationError
from sqlmodel import Session, col, select

from labd.errors import NotFoundError
from labd.model.states import NightState, SweepState
from labd.model.tables import Event, Night, Sweep
from labd.service.exchange import Query, Verb
from labd.service.lab import Lab
from labd.service.messages import Envelope, Message
from labd.service.reports.messages import MorningReport, SweepReportQuery, fitted, read_report
from labd.service.shelf import Shelf, Shown


def get_report(lab: Lab, session: Session, query: SweepReportQuery) -> Message:
    """The report of a night, cut to what a message carries; the whole of it stands in the lab's files."""
    sweep = session.exec(select(Sweep).where(Sweep.name == query.name, Sweep.state != SweepState.REMOVED)).first()
    if sweep is None:
        remedy = "list the sweeps to see their names"
        raise NotFoundError(f"there is no sweep {query.name!r}", where="params.name", remedy=remedy)
    report = _newest(session, sweep, query.night)
    if report is None:
        which = "no night" if query.night is None else f"no night {query.night}"
        raise NotFoundError(
            f"sweep {query.name!r} has {which} with a report",
            where="params.name" if query.night is None else "params.night",
            remedy="a report is made when all jobs of a night have ended; show the sweep to see its nights",
        )
    return fitted(report)


def _newest(session: Session, sweep: Sweep, night_id: int | None = None) -> MorningReport | None:
    """The last report of a sweep, or that of one of its nights; one of another version counts as none."""
    query = select(Night).where(
        Night.sweep_id == sweep.id, Night.state == NightState.ENDED, col(Night.report).is_not(None)
    )
    if night_id is not None:
        query = query.where(Night.id == night_id)
    night = session.exec(query.order_by(col(Night.id).desc()).limit(1)).first()
    try:
        return None if night is None else read_report(night.report or {})
    except ValidationError:
        return None


def _shown(session: Session, sweep: Sweep) -> Shown:
    report = None if sweep.state is SweepState.REMOVED else _newest(session, sweep)
    return Shown(f"sweep/{sweep.name}/report", None if report is None else fitted(report))


def _every(session: Session, lab: Lab) -> Iterable[Shown]:
    for sweep in session.exec(select(Sweep).where(Sweep.state != SweepState.REMOVED)):
        if (shown := _shown(session, sweep)).document is not None:
            yield shown


def _touched(session: Session, lab: Lab, events: Sequence[Event]) -> Iterable[Shown]:
    ended = {event.subject.partition("/")[0] for event in events if event.kind == "night"}
    gone = {event.subject for event in events if event.kind == "sweep" and event.state == SweepState.REMOVED}
    for name in sorted(ended | gone):
        newest = select(Sweep).where(Sweep.name == name).order_by(col(Sweep.id).desc()).limit(1)
        sweep = session.exec(newest).first()
        if sweep is not None:
            yield _shown(session, sweep)


REPORTS = Shelf(_touched, _every)

REPORT_VERBS: Mapping[str, Verb] = {
    "sweep.report": Query(TypeAdapter(Envelope[SweepReportQuery]), get_report, MorningReport),
}
