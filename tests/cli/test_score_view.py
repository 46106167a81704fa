"""What a reader is told of where the windows of a score lie: who placed them, and what each witness said."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from rich.text import Text

from labd.cli.job.view import figures, print_scores
from labd.service.messages import ScoreDocument
from tests.cli.test_labctl import ENERGY

WIDTH = 80


def score(**result: Any) -> ScoreDocument:
    return ScoreDocument(
        scorer="labd-energy/3", result={**ENERGY, **result}, inputs={}, created_at=datetime(2025, 3, 1, tzinfo=UTC)
    )


@pytest.mark.parametrize(
    ("placement", "made_of"),
    [
        ("load", "median of 5 windows, placed by sync load"),
        ("pulse", "median of 5 windows, placed by sync pulse"),
        ("steps", "median of 5 windows, placed by steps alone"),
        ("one_clock", "median of 5 windows, placed by one clock"),
        ("moonlight", "median of 5 windows, placed by moonlight"),
        (None, "median of 5 windows"),
    ],
)
def test_a_figure_says_what_its_windows_were_placed_by(placement: str | None, made_of: str) -> None:
    (row,) = figures(score(placement=placement))
    assert row[-1] == made_of


def test_a_figure_whose_place_is_disputed_says_so_beside_it() -> None:
    said = [{"witness": "steps", "verdict": verdict, "said": "-"} for verdict in ("disagrees", "agrees", "disagrees")]
    (row,) = figures(score(placement="pulse", testimonies=said))
    assert row[-1] == "median of 5 windows, placed by sync pulse, DISPUTED by steps"


def test_only_windows_that_no_wire_has_placed_are_remarked_on(capsys: pytest.CaptureFixture[str]) -> None:
    print_scores([score(placement="pulse")])
    assert "no wire" not in capsys.readouterr().out
    print_scores([score(placement="steps"), score(placement="steps")])
    assert capsys.readouterr().out.count("no wire confirms it") == 1


def test_a_score_of_an_earlier_version_is_shown_without_what_it_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    old = {key: value for key, value in ENERGY.items() if key not in ("placement", "testimonies", "remarks")}
    document = ScoreDocument(scorer="labd-energy/1", result=old, inputs={}, created_at=datetime(2025, 3, 1, tzinfo=UTC))
    print_scores([document])
    shown = capsys.readouterr().out
    assert "14.23 ± 0.11 µJ" in shown
    assert "placed by" not in shown
    assert "where the windows lie" not in shown


def test_what_the_witnesses_said_stands_below_the_rules_that_were_broken(capsys: pytest.CaptureFixture[str]) -> None:
    said = "the current puts the windows -50.1 ms from where the trigger's pulse does"
    disputed = score(
        placement="pulse",
        findings=[{"rule": "witnesses_agree", "cause": "placement_disputed", "trial": None, "detail": said}],
        testimonies=[
            {"witness": "pulse", "verdict": "agrees", "said": "the trigger's pulse places the windows"},
            {"witness": "steps", "verdict": "disagrees", "said": said},
        ],
    )
    print_scores([disputed])
    rules, _, witnesses = capsys.readouterr().out.partition("where the windows lie")
    assert "witnesses_agree" in rules
    assert [line.split()[:2] for line in witnesses.splitlines() if "agrees" in line] == [
        ["pulse", "agrees"],
        ["steps", "disagrees"],
    ]


def test_scores_fit_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    print_scores([score()])
    lines = Text.from_ansi(capsys.readouterr().out).plain.splitlines()
    tables = [line for line in lines if "no wire" not in line]  # a line of words is folded by the terminal
    assert max(len(line) for line in tables) <= WIDTH, tables
    words = set(" ".join(lines).split())
    assert {"steps", "alone", "14.23", "0.11", "k", "scorer"} <= words
