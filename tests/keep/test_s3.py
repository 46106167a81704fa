"""The archive as lab.toml and AWS's own places name it, from the operator's side: `labd check --archive`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import obstore
import pytest
import typer
from typer.testing import CliRunner

from labd.cli.check import check
from labd.config import Store
from labd.errors import ConfigError
from labd.keep.s3 import credentials, open_archive
from tests.s3_server import KEY, SECRET, S3Server, s3

__all__ = ["s3"]

ROOT = Path(__file__).parents[2]
APP = typer.Typer()
APP.command()(check)
FILE = f"""\
[default]
aws_access_key_id = {KEY}
aws_secret_access_key = {SECRET}
[other]
aws_access_key_id = other-key
aws_secret_access_key = %other%
aws_session_token = token
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / ".aws" / "credentials"
    path.parent.mkdir()
    path.write_text(FILE)
    return path


def lab_toml(folder: Path, store: str) -> Path:
    path = folder / "lab.toml"
    path.write_text((ROOT / "lab.toml").read_text().replace("[store]\n", f"[store]\n{store}\n"))
    return path


def test_the_environment_goes_before_the_file(file: Path) -> None:
    home = {"HOME": str(file.parents[1])}
    assert credentials({**home, "AWS_ACCESS_KEY_ID": "x"}) == {}
    assert credentials(home) == {"access_key_id": KEY, "secret_access_key": SECRET}


def test_a_byte_order_mark_before_the_credentials_is_passed_over(file: Path) -> None:
    file.write_text("\ufeff" + FILE, encoding="utf-8")
    assert credentials({"HOME": str(file.parents[1])}) == {"access_key_id": KEY, "secret_access_key": SECRET}


def test_file_and_profile_can_be_named(file: Path) -> None:
    found = credentials({"AWS_SHARED_CREDENTIALS_FILE": str(file), "AWS_PROFILE": "other"})
    assert found == {"access_key_id": "other-key", "secret_access_key": "%other%", "session_token": "token"}


def test_no_file_leaves_it_to_the_roles_of_the_machine(tmp_path: Path) -> None:
    assert credentials({"HOME": str(tmp_path)}) == {}


@pytest.mark.parametrize(
    ("text", "environment", "words"),
    [
        (None, {}, "no such credentials file"),
        (FILE, {"AWS_PROFILE": "third"}, "has no profile 'third'"),
        (f"aws_secret_access_key = {SECRET}", {}, "is not a credentials file"),
        (f"[default\n{SECRET}", {}, "is not a credentials file"),
    ],
)
def test_a_file_that_cannot_be_used_is_told_without_what_it_holds(
    tmp_path: Path, text: str | None, environment: Mapping[str, str], words: str
) -> None:
    path = tmp_path / "credentials"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        credentials({"AWS_SHARED_CREDENTIALS_FILE": str(path), **environment})
    assert SECRET not in str(caught.value)


def test_a_lab_without_an_archive_has_none() -> None:
    assert open_archive(Store(), {}) is None


async def test_a_prefix_and_the_files_credentials_are_used(s3: S3Server, file: Path) -> None:
    s3.make_bucket("configured")
    store = Store(archive_url="s3://configured/a/b/", endpoint=s3.endpoint, allow_http=True)
    archive = open_archive(store, {"AWS_SHARED_CREDENTIALS_FILE": str(file)})
    assert archive is not None
    assert archive.where == "s3://configured/a/b"
    obstore.put(s3.store("configured"), "a/b/t1/seal.json", b"{}")
    assert await archive.ids() == ["t1"]


def test_check_asks_the_archive_only_if_told_to(s3: S3Server, file: Path, tmp_path: Path) -> None:
    s3.make_bucket("checked")
    path = lab_toml(tmp_path, f'archive_url = "s3://checked/x"\nendpoint = "{s3.endpoint}"\nallow_http = true')
    environment = {"AWS_SHARED_CREDENTIALS_FILE": str(file), "AWS_ACCESS_KEY_ID": None, "COLUMNS": "200"}
    plain = CliRunner(env=environment).invoke(APP, [str(path)])
    assert (plain.exit_code, "not asked" in plain.stdout) == (0, True)
    asked = CliRunner(env=environment).invoke(APP, [str(path), "--archive"])
    assert (asked.exit_code, "takes traces" in asked.stderr) == (0, True)
    assert obstore.list(s3.store("checked")).collect() == []


@pytest.mark.parametrize(
    ("store", "words"),
    [
        ('archive_url = "s3://absent"\nallow_http = true\nendpoint = "{endpoint}"', "no such bucket"),
        ("", "no archive to ask"),
    ],
)
def test_check_says_what_is_wrong_with_the_archive(
    s3: S3Server, file: Path, tmp_path: Path, store: str, words: str
) -> None:
    path = lab_toml(tmp_path, store.format(endpoint=s3.endpoint))
    environment = {"AWS_SHARED_CREDENTIALS_FILE": str(file), "AWS_ACCESS_KEY_ID": None}
    result = CliRunner(env=environment).invoke(APP, [str(path), "--archive"])
    assert (result.exit_code, words in result.stderr) == (1, True)
    assert SECRET not in result.output
