"""Everything an operator can do is done with labctl: each verb by its command, and the ways to wait and to watch."""

from __future__ import annotations

import asyncio
import getpass
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from labd.cli.table import Exit
from labd.service.requests import VERBS
from tests.cli.served import Ended, labctl, labctl_here, started
from tests.end_to_end.labs import ENDED_S, Scene
from tests.end_to_end.operator_days import LONG, SHORT, SWEEP, SWEEP_FILE, RefusalError, days, lab, overheard

Params = dict[str, Any]
_OPTIONS = {
    "trials": "--trials",
    "min_window_s": "--window",
    "priority": "--priority",
    "deadline": "--deadline",
    "require": "--require",
    "state": "--state",
    "requester": "--requester",
    "sweep": "--sweep",
    "limit": "--limit",
    "purpose": "--purpose",
    "owner": "--owner",
    "job": "--job",
    "night": "--night",
    "reason": "--reason",
    "kind": "--kind",
    "subject": "--subject",
}


def options(params: Params, **other: str) -> Iterator[str]:
    """Parameters as options; `other` names options that are called otherwise, in place of the usual ones."""
    names = {**_OPTIONS, **other}
    for key, value in params.items():
        match value:
            case dict() if key == "board":
                yield from ("--board", value["id"])
            case dict():
                yield from (word for name, text in value.items() for word in ("--label", f"{name}={text}"))
            case True:
                yield f"--{key.replace('_', '-')}"
            case _:
                yield from (names[key], str(value))


def submit(params: Params) -> Iterator[str]:
    rest = {key: value for key, value in params.items() if key not in ("benchmark", "mode")}
    yield from ("submit", params["benchmark"], params["mode"], *options(rest))


def reserve(params: Params) -> Iterator[str]:
    rest = {key: value for key, value in params.items() if key != "board"}
    yield from ("reserve", params["board"]["id"], *options(rest, duration_s="--for"))


def sweep_file(command: str) -> Callable[[Params], Iterator[str]]:
    def words(params: Params) -> Iterator[str]:
        assert params == SWEEP
        yield from ("sweep", command, str(SWEEP_FILE))

    return words


def named(command: str, key: str = "id", **other: str) -> Callable[[Params], Iterator[str]]:
    """A command on one thing: its name, then options."""

    def words(params: Params) -> Iterator[str]:
        rest = {name: value for name, value in params.items() if name != key}
        yield from (*command.split(), str(params[key]), *options(rest, **other))

    return words


def listed(command: str, **other: str) -> Callable[[Params], Iterator[str]]:
    return lambda params: iter((*command.split(), *options(params, **other)))


COMMANDS: Mapping[str, Callable[[Params], Iterator[str]]] = {
    "job.submit": submit,
    "job.cancel": named("job cancel"),
    "job.release": named("job release"),
    "job.get": named("job show"),
    "job.list": listed("jobs"),
    "job.why": named("job why"),
    "board.list": listed("boards"),
    "board.get": named("board show"),
    "board.check": named("board check"),
    "board.quarantine": named("board quarantine"),
    "board.maintain": named("board maintain"),
    "board.return": named("board return"),
    "board.reserve": reserve,
    "board.release": named("reservation release"),
    "reservation.list": listed("reservation list"),
    "reservation.get": named("reservation show"),
    "reservation.extend": named("reservation extend", duration_s="--for"),
    "reservation.hand_over": lambda params: iter(("reservation", "hand-over", str(params["id"]), params["to"])),
    "instrument.list": listed("instrument list"),
    "instrument.get": named("instrument show"),
    "instrument.maintain": named("instrument maintain"),
    "instrument.return": named("instrument return"),
    "sweep.preview": sweep_file("preview"),
    "sweep.create": sweep_file("create"),
    "sweep.list": listed("sweep list"),
    "sweep.get": named("sweep show", "name"),
    "sweep.run": named("sweep run", "name"),
    "sweep.pause": named("sweep pause", "name"),
    "sweep.resume": named("sweep resume", "name"),
    "sweep.report": named("sweep report", "name"),
    "sweep.remove": named("sweep remove", "name"),
    "lab.reload": listed("lab reload"),
    "lab.stop": named("lab stop", "reason"),
    "lab.resume": listed("lab resume"),
    "audit.list": listed("audit", requester="--by"),
    "trace.list": listed("trace list"),
    "trace.get": named("trace show"),
    "trace.pin": named("trace pin"),
    "trace.unpin": named("trace unpin"),
    "trace.gc": listed("trace gc"),
}


