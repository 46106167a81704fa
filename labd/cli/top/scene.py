"""What `labctl top` knows of a lab: the newest documents, and what ended lately. Nothing here draws or waits."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from labd.model.states import BoardState, JobState, ReservationState
from labd.service.messages import (
    BoardDocument,
    EventDocument,
    InstrumentDocument,
    LabStatus,
    Offline,
    ProgressDocument,
)
from labd.service.reservations.messages import ReservationDocument

RATE_WINDOW = timedelta(minutes=10)
"""Over how long the throughput is taken."""
EVENTS_KEPT = 200
"""Newest events that are remembered to be shown."""
ENDS_KEPT = 100_000
"""Most ended jobs in `RATE_WINDOW` that are counted."""

News = LabStatus | Offline | BoardDocument | InstrumentDocument | ReservationDocument | ProgressDocument | EventDocument

_URGENT = (
    BoardState.QUARANTINED,
    BoardState.SUSPECT,
    BoardState.MAINTENANCE,
    BoardState.BUSY,
    BoardState.OFFLINE,
    BoardState.ONLINE,
)
"""Boards that need a person come first, idle ones last."""
_ENDED = frozenset(state.value for state in JobState if state.ended)


@dataclass(frozen=True, slots=True)
class Throughput:
    """Jobs that ended in a stretch of time."""

    completed: int
    others: int
    """Failed, invalid and cancelled."""
    span_s: float
    """How long was looked, s."""

    @property
    def per_hour(self) -> float:
        """Completed jobs an hour; 0 before anything was seen."""
        return 3600.0 * self.completed / self.span_s if self.span_s > 0 else 0.0


@dataclass(slots=True)
class Scene:
    """The lab as its messages tell it.

    Args:
        began: When watching began, by the reader's clock.
    """

    began: datetime
    status: LabStatus | Offline | None = None
    boards: dict[str, BoardDocument] = field(default_factory=dict)
    instruments: dict[str, InstrumentDocument] = field(default_factory=dict)
    reservations: dict[int, ReservationDocument] = field(default_factory=dict)
    progress: dict[int, ProgressDocument] = field(default_factory=dict)
    """By run: the newest of each."""
    events: deque[EventDocument] = field(default_factory=lambda: deque(maxlen=EVENTS_KEPT))
    _ends: deque[tuple[datetime, JobState]] = field(default_factory=lambda: deque(maxlen=ENDS_KEPT))
    _newest: int = 0

    def note(self, news: News, at: datetime) -> None:
        """Take in one message that came at `at`, by the reader's clock."""
        match news:
            case LabStatus() | Offline():
                self.status = news
            case BoardDocument():
                self.boards[news.id] = news
            case InstrumentDocument():
                self.instruments[news.id] = news
            case ReservationDocument():
                self.reservations[news.id] = news
            case ProgressDocument():
                self.progress[news.run_id] = news
            case EventDocument():
                self._note_event(news, at)

    def forget(self, kind: str, name: str) -> None:
        """A retained document was cleared: the thing is gone."""
        match kind:
            case "board":
                self.boards.pop(name, None)
            case "instrument":
                self.instruments.pop(name, None)
            case "reservation":
                self.reservations.pop(int(name), None)
            case _:
                pass

    def _note_event(self, event: EventDocument, at: datetime) -> None:
        if event.number <= self._newest:  # told again after a broken connection
            return
        self._newest = event.number
        self.events.append(event)
        if event.kind == "run" and event.run_id is not None and event.state != "running":
            self.progress.pop(event.run_id, None)
        if event.kind == "job" and event.state in _ENDED:
            self._ends.append((at, JobState(event.state)))

    def throughput(self, now: datetime) -> Throughput:
        """What ended within `RATE_WINDOW` before `now`, or since watching began if that is less."""
        since = max(self.began, now - RATE_WINDOW)
        states = [state for at, state in self._ends if at >= since]
        completed = states.count(JobState.COMPLETED)
        return Throughput(completed, len(states) - completed, (now - since).total_seconds())

    def ranked_boards(self) -> list[BoardDocument]:
        """All boards, those first that somebody should look at."""
        return sorted(self.boards.values(), key=lambda board: (_URGENT.index(board.state), board.id))

    def board_counts(self) -> dict[BoardState, int]:
        """How many boards there are in each state that one is in."""
        return _counted(board.state for board in self.boards.values())

    def live_reservations(self) -> list[ReservationDocument]:
        """Reservations that wait or hold a board, oldest first."""
        live = (each for each in self.reservations.values() if each.state is not ReservationState.ENDED)
        return sorted(live, key=lambda each: each.id)


def _counted(states: Iterable[BoardState]) -> dict[BoardState, int]:
    found = list(states)
    return {state: count for state in _URGENT if (count := found.count(state))}
