"""A file has its name only when it is whole: a full disk, a lost folder, a Ctrl-C leave nothing behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from labd.trace.export.formats import Format
from labd.trace.export.landing import ExportError
from labd.trace.export.selection import select
from labd.trace.export.writing import export
from tests.deadline import HUNG_S
from tests.trace.export.traces import D, I, V, made, recorded, signal

FULL_DISK = """
import resource, sys
from pathlib import Path
from labd.trace.export.formats import Format
from labd.trace.export.landing import ExportError
from labd.trace.export.selection import select
from labd.trace.export.writing import export
from labd.trace.reader import Trace

form, folder, path = Format(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
selection = select(Trace.open(folder))
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]), int(sys.argv[4])))
try:
    export(selection, form, path)
except ExportError as error:
    print(error)
    sys.exit(7)
"""
"""The disk takes so many bytes of a file and no more; in a process of its own, since the limit never goes again."""


@pytest.mark.parametrize("limit", [100, 100_000, 2_000_000])
@pytest.mark.parametrize("form", list(Format))
def test_a_full_disk_is_named_and_leaves_nothing(tmp_path: Path, form: Format, limit: int) -> None:
    trace = recorded(tmp_path, signal(1_000_000, (I, V, D)))
    out = tmp_path / "out"
    out.mkdir()
    ended = subprocess.run(
        [sys.executable, "-c", FULL_DISK, form.value, trace.where, out / "t", str(limit)],
        capture_output=True,
        text=True,
        timeout=HUNG_S,
        check=False,
    )
    assert ended.returncode == 7, ended.stderr
    assert str(out / "t") in ended.stdout
    assert "free some space" in ended.stdout
    assert not list(out.iterdir())


@pytest.mark.parametrize("form", list(Format))
def test_a_folder_that_is_not_there_is_named(tmp_path: Path, form: Format) -> None:
    trace = recorded(tmp_path, signal(100))
    with pytest.raises(ExportError, match="nowhere"):
        made(trace, form, tmp_path / "nowhere" / "t")


@pytest.mark.parametrize("form", list(Format))
def test_what_had_the_name_stays_until_the_new_file_is_whole(tmp_path: Path, form: Format) -> None:
    trace = recorded(tmp_path, signal(1000))
    path = tmp_path / "t"
    path.write_text("precious")

    def interrupted(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(select(trace), form, path, interrupted)
    assert path.read_text() == "precious"
    assert not list(tmp_path.glob("*.part"))
    export(select(trace), form, path)
    assert path.read_bytes() != b"precious"


@pytest.mark.parametrize("form", Format)
def test_a_file_has_the_rights_of_any_other_new_file(tmp_path: Path, form: Format) -> None:
    plain, out = tmp_path / "plain", tmp_path / f"t{form.suffix}"
    plain.touch()
    export(select(recorded(tmp_path, signal(100, (I, V)))), form, out)
    assert out.stat().st_mode == plain.stat().st_mode
