"""Why a job waits, for people: the answer in short, who is before it, and what each board is to it."""

from __future__ import annotations

from labd.cli.table import counted, local_time, print_table, results
from labd.service.queue.messages import StartDocument, WhyDocument


def print_why(told: WhyDocument) -> None:
    """Print an explanation."""
    results().print(f"job {told.job_id} is {told.state}: {told.sentence}", markup=False)
    if told.place is not None:
        results().print(f"place {told.place} of {told.of} of its requester", markup=False)
    for each in told.ahead:
        jobs = counted(each.waiting, "job")
        results().print(
            f"first comes {each.requester}, with {jobs} waiting and {each.lead_s:.0f} s less of the boards",
            markup=False,
        )
    if told.starts is not None:
        results().print(_start(told.starts), markup=False)
    if told.boards:
        rows = (
            (each.board_id, each.obstacle, each.reason, "-" if each.until is None else local_time(each.until))
            for each in told.boards
        )
        print_table("boards", ("board", "obstacle", "reason", "until"), rows)


def _start(starts: StartDocument) -> str:
    if starts.at is None:
        return f"start unknown: {starts.reason}"
    if starts.exact:
        return f"it may start at {local_time(starts.at)}"
    return f"it starts after {local_time(starts.at)}: {starts.reason}"
