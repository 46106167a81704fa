"""The ledger of the fortnight: nights, boards and reports, beside what every lab's books have."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from tests.fortnight.calendar import SWEEPS, due_times
from tests.fortnight.story import ADDED, DRIFTING, SILENT, Seen
from tests.light.books import Books, Line


def ledger(books: Books, seen: Seen, days: int, reports: Path) -> list[Line]:
    """All lines.

    Args:
        books: The record of the lab.
        seen: What its people know.
        days: How long it was.
        reports: Folder of the reports.
    """
    lines = [*_nights(books, days), *_reports(books, reports, days), *books.lines(seen.accepted, seen.heard)]
    if days > 9:
        held = f"reservation {seen.reservation}, {'still' if seen.still_reserved else 'not'} held after the crash"
        lines.append(Line("held over a crash", held, seen.still_reserved))
    if days > 2:
        told = f"{ADDED}, {'told' if seen.added else 'not told'} by the lab"
        lines.append(Line("board added", told, seen.added))
    crashes = books.number("SELECT count(*) FROM run WHERE cause = 'daemon_died'")
    lines.append(Line("crashes", f"{seen.crashes}, {crashes} runs cut off", True))
    return [*lines, *_boards(books, days)]


def _nights(books: Books, days: int) -> Iterable[Line]:
    for name, at in SWEEPS.items():
        due = set(due_times(at, days))
        rows = books.rows(
            "SELECT night.due_at, night.state, night.reason, night.jobs, "
            "(SELECT count(*) FROM job WHERE job.night_id = night.id) "
            "FROM night JOIN sweep ON sweep.id = night.sweep_id WHERE sweep.name = ?",
            name,
        )
        found = [datetime.fromisoformat(row[0]).replace(tzinfo=UTC) for row in rows]
        kinds = Counter("skipped" if row[1] == "skipped" else "late" if row[2] else "fired" for row in rows)
        open_still = sum(row[1] not in ("ended", "skipped") for row in rows)
        jobs, added = sum(row[3] for row in rows), sum(row[4] for row in rows)
        words = " + ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        yield Line(
            f"nights of {name}", f"{len(due)} due = {words}; {len(due - set(found))} not accounted for",
            due == set(found) and len(found) == len(due) and open_still == 0,
        )  # fmt: skip
        yield Line(f"jobs of {name}", f"{jobs} planned, {added} queued", jobs == added and jobs > 0)


def _reports(books: Books, folder: Path, days: int) -> Iterable[Line]:
    ended = books.number("SELECT count(*) FROM night WHERE state = 'ended'")
    made = books.rows("SELECT report FROM night WHERE report IS NOT NULL AND report != 'null'")
    files = sum(path.is_file() for path in folder.rglob("*.json")) if folder.exists() else 0
    words = f"{len(made)} of {ended} nights, {files} files"
    yield Line("reports", words, len(made) == ended and bool(made))
    told = [json.dumps(found) for (report,) in made for found in json.loads(report)["regressions"]]
    false_alarms = sum(DRIFTING not in found for found in told)
    yield Line(
        "regressions",
        f"{len(told)} told, {false_alarms} of them not on {DRIFTING}, which became slower from day 3 on",
        false_alarms == 0 and (bool(told) or days < 10),
    )


def _boards(books: Books, days: int) -> Iterable[Line]:
    for board, state, reason, strikes in books.rows("SELECT id, state, reason, strikes FROM board ORDER BY id"):
        # silent from day 2 on; each of the three checks that condemn it waits seconds of the host, half a day here
        silent = {"quarantined"} if days > 3 else {"suspect", "quarantined"} if days > 2 else {"online"}
        fits = state in silent if board == SILENT else state == "online" or board == DRIFTING
        words = f"{state}{f', {strikes} strikes' if strikes else ''}{f': {reason}' if reason else ''}"
        yield Line(board, words, fits)
