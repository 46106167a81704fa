"""The rules that are shipped as an example are those of the sample lab.toml with its users."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from labd.cli.daemon import app

ROOT = Path(__file__).parents[2]
USERS = re.compile(r"^# (\[\[user\]\]|name = \"(?:ada|nightly)\".*|role = .*|share = .*)$", re.MULTILINE)


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """The sample with its example of users in force."""
    path = tmp_path / "lab.toml"
    path.write_text(USERS.sub(r"\1", (ROOT / "lab.toml").read_text()))
    return path


def test_the_shipped_rules_are_those_of_the_sample(sample: Path) -> None:
    printed = CliRunner().invoke(app, ["acl", str(sample)])
    assert printed.exit_code == 0, printed.output
    assert printed.stdout == (ROOT / "systemd/mosquitto.acl").read_text()


def test_a_lab_without_users_has_no_rules_to_print() -> None:
    refused = CliRunner().invoke(app, ["acl", str(ROOT / "lab.toml")])
    assert refused.exit_code == 1
    assert "[[user]]" in refused.stderr
