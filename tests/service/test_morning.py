"""What the report of a night says of a database that was filled through the ledger."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import Session, select

from labd.config import Health, LabConfig
from labd.errors import NotFoundError, ScoreError
from labd.model import ledger, ledger_lab
from labd.model.causes import Cause, Ending
from labd.model.states import BoardState, CheckTrigger, InstrumentState, JobState
from labd.model.tables import Check, Score
from labd.score.regression import Direction, Quantity
from labd.service.lab import Lab
from labd.service.reports.messages import Mood, MorningReport, fitted, read_report
from labd.service.reports.morning import report_on
from labd.service.reports.night_record import read_night
from labd.service.reports.text import markdown
from tests.service.labs import bring_up, config, open_lab
from tests.service.nights import CELLS, DUE, Nights

BAD = "digits01/energy/b1"


def morning_report(session: Session, night_id: int, settings: LabConfig, now: datetime) -> MorningReport:
    return report_on(read_night(session, night_id, now), settings, now)


async def report(lab: Lab, fill: Any, settings: LabConfig) -> MorningReport:
    """The report of the night that `fill` leaves under way."""

    def work(session: Session) -> MorningReport:
        nights = fill(session)
        session.flush()
        return morning_report(session, nights.night_id, settings, nights.now)

    return await lab.database.write(work)


def quiet(session: Session, count: int = 24, **kind: Any) -> Nights:
    """That many nights without a fault; the last has not ended."""
    nights = Nights(session, **kind)
    for number in range(count):
        if number:
            nights.end({})
        nights.night()
    return nights


async def test_a_planted_regression_on_one_board_is_found_and_only_it(tmp_path: Path) -> None:
    def fill(session: Session) -> Nights:
        nights = quiet(session, 16)
        for _ in range(8):
            nights.end({})
            nights.night({BAD: 1.03})
        return nights

    async with open_lab(tmp_path) as (lab, _):
        await bring_up(lab)
        found = await report(lab, fill, config(tmp_path))
    (change,) = found.regressions
    assert (change.cell, change.board, change.quantity) == (BAD, "b1", Quantity.ENERGY)
    assert (change.direction, change.since_night) == (Direction.WORSE, 17)
    assert change.change == pytest.approx(0.03, abs=0.005)
    assert change.interval[0] < 0.03 < change.interval[1]
    assert [point.at for point in change.points] == list(range(1, 25))
    assert (found.improvements, found.recovered, found.unsteady) == ((), (), ())
    assert found.mood is Mood.BAD
    assert found.headline.startswith("4 of 4 jobs done, 1 regression")


async def test_without_a_change_nothing_is_told(tmp_path: Path) -> None:
    async with open_lab(tmp_path) as (lab, _):
        await bring_up(lab)
        found = await report(lab, quiet, config(tmp_path))
    assert (found.mood, found.headline) == (Mood.WELL, "4 of 4 jobs done, no regressions")
    assert (found.counts.total, found.counts.done) == (4, 4)
    assert (found.watched.cells, found.watched.nights, found.watched.waiting) == (4, 24, 0)
    assert [(board.id, board.done) for board in found.boards] == [("b1", 2), ("b2", 2)]
    assert found.boards[0].busy_s == 1200.0
    assert found.boards[0].utilisation == pytest.approx(0.5)
    assert found.duration_s == 2400.0


async def test_what_went_wrong_is_told_by_cause_and_by_rule(tmp_path: Path) -> None:
    silent, short = Ending(Cause.BOARD_SILENT, "nothing in 5 s"), Ending(Cause.WINDOW_SHORT)

    def fill(session: Session) -> Nights:
        nights = Nights(session)
        nights.night(
            endings={
                CELLS[0]: [silent],
                CELLS[1]: [Ending(Cause.DAEMON_DIED), Ending()],
                CELLS[2]: [short],
            },
            left=frozenset({CELLS[3]}),
        )
        ledger.set_board_state(session, "b2", BoardState.QUARANTINED, "3 failures in a row", nights.now)
        session.add(Check(board_id="b1", trigger=CheckTrigger.FAILURE, started_at=nights.now, passed=False))
        ledger.set_instrument_state(
            session, "psu", "keysight-n6705c", InstrumentState.OFFLINE, nights.now, reason="does not answer"
        )
        ledger_lab.note_space(session, "bench-1", "low", "4 GB free", nights.now)
        return nights

    async with open_lab(tmp_path) as (lab, _):
        await bring_up(lab)
        found = await report(lab, fill, config(tmp_path))
    counts = found.counts
    assert (counts.total, counts.done, counts.failed, counts.invalid, counts.cancelled) == (4, 1, 1, 1, 1)
    assert (found.retried, found.attempts) == (1, 4)
    by_cause = {reason.cause: reason for reason in found.reasons}
    assert (by_cause[Cause.BOARD_SILENT].jobs, by_cause[Cause.BOARD_SILENT].boards) == ((1,), ("b1",))
    assert by_cause[Cause.BOARD_SILENT].remedy == Cause.BOARD_SILENT.meaning.remedy
    assert by_cause[Cause.CANCELLED].state is JobState.CANCELLED
    (rule,) = found.broken_rules
    assert (rule.rule, rule.count, rule.jobs) == ("min_window", 1, (3,))
    reasons = {board.id: board.reasons for board in found.boards_to_see}
    assert reasons["b2"] == ("quarantined: 3 failures in a row",)
    assert "1 of 3 runs failed by its own fault" in reasons["b1"]
    assert "failed its check (failure)" in reasons["b1"]
    assert [(one.id, one.times_lost) for one in found.instruments_to_see] == [("psu", 1)]
    assert found.notices == ("low: 4 GB free",)
    assert found.mood is Mood.BAD


ALONE = {
    "placement": "steps",
    "remarks": [{"about": "noise", "detail": "the window of trial 2 is 8.3 times as noisy as declared"}],
}


async def test_figures_that_no_wire_has_placed_are_marked_where_they_stand(tmp_path: Path) -> None:
    def fill(session: Session) -> Nights:
        nights = quiet(session, 16)
        nights.golden("b1", 1.0)
        for number in range(8):
            nights.end({})
            nights.night({BAD: 1.03}, scores={BAD: ALONE if number > 2 else {"placement": "pulse"}})
            nights.golden("b1", 1.0, ALONE if number == 7 else {"placement": "load"})
        nights.now += timedelta(seconds=1)
        return nights

    settings = config(tmp_path).model_copy(update={"health": Health(golden="digits01", golden_tolerance_percent=3.0)})
    async with open_lab(tmp_path) as (lab, _):
        await bring_up(lab)
        found = await report(lab, fill, settings)
    (change,) = found.regressions
    assert change.steps_alone == (20, 21, 22, 23, 24)
    (golden,) = found.golden
    assert golden.steps_alone == (golden.points[-1].at,)
    (job,) = found.remarks[0].jobs
    assert [(one.about, one.count, one.jobs) for one in found.remarks] == [
        ("steps alone", 1, (job,)),
        ("noise", 1, (job,)),
    ]
    assert found.mood is Mood.BAD
    text = markdown(found)
    assert "5 nights placed by steps alone" in text
    assert "1 run placed by steps alone" in text
    assert "no wire confirms it. Jobs" in text


async def test_of_a_disputed_place_the_report_tells_what_each_witness_said(tmp_path: Path) -> None:
    said = "the current puts the windows -50.1 ms from where the trigger's pulse does"
    disputed = {
        "findings": [{"rule": "witnesses_agree", "detail": said}],
        "testimonies": [
            {"witness": "pulse", "verdict": "agrees", "said": "the trigger's pulse places the windows"},
            {"witness": "steps", "verdict": "disagrees", "said": said},
        ],
    }

    def fill(session: Session) -> Nights:
        nights = Nights(session)
        nights.night(endings={BAD: [Ending(Cause.PLACEMENT_DISPUTED, said)]}, scores={BAD: disputed})
        return nights

    async with open_lab(tmp_path) as (lab, _):
        await bring_up(lab)
        found = await report(lab, fill, config(tmp_path))
    (rule,) = found.broken_rules
    assert (rule.rule, rule.count) == ("witnesses_agree", 1)
    assert rule.said == ("pulse agrees: the trigger's pulse places the windows", f"steps disagrees: {said}")
    assert "pulse agrees: the trigger's pulse places the windows" in markdown(found)


async def test_a_report_of_an_earlier_version_is_read_without_what_it_lacks(tmp_path: Path) -> None:
    async with open_lab(tmp_path) as (lab, _):
        await bring_up(lab)
        found = await report(lab, quiet, config(tmp_path))
    document = found.model_dump(mode="json")
    for key in ("remarks", "coverage_factor"):
        del document[key]
    assert read_report(document) == found


async def test_a_window_with_samples_that_are_no_numbers_does_not_cost_the_report(tmp_path: Path) -> None:
    def fill(session: Session) -> Nights:
        nights = Nights(session)
        nights.night(endings={CELLS[0]: [Ending(Cause.WINDOW_SHORT)]})
        for score in session.exec(select(Score)):
            score.result = {**score.result, "windows": [{"mean_power_w": math.nan}]}
            session.add(score)
        return nights

    async with open_lab(tmp_path) as (lab, _):
        await bring_up(lab)
        found = await report(lab, fill, config(tmp_path))
    assert [rule.rule for rule in found.broken_rules] == ["min_window"]


async def test_the_drift_of_golden_jobs_is_told_by_board(tmp_path: Path) -> None:
    def fill(session: Session) -> Nights:
        nights = Nights(session)
        for day in range(20):
            if day:
                nights.end({})
            nights.night()
            nights.golden("b1", 1.0)
            nights.golden("b2", 1 + 0.004 * day)
        nights.now += timedelta(seconds=1)
        return nights

    settings = config(tmp_path).model_copy(update={"health": Health(golden="digits01", golden_tolerance_percent=3.0)})
    async with open_lab(tmp_path) as (lab, _):
        await bring_up(lab)
        found = await report(lab, fill, settings)
    worst, steady = found.golden
    assert (worst.board, worst.outside, worst.drifting, worst.runs) == ("b2", True, True, 20)
    assert worst.slope_per_week == pytest.approx(0.028, rel=0.15)
    assert (steady.board, steady.outside, steady.drifting) == ("b1", False, False)
    assert [board.id for board in found.boards_to_see] == ["b2"]


async def test_a_report_that_is_made_again_is_the_same_and_survives_its_json(tmp_path: Path) -> None:
    async with open_lab(tmp_path) as (lab, _):
        await bring_up(lab)
        first = await report(lab, quiet, config(tmp_path))
        again = await lab.database.read(
            lambda session: morning_report(session, first.night, config(tmp_path), first.made_at)
        )
    assert again == first
    assert read_report(first.model_dump(mode="json")) == first


async def test_a_night_that_is_not_there_and_a_baseline_that_is_none_are_named(tmp_path: Path) -> None:
    async with open_lab(tmp_path) as (lab, _):
        await bring_up(lab)
        with pytest.raises(NotFoundError, match="no night 7"):
            await lab.database.read(lambda session: morning_report(session, 7, config(tmp_path), DUE))
        with pytest.raises(ScoreError, match="names no baseline"):
            await report(lab, lambda session: quiet(session, 1, spec={"baseline": "best"}), config(tmp_path))


async def test_a_report_is_cut_to_what_a_broker_keeps_and_says_how_much_is_missing(tmp_path: Path) -> None:
    def fill(session: Session) -> Nights:
        nights = quiet(session, 16)
        for _ in range(8):
            nights.end({})
            nights.night({BAD: 1.03})
        return nights

    async with open_lab(tmp_path) as (lab, _):
        await bring_up(lab)
        found = await report(lab, fill, config(tmp_path))
    many = found.model_copy(update={"regressions": found.regressions * 150, "notices": ("x" * 100,) * 150})
    small = fitted(many)
    assert len(small.model_dump_json().encode()) <= 65_536
    assert 0 < len(small.regressions) < 150
    assert small.omitted["regressions"] == 150 - len(small.regressions)
    assert small.regressions[0].points
    assert small.headline == found.headline
