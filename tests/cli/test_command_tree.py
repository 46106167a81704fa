"""The tree of labctl's commands: each has help and JSON, its status says what is in the way, and the docs have it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from labd.cli import operator
from labd.cli.lazy import LazyCommand
from labd.cli.table import Exit
from tests.cli.served import labctl_here, nowhere, served_lab
from tests.end_to_end.labs import ROOT

DOCUMENT = ROOT / "docs" / "reference" / "labctl.md"
NO_LAB = {("session", "score")}
"""Commands that never ask a lab."""
TRACE = "20250301T120000-j77-r77"
ARGUMENTS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("submit",): ("digits99", "energy"),
    ("job", "submit"): ("digits99", "energy"),
    ("reserve",): ("b77", "--for", "1h"),
    ("lab", "stop"): ("smoke",),
    ("reservation", "extend"): ("77", "--for", "1h"),
    ("reservation", "hand-over"): ("77", "bob"),
    **{("board", verb): ("b77", "--reason", "odd") for verb in ("quarantine", "maintain")},
    ("instrument", "maintain"): ("psu-77", "--reason", "odd"),
    **{("board", verb): ("b77",) for verb in ("show", "check", "return")},
    **{("instrument", verb): ("psu-77",) for verb in ("show", "return")},
    **{("job", verb): ("77",) for verb in ("show", "watch", "cancel", "release", "why")},
    **{("reservation", verb): ("77",) for verb in ("show", "release")},
    **{("trace", verb): (TRACE,) for verb in ("show", "plot", "pull", "verify", "pin", "unpin")},
    **{("sweep", verb): ("nightly",) for verb in ("show", "pause", "resume", "remove", "run", "report")},
}
"""What each command needs; the lab of this test has nothing of that name, so it refuses."""
GIVING = {("sweep", "create"), ("sweep", "preview"), ("trace", "import")}
"""Commands that take a file that has to be there."""
NEVER_REFUSED = {
    ("jobs",),
    ("boards",),
    ("top",),
    ("audit",),
    ("lab", "status"),
    ("lab", "stop"),
    ("lab", "resume"),
    ("job", "why"),
}
"""Commands that an open lab has no reason to refuse, or one without a dispatcher; so are all lists."""


def leaves(group: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    """Every command by its words."""
    for name, found in getattr(group, "commands").items():  # noqa: B009 - typer's own click has no types
        command = found.load() if isinstance(found, LazyCommand) else found
        if hasattr(command, "commands"):
            yield from leaves(command, (*path, name))
        else:
            yield (*path, name), command


TREE = dict(leaves(get_command(operator.app)))
ASKING = sorted(set(TREE) - NO_LAB)


def given(words: tuple[str, ...], folder: Path) -> tuple[str, ...]:
    if words not in GIVING:
        return ARGUMENTS.get(words, ())
    sweep = folder / "sweep.toml"
    sweep.write_text('name = "nightly"\n[axes]\nmode = ["energy"]\n[job]\nbenchmark = "digits99"\n')
    return (str(sweep),)


@pytest.mark.parametrize("words", sorted(TREE), ids=" ".join)
def test_each_command_has_help_and_json(words: tuple[str, ...]) -> None:
    told = labctl_here(*words, "--help")
    assert told.status == Exit.DONE
    assert len(told.out.splitlines()) > 3
    options = [option for parameter in getattr(TREE[words], "params") for option in parameter.opts]  # noqa: B009
    assert "--json" in options


@pytest.mark.parametrize("words", [each for each in ASKING if each != ("trace", "import")], ids=" ".join)
def test_each_command_ends_with_4_without_a_broker(words: tuple[str, ...], tmp_path: Path) -> None:
    ours = ("--broker", str(nowhere()), "--lab", "bench-1")
    told = labctl_here(*ours, *words, *given(words, tmp_path))
    assert (told.status, told.out) == (Exit.UNREACHABLE, ""), told.err
    assert "mqtt://127.0.0.1:9" in told.err


def test_an_import_of_a_folder_without_a_session_asks_no_lab(tmp_path: Path) -> None:
    told = labctl_here("trace", "import", str(tmp_path))
    assert (told.status, str(tmp_path) in told.err) == (Exit.FAILED, True), told.err


async def test_each_command_ends_with_3_when_the_lab_refuses(tmp_path: Path) -> None:
    refused = [
        words
        for words in ASKING
        if words not in NEVER_REFUSED and words[-1] not in ("list", "gc") and words != ("trace", "import")
    ]
    async with served_lab(tmp_path) as lab:
        for words in refused:
            told = await asyncio.to_thread(labctl_here, *lab.options, *words, *given(words, tmp_path))
            assert told.status == Exit.REFUSED, (words, told.err)
            assert told.err.lstrip().startswith("labctl: "), words


def test_the_reference_has_each_command_with_its_line_and_no_other() -> None:
    rows = dict(re.findall(r"^\| `labctl ([a-z-]+(?: [a-z-]+)?)` \| (.*) \|$", DOCUMENT.read_text(), re.MULTILINE))
    told = {" ".join(words): getattr(command, "help") or "" for words, command in TREE.items()}  # noqa: B009
    assert rows == {words: " ".join(text.split("\n\n")[0].split()) for words, text in told.items()}


def test_the_reference_has_the_exit_codes() -> None:
    text = DOCUMENT.read_text()
    for status in Exit:
        assert f"| {status.value} |" in text
