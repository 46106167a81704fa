"""A few short runs of known energy; `python -m tests.truth` takes 200 of all lengths."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from labd.bench.scoring import score_trace
from labd.score.energy import RunScore
from labd.trace.reader import Trace
from labd.trace.seal import verify
from tests.truth.runs import Anchor, Outcome, draw_rack, play, write_trace
from tests.truth.verdict import OWN_ERROR_MAX, breaches, figures, table

SHORT = (0.1, 0.5)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[Outcome]:
    children = np.random.SeedSequence(7).spawn(12)
    return [
        play(np.random.default_rng(child), list(Anchor)[k % 2], tmp_path_factory.mktemp(f"run{k}"), SHORT)
        for k, child in enumerate(children)
    ]


def test_no_run_is_refused(outcomes: list[Outcome]) -> None:
    assert [outcome.refusal for outcome in outcomes if outcome.refusal] == []


def test_errors_are_of_the_stated_size(outcomes: list[Outcome]) -> None:
    whole = figures("all", outcomes)
    assert 0.5 < whole.ratio < 1.6  # three standard errors of a root mean square of twelve
    assert 0.5 < whole.own_ratio < 1.6


def test_labds_own_error_is_small(outcomes: list[Outcome]) -> None:
    assert figures("all", outcomes).own_error <= OWN_ERROR_MAX


def test_a_trace_is_scored_the_same_again(tmp_path: Path) -> None:
    rack = draw_rack(np.random.default_rng(3), Anchor.SYNC, SHORT)
    folder = write_trace(rack, rack.analyzer, tmp_path, "again")
    first, second = (score_trace(Trace.open(folder)) for _ in range(2))
    assert first == second
    assert first.inputs["samples.parquet"] == verify(folder).sha256["samples.parquet"]
    assert RunScore.model_validate_json(first.model_dump_json()) == first


def test_what_is_wrong_is_a_breach(outcomes: list[Outcome]) -> None:
    boasting = [replace(o, uncertainty=o.uncertainty / 10, own_error=1e-3) for o in outcomes]
    refused = replace(outcomes[0], refusal="no step was seen")
    found = breaches(figures("all", boasting), [*boasting, refused])
    assert len(found) == 3
    assert "no step was seen" in found[-1]
    assert table([*outcomes, refused])[0].runs == len(outcomes)
