"""`labd outputs-off` when there is no supply to be reached: it says so, in time, and does not claim success."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from labd.cli.outputs_off import outputs_off

APP = typer.Typer()
APP.command()(outputs_off)

LAB = """\
[lab]
name = "x"
[[instrument]]
id = "psu-1"
driver = "keysight-n6705c"
resource = "TCPIP::127.0.0.1::{port}::SOCKET"
[[board]]
id = "one"
limits = {{ voltage_max_v = 3.6, current_max_a = 0.1 }}
supply = {{ instrument = "psu-1", channel = 2, voltage_v = 3.0 }}
serial = {{ port = "/dev/ttyNone0" }}
"""


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def test_an_output_that_may_still_be_on_is_a_failure(tmp_path: Path, closed_port: int) -> None:
    path = tmp_path / "lab.toml"
    path.write_text(LAB.format(port=closed_port))
    result = CliRunner().invoke(APP, [str(path), "--timeout", "5", "--json"])
    assert result.exit_code == 1
    (output,) = json.loads(result.stdout)["outputs"]
    assert (output["instrument"], output["channel"], output["off"]) == ("psu-1", 2, False)
    assert output["error"]


def test_faults_elsewhere_do_not_keep_outputs_on(tmp_path: Path, closed_port: int) -> None:
    path = tmp_path / "lab.toml"
    path.write_text(LAB.format(port=closed_port) + "colour = 'red'\n")
    result = CliRunner().invoke(APP, [str(path), "--timeout", "5", "--json"])
    assert result.exit_code == 1
    assert [output["channel"] for output in json.loads(result.stdout)["outputs"]] == [1, 2, 3, 4]
    assert "labd check" in result.stderr


def test_a_file_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    assert CliRunner().invoke(APP, [str(tmp_path / "none.toml")]).exit_code == 2
