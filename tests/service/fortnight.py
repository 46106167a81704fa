"""The record of a fortnight of a sweep as a rack of twenty boards would have left it: what a report page is drawn of.

`python -m tests.service.fortnight FOLDER` writes the report's files there.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from labd.config import Board, Health, LabConfig, Limits, Serial, Supply
from labd.config import Lab as LabSection
from labd.model.causes import Cause
from labd.model.states import BoardState, JobState, RunState
from labd.score.regression import Baseline, CellKey, Quantity, Reading
from labd.service.reports.files import write_report
from labd.service.reports.messages import MorningReport
from labd.service.reports.morning import report_on
from labd.service.reports.night_record import GoldenRow, JobRow, NightRecord, RunRow

BOARDS = tuple(f"l4r5zi-{number:02d}" for number in range(1, 21))
BENCHMARKS = {"kws01": 180e-6, "vww01": 1250e-6, "ad01": 22e-6}
NIGHTS = 14
BEGAN = datetime(2026, 3, 16, 22, 0, tzinfo=UTC)
WORSE = ("kws01", "l4r5zi-07")
QUARANTINED = "l4r5zi-13"


def config(folder: Path) -> LabConfig:
    """Twenty boards on one supply that is not there."""
    return LabConfig(
        lab=LabSection(name="bench-1", data_dir=folder),
        health=Health(golden="ad01"),
        board=tuple(
            Board(
                id=board,
                limits=Limits(voltage_max_v=3.6, current_max_a=0.15),
                supply=Supply(instrument="psu-1", channel=number, voltage_v=3.0),
                serial=Serial(port=f"/dev/ttyACM{number}"),
            )
            for number, board in enumerate(BOARDS, start=1)
        ),
    )


def record(seed: int = 4) -> NightRecord:
    """The last of fourteen nights: one cell needs 3 % more since the eighth, one board is out since the eleventh."""
    noise = random.Random(seed)
    started = BEGAN + timedelta(days=NIGHTS - 1)
    return NightRecord(
        sweep="nightly",
        night=NIGHTS,
        due_at=started,
        started_at=started,
        ended_at=started + timedelta(hours=3.4),
        note="",
        spec={},
        baseline=Baseline(nights=5),
        baseline_text="first:5",
        nights=NIGHTS,
        jobs=tuple(_jobs()),
        runs=tuple(_runs(started, noise)),
        readings=tuple(_readings(noise)),
        unusable=0,
        golden=tuple(_golden(started, noise)),
        boards={
            **dict.fromkeys(BOARDS, (BoardState.ONLINE, "")),
            QUARANTINED: (BoardState.QUARANTINED, "handshake: no word from the board within 5 s"),
        },
        failed_checks=((QUARANTINED, "failed its check (return)"),) * 3,
        instruments={},
        lost={},
        notices=("reloaded: board l4r5zi-20 added",),
    )


def report(folder: Path) -> MorningReport:
    """The report of the last night."""
    made = record()
    assert made.ended_at is not None
    return report_on(made, config(folder), made.ended_at)


def _cells() -> Iterator[tuple[int, str, str]]:
    pairs = ((benchmark, board) for benchmark in BENCHMARKS for board in BOARDS)
    for number, (benchmark, board) in enumerate(pairs, start=1):
        yield number, benchmark, board


def _fate(number: int, board: str) -> tuple[JobState, Cause | None]:
    if board == QUARANTINED:
        return JobState.FAILED, Cause.EXPIRED
    if number in (23, 42):
        return JobState.FAILED, Cause.BOARD_SILENT
    if number == 31:
        return JobState.INVALID, Cause.WINDOW_SHORT
    return JobState.COMPLETED, None


def _jobs() -> Iterator[JobRow]:
    for number, _, board in _cells():
        state, cause = _fate(number, board)
        yield JobRow(number, state, cause, "")


def _runs(started: datetime, noise: random.Random) -> Iterator[RunRow]:
    for number, _, board in _cells():
        state, cause = _fate(number, board)
        if cause is Cause.EXPIRED:
            continue
        begun = started + timedelta(minutes=noise.uniform(0, 120))
        rules = (("min_window", "the window lasted 9.2 s, the rule asks for 10 s"),) if cause else ()
        ended = begun + timedelta(minutes=noise.uniform(38, 52))
        yield RunRow(number, board, RunState(state.value), cause, begun, ended, rules)


def _readings(noise: random.Random) -> Iterator[Reading]:
    for number, benchmark, board in _cells():
        level = BENCHMARKS[benchmark] * noise.uniform(0.97, 1.03)
        for night in range(1, NIGHTS + 1):
            if (board == QUARANTINED and night > 10) or (night == NIGHTS and _fate(number, board)[1]):
                continue
            factor = 1.03 if (benchmark, board) == WORSE and night >= 8 else 1.0
            value = level * factor * (1 + noise.gauss(0, 0.003))
            yield Reading(CellKey(f"{benchmark}/energy/{board}", board, Quantity.ENERGY), night, value, value * 5e-4)


def _golden(until: datetime, noise: random.Random) -> Iterator[GoldenRow]:
    for board in BOARDS:
        level = BENCHMARKS["ad01"] * noise.uniform(0.97, 1.03)
        for day in range(NIGHTS):
            slope = 0.0025 * day if board == "l4r5zi-16" else 0.0
            if board == QUARANTINED and day > 9:
                continue
            value = level * (1 + slope + noise.gauss(0, 0.003))
            yield GoldenRow(board, "ad01", until - timedelta(days=NIGHTS - 1 - day, hours=9), value, value * 5e-4)


if __name__ == "__main__":
    write_report(Path(sys.argv[1]), report(Path(sys.argv[1])))
