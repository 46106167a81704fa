"""A lease is longer than any run that could still end well."""

from __future__ import annotations

import pytest

from labd.bench.plan import LOAD_S_PER_BYTE, lease_s
from labd.benchmarks import BENCHMARKS, Mode

DIGITS = BENCHMARKS["digits01"]


@pytest.mark.parametrize("mode", [Mode.PERFORMANCE, Mode.ENERGY])
@pytest.mark.parametrize("each_s", [1e-4, 0.1, 5.0])
@pytest.mark.parametrize("min_window_s", [0.1, 10.0, 3600.0])
@pytest.mark.parametrize("inferences", [None, 1, 2000])
def test_no_legal_run_meets_its_lease(mode: Mode, each_s: float, min_window_s: float, inferences: int | None) -> None:
    trials, load_s = 100, 1.0
    window_s = max(1.01 * min_window_s, DIGITS.min_inferences * each_s) if inferences is None else inferences * each_s
    needed_s = trials * (load_s + DIGITS.warmups * each_s + window_s)
    assert lease_s(DIGITS, mode, trials, min_window_s, inferences) > 1.5 * needed_s


def test_an_accuracy_run_on_a_slow_board_may_take_all_its_inputs() -> None:
    assert lease_s(DIGITS, Mode.ACCURACY, 5, 1.0) > 1.5 * len(DIGITS.inputs()) * (5.0 + 1.0)


def test_a_large_input_has_the_time_that_it_takes_at_9600_baud() -> None:
    # 27,648 bytes: two digits each, 892 commands of 4 bytes more with replies of 9, ten bits a byte, USB's 32 ms.
    wire_s = (2 * 27_648 + 892 * (4 + 9)) * 10 / 9600
    assert wire_s + 892 * 0.032 < 27_648 * LOAD_S_PER_BYTE
