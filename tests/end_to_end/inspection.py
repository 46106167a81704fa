"""What a campaign has left: every sentence that comes out of here is a promise that labd has broken."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlmodel import Session, col, select

from labd.benchmarks import Mode
from labd.errors import TraceError
from labd.model.causes import Cause
from labd.model.engine import Access, make_engine
from labd.model.states import BoardState, JobState, RunState, TraceState
from labd.model.tables import Board, Job, Lease, Run, Score, Trace
from labd.trace.seal import verify
from labd.virtual.control import SwitchingReport

Output = tuple[str, int]
"""Analyzer and channel."""


def outputs_broken(
    on: Iterable[Output], wired: frozenset[Output], switchings: Iterable[SwitchingReport], *, ready: bool
) -> Iterator[str]:
    """Look at a restart from the rack's side: first every output goes off, then one may go on.

    Args:
        on: Outputs that the dead daemon has left on.
        wired: All outputs that feed a board.
        switchings: What was switched from the restart on, in order.
        ready: Whether the daemon came so far that it must have switched all of them off.
    """
    left, told = set(on), set[Output]()
    for each in switchings:
        output = (each.analyzer, each.channel)
        if each.energized:
            if left:
                yield f"{output} went on at {each.at_s:.3f} s while {sorted(left)} was still on"
            if told != wired:
                yield f"{output} went on at {each.at_s:.3f} s before {sorted(wired - told)} was told to go off"
            return
        left.discard(output)
        told.add(output)
    if ready and told != wired:
        yield f"{sorted(wired - told)} was not told to go off at a start"


@dataclass(frozen=True, slots=True)
class Record:
    """What the database and the trace store hold after a campaign."""

    completed: int
    runs: int
    interrupted: int
    leases_left: int
    sealed: int
    salvaged: int
    lost: int
    verified: int
    broken: tuple[str, ...]


def inspect_record(database_url: str, traces_dir: Path, jobs: int) -> Record:
    """Read everything that a stopped lab has left."""
    engine = make_engine(database_url, Access.READ)
    try:
        with Session(engine) as session:
            runs = session.exec(select(Run).order_by(col(Run.id))).all()
            traces = session.exec(select(Trace)).all()
            leases = session.exec(select(Lease).where(col(Lease.released_at).is_(None))).all()
            states = Counter(trace.state for trace in traces)
            damage = dict(_unverified(traces, traces_dir))
            broken = [
                *_jobs_broken(session, runs, jobs),
                *(f"lease {lease.id} on {lease.board_id} is still in force" for lease in leases),
                *_traces_broken(traces, traces_dir),
                *_untraced(session, traces),
                *damage.values(),
                *(
                    f"{board.id} is {board.state}, not online"
                    for board in session.exec(select(Board))
                    if board.state is not BoardState.ONLINE
                ),
            ]
            return Record(
                completed=len([run for run in runs if run.state is RunState.COMPLETED]),
                runs=len(runs),
                interrupted=len([run for run in runs if run.state is RunState.INTERRUPTED]),
                leases_left=len(leases),
                sealed=states[TraceState.SEALED],
                salvaged=states[TraceState.SALVAGED],
                lost=states[TraceState.LOST],
                verified=states[TraceState.SEALED] + states[TraceState.SALVAGED] - len(damage),
                broken=tuple(broken),
            )
    finally:
        engine.dispose()


def _jobs_broken(session: Session, runs: Iterable[Run], expected: int) -> Iterator[str]:
    """Every job completed, in its last attempt and no other; all earlier ones were interrupted by a death."""
    jobs = session.exec(select(Job)).all()
    if len(jobs) != expected:
        yield f"{len(jobs)} jobs are known, {expected} were accepted"
    scored = Counter(session.exec(select(Score.run_id)))
    for job in jobs:
        if job.state is not JobState.COMPLETED:
            yield f"job {job.id} is {job.state}: {job.cause} {job.detail}"
        attempts = [run for run in runs if run.job_id == job.id]
        if [run.attempt for run in attempts] != list(range(1, len(attempts) + 1)):
            yield f"job {job.id} has attempts {[run.attempt for run in attempts]}"
        for run in attempts[:-1]:
            if (run.state, run.cause) != (RunState.INTERRUPTED, Cause.DAEMON_DIED):
                yield f"run {run.id} of job {job.id}, not the last one, is {run.state}: {run.cause} {run.detail}"
        for run in attempts[-1:]:
            if run.state is not RunState.COMPLETED or scored[run.id] != 1:
                yield f"run {run.id}, the last of job {job.id}, is {run.state} and has {scored[run.id]} scores"


def _traces_broken(traces: Iterable[Trace], traces_dir: Path) -> Iterator[str]:
    rows = {trace.id: trace for trace in traces}
    for trace in rows.values():
        if trace.state is TraceState.RECORDING:
            yield f"trace {trace.id} is still said to be recorded"
        if trace.state is TraceState.LOST and (traces_dir / trace.id / "samples.arrow").exists():
            yield f"trace {trace.id} is said to be lost, and its samples are there"
    for folder in traces_dir.iterdir():
        if folder.name not in rows:
            yield f"{folder} belongs to no run"
        elif left := [path.name for path in folder.iterdir() if _surplus(path)]:
            yield f"{folder} still holds {left}"


def _untraced(session: Session, traces: Iterable[Trace]) -> Iterator[str]:
    completed = select(Run).where(col(Run.job_id) == col(Job.id), Run.state == RunState.COMPLETED)
    for run in session.exec(completed.where(Job.mode == Mode.ENERGY)):
        states = [trace.state.value for trace in traces if trace.run_id == run.id]
        if states != [TraceState.SEALED]:
            yield f"energy run {run.id} has completed with traces {states}"


def _surplus(path: Path) -> bool:
    """Whether a sealed trace does without this file."""
    return path.suffix in (".part", ".arrow", ".index") and (path.parent / "seal.json").exists()


def _unverified(traces: Iterable[Trace], traces_dir: Path) -> Iterator[tuple[str, str]]:
    for trace in traces:
        if trace.state not in (TraceState.SEALED, TraceState.SALVAGED):
            continue
        try:
            seal = verify(traces_dir / trace.id)
        except TraceError as error:
            yield trace.id, f"trace {trace.id} does not verify: {error}"
            continue
        digest = hashlib.sha256(seal.encode()).hexdigest()
        if (seal.state.value, seal.rows, digest) != (trace.state.value, trace.rows, trace.sha256):
            yield trace.id, f"the database tells another story of trace {trace.id} than its seal"
