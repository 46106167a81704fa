"""With a sync load wired, runs are placed by it, and what shifts or loses samples is named by who saw it."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlmodel import select

from labd.model.causes import Cause, Ending
from labd.model.states import RunState
from labd.model.tables import Score, Trial, Window
from labd.score.energy import RunScore
from labd.trace.reader import Trace
from labd.virtual.config import RackConfig
from tests.bench.benches import TestBench, bench_on_rack
from tests.deadline import HUNG_S
from tests.faults.scene import (
    SPEED,
    board_of,
    energy,
    in_trial,
    nothing_is_left,
    output_is_off,
    outputs_off,
    reached,
    trace_of,
    turn,
)

LOADED = ("board-3", "board-4")
"""The demo's boards with a sync load."""
AGREES = 5.0
"""A measured energy lies within so many standard uncertainties of the true one."""
PULSES = 4


async def traced(bench: TestBench, run_id: int) -> Trace:
    folder = await trace_of(bench, run_id)
    assert folder is not None
    return Trace.open(folder)


async def scored(bench: TestBench, run_id: int) -> RunScore:
    row = await bench.database.read(lambda session: session.exec(select(Score).where(Score.run_id == run_id)).one())
    return RunScore.model_validate(row.result, strict=False)


async def agrees_with_the_truth(bench: TestBench, board: str, run_id: int) -> None:
    """Each window's energy is the true one within its uncertainty."""
    rows: Sequence[Window] = await bench.database.read(
        lambda session: session.exec(
            select(Window).join(Trial).where(Trial.run_id == run_id).order_by(Trial.number)  # type: ignore[arg-type]
        ).all()
    )
    known = {(true.opened_ticks, true.closed_ticks): true for true in bench.rack.seats[board].truth.windows}
    score = await scored(bench, run_id)
    assert len(score.windows) == len(rows) > 0
    for window, row in zip(score.windows, rows, strict=True):
        true_j = known[row.start_ticks, row.stop_ticks].energy_j
        assert abs(window.energy_j.value - true_j) <= AGREES * window.energy_j.standard_uncertainty


def verdicts(score: RunScore) -> dict[str, str]:
    return {testimony.witness: testimony.verdict for testimony in score.testimonies}


def pulses_lie_between_the_windows(trace: Trace) -> None:
    """So many pulses before the first trial, after each, and after the last; none touches a window."""
    pulses = trace.load_pulses()
    windows = [(trial.edges[0].ticks, trial.edges[-1].ticks) for trial in trace.trials()]
    assert len(pulses) == PULSES * (len(windows) + 1)
    for before, after in itertools.pairwise(pulses):
        assert before.off_ticks < after.on_ticks
    edges = [0, *itertools.chain.from_iterable(windows), 2**63]
    for number, (begin, end) in enumerate(zip(edges[::2], edges[1::2], strict=True)):
        burst = pulses[number * PULSES : (number + 1) * PULSES]
        assert begin < burst[0].on_ticks
        assert burst[-1].off_ticks < end


@pytest.mark.parametrize("board", LOADED)
async def test_a_run_with_a_load_is_placed_by_it_and_measures_the_true_energy(board: str, tmp_path: Path) -> None:
    async with bench_on_rack(tmp_path, speed=SPEED) as bench:
        ending, run_id = await energy(bench, board)
        assert ending == Ending()
        score, trace = await scored(bench, run_id), await traced(bench, run_id)
        assert score.placement == "load"
        said = verdicts(score)
        assert [said[witness] for witness in ("load", "pulse", "bracket", "steps")] == ["agrees"] * 4
        timing = board_of(bench, board).timing
        assert timing is not None
        assert timing.load is not None
        assert trace.meta.sync_load is not None
        assert (trace.meta.sync_load.pin, trace.meta.sync_load.ohm) == (timing.load.pin, 330)
        assert trace.meta.sync_load.tolerance == pytest.approx(timing.load.tolerance_percent / 100)
        pulses_lie_between_the_windows(trace)
        await agrees_with_the_truth(bench, board, run_id)
        assert output_is_off(bench, board)
        await nothing_is_left(bench)


async def test_two_boards_pulse_their_loads_beside_each_other(tmp_path: Path) -> None:
    async with bench_on_rack(tmp_path, speed=SPEED) as bench:
        both = await asyncio.gather(*(energy(bench, board) for board in LOADED))
        for board, (ending, run_id) in zip(LOADED, both, strict=True):
            assert ending == Ending()
            assert (await scored(bench, run_id)).placement == "load"
            pulses_lie_between_the_windows(await traced(bench, run_id))
            await agrees_with_the_truth(bench, board, run_id)
        await nothing_is_left(bench)


def without_a_trigger(rack: RackConfig) -> RackConfig:
    stampers = tuple(stamper.model_copy(update={"triggers": ()}) for stamper in rack.timestamper)
    return rack.model_copy(update={"timestamper": stampers})


