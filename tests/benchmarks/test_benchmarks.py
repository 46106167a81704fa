"""Every benchmark runs, at a size too small for its value to mean anything."""

from __future__ import annotations

import math

import pytest

from tests.benchmarks.__main__ import BENCHMARKS, document
from tests.benchmarks.capture_memory import capture_memory
from tests.benchmarks.capture_path import capture_path
from tests.benchmarks.daemon_overhead import daemon_overhead
from tests.benchmarks.figure import Better, Figure
from tests.benchmarks.submit_latency import submit_latency


def check(figure: Figure, name: str) -> None:
    assert figure.name == name
    assert name in BENCHMARKS
    assert math.isfinite(figure.value)
    assert figure.against
    assert document(figure).keys() == {"name", "value", "unit", "limit", "better", "ok", "against"}


async def test_the_capture_path_is_measured() -> None:
    figure = await capture_path(samples=300_000, rounds=2)
    check(figure, "capture_path")
    assert figure.value > 0


async def test_the_memory_of_a_capture_is_measured() -> None:
    check(await capture_memory(samples=300_000), "capture_memory")


async def test_the_latency_of_a_submit_is_measured() -> None:
    figure = await submit_latency(each=3)
    check(figure, "submit_latency")
    assert figure.value > 0


async def test_the_overhead_of_the_daemon_is_measured() -> None:
    figure = await daemon_overhead(min_window_s=0.1, jobs=1)
    check(figure, "daemon_overhead")
    assert figure.value < 1


@pytest.mark.parametrize(
    ("better", "value", "ok"),
    [
        (Better.HIGHER, 0.5, True),
        (Better.HIGHER, 0.49, False),
        (Better.LOWER, 0.5, True),
        (Better.LOWER, 0.51, False),
        (Better.LOWER, math.nan, False),
        (Better.HIGHER, math.nan, False),
    ],
)
def test_a_limit_holds_on_the_right_side(better: Better, value: float, ok: bool) -> None:
    assert Figure("x", value, "1", 0.5, better, "y").ok is ok
