"""The week, as long as a test may take: its books balance."""

from __future__ import annotations

import pytest

from tests.light.books import Line
from tests.light.vitals import Vitals
from tests.soak.__main__ import soak
from tests.soak.leaks import leak_lines, slope


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_two_thousand_runs_leave_nothing_behind() -> None:
    assert [line for line in await soak(2_000) if not line.balanced] == []


def looks(*, mb_a_second: float = 0.0, tasks_a_second: float = 0.0) -> list[Vitals]:
    """Ten minutes of a daemon at work."""
    return [
        Vitals(
            at_s=float(second),
            rss_anon_mb=100.0 + mb_a_second * second,
            files=20,
            commits=second,
            threads={"MainThread": second / 2},
            tasks={"run-#": int(10 + second % 7 + tasks_a_second * second)},
        )
        for second in range(600)
    ]


def judged(held: list[Vitals]) -> list[Line]:
    """What is said of them when a day takes 100 s."""
    return leak_lines(held[0], held, 864.0)


def unbalanced(lines: list[Line]) -> list[str]:
    return [line.what for line in lines if not line.balanced]


def test_memory_that_grows_by_more_than_a_megabyte_a_day_is_told() -> None:
    assert unbalanced(judged(looks(mb_a_second=0.009))) == []
    assert unbalanced(judged(looks(mb_a_second=0.011))) == ["memory"]


def test_tasks_that_stay_are_told() -> None:
    assert unbalanced(judged(looks(tasks_a_second=0.05))) == ["tasks"]


def test_the_slope_of_a_line_is_found_with_no_uncertainty() -> None:
    found = slope([float(day) for day in range(24)], [3.0 + 0.5 * day for day in range(24)])
    assert found.a_day == pytest.approx(0.5)
    assert found.uncertainty == pytest.approx(0.0, abs=1e-9)
