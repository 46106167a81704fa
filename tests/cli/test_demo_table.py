"""The demo's table: what a reader is told of an energy beside its value, on a terminal of any width."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.text import Text

from labd.benchmarks import Mode
from labd.cli.demo import Row, _show
from labd.model.states import JobState
from labd.score.uncertainty import Estimate

WIDTH = 80
ENERGY = Estimate(
    value=55.9531e-6,
    standard_uncertainty=0.0312e-6,
    degrees_of_freedom=None,
    interval=(55.892e-6, 56.014e-6),
    coverage=0.95,
    method="",
    terms=(),
)


def row(placement: str) -> Row:
    return Row(
        board="board-1",
        mode=Mode.ENERGY,
        state=JobState.COMPLETED,
        cause="",
        traces=(),
        energy=ENERGY,
        placement=placement,
        true_j=55.9745e-6,
    )


def test_an_energy_says_what_placed_it_and_what_its_uncertainty_is(capsys: pytest.CaptureFixture[str]) -> None:
    _show([row("pulse")], Path("demo"), as_json=False)
    shown = capsys.readouterr().out
    assert "what labd measured: value ± standard uncertainty, k = 1" in shown
    assert "55.953 ± 0.031 µJ" in shown
    assert "sync pulse" in shown
    assert "no wire" not in shown
    _show([row("steps")], Path("demo"), as_json=False)
    assert "steps alone: only the board's own current says" in capsys.readouterr().out


def test_the_table_fits_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    _show([row("pulse")], Path("demo"), as_json=False)
    lines = Text.from_ansi(capsys.readouterr().out).plain.splitlines()
    assert max(map(len, lines)) <= WIDTH, lines


def test_programs_are_told_by_the_name_what_the_uncertainty_is() -> None:
    document = row("load").document()
    assert document["standard_uncertainty_j_per_inference"] == ENERGY.standard_uncertainty
    assert document["placement"] == "load"
