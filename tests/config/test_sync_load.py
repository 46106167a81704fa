"""A sync load is accepted where its steps can be seen and borne, else refused by its field with a remedy."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labd.config import burst, load_wires, resources_of
from labd.config.derived import board_facts
from labd.config.reading import inspect
from labd.errors import Fault
from tests.config.bench_drivers import DRIVERS
from tests.config.test_reading import changed, faults_of, read

PULSE = "pin = 0, sync_pin = 15"


def wired(load: str) -> str:
    """The good lab whose first board has this load."""
    return changed(PULSE, f"{PULSE}, load = {{ {load} }}")


def only(faults: tuple[Fault, ...]) -> tuple[str, str]:
    (fault,) = faults
    return fault.key, f"{fault.message}; {fault.remedy}"


def test_a_load_is_read_told_how_to_wire_and_can_be_required(tmp_path: Path) -> None:
    lab = read(tmp_path, wired("pin = 14, ohm = 330"))
    one, two = lab.board
    assert one.timing is not None
    assert one.timing.load is not None
    assert (one.timing.load.tolerance_percent, one.timing.load.switch_us) == (5.0, 2.0)
    (wire,) = load_wires(lab.board)
    assert "stamps-1 pin 14, high, switches 330 Ω across the supply of one" in wire.words
    assert "idle low (with a pull-down" in wire.words
    assert board_facts(one, {})["timing.load"] is True
    assert board_facts(two, {})["timing.load"] is False
    assert "load pin 14 of stamps-1" in resources_of(one)


@pytest.mark.parametrize(
    ("load", "key", "words"),
    [
        ("pin = 3, ohm = 330", "pin", "cannot put out a pulse on pin 3; use one of: 14"),
        ("pin = 15, ohm = 330", "pin", "pin 15 of stamps-1 is the board's sync pin too; use one of: 14"),
        ("pin = 14, ohm = 0", "ohm", "greater than 0"),
        ("pin = 14, ohm = 330, tolerance_percent = 51", "tolerance_percent", "50"),
        ("pin = 14, ohm = 330, tolerance_percent = -1", "tolerance_percent", "0"),
        ("pin = 14, ohm = 330, wattage = 1", "wattage", "use one of: ohm, pin"),
        ("pin = 14", "ohm", "missing"),
        ("pin = 14, ohm = 3300", "ohm", "draw 0.866 mA, less than 1 mA; use 2800 Ω or less"),
        ("pin = 14, ohm = 22", "ohm", "draw 172 mA, more than limits.current_max_a, 150 mA; use 26 Ω or more"),
    ],
)
def test_a_load_that_cannot_serve_is_refused_by_its_field(tmp_path: Path, load: str, key: str, words: str) -> None:
    found = {fault.key: f"{fault.message}; {fault.remedy}" for fault in faults_of(tmp_path, wired(load))}
    assert f"board[0].timing.load.{key}" in found
    assert words in found[f"board[0].timing.load.{key}"]


def test_load_and_idle_board_stay_within_the_range_that_was_set_by_hand(tmp_path: Path) -> None:
    text = wired("pin = 14, ohm = 47").replace("channel = 1 }", "channel = 1, current_range_a = 0.1 }", 1)
    assert read(tmp_path, text).board[0].measure is not None
    idle = text.replace('id = "one"', 'id = "one"\nidle_current_a = [0.01, 0.02]', 1)
    key, words = only(faults_of(tmp_path, idle))
    assert key == "board[0].timing.load.ohm"
    assert "draw 101 mA, more than the end of the analyzer's range, 100 mA; use 48 Ω or more" in words


def test_a_load_stands_out_of_the_noise_of_the_range_in_force(tmp_path: Path) -> None:
    noisy = wired("pin = 14, ohm = 330").replace("paper-psu", "paper-noisy-psu")
    key, words = only(faults_of(tmp_path, noisy))
    assert key == "board[0].timing.load.ohm"
    assert "draw 8.66 mA, less than 20 mA, 20 times the noise on the range of 3 A; use 140 Ω or less" in words
    assert read(tmp_path, noisy.replace("channel = 1 }", "channel = 1, current_range_a = 0.1 }", 1)).board


def test_a_load_needs_an_analyzer(tmp_path: Path) -> None:
    text = wired("pin = 14, ohm = 330").replace('measure = { instrument = "psu-1", channel = 1 }\n', "")
    found = {fault.key: fault.message for fault in faults_of(tmp_path, text)}
    assert "nothing measures" in found["board[0].timing.load"]


def test_two_boards_have_a_load_pin_each_unless_only_one_is_in_use_at_a_time(tmp_path: Path) -> None:
    both = wired("pin = 14, ohm = 330").replace(
        "pin = 1, sync_pin = 15", "pin = 1, sync_pin = 15, load = { pin = 14, ohm = 330 }"
    )
    key, words = only(faults_of(tmp_path, both))
    assert key == "board[1].timing.load.pin"
    assert "load pin 14 of stamps-1 is taken by board one" in words
    shared = both.replace('id = "one"', 'id = "one"\nresources = ["mux"]', 1)
    shared = shared.replace('id = "two"', 'id = "two"\nresources = ["mux"]', 1)
    assert len(load_wires(read(tmp_path, shared).board)) == 2


def test_a_load_is_not_switched_by_the_timing_or_the_sync_pin_of_another_board(tmp_path: Path) -> None:
    text = wired("pin = 14, ohm = 330").replace("pin = 1, sync_pin = 15", "pin = 14, sync_pin = 15")
    assert only(faults_of(tmp_path, text)) == (
        "board[0].timing.load.pin",
        "pin 14 of stamps-1 is the timing pin of board two; use another pulse pin for the load",
    )
    text = changed(PULSE, "pin = 0, load = { pin = 15, ohm = 330 }")
    assert "is the sync pin of board two" in only(faults_of(tmp_path, text))[1]


def test_bursts_that_take_long_are_warned_of_and_impossible_ones_refused(tmp_path: Path) -> None:
    text = wired("pin = 14, ohm = 330")
    path = tmp_path / "lab.toml"
    path.write_text(text.replace("paper-psu", "paper-slow-log-psu"))
    warnings = {fault.key: fault.message for fault in inspect(path, DRIVERS).warnings}
    assert "with a sample every 0.02 s, each of its bursts takes" in warnings["board[0].timing.load"]
    path.write_text(text)
    assert "board[0].timing.load" not in {fault.key for fault in inspect(path, DRIVERS).warnings}
    key, words = only(faults_of(tmp_path, text.replace("paper-psu", "paper-slowest-log-psu")))
    assert (key, "pulses of 1.05 s cannot be put out" in words) == ("board[0].timing.load", True)


@given(period_s=st.floats(1e-6, 0.04))
def test_a_burst_has_room_for_its_steps_and_no_two_pulses_or_pauses_alike(period_s: float) -> None:
    made = burst(period_s)
    assert len(made.widths_s) == len(made.pauses_s) == 4
    for width_s in made.widths_s:
        assert width_s >= max(12 * period_s, 5e-3) * (1 - 1e-9)
        assert round(1e6 * width_s) == pytest.approx(1e6 * width_s, abs=1e-6)
        assert width_s <= 1.0
    for pause_s in (made.before_s, *made.pauses_s):
        assert pause_s >= 6 * period_s + 1e-3
    for lengths in (made.widths_s, made.pauses_s):
        assert all(abs(a - b) > 0.1 * min(a, b) for a, b in combinations(lengths, 2))
