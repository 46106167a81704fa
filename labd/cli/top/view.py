"""How `labctl top` looks: a line for the lab, a table of its boards, and what has happened last.

It fits the terminal that it is given: boards that need nobody are counted where there is no room to list them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from labd.cli.table import counted, local_time
from labd.cli.top.scene import RATE_WINDOW, Scene
from labd.model.states import BoardState, InstrumentState
from labd.service.messages import BoardDocument, EventDocument, LabStatus, Offline, ProgressDocument
from labd.service.reservations.messages import ReservationDocument

_COLOURS = {
    BoardState.ONLINE: "green",
    BoardState.BUSY: "cyan",
    BoardState.SUSPECT: "yellow",
    BoardState.QUARANTINED: "red",
    BoardState.MAINTENANCE: "magenta",
    BoardState.OFFLINE: "dim",
}
_SIGNS = {
    BoardState.ONLINE: "○",
    BoardState.BUSY: "●",
    BoardState.SUSPECT: "?",
    BoardState.QUARANTINED: "✗",
    BoardState.MAINTENANCE: "◇",
    BoardState.OFFLINE: "-",
}
"""States are told by more than their colour."""

EVENTS_LEAST = 4
HEAD_LINES = 5
"""The lab's three lines, the rule, and the table's head."""


def view(scene: Scene, now: datetime, *, lab: str, height: int) -> RenderableType:
    """The whole picture.

    Args:
        scene: What is known.
        now: The reader's time.
        lab: The lab's name.
        height: Lines that there are.
    """
    if scene.status is None:
        return Text(f"waiting for {lab} …", style="dim")
    held = _holds(scene, now)
    room = max(1, height - HEAD_LINES - len(held) - EVENTS_LEAST - 2)
    boards = scene.ranked_boards()
    listed, left = (boards, []) if len(boards) <= room else (boards[: room - 1], boards[room - 1 :])
    lines = height - HEAD_LINES - len(held) - len(listed) - (1 if left else 0) - 2
    return Group(
        _headline(scene, now, lab),
        _work(scene, now),
        _devices(scene),
        Rule(style="dim"),
        _boards(scene, listed, now),
        *([_rest(left)] if left else []),
        *held,
        Rule("latest", align="left", style="dim"),
        *map(_event, list(scene.events)[-max(EVENTS_LEAST, lines) :]),
    )


def _headline(scene: Scene, now: datetime, lab: str) -> Text:
    line = Text.assemble((lab, "bold"), "  ", no_wrap=True, overflow="ellipsis")
    match scene.status:
        case Offline():
            line.append("OFFLINE", style="bold red")
            line.append("  runs and measurements wait until its daemon is back", style="red")
        case LabStatus() as status:
            line.append("online", style="green")
            line.append(f"  since {local_time(status.since)}, labd {status.version}", style="dim")
            if status.stopped is not None:
                line.append(f"  STOPPED: {status.stopped.reason}", style="bold red")
            for notice in (status.space.notice, status.archive):
                if notice:
                    line.append(f"  {notice}", style="bold yellow")
        case None:
            pass
    line.append(f"  {now.astimezone():%H:%M:%S}", style="dim")
    return line


def _work(scene: Scene, now: datetime) -> Text:
    line = Text(no_wrap=True, overflow="ellipsis")
    if isinstance(scene.status, LabStatus):
        line.append(f"{counted(scene.status.queue_length, 'job')} waiting", style="bold")
        line.append(f", {scene.status.running} running   ")
    done = scene.throughput(now)
    minutes = done.span_s / 60
    full = "" if done.span_s < RATE_WINDOW.total_seconds() else "last "
    line.append(f"{done.per_hour:.0f} jobs/h", style="bold")
    line.append(
        f" ({counted(done.completed, 'job')} completed, {done.others} ended otherwise in {full}{minutes:.1f} min)   "
    )
    return line


def _devices(scene: Scene) -> Text:
    line = Text(no_wrap=True, overflow="ellipsis")
    for state, count in scene.board_counts().items():
        line.append(f"{_SIGNS[state]} {count} {state}  ", style=_COLOURS[state])
    down = [each for each in scene.instruments.values() if each.state is not InstrumentState.ONLINE]
    for instrument in down:
        line.append(f"✗ {instrument.id} {instrument.state}  ", style="red")
    return line


def _boards(scene: Scene, boards: Sequence[BoardDocument], now: datetime) -> Table:
    table = Table(box=None, expand=True, pad_edge=False, header_style="dim")
    for head, width in (("board", 18), ("state", 13), ("for", 8), ("job", 7), ("step", 15), ("", 12)):
        table.add_column(head, width=width, no_wrap=True, overflow="ellipsis")
    table.add_column("why", ratio=1, no_wrap=True, overflow="ellipsis")
    runs = {progress.run_id: progress for progress in scene.progress.values()}
    for board in boards:
        progress = runs.get(board.run_id) if board.run_id is not None else None
        table.add_row(
            Text(board.id),
            Text(f"{_SIGNS[board.state]} {board.state}", style=_COLOURS[board.state]),
            Text(_span((now - board.changed_at).total_seconds()) if board.changed_at else "-"),
            Text(str(board.job_id) if board.job_id is not None else "-"),
            Text(_step(progress)),
            ProgressBar(total=1.0, completed=progress.share, complete_style="cyan", finished_style="cyan")
            if progress
            else Text(""),
            Text(board.reason if progress is None else "", style="dim"),
        )
    return table


def _step(progress: ProgressDocument | None) -> str:
    if progress is None:
        return ""
    return f"{progress.step} {progress.trial}/{progress.trials}" if progress.trial else progress.step


def _rest(boards: Sequence[BoardDocument]) -> Text:
    counts = {state: sum(board.state is state for board in boards) for state in dict.fromkeys(b.state for b in boards)}
    words = ", ".join(f"{count} {state}" for state, count in counts.items())
    return Text(f"and {counted(len(boards), 'more board')}: {words}", style="dim")


def _holds(scene: Scene, now: datetime) -> list[Text]:
    return [_hold(each, now) for each in scene.live_reservations()[:5]]


def _hold(reservation: ReservationDocument, now: datetime) -> Text:
    line = Text(f"reservation {reservation.id}: {reservation.owner} ", style="magenta")
    if reservation.board_id is None or reservation.ends_at is None:
        line.append("waits for a board")
    else:
        line.append(f"has {reservation.board_id} for {_span((reservation.ends_at - now).total_seconds())} more")
    if reservation.purpose:
        line.append(f": {reservation.purpose}", style="dim")
    return line


def _event(event: EventDocument) -> Text:
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f"{event.at.astimezone():%H:%M:%S}  ", style="dim")
    line.append(f"{event.kind} {event.subject} ")
    line.append(event.state, style="red" if event.state in ("failed", "quarantined", "parked") else "bold")
    if event.reason:
        line.append(f"  {event.reason}")
    if event.actor != "labd":
        line.append(f"  by {event.actor}", style="dim")
    return line


def _span(seconds: float) -> str:
    """A length of time in its largest two units: `3 h 05`, `12 min`, `40 s`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d}"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"
