"""What an operator sees of the keys that the queue, the boards' health, reservations and users brought."""

from __future__ import annotations

from pathlib import Path

import pytest

from labd.config import LabConfig
from labd.config.reading import inspect, load
from labd.errors import ConfigError, Fault
from tests.config.bench_drivers import DRIVERS

GOOD = (Path(__file__).parent / "good.toml").read_text()
SERIAL = 'serial = { port = "/dev/ttyPaper0" }\n'
"""A line of board one; what stands after it belongs to the board."""


def read(folder: Path, text: str) -> LabConfig:
    path = folder / "lab.toml"
    path.write_text(text)
    return load(path, DRIVERS)


def faults_of(folder: Path, text: str) -> dict[str, Fault]:
    with pytest.raises(ConfigError) as caught:
        read(folder, text)
    return {fault.key: fault for fault in caught.value.faults}


def warned(folder: Path, text: str) -> dict[str, Fault]:
    path = folder / "lab.toml"
    path.write_text(text)
    return {warning.key: warning for warning in inspect(path, DRIVERS).warnings}


def section(text: str) -> str:
    return GOOD.replace("[store]", f"{text}\n[store]", 1)


def board(text: str) -> str:
    assert SERIAL in GOOD
    return GOOD.replace(SERIAL, f"{SERIAL}{text}\n", 1)


def test_the_new_sections_are_read(tmp_path: Path) -> None:
    text = """
        [queue]
        max_queued = 50_000
        [health]
        golden = "digits01"
        [reservation]
        max_s = 7200
        [[user]]
        name = "Ada.L"
        role = "admin"
        share = 2
        """
    lab = read(tmp_path, section(text))
    assert (lab.queue.max_queued, lab.queue.flaky_retries) == (50_000, 2)
    assert lab.health.golden == "digits01"
    assert (lab.reservation.max_s, lab.reservation.warn_s) == (7200, 600)
    assert [(user.name, user.role, user.share) for user in lab.user] == [("Ada.L", "admin", 2.0)]


def test_a_board_says_what_it_is_and_keeps_the_types(tmp_path: Path) -> None:
    text = 'capabilities = { memory_kb = 640, fpu = true, vdd_v = 1.8, core = "m4f", "radio.ble" = false }\n'
    lab = read(tmp_path, board(text + "idle_current_a = [0.001, 0.02]"))
    facts = lab.board[0].capabilities
    assert facts == {"memory_kb": 640, "fpu": True, "vdd_v": 1.8, "core": "m4f", "radio.ble": False}
    assert [type(fact) for fact in facts.values()] == [int, bool, float, str, bool]
    assert lab.board[0].idle_current_a == (0.001, 0.02)


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ("[queue]\nmax_queud = 1", "queue.max_queud", "did you mean 'max_queued'"),
        ("[queue]\nmax_queued = 500", "queue.max_queued", "a sweep of 10,000 jobs would never fit"),
        ("[queue]\nmax_queued = 500\nmax_sweep_jobs = 501", "queue.max_sweep_jobs", "lower max_sweep_jobs"),
        ("[queue]\nageing_s = 0", "queue.ageing_s", "larger"),
        ("[queue]\nflaky_retries = 11", "queue.flaky_retries", "smaller"),
        ("[health]\ngolden = 'digit01'", "health.golden", "did you mean 'digits01'"),
        ("[health]\ngolden_every_s = 60", "health.golden_every_s", "add golden"),
        ("[health]\nretry_s = 90000", "health.retry_s", "more than a day"),
        ("[health]\nquarantine_after = 0", "health.quarantine_after", "larger"),
        ("[reservation]\nwarn_s = 86400", "reservation.warn_s", "would begin with it"),
        ("[reservation]\nmax_s = 600", "reservation.max_s", "raise max_s"),
        ("[reservation]\nmax_per_owner = 0", "reservation.max_per_owner", "larger"),
        ("[user]\nname = 'ada'\nrole = 'admin'", "user", "[[user]]"),
        ("[[user]]\nname = 'ada'\nrole = 'boss'", "user[0].role", "'operator'"),
        ("[[user]]\nname = 'a b'\nrole = 'admin'", "user[0].name", "letters"),
        ("[[user]]\nname = 'ada'", "user[0].role", "add role"),
        ("[[user]]\nname = 'ada'\nrole = 'admin'\nshare = 0", "user[0].share", "larger"),
        ("[[user]]\nname = 'ada'\nrole = 'admin'\n[[user]]\nname = 'ada'\nrole = 'viewer'", "user[1].name", "twice"),
        ("[[user]]\nname = 'labd'\nrole = 'admin'", "user[0].name", "calls itself"),
    ],
)
def test_a_fault_of_a_section_names_its_key_and_remedy(tmp_path: Path, text: str, key: str, words: str) -> None:
    faults = faults_of(tmp_path, section(text))
    assert set(faults) == {key}
    assert words in f"{faults[key].message}; {faults[key].remedy}"
    assert faults[key].line is not None


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ('capabilities = { "memory kb" = 1 }', "board[0].capabilities.memory kb", "no name"),
        ("capabilities = { 4k = 1 }", "board[0].capabilities.4k", "memory_kb"),
        ("capabilities = { and = true }", "board[0].capabilities.and", "no name"),
        ("capabilities = { analyzer.rate_hz = 5 }", "board[0].capabilities", "analyzer is neither"),
        ('capabilities = { "analyzer.rate_hz" = 5 }', "board[0].capabilities.analyzer.rate_hz", "known to labd"),
        ("capabilities = { target = 5 }", "board[0].capabilities.target", "own.target"),
        ("capabilities = { fpu = [1] }", "board[0].capabilities", "fpu is neither"),
        ('resources = ["Mux 1"]', "board[0].resources[0]", "lower-case"),
        ('resources = ["mux-1", "mux-1"]', "board[0].resources[1]", "there twice"),
        ("idle_current_a = [0.02, 0.001]", "board[0].idle_current_a", "smaller one first"),
        ("idle_current_a = [0.01, 0.01]", "board[0].idle_current_a", "not below"),
        ("idle_current_a = [-0.01, 0.01]", "board[0].idle_current_a", "below zero"),
        ("idle_current_a = [0.01, 0.2]", "board[0].idle_current_a", "above the board's limit"),
        ("idle_current_a = [0.01]", "board[0].idle_current_a[1]", ""),
    ],
)
def test_a_fault_of_a_board_names_its_key_and_remedy(tmp_path: Path, text: str, key: str, words: str) -> None:
    faults = faults_of(tmp_path, board(text))
    assert set(faults) == {key}
    assert words in f"{faults[key].message}; {faults[key].remedy}"
    assert faults[key].line is not None


