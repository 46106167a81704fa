"""Documents of sweeps, and their shelf at the broker."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from sqlmodel import Session, col, select

from labd.model.ledger_sweeps import counts_of
from labd.model.states import SweepState
from labd.model.tables import Event, Night, Sweep
from labd.service.lab import Lab
from labd.service.shelf import Shelf, Shown
from labd.service.sweeps.messages import NIGHTS_LISTED, NightDocument, SweepDocument


def sweep_documents(
    session: Session, *, names: Collection[str] | None = None, owner: str | None = None, nights: int = NIGHTS_LISTED
) -> list[SweepDocument]:
    """Sweeps that are not removed, by name.

    Args:
        session: What is read.
        names: Only these; None for all.
        owner: Only those of this owner; None for all.
        nights: Most nights of each, newest first.
    """
    query = select(Sweep).where(Sweep.state != SweepState.REMOVED).order_by(col(Sweep.name))
    if names is not None:
        query = query.where(col(Sweep.name).in_(names))
    if owner is not None:
        query = query.where(Sweep.owner == owner)
    return [_document(session, sweep, nights) for sweep in session.exec(query)]


def _document(session: Session, sweep: Sweep, nights: int) -> SweepDocument:
    newest = select(Night).where(Night.sweep_id == sweep.id).order_by(col(Night.id).desc()).limit(nights)
    rows = [(night.id, night) for night in session.exec(newest) if night.id is not None]
    counts = counts_of(session, [number for number, _ in rows])
    return SweepDocument(
        name=sweep.name,
        owner=sweep.owner,
        state=sweep.state,
        spec=sweep.spec,
        due_at=sweep.due_at,
        created_at=sweep.created_at,
        changed_at=sweep.changed_at,
        nights=tuple(
            NightDocument(
                id=number,
                due_at=night.due_at,
                state=night.state,
                reason=night.reason,
                jobs=night.jobs,
                counts=counts[number],
                started_at=night.started_at,
                ended_at=night.ended_at,
            )
            for number, night in rows
        ),
    )


def _shown(session: Session, names: Collection[str]) -> Iterable[Shown]:
    there = {each.name: each for each in sweep_documents(session, names=names)}
    return [Shown(f"sweep/{name}", there.get(name)) for name in sorted(names)]


def _touched(session: Session, lab: Lab, events: Sequence[Event]) -> Iterable[Shown]:
    # a night's subject is `<sweep>/<number>`
    names = {event.subject.partition("/")[0] for event in events if event.kind in ("sweep", "night")}
    return _shown(session, names) if names else ()


def _every(session: Session, lab: Lab) -> Iterable[Shown]:
    return _shown(session, set(session.exec(select(Sweep.name))))


SWEEPS = Shelf(_touched, _every)
