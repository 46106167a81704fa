"""The morning report from a lab's database over its broker to the operator, and into files."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlmodel import Session

from labd.clock import WALL
from labd.service.reports.files import Morning, paths_of, write_report
from labd.service.reports.messages import MorningReport, read_report
from tests.cli.served import Served, labctl, served_lab
from tests.service.nights import Nights

BAD = "digits01/energy/b1"
ALONE = {"placement": "steps"}


async def fill(served: Served, folder: Path) -> MorningReport:
    """Twenty nights, of which the last six need more energy and no wire placed; the last is ended."""
    held: list[Nights] = []

    def work(session: Session) -> int:
        nights = Nights(session)
        held.append(nights)
        for number in range(20):
            if number:
                nights.end({})
            nights.night({BAD: 1.04} if number >= 14 else None, scores={BAD: ALONE} if number >= 14 else None)
        return nights.night_id

    night = await served.lab.database.write(work)
    morning = Morning(served.lab.database, served.lab.live, folder, WALL)
    report = await morning.report(night)

    def end(session: Session) -> None:
        held[0]._session = session
        held[0].end(report)

    await served.lab.database.write(end)
    return read_report(report)


async def test_an_operator_reads_the_report_and_takes_it_home(tmp_path: Path) -> None:
    async with served_lab(tmp_path) as lab:
        made = await fill(lab, tmp_path)
        shown = await labctl(*lab.options, "sweep", "report", "nightly")
        assert shown.status == 0, shown.err
        assert shown.out.splitlines()[0].startswith("✘ 4 of 4 jobs done, 1 regression")
        assert BAD in shown.out
        assert "energy per inference" in shown.out
        assert "6 nights placed by steps alone" in shown.out
        (remark,) = (line for line in shown.out.splitlines() if "no wire confirms it" in line)
        assert remark.split()[:3] == ["1", "steps", "alone"]
        document = (await labctl(*lab.options, "sweep", "report", "nightly", "--night", "20", "--json")).document
        assert read_report(document) == made
        for suffix, sign in (("html", "<svg"), ("md", "## Regressions"), ("json", '"headline"')):
            path = tmp_path / f"night.{suffix}"
            taken = await labctl(*lab.options, "sweep", "report", "nightly", "--out", str(path))
            assert (taken.status, taken.out) == (0, ""), taken.err
            assert sign in path.read_text()


async def test_what_has_no_report_is_refused(tmp_path: Path) -> None:
    async with served_lab(tmp_path) as lab:
        assert (await labctl(*lab.options, "sweep", "report", "nightly")).status == 3
        await fill(lab, tmp_path)
        refused = await labctl(*lab.options, "sweep", "report", "nightly", "--night", "3")
        assert (refused.status, refused.out) == (3, "")
        assert "no night 3 with a report" in refused.err
        assert (await labctl(*lab.options, "sweep", "report", "nightly", "--out", "night.pdf")).status == 2


async def test_files_are_written_whole_and_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    async with served_lab(tmp_path) as lab:
        made = await fill(lab, tmp_path)
    write_report(tmp_path / "reports", made)
    paths = paths_of(tmp_path / "reports", made.sweep, made.night, made.due_at)
    assert sorted(path.name for path in paths["json"].parent.iterdir()) == sorted(path.name for path in paths.values())
    assert paths["html"].name == "2025-03-20-20.html"
    assert "http" not in paths["html"].read_text().replace("http://www.w3.org", "").replace(
        "http://purl.org", ""
    ).replace("http://creativecommons.org", "")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        write_report(tmp_path / "file", made)