def two_on_one_port(first: str, second: str) -> str:
    text = GOOD.replace("/dev/ttyPaper1", "/dev/ttyPaper0")
    text = text.replace(SERIAL, f"{SERIAL}{first}\n", 1)
    return text.replace("\n[[firmware]]", f"{second}\n[[firmware]]")


def test_two_boards_on_one_port_need_a_thing_that_they_say_they_share(tmp_path: Path) -> None:
    (fault,) = faults_of(tmp_path, two_on_one_port("", "")).values()
    assert (fault.key, "taken by board one" in fault.message) == ("board[1].serial.port", True)
    assert "resources" in fault.remedy
    (fault,) = faults_of(tmp_path, two_on_one_port('resources = ["mux-1"]', 'resources = ["mux-2"]')).values()
    assert fault.key == "board[1].serial.port"
    lab = read(tmp_path, two_on_one_port('resources = ["mux-1", "hub"]', 'resources = ["mux-1"]'))
    assert {one.serial.port for one in lab.board} == {"/dev/ttyPaper0"}


def test_boards_that_share_a_thing_still_need_ids_of_their_own(tmp_path: Path) -> None:
    text = two_on_one_port('resources = ["mux-1"]', 'resources = ["mux-1"]').replace('id = "two"', 'id = "one"')
    assert set(faults_of(tmp_path, text)) == {"board[1].id"}


def test_a_resource_that_nobody_shares_is_warned_of(tmp_path: Path) -> None:
    assert "board[0].resources[0]" in warned(tmp_path, board('resources = ["mux-1"]'))


def test_a_golden_job_without_an_image_is_warned_of(tmp_path: Path) -> None:
    text = section('[health]\ngolden = "digits01"').replace('target = "native"', 'target = "other"')
    assert "no energy image of digits01" in warned(tmp_path, text)["health.golden"].message


def test_users_without_an_admin_are_warned_of(tmp_path: Path) -> None:
    text = section('[[user]]\nname = "ada"\nrole = "operator"')
    assert "nobody can stop the lab" in warned(tmp_path, text)["user[0].role"].message