@dataclass(frozen=True)
class ByLabctl:
    """The command of each verb, with `--json`."""

    here: Scene

    @property
    def me(self) -> str:
        """A labctl in an open lab asks for the person at the terminal."""
        return getpass.getuser()

    async def run(self, *words: str) -> Ended:
        """Run labctl in this process, which starts no other one for it."""
        config = str(self.here.lab.lab_toml)
        return await asyncio.to_thread(labctl_here, "--config", config, "--timeout", "30", *words)

    async def ask(self, verb: str, params: dict[str, Any]) -> dict[str, Any]:
        told = await self.run(*COMMANDS[verb](params), "--json")
        if told.status == Exit.REFUSED:
            raise RefusalError(verb, params, told.err)
        assert told.status == Exit.DONE, (verb, params, told.err)
        return dict(told.document)

    async def import_session(self, folder: Path) -> list[int]:
        told = await self.run("trace", "import", str(folder), "--json")
        assert told.status == Exit.DONE, told.err
        (session,) = told.document["sessions"]
        return list(session["jobs"])


@pytest.mark.timeout(1800)
async def test_an_operators_days_with_labctl_alone(tmp_path: Path) -> None:
    async with asyncio.timeout(6 * ENDED_S), lab(tmp_path) as here:
        face = ByLabctl(here)
        async with overheard(here, "request") as requests:
            await days(face, here, tmp_path)
            assert {verb for verb, _ in requests} == set(VERBS), "every verb was asked, and no other"
        await waits(face)
        await watches(face, here)


async def waits(face: ByLabctl) -> None:
    """What takes time is waited for, and the exit status says how it ended."""
    done = await face.run(*COMMANDS["job.submit"](SHORT), "--wait")
    assert done.status == Exit.DONE, done.err
    assert "energy per inference" in done.out
    late = await face.run(*COMMANDS["job.submit"](LONG), "--wait", "--for", "0.01")
    assert late.status == Exit.TIMED_OUT, late.out
    number = json.loads((await face.run("jobs", "--limit", "1", "--json")).out)["jobs"][0]["id"]
    cancelled = await face.run("job", "cancel", str(number), "--wait", "--json")
    assert (cancelled.status, cancelled.document["state"]) == (Exit.DONE, "cancelled"), cancelled.err
    again = await face.run("job", "cancel", str(number))
    assert (again.status, "ended as cancelled" in again.err) == (Exit.REFUSED, True)
    checked = await face.run("board", "check", "board-2", "--wait")
    assert (checked.status, "passed" in checked.out) == (Exit.DONE, True), checked.err
    held = await face.run("reserve", "--tag", "native", "--for", "1h", "--wait", "--json")
    assert (held.status, held.document["state"]) == (Exit.DONE, "active"), held.err
    board, reservation = held.document["board_id"], str(held.document["id"])
    behind = await face.run("reserve", board, "--for", "1h", "--wait", "--within", "0.2s")
    assert behind.status == Exit.TIMED_OUT, behind.err
    waiting = await face.run("reservation", "list", "--state", "waiting", "--json")
    for each in (*(str(one["id"]) for one in waiting.document["reservations"]), reservation):
        given_back = await face.run("reservation", "release", each, "--wait", "--json")
        assert (given_back.status, given_back.document["state"]) == (Exit.DONE, "ended"), given_back.err


async def watches(face: ByLabctl, here: Scene) -> None:
    """A job is followed to its end, and the whole lab is seen at one look."""
    number = str((await face.ask("job.submit", SHORT))["job_id"])
    async with started("--config", str(here.lab.lab_toml), "job", "watch", number, "--json") as watching:
        out, err = await watching.communicate()
    news = [json.loads(line) for line in out.decode().splitlines()]
    assert watching.returncode == Exit.DONE, err.decode()
    assert {each["kind"] for each in news} <= {"job", "progress", "status"}
    assert news[-1]["job"]["state"] == "completed"
    scene = (await labctl("--config", str(here.lab.lab_toml), "top", "--json")).document
    assert [board["id"] for board in scene["boards"]] == ["board-1", "board-2"]
    status = await face.run("lab", "status")
    assert (status.status, "0 jobs waiting" in status.out) == (Exit.DONE, True)
