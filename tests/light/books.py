"""The books of a lab after much work: what went in has to have come out, line by line."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Line:
    """One line: it balances, or it does not.

    Args:
        what: What is counted.
        found: What was found, in words and figures.
        balanced: Whether it is as it has to be.
    """

    what: str
    found: str
    balanced: bool


class Books:
    """The record of a lab whose daemon has stopped, opened for reading.

    Args:
        path: Its SQLite database.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """All rows that a query finds."""
        with closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True)) as database:
            return database.execute(query, values).fetchall()

    def number(self, query: str, *values: object) -> int:
        """The one number that a query finds."""
        ((number,),) = self.rows(query, *values)
        return int(number or 0)

    def by(self, query: str) -> dict[str, int]:
        """Counts by name."""
        return {str(name): int(count) for name, count in self.rows(query)}

    def lines(self, accepted: Collection[int], heard: Collection[int]) -> list[Line]:
        """What has to balance in every lab.

        Args:
            accepted: Numbers of the jobs that clients were told are queued.
            heard: Numbers of the events that a subscriber heard, from the first on.
        """
        return [self._integrity(), *self._jobs(accepted), *self._runs(), *self._leases(), self._events(heard)]

    def _integrity(self) -> Line:
        ((verdict,),) = self.rows("PRAGMA integrity_check")
        astray = self.rows("PRAGMA foreign_key_check")
        return Line("database", f"integrity {verdict}, {len(astray)} references astray", verdict == "ok" and not astray)

    def _jobs(self, accepted: Collection[int]) -> Iterable[Line]:
        states = self.by("SELECT state, count(*) FROM job GROUP BY state")
        causes = self.by("SELECT cause, count(*) FROM job WHERE state = 'failed' GROUP BY cause")
        known = {number for (number,) in self.rows("SELECT id FROM job")}
        own = self.number("SELECT count(*) FROM job WHERE requester = 'labd' OR night_id IS NOT NULL")
        lost = set(accepted) - known
        total, live = len(known), states.get("queued", 0) + states.get("running", 0)
        yield Line(
            "jobs accepted", f"{len(accepted)} told, {len(lost)} of them lost, {total} recorded, {own} of labd's own",
            not lost and total == len(accepted) + own,
        )  # fmt: skip
        yield Line("jobs by end", f"{total} = {_sum(states)}", live == 0 and sum(states.values()) == total)
        yield Line("failed by cause", f"{states.get('failed', 0)} = {_sum(causes)}", "None" not in causes)
        ends = "'completed', 'failed', 'invalid', 'cancelled'"
        not_once = self.number(
            "SELECT count(*) FROM (SELECT job.id FROM job LEFT JOIN event ON event.job_id = job.id AND "
            f"event.kind = 'job' AND event.state IN ({ends}) WHERE job.state IN ({ends}) "
            "GROUP BY job.id HAVING count(event.id) != 1)"
        )
        yield Line("jobs ended once", f"{not_once} ended never or twice", not_once == 0)

    def _runs(self) -> Iterable[Line]:
        states = self.by("SELECT state, count(*) FROM run GROUP BY state")
        completed = self.number("SELECT count(*) FROM job WHERE state = 'completed'")
        twice = self.number(
            "SELECT count(*) FROM (SELECT job_id FROM run WHERE state = 'completed' "
            "GROUP BY job_id HAVING count(*) > 1)"
        )
        total = sum(states.values())
        yield Line("runs by end", f"{total} = {_sum(states)}", "running" not in states)
        yield Line(
            "runs completed", f"{states.get('completed', 0)} for {completed} completed jobs, {twice} twice",
            states.get("completed", 0) == completed and twice == 0,
        )  # fmt: skip

    def _leases(self) -> Iterable[Line]:
        purposes = self.by("SELECT purpose, count(*) FROM lease GROUP BY purpose")
        released = self.number("SELECT count(*) FROM lease WHERE released_at IS NOT NULL")
        runs, holds = self.number("SELECT count(*) FROM run"), self.number("SELECT count(*) FROM hold")
        granted = sum(purposes.values())
        yield Line(
            "leases", f"{granted} granted ({_sum(purposes)}), {released} released, {holds} resources held",
            granted == released and holds == 0,
        )  # fmt: skip
        yield Line("leases of runs", f"{purposes.get('run', 0)} for {runs} runs", purposes.get("run", 0) == runs)
        checks = self.number('SELECT count(*) FROM "check"')
        ended = self.number('SELECT count(*) FROM "check" WHERE ended_at IS NOT NULL')
        verdicts = self.by(
            "SELECT CASE passed WHEN 1 THEN 'passed' WHEN 0 THEN 'failed' ELSE 'cut off' END, count(*) "
            'FROM "check" GROUP BY 1'
        )
        yield Line(
            "checks", f"{checks} = {_sum(verdicts)}, {purposes.get('check', 0)} leases",
            checks == ended == purposes.get("check", 0),
        )  # fmt: skip
        reservations = self.by("SELECT reason, count(*) FROM reservation WHERE state = 'ended' GROUP BY reason")
        open_still = self.number("SELECT count(*) FROM reservation WHERE state != 'ended'")
        total = sum(reservations.values()) + open_still
        yield Line("reservations", f"{total} = {_sum(reservations)}, {open_still} open", open_still == 0)

    def _events(self, heard: Collection[int]) -> Line:
        newest = self.number("SELECT max(id) FROM event")
        told = self.number("SELECT number FROM mark WHERE reader = 'mqtt.events'")
        first = min(heard, default=0)
        missed = max(0, told - first + 1) - len(set(heard))
        return Line(
            "events", f"{newest} noted, {told} told, {len(set(heard))} heard from {first} on, {missed} missed",
            told == newest and missed == 0,
        )  # fmt: skip


def _sum(counts: dict[str, int]) -> str:
    return " + ".join(f"{count} {name or 'without words'}" for name, count in sorted(counts.items())) or "0"


def table(lines: Sequence[Line], title: str) -> Table:
    """The lines, for people."""
    shown = Table("", "found", "", title=title)
    for line in lines:
        shown.add_row(line.what, line.found, "balances" if line.balanced else "[bold]does not balance[/bold]")
    return shown


def close(lines: Sequence[Line], title: str, out: Path, *, as_json: bool) -> int:
    """Keep the lines in `out` and print them; return the exit status, which is 1 if one does not balance."""
    text = json.dumps([asdict(line) for line in lines], indent=1)
    out.parent.mkdir(exist_ok=True)
    out.write_text(text + "\n", encoding="utf-8")
    if as_json:
        print(text)
    else:
        Console(width=160).print(table(lines, title))
    return 0 if all(line.balanced for line in lines) else 1
