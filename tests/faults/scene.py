"""What the tests of faults have in common: a moment in a run to wait for, and what must be in order after any end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from sqlmodel import Session, col, select

from labd.benchmarks import Mode
from labd.config import Board, LabConfig
from labd.model.causes import Ending
from labd.model.states import RunStep, TraceState
from labd.model.tables import Lease, Trace
from labd.model.tables import Run as RunRow
from labd.trace.seal import SealState, verify
from labd.virtual.control import FaultRequest
from tests.bench.benches import TestBench
from tests.deadline import HUNG_S

SPEED = 12.0
BOARD = "board-1"
TRIALS = 3
Moment = Callable[[TestBench], bool]


def turn(bench: TestBench, device: str, name: str, *, on: bool) -> None:
    """Switch one of the rack's faults."""
    bench.rack.answer(FaultRequest(op="fault", device=device, name=name, on=on))


async def energy(bench: TestBench, board: str = BOARD, **wishes: object) -> tuple[Ending, int]:
    """A short energy job."""
    return await bench.run(Mode.ENERGY, board, **{"trials": TRIALS, "min_window_s": 0.2, **wishes})


def at_step(step: RunStep, board: str = BOARD) -> Moment:
    """The run on this board is at the step."""
    return lambda bench: any(p.board_id == board and p.step is step for p in bench.bench.progress.snapshot().values())


def in_trial(number: int, board: str = BOARD) -> Moment:
    """The run on this board is in the trial of this number, from 1, or beyond."""
    return lambda bench: any(
        p.board_id == board and p.step is RunStep.MEASURE and p.trial >= number
        for p in bench.bench.progress.snapshot().values()
    )


async def reached(bench: TestBench, run: asyncio.Task[tuple[Ending, int]], moment: Moment) -> None:
    """Wait for a moment of a run."""
    async with asyncio.timeout(HUNG_S):
        while not moment(bench):
            assert not run.done(), f"the run ended before: {run.result()}"
            changed = asyncio.create_task(bench.bench.progress.changed(), name="progress-changed")
            await asyncio.wait({changed, run}, return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()
            await asyncio.wait({changed})


async def outputs_off(bench: TestBench, board: str = BOARD) -> None:
    """Wait until the board's output is off, programmed and in truth."""
    wiring = board_of(bench, board).supply
    async with asyncio.timeout(HUNG_S):
        while (state := bench.rack.analyzers[wiring.instrument].outputs()[wiring.channel]).programmed_on:
            await asyncio.sleep(0.02)
    assert not state.energized


def output_is_off(bench: TestBench, board: str = BOARD) -> bool:
    """Whether the board's output is off now."""
    wiring = board_of(bench, board).supply
    state = bench.rack.analyzers[wiring.instrument].outputs()[wiring.channel]
    return not state.programmed_on and not state.energized


async def nothing_is_left(bench: TestBench) -> None:
    """No lease is in force, no run under way, and every trace that was begun is sealed and verifies."""

    def look(session: Session) -> tuple[list[Lease], list[Trace]]:
        leases = session.exec(select(Lease).where(col(Lease.released_at).is_(None))).all()
        return list(leases), list(session.exec(select(Trace)).all())

    leases, traces = await bench.database.read(look)
    assert not leases
    assert not bench.bench.progress.snapshot()
    for trace in traces:
        if trace.state is not TraceState.LOST:
            seal = verify(bench.config.traces_dir / trace.id)
            assert seal.state is SealState.SEALED
            assert (trace.state, trace.rows) == (TraceState.SEALED, seal.rows)
            assert seal.rows > 0
    sealed = {trace.id for trace in traces if trace.state is not TraceState.LOST}
    assert {folder.name for folder in bench.config.traces_dir.iterdir()} == sealed


async def trace_of(bench: TestBench, run_id: int) -> Path | None:
    """Folder of the run's trace; None if it began none."""
    row = await bench.database.read(
        lambda session: session.exec(select(Trace).where(Trace.run_id == run_id)).one_or_none()
    )
    return None if row is None else bench.config.traces_dir / row.id


async def told(bench: TestBench, run_id: int) -> Ending:
    """The ending that the database tells of a run."""
    row = await bench.database.read(lambda session: session.get_one(RunRow, run_id))
    return Ending(row.cause, row.detail)


async def next_job_completes(bench: TestBench, board: str = BOARD) -> None:
    """A job on the board, now that nothing is wrong, completes."""
    ending, _ = await energy(bench, board, trials=2)
    assert ending == Ending(), ending.detail
    assert output_is_off(bench, board)


def board_of(bench: TestBench, board: str) -> Board:
    """The board in `lab.toml`."""
    found = bench.config.board_by_id(board)
    assert found is not None
    return found


def with_lab(bench: TestBench, change: Callable[[LabConfig], LabConfig]) -> TestBench:
    """The same bench with another `lab.toml`."""
    return replace(bench, config=change(bench.config))


def with_board(bench: TestBench, change: Callable[[Board], Board], board: str = BOARD) -> TestBench:
    """The same bench with one board of `lab.toml` changed."""
    return with_lab(
        bench,
        lambda lab: lab.model_copy(
            update={"board": tuple(change(each) if each.id == board else each for each in lab.board)}
        ),
    )
