"""What a command loads before it has anything to do: help, the tab key, and a question to a lab that is not there."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from importlib import import_module

import pytest

from labd.cli import daemon, operator
from labd.cli.lazy import LazyCommand
from tests.cli.served import nowhere
from tests.deadline import HUNG_S

HEAVY = {
    "aiohttp",
    "amqtt",
    "h5py",
    "labd.app",
    "labd.schedule.dispatcher",
    "matplotlib",
    "numpy",
    "obstore",
    "pandas",
    "pyarrow",
    "scipy",
    "serial",
    "sqlalchemy",
    "sqlmodel",
    "structlog",
}
"""What takes long to load, and is of no use to those who only ask."""
TOLD = "loaded: "
PROGRAM = f"""
import sys
from labd.cli.{{module}} import main
try:
    main()
finally:
    print("{TOLD}" + " ".join(sys.modules), file=sys.stderr)
"""
ASKING = ("--broker", str(nowhere()), "--lab", "bench-1")


def loaded(module: str, *arguments: str, **environment: str) -> tuple[int, str, set[str]]:
    """Exit status, standard output and loaded modules of a command in a process of its own."""
    plain = {key: value for key, value in os.environ.items() if not key.startswith("LABCTL_")}
    program = (sys.executable, "-c", PROGRAM.format(module=module), *arguments)
    ran = subprocess.run(
        program, env={**plain, **environment}, capture_output=True, text=True, timeout=HUNG_S, check=False
    )
    last = ran.stderr.strip().splitlines()[-1]
    assert last.startswith(TOLD), ran.stderr
    return ran.returncode, ran.stdout, set(last.removeprefix(TOLD).split())


def tab(module: str, line: str) -> tuple[int, str, set[str]]:
    """The same of what a shell asks at the end of `line`."""
    program = line.split(maxsplit=1)[0]
    asked = {
        f"_{program.upper()}_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split())),
        "LABCTL_BROKER": str(nowhere()),
        "LABCTL_LAB": "bench-1",
    }
    return loaded(module, **asked)


@pytest.mark.parametrize(
    ("module", "arguments", "status"),
    [
        ("operator", ("--help",), 0),
        ("operator", ("job", "--help"), 0),
        ("operator", ("trace", "--help"), 0),
        ("operator", ("trace", "plot", "--help"), 0),
        ("operator", ("sweep", "report", "--help"), 0),
        ("operator", (*ASKING, "jobs"), 4),
        ("operator", (*ASKING, "boards"), 4),
        ("operator", (*ASKING, "submit", "digits01", "energy"), 4),
        ("operator", (*ASKING, "trace", "list"), 4),
        ("daemon", ("--help",), 0),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_who_only_asks_loads_nothing_heavy(module: str, arguments: tuple[str, ...], status: int) -> None:
    ended, _, modules = loaded(module, *arguments)
    assert ended == status
    assert modules & HEAVY == set()


@pytest.mark.parametrize(
    ("module", "line", "offered"),
    [
        ("operator", "labctl ", "submit"),
        ("operator", "labctl trace ", "verify"),
        ("operator", "labctl submit ", "digits01"),
        ("operator", "labctl submit digits01 ", "energy"),
        ("operator", "labctl job show ", ""),
        ("operator", "labctl board show ", ""),
        ("operator", "labctl trace pull ", ""),
        ("operator", "labctl sweep pause ", ""),
        ("operator", "labctl reserve ", ""),
        ("daemon", "labd ", "check"),
    ],
)
def test_the_tab_key_loads_nothing_heavy(module: str, line: str, offered: str) -> None:
    ended, out, modules = tab(module, line)
    assert ended == 0
    assert offered in out.split() or not offered
    assert modules & HEAVY == set()


def test_a_command_that_reads_samples_loads_what_it_reads_with() -> None:
    """So that the tests above cannot pass because a module is called otherwise than they think."""
    _, _, modules = loaded("operator", "trace", "verify", os.path.dirname(__file__))
    assert {"numpy", "pyarrow"} <= modules


@pytest.mark.parametrize(
    ("name", "place", "line"),
    [
        (name, place, line)
        for group in (operator.Commands, daemon.Commands)
        for name, (place, line) in group.places.items()
    ],
)
def test_each_line_of_the_list_is_how_the_help_of_its_command_begins(name: str, place: str, line: str) -> None:
    """A list is shown without its commands being loaded, so their lines are written twice."""
    assert (LazyCommand(name, place, line).load().help or "").split("\n\n")[0] == line
    module, _, attribute = place.partition(":")
    found = getattr(import_module(module), attribute)
    if inspect.isfunction(found) and not line.startswith("Short for "):
        assert (inspect.getdoc(found) or "").split("\n\n")[0] == line
