"""The tab key: what a shell is offered for `labctl`, and that it gives up silently where there is no lab."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
from pathlib import Path

import pytest

from tests.cli.served import Ended, Served, labctl, nowhere, served_lab
from tests.deadline import HUNG_S
from tests.end_to_end.labs import ROOT

PROGRAMS = Path(sys.executable).parent


async def ran(*command: str, **environment: str) -> Ended:
    plain = {key: value for key, value in os.environ.items() if not key.startswith("LABCTL_")}
    path = os.pathsep.join([str(PROGRAMS), plain.get("PATH", "")])
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=ROOT,
        env={**plain, **environment, "PATH": path},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(HUNG_S):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


async def offered(words: str, **environment: str) -> list[str]:
    """What bash is told for a line, as its completion function asks."""
    count = len(words.split()) - (0 if words.endswith(" ") else 1)
    asked = {"_LABCTL_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(count)}
    told = await ran(str(PROGRAMS / "labctl"), **asked, **environment)
    assert (told.status, told.err) == (0, "")
    return told.out.split()


def variables(lab: Served) -> dict[str, str]:
    return {"LABCTL_BROKER": str(lab.broker.endpoint), "LABCTL_LAB": "bench-1"}


async def test_ids_and_names_come_from_the_lab(tmp_path: Path) -> None:
    async with served_lab(tmp_path) as lab:
        here = variables(lab)
        for benchmark in ("energy", "performance", "energy"):
            assert (await labctl(*lab.options, "submit", "digits01", benchmark)).status == 0
        run_id = await lab.start_run(2)
        await lab.measured(run_id, "20250301T120000-j2-r1", {})
        assert (await labctl(*lab.options, "job", "cancel", "1")).status == 0
        sweep = tmp_path / "nightly.toml"
        sweep.write_text('name = "nightly"\n[axes]\nmode = ["energy"]\n[job]\nbenchmark = "digits01"\n')
        made = await labctl(*lab.options, "sweep", "create", str(sweep))
        assert made.status == 0, made.err

        assert await offered("labctl board show ", **here) == ["b1", "b2"]
        assert await offered("labctl submit digits01 energy --board b2", **here) == ["b2"]
        assert await offered("labctl reserve --tag en", **here) == ["energy"]
        assert await offered("labctl job cancel ", **here) == ["2", "3"], "what runs first, and what has ended never"
        assert await offered("labctl job show ", **here) == ["3", "2", "1"]
        assert await offered("labctl job release ", **here) == []
        assert await offered("labctl sweep pause ", **here) == ["nightly"]
        assert await offered("labctl jobs --sweep nig", **here) == ["nightly"]
        assert await offered("labctl instrument show p", **here) == ["psu"]
        assert await offered("labctl trace pull 2025", **here) == ["20250301T120000-j2-r1"]
        options = f"--broker {lab.broker.endpoint} --lab bench-1"
        assert await offered(f"labctl {options} board check b1") == ["b1"], "the options name the lab too"


async def test_what_labctl_knows_by_itself_needs_no_lab() -> None:
    assert await offered("labctl submit dig") == ["digits01"]
    assert await offered("labctl submit digits01 e") == ["energy"]
    assert await offered("labctl jobs --state par") == ["parked"]
    assert set(await offered("labctl board ")) >= {"list", "show", "check", "quarantine", "maintain", "return"}


@pytest.mark.parametrize("broker", ["nowhere", "silent", "unreadable"])
async def test_without_a_lab_there_is_nothing_and_silently(broker: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        silent = f"mqtt://127.0.0.1:{deaf.getsockname()[1]}"
        url = {"nowhere": str(nowhere()), "silent": silent, "unreadable": "http://[::"}[broker]
        assert await offered("labctl board show ", LABCTL_BROKER=url, LABCTL_LAB="bench-1") == []
    assert await offered("labctl board show ", LABCTL_BROKER=url) == [], "no lab is named"


async def test_bash_completes_with_what_labctl_installs(tmp_path: Path) -> None:
    if shutil.which("bash") is None:
        pytest.skip("there is no bash")
    typed = (
        'COMP_WORDS=(labctl board check b); COMP_CWORD=3; _labctl_completion labctl; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    async with served_lab(tmp_path) as lab:
        script = f'eval "$(labctl --show-completion)"; {typed}; complete -p labctl'
        told = await ran("bash", "--norc", "-ec", script, **variables(lab))
    assert told.err == ""
    assert told.out.split()[:2] == ["b1", "b2"]
    assert told.out.rstrip().endswith("-F _labctl_completion labctl"), "and the shell uses it for labctl"


async def test_labd_completes_its_commands_too() -> None:
    told = await ran(str(PROGRAMS / "labd"), _LABD_COMPLETE="complete_bash", COMP_WORDS="labd virtual ", COMP_CWORD="2")
    assert (told.status, told.out.split(), told.err) == (0, ["rack", "lab"], "")
    assert "_labd_completion" in (await ran("bash", "--norc", "-c", 'x="$(labd --show-completion)"; echo "$x"')).out
