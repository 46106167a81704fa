"""How figures are written: as many digits as their uncertainty has a say in, and what the uncertainty is."""

from __future__ import annotations

import re
from pathlib import Path

from labd.plus_minus import PLUS_MINUS, plus_minus, with_k

ROOT = Path(__file__).parents[1]
FORMATTED = re.compile(r"\} ?± ?\{")
"""A value, ±, and an uncertainty, put together by hand."""
ELSEWHERE = {
    "labd/plus_minus.py",
    "labd/score/regression.py",  # an error about figures that are none
    "labd/trace/timing/scene.py",  # a witness's sentence, which says k
}


def test_figure_and_uncertainty_end_at_the_same_digit() -> None:
    assert plus_minus(14.2312, 0.1123, "µJ") == "14.23 ± 0.11 µJ"
    assert plus_minus(1234.5, 12.3, "µJ") == "1234 ± 12 µJ"
    assert plus_minus(123456.0, 1234.0, "µJ") == "123500 ± 1200 µJ"
    assert plus_minus(1.5, 0.0, "1/s") == "1.5 ± 0 1/s"


def test_a_figure_that_stands_alone_says_k_and_a_column_says_it_in_its_head() -> None:
    assert with_k(55.9531, 0.0312, "µJ") == "55.953 ± 0.031 µJ (k = 1)"
    assert with_k(7.463, 0.2134, "%", k=2) == "7.46 ± 0.21 % (k = 2)"
    assert PLUS_MINUS.endswith("k = 1")


def test_nothing_else_puts_a_figure_and_its_uncertainty_together() -> None:
    made = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "labd").rglob("*.py")
        if FORMATTED.search(path.read_text(encoding="utf-8"))
    }
    assert made <= ELSEWHERE
