"""What it costs to start `labctl` and `labd`: processor time, against importing the four libraries they are made of."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
from pathlib import Path

from tests.benchmarks.figure import Better, Figure, median_ratio

LIMIT = 2.5
HUNG_S = 120.0
LIBRARIES = "import typer, rich, pydantic, aiomqtt"
PROGRAMS = Path(sys.executable).parent
NOWHERE = "mqtt://127.0.0.1:9"
"""A broker that is not there: a command gets as far as connecting."""
ASKING = ("labctl", "--broker", NOWHERE, "--lab", "bench-1")
COMMANDS: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "labctl_help": (("labctl", "--help"), {}),
    "labctl_tab_names": (("labctl",), {"COMP_WORDS": "labctl ", "COMP_CWORD": "1"}),
    "labctl_tab_jobs": (("labctl",), {"COMP_WORDS": "labctl job show ", "COMP_CWORD": "3"}),
    "labctl_jobs": ((*ASKING, "jobs"), {}),
    "labctl_boards": ((*ASKING, "boards"), {}),
    "labctl_submit": ((*ASKING, "submit", "digits01", "energy"), {}),
    "labd_help": (("labd", "--help"), {}),
}


async def command_start(rounds: int = 11) -> tuple[Figure, ...]:
    """Processor time from the start of each command to its end, by turns with the libraries alone."""
    return await asyncio.to_thread(_measured, rounds)


def _measured(rounds: int) -> tuple[Figure, ...]:
    libraries: list[float] = []
    ours: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        libraries.append(_processor_s((sys.executable, "-c", LIBRARIES), {}))
        for name, ((program, *arguments), asked) in COMMANDS.items():
            environment = {"LABCTL_BROKER": NOWHERE, "LABCTL_LAB": "bench-1", "_LABCTL_COMPLETE": "complete_bash"}
            ours[name].append(
                _processor_s((str(PROGRAMS / program), *arguments), {**environment, **asked} if asked else {})
            )
    return tuple(
        Figure(
            f"start_{name}",
            median_ratio(took, libraries),
            "1",
            LIMIT,
            Better.LOWER,
            f"{min(libraries) * 1e3:.0f} ms for `{LIBRARIES}`, {min(took) * 1e3:.0f} ms for this, at best of {rounds}",
        )
        for name, took in ours.items()
    )


def _processor_s(command: tuple[str, ...], asked: dict[str, str]) -> float:
    """User and system time of a process from its start to its end, s."""
    plain = {key: value for key, value in os.environ.items() if not key.startswith("LABCTL_")}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env={**plain, **asked}, capture_output=True, timeout=HUNG_S, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
