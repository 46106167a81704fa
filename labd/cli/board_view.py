"""How boards look in a terminal: their state, their last checks step by step, and their last changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from labd.cli.table import local_time, print_table, quantity, results
from labd.service.health.messages import BoardDetail, CheckDocument
from labd.service.messages import BoardDocument, EventDocument

_UNITS = {"a": "A", "v": "V", "s": "s", "hz": "Hz"}


def print_board(detail: BoardDetail) -> None:
    """Print all that the lab knows of a board."""
    board = detail.board
    out = results()
    out.print(board_line(board), markup=False)
    facts = (
        ("run", "" if board.run_id is None else f"{board.run_id} of job {board.job_id}"),
        ("check", "" if board.check_id is None else f"{board.check_id}, under way"),
        ("reserved by", "" if board.reserved_by is None else f"{board.reserved_by} {_until(board)}"),
        ("holds", ", ".join(detail.holds)),
        ("strikes", str(board.strikes) if board.strikes else ""),
        ("last check", local_time(board.checked_at)),
        ("next check", local_time(board.check_due_at)),
        ("firmware", detail.firmware_sha256[:16]),
    )
    for name, text in facts:
        if text:
            out.print(f"  {name}: {text}", markup=False)
    if detail.checks:
        print_table("checks", ("check", "why", "begun", "verdict", "found"), map(_check_row, detail.checks))
    print_changes(detail.changes)


def board_line(board: BoardDocument) -> str:
    """A board's state in one line."""
    since = "" if board.changed_at is None else f" since {local_time(board.changed_at)}"
    return f"{board.id} is {board.state}{since}" + (f": {board.reason}" if board.reason else "")


def verdict(check: CheckDocument) -> str:
    """How a check ended, in a word or two."""
    if check.ended_at is None:
        return "under way"
    if check.passed is None:
        return "hindered" if check.findings else "cut off"
    return "passed" if check.passed else "failed"


def found(check: CheckDocument) -> str:
    """What a check saw: the step that was wrong, else its figures."""
    for name, finding in check.findings.items():
        if not finding.get("passed", True):
            return f"{name}: {finding.get('message', '')}"
    return "; ".join(text for name, finding in check.findings.items() if (text := _figures(name, finding)))


def print_changes(changes: Iterable[EventDocument]) -> None:
    """Print the last changes of state, newest first."""
    rows = [(local_time(each.at), each.state, each.reason or "-") for each in changes]
    if rows:
        print_table("changes", ("at", "state", "reason"), rows)


def _figures(step: str, finding: Mapping[str, Any]) -> str:
    """The figures of a step that have a unit: `idle 802.1 µA`."""
    told = []
    for key in ("voltage_v", "current_a"):
        value = finding.get(key)
        if isinstance(value, int | float):
            told.append(quantity(value, _UNITS[key.rpartition("_")[2]]))
    if (model := finding.get("model")) is not None:
        told.append(str(model))
    return f"{step} {', '.join(told)}" if told else ""


def _check_row(check: CheckDocument) -> tuple[str, ...]:
    return str(check.id), check.trigger, local_time(check.started_at), verdict(check), found(check) or "-"


def _until(board: BoardDocument) -> str:
    return f"until {local_time(board.reserved_until)}"
