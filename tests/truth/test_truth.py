"""A few runs of a few cells, and that the verdict can fail; `python -m tests.truth` plays all of them, by thousands."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from labd.bench.scoring import score_trace
from labd.score.energy import RunScore
from labd.trace.reader import Trace
from labd.trace.seal import seal, verify
from tests.truth.cells import CELLS, Cell
from tests.truth.play import play
from tests.truth.runs import draw, sample, scratch, write
from tests.truth.verdict import Bounds, Outcome, breaches, figures

SHORT_S = (0.4, 0.6)
ROUGH = Bounds(ratio=(0.4, 1.8))
"""Three standard errors of a root mean square of twelve to either side of what is asked of hundreds."""


def _short(name: str) -> Cell:
    cell = CELLS[name]
    return replace(cell, here=replace(cell.here, windows_s=SHORT_S))


@pytest.fixture(scope="module")
def good() -> list[Outcome]:
    return [play(_short(f"sync {how}, square, 4.9 kS/s"), n, 7) for how in ("pulse", "load") for n in range(6)]


def test_no_good_run_is_refused(good: list[Outcome]) -> None:
    assert [outcome.refusals for outcome in good if outcome.refusals] == []


def test_errors_are_of_the_stated_size(good: list[Outcome]) -> None:
    assert breaches(figures("all", good), ROUGH) == []


def test_a_wrong_sync_pulse_is_refused_or_harmless() -> None:
    late = [play(_short("sync pulse, sync +10 ms"), n, 7) for n in range(6)]
    assert [outcome for outcome in late if outcome.wrong] == []


def test_the_same_run_is_played_again() -> None:
    cell = _short("sync load, phases, 4.9 kS/s")
    assert play(cell, 3, 7) == play(cell, 3, 7)
    assert play(cell, 3, 7) != play(cell, 4, 7)


def test_a_trace_is_scored_the_same_again_and_when_it_is_sealed() -> None:
    rng = np.random.default_rng(3)
    rack, script = draw(rng, _short("sync pulse, phases, 4.9 kS/s").here)
    sample(rack, script, rng)
    with scratch() as folder:
        path = write(rack, script, folder, rng)
        hot = score_trace(Trace.open(path))
        seal(path)
        first, second = (score_trace(Trace.open(path)) for _ in range(2))
        assert first == second
        assert first.windows == hot.windows
        assert first.inputs["samples.parquet"] == verify(path).sha256["samples.parquet"]
    assert RunScore.model_validate_json(first.model_dump_json()) == first


def test_what_is_untrue_is_a_breach(good: list[Outcome]) -> None:
    bounds = Bounds(ratio=(0.8, 1.2), coverage=(0.93, 0.98), refused=0.01, wrong=(1, 100))
    boasting = [replace(o, uncertainty=o.uncertainty / 30, half_width=o.half_width / 30) for o in good]
    humble = [replace(o, uncertainty=o.uncertainty * 30) for o in good]
    refused = [replace(o, refusals=("no step was seen",)) for o in good]
    assert any("error over stated uncertainty" in each for each in breaches(figures("b", boasting), bounds))
    assert any("coverage" in each for each in breaches(figures("b", boasting), bounds))
    assert any("accepted with an error over 5 u" in each for each in breaches(figures("b", boasting), bounds))
    assert any("error over stated uncertainty" in each for each in breaches(figures("h", humble), bounds))
    assert any("no step was seen" in each for each in breaches(figures("r", [*good, *refused]), bounds))
