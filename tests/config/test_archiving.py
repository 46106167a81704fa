"""What an operator is told of the archive in lab.toml: how to write it, and never a secret twice."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from labd.config import Store
from labd.config.reading import Inspection, inspect
from tests.config.bench_drivers import DRIVERS

GOOD = (Path(__file__).parent / "good.toml").read_text()


def read(folder: Path, store: str) -> Inspection:
    path = folder / "lab.toml"
    path.write_text(GOOD.replace("[store]\n", f"[store]\n{store}\n"))
    return inspect(path, DRIVERS)


def store_of(folder: Path, text: str) -> Store:
    config = read(folder, text).config
    assert config is not None
    return config.store


def test_an_archive_is_a_bucket_with_a_prefix(tmp_path: Path) -> None:
    store = store_of(tmp_path, 'archive_url = "s3://traces/lab-1"\nregion = "eu-central-1"')
    assert (store.archive_url, store.region, store.local_copies) == ("s3://traces/lab-1", "eu-central-1", None)


@pytest.mark.parametrize(
    ("text", "kept"),
    [("true", None), ("false", timedelta(0)), ("30", timedelta(30)), ("0.5", timedelta(0.5)), ("0", timedelta(0))],
)
def test_local_copies_stay_as_long_as_is_said(tmp_path: Path, text: str, kept: timedelta | None) -> None:
    assert store_of(tmp_path, f'archive_url = "s3://traces"\nkeep_local = {text}').local_copies == kept


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ('archive_url = "https://traces/x"', "archive_url", "does not begin with s3://"),
        ('archive_url = "s3://Tr"', "archive_url", "cannot be the name of a bucket"),
        ('archive_url = "s3:///x"', "archive_url", "cannot be the name of a bucket"),
        ('archive_url = "s3://traces/a/../b"', "archive_url", "cannot be a prefix"),
        ('archive_url = "s3://traces/a//b"', "archive_url", "cannot be a prefix"),
        ('archive_url = "s3://traces/a?x=1"', "archive_url", "more than a bucket and a prefix"),
        ('archive_url = "s3://AKIA:hidden@traces/a"', "archive_url", "carries credentials"),
        ('archive_url = "s3://traces"\nendpoint = "http://nas:9000"', "endpoint", "is not encrypted"),
        ('archive_url = "s3://traces"\nendpoint = "nas:9000"', "endpoint", "not the address of a server"),
        ('archive_url = "s3://traces"\nendpoint = "https://nas:x"', "endpoint", "not the address of a server"),
        ('archive_url = "s3://traces"\nendpoint = "https://me:hidden@nas"', "endpoint", "carries credentials"),
        ('region = "eu-central-1"', "region", "not used without archive_url"),
        ("keep_local = false", "keep_local", "not used without archive_url"),
        ('archive_url = "s3://traces"\nkeep_local = -1', "keep_local", "neither true, nor false"),
        ('archive_url = "s3://traces"\nkeep_local = "1 d"', "keep_local", "neither true, nor false"),
        ('archive_url = "s3://traces"\nkeep_local = 1e300', "keep_local", "neither true, nor false"),
    ],
)
def test_what_is_wrong_is_told_once_with_its_key_and_no_secret(tmp_path: Path, text: str, key: str, words: str) -> None:
    seen = read(tmp_path, text)
    (fault,) = seen.faults
    assert (fault.key, words in fault.message, fault.remedy != "") == (f"store.{key}", True, True)
    assert fault.line is not None
    assert "hidden" not in str(fault)


def test_unencrypted_traces_are_warned_of_unless_they_stay_on_this_machine(tmp_path: Path) -> None:
    def keys(endpoint: str) -> set[str]:
        text = f'archive_url = "s3://traces"\nallow_http = true\nendpoint = "{endpoint}"'
        return {warning.key for warning in read(tmp_path, text).warnings}

    assert "store.endpoint" in keys("http://nas:9000")
    assert "store.endpoint" not in keys("http://127.0.0.1:9000")
    assert "store.endpoint" not in keys("https://nas:9000")
