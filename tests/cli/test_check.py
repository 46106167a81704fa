"""`labd check` as an operator meets it: tables or faults, and an exit status that says which."""

from __future__ import annotations

import json
from pathlib import Path

import typer
from typer.testing import CliRunner

from labd.cli.check import check
from labd.cli.table import quantity

ROOT = Path(__file__).parents[2]
APP = typer.Typer()
APP.command()(check)


def test_the_example_is_shown_as_tables() -> None:
    result = CliRunner().invoke(APP, [str(ROOT / "lab.toml")])
    assert result.exit_code == 0
    for words in (
        "l4r5zi-2",
        "psu-1:2 at 3 V",
        "3.6 V, 150 mA",
        "stamps-1 pin 1",
        "every 942.1 µs",
        "±50 ppm",
        "memory_kb = 640",
        "warned 10 min before",
        "golden job digits01 every 1 d",
        "psu-1 starts on a low pulse of at least 2 µs: wire stamps-1 pin 15 to its trigger input, idle high",
    ):
        assert words in result.stdout


def test_five_faults_go_to_standard_error_each_with_key_line_and_remedy() -> None:
    path = ROOT / "tests/config/five_faults.toml"
    result = CliRunner().invoke(APP, [str(path)])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "5 faults" in result.stderr
    for line, key in (
        (17, "board[0].tag"),
        (19, "board[0].supply.voltage_v"),
        (21, "board[0].timing.pulse_us"),
        (26, "board[1].limits.current_max_a"),
        (34, "board[2].serial.port"),
    ):
        assert f"{path}:{line}: {key}" in result.stderr
    assert result.stderr.count("→") == 5


def test_json_carries_the_lab_and_what_its_instruments_can_do() -> None:
    result = CliRunner().invoke(APP, [str(ROOT / "lab.toml"), "--json"])
    document = json.loads(result.stdout)
    assert document["ok"] is True
    assert document["config"]["board"][0]["supply"]["voltage_v"] == 3.0
    assert document["capabilities"]["stamps-1"]["edges"]["pulse_pins"] == [14, 15]
    (wire,) = document["trigger_wires"]
    assert (wire["source"], wire["pin"], wire["analyzer"], wire["active"]) == ("stamps-1", 15, "psu-1", "low")
    (load,) = document["load_wires"]
    assert (load["source"], load["pin"], load["board"], load["ohm"]) == ("stamps-1", 14, "l4r5zi-1", 150)


def test_the_tables_say_how_a_load_is_wired() -> None:
    result = CliRunner().invoke(APP, [str(ROOT / "lab.toml")], terminal_width=200, env={"COLUMNS": "200"})
    words = " ".join(result.stdout.split())
    assert "load of 150 Ω ±5 % on pin 14" in words
    assert "stamps-1 pin 14, high, switches 150 Ω across the supply of l4r5zi-1, behind the analyzer" in words


def test_json_carries_the_faults() -> None:
    result = CliRunner().invoke(APP, [str(ROOT / "tests/config/five_faults.toml"), "--json"])
    document = json.loads(result.stdout)
    assert (result.exit_code, document["ok"], len(document["faults"])) == (1, False, 5)


def test_a_password_of_the_database_is_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "lab.toml"
    path.write_text('[lab]\nname = "x"\n[store]\ndatabase_url = "postgresql://labd:secret@db.example/labd"\n')
    for arguments in ([str(path)], [str(path), "--json"]):
        result = CliRunner().invoke(APP, arguments)
        assert "postgresql://labd@db.example/labd" in result.stdout
        assert "secret" not in result.output


def test_a_file_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    result = CliRunner().invoke(APP, [str(tmp_path / "none.toml")])
    assert result.exit_code == 2
    assert "cannot be read" in result.stderr


def test_figures_carry_prefix_and_unit() -> None:
    assert quantity(204.8e-6, "s") == "204.8 µs"
    assert quantity(0.0, "A") == "0 A"
