"""Sweeps for people's eyes."""

from __future__ import annotations

import json
from collections.abc import Sequence

from labd.cli.table import counted, local_time, print_table, remarks, results
from labd.model.states import JobState
from labd.service.sweeps.messages import NightDocument, SweepDocument, SweepPlanned

_NIGHT = ("night", "due", "state", "jobs", "completed", "failed", "to do", "reason")


def print_sweeps(sweeps: Sequence[SweepDocument]) -> None:
    """A line a sweep, with its last night."""
    columns = ("sweep", "state", "owner", "cron", "next", *_NIGHT)
    rows = [
        (
            sweep.name,
            sweep.state,
            sweep.owner,
            _cron(sweep),
            local_time(sweep.due_at),
            *(_night(sweep.nights[0]) if sweep.nights else ("-",) * len(_NIGHT)),
        )
        for sweep in sweeps
    ]
    print_table(counted(len(sweeps), "sweep"), columns, rows)


def print_sweep(sweep: SweepDocument) -> None:
    """The whole of a sweep."""
    out = results()
    out.print(f"sweep {sweep.name} of {sweep.owner} is {sweep.state}", markup=False)
    out.print(f"cron: {_cron(sweep)}, next on {local_time(sweep.due_at)}", markup=False)
    for key, value in sweep.spec.items():
        if key not in ("cron", "zone"):
            out.print(f"{key} = {json.dumps(value, ensure_ascii=False)}", markup=False)
    print_table(f"last {counted(len(sweep.nights), 'night')}", _NIGHT, map(_night, sweep.nights))


def print_preview(planned: SweepPlanned) -> None:
    """What a sweep would do."""
    axes = " × ".join(f"{count} {axis}" for axis, count in planned.axes.items())
    out = results()
    out.print(f"{counted(planned.jobs, 'job')} a night{f' ({axes})' if axes else ''}", markup=False)
    out.print(
        f"about {_hours(planned.board_s)} of board time, {_hours(planned.wall_s)} if all boards are free", markup=False
    )
    for due in planned.due:
        out.print(f"due {due}", markup=False)
    rows = [(job.cell, " ".join(job.boards), _hours(job.estimate_s)) for job in (*planned.first, *planned.last)]
    shown = len(rows)
    title = "jobs" if shown == planned.jobs else f"first {len(planned.first)} and last {len(planned.last)} jobs"
    print_table(title, ("cell", "boards", "takes"), rows)
    if planned.left_out:
        columns = ("left out", "key", "because", "such as")
        left = [(str(each.count), each.field, each.reason, each.cells[0]) for each in planned.left_out]
        print_table("cells that no board can serve", columns, left)
    for place in planned.idle_excludes:
        remarks().print(f"exclude[{place}] matches no cell", markup=False)


def _cron(sweep: SweepDocument) -> str:
    line = sweep.spec.get("cron")
    return "by hand" if line is None else f"{line} ({sweep.spec.get('zone', 'UTC')})"


def _night(night: NightDocument) -> tuple[str, ...]:
    counts = night.counts
    failed = sum(counts.get(state, 0) for state in (JobState.FAILED, JobState.INVALID))
    to_do = sum(counts.get(state, 0) for state in (JobState.QUEUED, JobState.RUNNING))
    return (
        str(night.id),
        local_time(night.due_at),
        night.state,
        str(night.jobs),
        str(counts.get(JobState.COMPLETED, 0)),
        str(failed),
        str(to_do),
        night.reason or "-",
    )


def _hours(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
