"""A morning report for people's eyes: short, the most important first; and as a file."""

from __future__ import annotations

from pathlib import Path

from labd.cli.connection import stop
from labd.cli.table import local_time, print_table, remarks, results
from labd.errors import LabError
from labd.service.reports.files import put
from labd.service.reports.messages import ChangeFound, Mood, MorningReport
from labd.service.reports.text import NAMES, change_text, markdown, rate_text, said_text, since_text

_TINTS = {Mood.WELL: "green", Mood.LOOK: "yellow", Mood.BAD: "red"}
_MARKS = {Mood.WELL: "✔", Mood.LOOK: "●", Mood.BAD: "✘"}


def write(path: Path, found: MorningReport) -> None:
    """Write the report in the form that the path's suffix names; ends the command if the disk refuses it."""
    if path.suffix == ".html":
        from labd.service.reports.page import page

        text = page(found)
    else:
        text = markdown(found) if path.suffix == ".md" else found.model_dump_json(indent=1) + "\n"
    try:
        put(path, text)
    except OSError as error:
        raise stop(LabError(f"cannot be written: {error.strerror or error}", where=str(path))) from error
    remarks().print(f"written to {path}", markup=False)


def show(found: MorningReport) -> None:
    """Print the report for a person."""
    console = results()
    console.print(f"{_MARKS[found.mood]} {found.headline}", style=f"bold {_TINTS[found.mood]}", markup=False)
    hours = found.duration_s / 3600
    console.print(
        f"{found.sweep}, night {found.night}, due {local_time(found.due_at)}, took {hours:.1f} h", markup=False
    )
    columns = ("cell", "board", "what", "change (95 %)", "when")
    for title, changes in (("got worse", found.regressions), ("got better", found.improvements)):
        if changes:
            print_table(title, columns, map(_change_row, changes))
    if found.boards_to_see:
        rows = ((one.id, one.state, "; ".join(one.reasons)) for one in found.boards_to_see)
        print_table("boards to look at", ("board", "state", "why"), rows)
    if found.reasons:
        lost = (
            (str(one.count), one.state, one.sentence, one.remedy, " ".join(map(str, one.jobs[:5])))
            for one in found.reasons
        )
        print_table("not done", ("jobs", "how", "why", "what to do", "first of them"), lost)
    if found.broken_rules:
        broken = ((str(one.count), one.rule, said_text(one)) for one in found.broken_rules)
        print_table("rules broken", ("jobs", "rule", "first of them"), broken)
    if found.remarks:
        remarked = ((str(one.count), one.about, one.detail, " ".join(map(str, one.jobs[:5]))) for one in found.remarks)
        print_table("what to know of the figures", ("jobs", "about", "first of them", "which first"), remarked)
    if found.instruments_to_see:
        seen = ((one.id, one.state, str(one.times_lost), one.reason or "-") for one in found.instruments_to_see)
        print_table("instruments", ("instrument", "now", "times lost", "why"), seen)
    for notice in found.notices:
        console.print(f"noted: {notice}", style="yellow", markup=False)
    console.print(rate_text(found), style="dim", markup=False)


def _change_row(change: ChangeFound) -> tuple[str, ...]:
    return change.cell, change.board, NAMES[change.quantity], change_text(change), since_text(change)
