"""The files of morning reports: made again when they are missing, told when they cannot be, and safe to open."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlmodel import Session, select

from labd.clock import WALL
from labd.model.tables import Event, Night
from labd.score.regression import Baseline, CellKey, Direction, Quantity, Reading, judge
from labd.score.sequential import Watch
from labd.service.lab import Lab
from labd.service.reports.figures import change_chart
from labd.service.reports.files import Morning, paths_of
from labd.service.reports.messages import MorningReport, Reason
from labd.service.reports.page import page
from labd.service.reports.text import markdown
from tests.deadline import HUNG_S
from tests.service import fortnight
from tests.service.labs import bring_up, open_lab
from tests.service.nights import Nights

HOSTILE = "<script>alert(1)</script> $x^ & \x1b[31m\n# well [here](javascript:x)"


async def ended_night(lab: Lab, folder: Path) -> MorningReport:
    """A night that ended with its report, of which no file was written."""
    await bring_up(lab)
    held: list[Nights] = []

    def fill(session: Session) -> int:
        held.append(Nights(session))
        held[0].night()
        return held[0].night_id

    night = await lab.database.write(fill)
    report = await Morning(lab.database, lab.live, folder, WALL).report(night)

    def end(session: Session) -> None:
        held[0]._session = session
        held[0].end(report)

    await lab.database.write(end)
    return MorningReport.model_validate(report, strict=False)


@asynccontextmanager
async def writing(lab: Lab, folder: Path) -> AsyncIterator[Morning]:
    morning = Morning(lab.database, lab.live, folder, WALL)
    task = asyncio.create_task(morning.run(), name="reports")
    try:
        yield morning
        assert not task.done(), "whatever it is, the lab goes on"
    finally:
        task.cancel()
        await asyncio.wait({task})


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(HUNG_S):
        while not is_so():
            await asyncio.sleep(0.01)


async def test_files_that_a_daemon_left_out_are_made_at_the_next_start_and_only_they(tmp_path: Path) -> None:
    async with open_lab(tmp_path) as (lab, _):
        made = await ended_night(lab, tmp_path)
        paths = paths_of(tmp_path / "reports", made.sweep, made.night, made.due_at)
        async with writing(lab, tmp_path):
            await until(lambda: all(path.exists() for path in paths.values()))
        assert MorningReport.model_validate_json(paths["json"].read_text(), strict=False) == made
        before = {path: path.stat().st_mtime_ns for path in paths.values()}
        paths["html"].unlink()
        async with writing(lab, tmp_path):
            await until(paths["html"].exists)
        paths["html"].unlink()
        kept = paths["json"].stat().st_mtime_ns
        assert kept > before[paths["json"]], "a report is written as a whole"


async def test_a_folder_that_cannot_be_written_is_an_event_and_stops_nothing(tmp_path: Path) -> None:
    async with open_lab(tmp_path) as (lab, _):
        made = await ended_night(lab, tmp_path)
        (tmp_path / "reports").write_text("in the way")

        def told(session: Session) -> list[Event]:
            return list(session.exec(select(Event).where(Event.state == "report_not_written")))

        async with writing(lab, tmp_path) as morning:
            async with asyncio.timeout(HUNG_S):
                while not (events := await lab.database.read(told)):
                    await asyncio.sleep(0.01)
            (event,) = events
            assert (event.kind, event.subject) == ("lab", "bench-1")
            assert event.reason.startswith("night 1 of nightly: ")
            (tmp_path / "reports").unlink()
            await morning.report(made.night)
            await until((tmp_path / "reports" / "nightly" / "2025-03-01-1.html").exists)


async def test_a_report_of_another_version_or_of_a_night_without_one_is_left_alone(tmp_path: Path) -> None:
    async with open_lab(tmp_path) as (lab, _):
        made = await ended_night(lab, tmp_path)

        def spoil(session: Session) -> None:
            session.get_one(Night, made.night).report = {"version": 9}

        await lab.database.write(spoil)
        async with writing(lab, tmp_path) as morning:
            report = await morning.report(made.night)
            await until((tmp_path / "reports" / "nightly" / "2025-03-01-1.html").exists)
        assert report["night"] == made.night


def hostile_report(folder: Path) -> MorningReport:
    """A report whose every free word wants to be something else."""
    made = fortnight.report(folder)
    reason = made.reasons[0]
    return made.model_copy(
        update={
            "headline": HOSTILE,
            "note": HOSTILE,
            "notices": (HOSTILE,),
            "regressions": tuple(
                one.model_copy(update={"cell": HOSTILE, "board": HOSTILE}) for one in made.regressions
            ),
            "boards_to_see": tuple(one.model_copy(update={"reasons": (HOSTILE,)}) for one in made.boards_to_see),
            "boards": tuple(one.model_copy(update={"id": HOSTILE}) for one in made.boards),
            "golden": tuple(one.model_copy(update={"board": HOSTILE}) for one in made.golden),
            "reasons": (Reason.model_construct(**{**dict(reason), "remedy": HOSTILE}),),
        }
    )


def test_what_people_and_boards_say_is_text_on_the_page_and_nothing_else(tmp_path: Path) -> None:
    shown = page(hostile_report(tmp_path))
    assert "<script" not in shown
    assert shown.count("&lt;script") > 10
    assert "$x^" in shown, "a dollar is no formula"


def test_what_people_and_boards_say_makes_no_heading_and_no_link_in_markdown(tmp_path: Path) -> None:
    shown = markdown(hostile_report(tmp_path))
    assert "<script" not in shown
    assert "\x1b" not in shown
    assert "\n# well" not in shown
    assert "[here]" not in shown.replace("\\[here]", "")


def test_a_fortnight_of_a_rack_tells_its_regression_and_no_other(tmp_path: Path) -> None:
    made = fortnight.report(tmp_path)
    (worse,) = made.regressions
    assert (worse.cell, worse.since_night) == ("kws01/energy/l4r5zi-07", 8)
    assert worse.interval[0] < 0.03 < worse.interval[1]
    assert (made.improvements, made.unsteady) == ((), ())
    assert [one.board for one in made.golden if one.drifting or one.outside] == ["l4r5zi-16"]
    assert {one.id for one in made.boards_to_see} == {"l4r5zi-13", "l4r5zi-16", "l4r5zi-02", "l4r5zi-03"}
    assert page(made).count("<svg") == 3


def test_a_report_says_what_bars_and_figures_are_uncertain_by(tmp_path: Path) -> None:
    made = fortnight.report(tmp_path)
    shown = page(made)
    assert shown.count("Bars: standard uncertainty, k = 1.") == 2, "changes and golden jobs"
    latest = made.regressions[0].points[-1]
    (told,) = re.findall(r"([0-9.]+) ± ([0-9.]+) µJ \(k = 1\), was [0-9.]+ µJ over 5 nights", shown)
    assert float(told[0]) == pytest.approx(latest.value * 1e6, abs=0.01)
    assert float(told[1]) == pytest.approx(latest.standard_uncertainty * 1e6, rel=0.06)
    assert made.coverage_factor == 1


def test_a_change_whose_nights_no_wire_has_placed_is_drawn_open_and_says_so(tmp_path: Path) -> None:
    wired = fortnight.report(tmp_path)
    (change,) = wired.regressions
    alone = wired.model_copy(update={"regressions": (change.model_copy(update={"steps_alone": (13, 14)}),)})
    assert "placed by steps alone</p>" not in page(wired)
    assert "2 nights placed by steps alone" in page(alone)
    closed, open_ = (change_chart(one.regressions[0]).count("fill: #ffffff") for one in (wired, alone))
    assert open_ > closed


@pytest.mark.parametrize(
    ("quantity", "factor", "direction"),
    [
        (Quantity.ENERGY, 1.05, Direction.WORSE),
        (Quantity.ENERGY, 0.95, Direction.BETTER),
        (Quantity.THROUGHPUT, 0.95, Direction.WORSE),
        (Quantity.THROUGHPUT, 1.05, Direction.BETTER),
        (Quantity.ACCURACY, 0.95, Direction.WORSE),
        (Quantity.ACCURACY, 1.05, Direction.BETTER),
    ],
)
def test_more_energy_less_throughput_and_less_accuracy_are_worse_also_where_no_digit_ever_moves(
    quantity: Quantity, factor: float, direction: Direction
) -> None:
    key = CellKey("kws01", "b1", quantity)
    readings = [Reading(key, night, 0.9 * (factor if night > 6 else 1.0)) for night in range(1, 15)]
    (change,) = judge(readings, Baseline(nights=5), Watch()).changes
    assert (change.direction, change.since) == (direction, 7)
    assert (change.change > 0) == (factor > 1)


def test_a_figure_of_which_nothing_is_known_any_more_leaves_finite_numbers() -> None:
    key = CellKey("kws01", "b1", Quantity.ENERGY)
    readings = [Reading(key, night, 1e-6 * (1.5 if night > 6 else 1.0)) for night in range(1, 14)]
    readings.append(Reading(key, 14, 1.5e-12, standard_uncertainty=1.0))
    for change in judge(readings, Baseline(nights=5), Watch()).changes:
        assert all(abs(end) < 1e50 for end in (change.change, *change.interval))


def test_a_report_stays_in_its_folder() -> None:
    """Names begin with a letter or a digit and hold no slash, so that no sweep writes elsewhere."""
    path = paths_of(Path("reports"), "a..b", 3, datetime(2025, 3, 1, tzinfo=UTC))["json"]
    assert path == Path("reports/a..b/2025-03-01-3.json")
