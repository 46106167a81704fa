"""The parts of a results set are held against each other: a window that is lost whole leaves a file that reads well."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from labd.service.sessions.scoring import score_sessions
from tests.trace.sessions.published_folders import EnergyRunnerSession, MlcommonsSession

HEADINGS = "Energy data for|Performance results for"


def _without_window(number: int, headings: str = HEADINGS) -> Callable[[str], str]:
    """The text less the energy and the throughput of one window, as if it had never been."""

    def cut(text: str) -> str:
        lines, kept, skips = text.splitlines(), [], 0
        for line in lines:
            if re.search(rf"({headings}) (window|trial) {number}\b", line):
                skips = 6 if "trial" in line else 4 if "Energy" in line else 5
            kept += [] if skips else [line]
            skips = max(skips - 1, 0)
        return "\n".join(kept)

    return cut


def _swap(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return change


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_without_window(2), "it prints 2 windows, the board was asked 3 times"),
        (_without_window(4), "it prints 2 windows, the board was asked 3 times"),
        (_without_window(6), "it prints 2 windows, the board was asked 3 times"),
        (
            _without_window(2, "Performance results for"),
            "it prints energy of windows 2, 4, 6, and throughput of windows 4, 6",
        ),
        (_swap("window 6:", "window 8:"), "it prints energy of windows 2, 4, 6, and throughput of windows 2, 4, 8"),
        (_swap("Runtime      :        1.", "Runtime      :        2."), "by its edges it took 1."),
        (_swap("Energy/Inf.  :      ", "Energy/Inf.  :     1"), "its energy and N come to"),
        (_swap("Median throughput is ", "Median throughput is 1"), "the median throughput is published as 1"),
        (_swap("Median energy cost is ", "Median energy cost is 1"), "median energy comes to"),
    ],
)
def test_energy_results_that_do_not_fit_are_findings(tmp_path: Path, damage: Callable[[str], str], words: str) -> None:
    results = EnergyRunnerSession(tmp_path / "kws").write_energy() / "results.txt"
    assert score_sessions(tmp_path)[0].findings == ()
    results.write_text(damage(results.read_text()))
    (score,) = score_sessions(tmp_path)
    assert any(words in finding for finding in score.findings), score.findings
    assert set(score.findings) <= set(score.remarks)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_without_window(2), "it prints 2 throughputs, the board was asked 3 times"),
        (_swap("Runtime      :       10.100", "Runtime      :       10.102"), "by its laps it took 10.1 s"),
        (_swap("# Inferences :          100", "# Inferences :          101"), "100 were asked for"),
    ],
)
def test_performance_results_that_do_not_fit_are_findings(
    tmp_path: Path, damage: Callable[[str], str], words: str
) -> None:
    made = EnergyRunnerSession(tmp_path / "kws")
    results = made.write_performance([10_000_000, 10_100_000, 10_200_000]) / "results.txt"
    assert score_sessions(tmp_path)[0].findings == ()
    results.write_text(damage(results.read_text()))
    (score,) = score_sessions(tmp_path)
    assert any(words in finding for finding in score.findings), score.findings


def test_a_gap_in_the_windows_numbers_is_a_finding_even_if_the_log_was_cut_to_fit(tmp_path: Path) -> None:
    folder = EnergyRunnerSession(tmp_path / "kws", trials=4).write_energy()
    results, log = folder / "results.txt", folder / "log.txt"
    results.write_text(_without_window(4)(results.read_text()))
    log.write_text(log.read_text().replace('Command "io dut infer', 'Command "io dut wait', 1))
    (score,) = score_sessions(tmp_path)
    assert any("energy of windows 2, 6, 8: one is lost" in finding for finding in score.findings)
    assert not any("was asked" in finding for finding in score.findings)


def test_sets_of_several_models_are_a_finding(tmp_path: Path) -> None:
    EnergyRunnerSession(tmp_path / "kws").write_energy()
    EnergyRunnerSession(tmp_path / "kws", model="ic01").write_performance([10_000_000])
    (score,) = score_sessions(tmp_path)
    assert "its sets are of several models: ic01 (performance), kws01 (energy)" in score.findings


def test_a_lap_of_another_run_makes_no_median_of_the_printed_ones(tmp_path: Path) -> None:
    made = EnergyRunnerSession(tmp_path / "kws")
    folder = made.write_performance([10_000_000, 10_100_000, 10_200_000])
    log = folder / "log.txt"
    log.write_text(log.read_text()[: log.read_text().index('parser: Command "bload', 800)])
    (score,) = score_sessions(tmp_path)
    assert score.inferences_per_s.as_published
    assert any("the board was asked" in finding for finding in score.findings)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_trial_that_the_results_of_the_mlcommons_runner_leave_out_is_a_finding(tmp_path: Path, number: int) -> None:
    results = MlcommonsSession(tmp_path / "kws" / "energy").write() / "results.txt"
    assert score_sessions(tmp_path)[0].findings == ()
    results.write_text(_without_window(number)(results.read_text()))
    (score,) = score_sessions(tmp_path)
    assert any("it prints 2 windows, the board was asked 3 times" in finding for finding in score.findings)
