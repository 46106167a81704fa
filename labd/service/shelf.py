"""What the lab keeps at the broker beside its jobs: shelves of retained documents, one for each kind of thing.

A shelf says which documents a batch of events has changed, and which there are in all. Whoever adds a kind of thing
writes a shelf beside its documents and puts it into `labd.service.outbox.SHELVES`; telling it is then done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from sqlmodel import Session

from labd.model import ledger_lab
from labd.model.tables import Event
from labd.service.documents import board_documents, instrument_documents, removed_devices
from labd.service.lab import Lab
from labd.service.messages import Message


@dataclass(frozen=True, slots=True)
class Shown:
    """A retained document, or that there is none any more.

    Args:
        path: Its topic below the lab's root: `board/b1`, `sweep/nightly/report`.
        document: What it says; None takes it away from the broker.
    """

    path: str
    document: Message | None


@dataclass(frozen=True, slots=True)
class Shelf:
    """The retained documents of one kind of thing. Both functions read with the session they are given.

    Args:
        touched: What these events have changed, as it is now; a thing that is gone is shown without its document.
        every: All that there are; told to a broker that has nothing.
    """

    touched: Callable[[Session, Lab, Sequence[Event]], Iterable[Shown]]
    every: Callable[[Session, Lab], Iterable[Shown]]


def _boards(session: Session, lab: Lab) -> Iterable[Shown]:
    for board in board_documents(session, lab.config):
        yield Shown(f"board/{board.id}", board)
    for gone in removed_devices(session, lab.config)[0]:
        yield Shown(f"board/{gone}", None)


def _touched_boards(session: Session, lab: Lab, events: Sequence[Event]) -> Iterable[Shown]:
    if _reloaded(events):
        yield from _boards(session, lab)
        return
    touched = {event.board_id for event in events if event.board_id is not None}
    for board in board_documents(session, lab.config, touched) if touched else ():
        yield Shown(f"board/{board.id}", board)
    for gone in touched - {board.id for board in lab.config.board}:
        yield Shown(f"board/{gone}", None)


def _instruments(session: Session, lab: Lab) -> Iterable[Shown]:
    for instrument in instrument_documents(session, lab.config):
        yield Shown(f"instrument/{instrument.id}", instrument)
    for gone in removed_devices(session, lab.config)[1]:
        yield Shown(f"instrument/{gone}", None)


def _touched_instruments(session: Session, lab: Lab, events: Sequence[Event]) -> Iterable[Shown]:
    if _reloaded(events):
        return _instruments(session, lab)
    touched = {f"instrument/{event.subject}" for event in events if event.kind == "instrument"}
    return (shown for shown in _instruments(session, lab) if shown.path in touched) if touched else ()


def _reloaded(events: Sequence[Event]) -> bool:
    """Whether another lab.toml was taken up, which may say something else of any board."""
    return any(event.kind == ledger_lab.KIND and event.state == ledger_lab.RELOADED for event in events)


BOARDS = Shelf(_touched_boards, _boards)
INSTRUMENTS = Shelf(_touched_instruments, _instruments)