def alone(board: str) -> Callable[[RackConfig], RackConfig]:
    """The board alone on the analyzer: a sample every 204.8 µs, and not 942 µs."""
    return lambda rack: rack.model_copy(update={"board": tuple(each for each in rack.board if each.id == board)})


async def test_a_load_places_a_run_without_a_trigger(tmp_path: Path) -> None:
    async with bench_on_rack(tmp_path, speed=SPEED, change=without_a_trigger) as bench:
        ending, run_id = await energy(bench, "board-3")
        assert ending == Ending()
        score, trace = await scored(bench, run_id), await traced(bench, run_id)
        assert not trace.sync_pulses()
        assert score.placement == "load"
        assert verdicts(score)["bracket"] == "agrees"
        assert [bracket.sample for bracket in trace.brackets()] == [0, trace.rows]
        await agrees_with_the_truth(bench, "board-3", run_id)


async def test_a_board_alone_pulses_its_load_at_the_shortest_period(tmp_path: Path) -> None:
    async with bench_on_rack(tmp_path, speed=4.0, change=alone("board-4")) as bench:
        ending, run_id = await energy(bench, "board-4")
        assert ending == Ending()
        trace = await traced(bench, run_id)
        assert trace.meta.period_s == pytest.approx(204.8e-6)
        assert trace.meta.tick_rate_hz is not None
        widths_s = {
            round((pulse.off_ticks - pulse.on_ticks) / trace.meta.tick_rate_hz, 5) for pulse in trace.load_pulses()
        }
        assert widths_s == {0.005, 0.00625, 0.0075, 0.00875}
        assert (await scored(bench, run_id)).placement == "load"
        await agrees_with_the_truth(bench, "board-4", run_id)


@dataclass(frozen=True, slots=True)
class Wrong:
    """A fault of the rack, the witness that disagrees, and what it says."""

    device: str
    fault: str
    witness: str
    says: str

    def __str__(self) -> str:
        return self.fault


@pytest.mark.parametrize(
    "wrong",
    [
        Wrong("psu-1", "late_trigger", "pulse", r"pulse lies -(9|10)\.\d* ms from where the sync load says"),
        Wrong(
            "psu-1",
            "lost_samples",
            "load",
            r"(49|50)\.\d ± .* samples are lost|some are lost|the sync load is not seen: \d of the 8 edges of a burst",
        ),
        Wrong(
            "board-3",
            "load_stuck",
            "load",
            "the sync load is not seen: 0 of the [48] edges of a burst",
        ),
    ],
    ids=str,
)
async def test_what_is_wrong_with_samples_trigger_or_load_makes_the_run_invalid(wrong: Wrong, tmp_path: Path) -> None:
    async with bench_on_rack(tmp_path, speed=SPEED) as bench:
        turn(bench, wrong.device, wrong.fault, on=True)
        ending, run_id = await energy(bench, "board-3")
        assert (ending.cause, ending.state) == (Cause.PLACEMENT_DISPUTED, RunState.INVALID), ending.detail
        assert re.search(wrong.says, ending.detail), ending.detail
        assert verdicts(await scored(bench, run_id))[wrong.witness] == "disagrees"
        turn(bench, wrong.device, wrong.fault, on=False)
        assert (await energy(bench, "board-3"))[0] == Ending()
        await nothing_is_left(bench)


async def test_a_lost_edge_of_the_load_fails_the_run_and_keeps_what_was_recorded(tmp_path: Path) -> None:
    async with bench_on_rack(tmp_path, speed=SPEED) as bench:
        run = asyncio.create_task(energy(bench, "board-3", trials=4, min_window_s=1.0), name="run")
        await reached(bench, run, in_trial(2, "board-3"))
        turn(bench, "stamps-1", "lost_line", on=True)
        ending, run_id = await run
        assert ending.cause is Cause.EDGES_LOST, ending.detail
        turn(bench, "stamps-1", "lost_line", on=False)
        assert (await traced(bench, run_id)).rows > 0
        assert output_is_off(bench, "board-3")
        await nothing_is_left(bench)


async def test_a_run_that_is_cancelled_leaves_the_load_off(tmp_path: Path) -> None:
    async with bench_on_rack(tmp_path, speed=SPEED) as bench:
        run = asyncio.create_task(energy(bench, "board-3", trials=4, min_window_s=1.0), name="run")
        await reached(bench, run, in_trial(1, "board-3"))
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        await outputs_off(bench, "board-3")
        load, seat = bench.rack.loads["board-3"], bench.rack.seats["board-3"]
        seat_supply = board_of(bench, "board-3").supply
        load.supply(bench.rack.clock.now(), seat_supply.voltage_v, 0.1)
        async with asyncio.timeout(HUNG_S):
            while load.terminal(now_s := bench.rack.clock.now())[1] != seat.board.terminal(now_s)[1]:
                await asyncio.sleep(1e-3)
        await nothing_is_left(bench)
