"""Every benchmark runs, at a size too small for its value to mean anything."""

from __future__ import annotations

import math

import pytest

from tests.benchmarks.__main__ import document
from tests.benchmarks.capture_memory import capture_memory
from tests.benchmarks.capture_path import capture_path
from tests.benchmarks.command_start import COMMANDS, command_start
from tests.benchmarks.daemon_overhead import daemon_overhead
from tests.benchmarks.decision import decision
from tests.benchmarks.figure import Better, Figure
from tests.benchmarks.reservations import labd_times
from tests.benchmarks.submit_latency import submit_latency
from tests.benchmarks.trace_long import trace_long
from tests.benchmarks.trace_read import trace_against_json, trace_read
from tests.benchmarks.trace_record import trace_record
from tests.benchmarks.utilisation import utilisation


def check(figures: tuple[Figure, ...], *names: str) -> None:
    assert tuple(figure.name for figure in figures) == names
    for figure in figures:
        assert math.isfinite(figure.value)
        assert figure.against
        assert document(figure).keys() == {"name", "value", "unit", "limit", "better", "ok", "against"}


async def test_the_capture_path_is_measured() -> None:
    figures = await capture_path(samples=300_000, rounds=2)
    check(figures, "capture_path")
    assert figures[0].value > 0


async def test_the_memory_of_a_capture_is_measured() -> None:
    check(await capture_memory(samples=300_000), "capture_memory")


async def test_the_start_of_the_commands_is_measured() -> None:
    figures = await command_start(rounds=1)
    check(figures, *(f"start_{name}" for name in COMMANDS))
    assert all(figure.value > 0 for figure in figures)


@pytest.mark.slow
async def test_the_latency_of_a_submit_is_measured() -> None:
    figures = await submit_latency(each=3)
    check(figures, "submit_latency", "submit_latency_rested")
    assert figures[0].value > 0


async def test_the_time_of_a_reservation_is_measured() -> None:
    times = await labd_times(each=2, outstanding=(1, 3))
    assert set(times) == {1, 3}
    assert all(took.granted_s > 0 and took.pair_s > 0 for took in times.values())


@pytest.mark.slow
async def test_the_overhead_of_the_daemon_is_measured() -> None:
    figures = await daemon_overhead(min_window_s=0.1, jobs=1)
    check(figures, "daemon_overhead")
    assert figures[0].value < 1


@pytest.mark.slow
async def test_the_use_of_a_full_rack_is_measured() -> None:
    figures = await utilisation(boards=8, jobs=24, speed=20.0)
    check(figures, "utilisation")
    assert 0 < figures[0].value <= 1
    assert "24 jobs of 15" in figures[0].against or "24 jobs of 14" in figures[0].against


async def test_the_cost_of_a_decision_is_measured() -> None:
    figures = await decision(boards=8, few=20, many=200, rounds=3)
    check(figures, "decision_one_free", "decision_all_free", "queue_memory", "decision_all_different")
    assert all(figure.value > 0 for figure in figures[:2])


async def test_the_cost_of_recording_is_measured() -> None:
    figures = await trace_record(samples=600_000, rounds=2)
    check(figures, "trace_record", "trace_record_cpu")
    assert all(figure.value > 0 for figure in figures)


async def test_the_cost_of_reading_is_measured() -> None:
    figures = await trace_read(samples=600_000, rounds=1)
    names = ("trace_energy_hot", "trace_energy_sealed")
    errors = tuple(f"{name}_error" for name in names)
    check(figures, names[0], errors[0], names[1], errors[1], "trace_read_all", "trace_size")
    assert all(figure.ok for figure in figures if figure.name in errors)


async def test_a_trace_is_held_against_a_json_of_the_same_samples() -> None:
    check(await trace_against_json(samples=20_000, rounds=1), "trace_against_json")


@pytest.mark.slow
async def test_a_long_trace_is_held_against_a_short_one() -> None:
    figures = await trace_long(samples=600_000, short=300_000, rounds=2)
    names = ("trace_open", "trace_open_flat", "trace_overview", "trace_overview_flat", "trace_memory")
    check(figures, *names)


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
