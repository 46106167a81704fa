"""An operator's days in a lab: all that can be asked of one, once and in a sensible order, whatever it is asked with.

Each step asserts what the operator would look for. A face is how they ask: Mosquitto's clients, or labctl.
"""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from tests.brokers import program
from tests.deadline import HUNG_S
from tests.end_to_end.labs import ROOT, Scene, scene
from tests.trace.sessions.published_folders import EnergyRunnerSession

SWEEP_FILE = ROOT / "docs" / "guides" / "night-sweep.toml"
SWEEP: dict[str, Any] = tomllib.loads(SWEEP_FILE.read_text())
NIGHTLY = {"name": SWEEP["name"]}
STEP_S = 2 * HUNG_S
"""Longest wait for one thing to happen, s."""
WARN_S = 600.0
KEYS = f"\n[queue]\ninterruptions_max = 1\n\n[reservation]\nwarn_s = {WARN_S}\n"
"""One kill parks a job, and who holds a board for ten minutes is warned soon, and has them to extend it."""
SHORT = {"benchmark": "digits01", "mode": "energy", "trials": 2, "min_window_s": 1.0, "board": {"id": "board-1"}}
LONG = {**SHORT, "trials": 100, "min_window_s": 10.0}


class RefusalError(AssertionError):
    """The lab has refused what the operator asked."""


class Face(Protocol):
    """How somebody asks."""

    @property
    def me(self) -> str:
        """Whom the lab knows them as."""
        ...

    async def ask(self, verb: str, params: dict[str, Any]) -> dict[str, Any]:
        """The result of a request. Raises `RefusalError` if the lab refuses it."""
        ...

    async def import_session(self, folder: Path) -> list[int]:
        """Take a published session into the lab; numbers of the jobs that it has become."""
        ...


@asynccontextmanager
async def lab(folder: Path) -> AsyncIterator[Scene]:
    """A lab of two boards with its daemon, once it hears."""
    async with scene(folder, boards=2, speed=16.0) as here:
        with here.lab.lab_toml.open("a") as file:
            file.write(KEYS)
        await here.lab.start_daemon()
        async with here.client():
            yield here


@asynccontextmanager
async def overheard(here: Scene, below: str) -> AsyncIterator[list[tuple[str, str]]]:
    """Topics, from there on, and payloads of what is said below a topic of the lab, by Mosquitto's own client."""
    root = f"labd/v1/demo/{below}"
    endpoint = here.broker.endpoint
    process = await asyncio.create_subprocess_exec(
        *(program("mosquitto_sub"), "-h", endpoint.host, "-p", str(endpoint.port), "-q", "1"),
        *("-F", "%t %x", "-t", f"{root}/#" if below == "request" else root),
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 20,
    )
    heard: list[tuple[str, str]] = []

    async def listen() -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            topic, _, payload = line.decode().rstrip("\n").partition(" ")
            heard.append((topic.removeprefix(f"{root}/"), bytes.fromhex(payload).decode()))  # lines of its own

    listening = asyncio.create_task(listen(), name=f"overhearing-{below}")
    try:
        yield heard
    finally:
        process.terminate()
        await process.wait()
        await listening


async def until(
    face: Face, verb: str, params: dict[str, Any], true: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    """Ask again and again until it is so."""
    found: dict[str, Any] = {}
    try:
        async with asyncio.timeout(STEP_S):
            while not true(found := await face.ask(verb, params)):
                await asyncio.sleep(0.2)
    except TimeoutError as error:
        raise AssertionError(f"{verb} of {params} still says {found}") from error
    return found


async def job_is(face: Face, number: int, state: str) -> dict[str, Any]:
    return await until(face, "job.get", {"id": number}, lambda job: bool(job["state"] == state))


async def submitted(face: Face, params: dict[str, Any]) -> int:
    return int((await face.ask("job.submit", params))["job_id"])


async def queues_and_cancels(face: Face) -> None:
    """Submit with all that a job can ask, see why it waits, find it again, and cancel it and the one before it."""
    running = await submitted(face, LONG)
    await job_is(face, running, "running")
    deadline = (datetime.now(UTC) + timedelta(hours=3)).isoformat(timespec="seconds")
    asked = {"priority": 3, "deadline": deadline, "require": "timing.method == 'timestamped'"}
    waiting = await submitted(face, {**SHORT, **asked, "labels": {"campaign": "days"}})
    document = await face.ask("job.get", {"id": waiting})
    assert (document["state"], document["priority"], document["requester"]) == ("queued", 3, face.me)
    assert datetime.fromisoformat(document["deadline"]) == datetime.fromisoformat(deadline)

    why = await face.ask("job.why", {"id": waiting})
    assert (why["state"], why["place"]) == ("queued", 1)
    obstacles = {board["board_id"]: board["obstacle"] for board in why["boards"]}
    assert (obstacles["board-1"], obstacles["board-2"]) == ("busy", "unfit")
    for only in ({"label": {"campaign": "days"}}, {"state": "queued", "requester": face.me}):
        assert [job["id"] for job in (await face.ask("job.list", only))["jobs"]] == [waiting], only
    assert (await face.ask("job.list", {"requester": "nobody-else"}))["jobs"] == []

    assert (await face.ask("job.cancel", {"id": waiting}))["state"] == "cancelled"
    await face.ask("job.cancel", {"id": running})
    assert (await job_is(face, running, "cancelled"))["cause"]["kind"] == "cancelled"


async def releases_a_parked_job(face: Face, here: Scene) -> int:
    """A job whose daemon died under it is parked, and runs when it is released."""
    number = await submitted(face, SHORT)
    await job_is(face, number, "running")
    await here.lab.kill_daemon()
    await here.lab.start_daemon()
    async with here.client():
        pass  # it hears again
    await job_is(face, number, "parked")
    assert (await face.ask("job.release", {"id": number}))["state"] == "queued"
    assert len((await job_is(face, number, "completed"))["runs"]) == 2
    return number


async def finds_traces(face: Face, job: int, folder: Path) -> None:
    """Where a trace is to be pulled from, what keeps it, and traces that others have published."""
    (trace,) = (await face.ask("trace.list", {"job": job, "state": "sealed"}))["traces"]
    assert trace["url"].startswith("http://127.0.0.1:")
    named = {"id": trace["id"]}
    assert (await face.ask("trace.get", named))["scores"][-1]["scorer"].startswith("labd-energy/")
    assert (await face.ask("trace.pin", {**named, "reason": "odd spike"}))["pinned"] is True
    assert (await face.ask("trace.gc", {"dry_run": True}))["count"] == 0
    assert (await face.ask("trace.unpin", named))["pinned"] is False
    session = await asyncio.to_thread(EnergyRunnerSession(folder / "kws").write_energy)
    (imported,) = await face.import_session(session)
    assert (await face.ask("job.get", {"id": imported}))["benchmark"] == "kws01"


async def sweeps(face: Face) -> None:
    """The docs' own sweep: looked at, created, run now, paused, resumed, cut short, reported and removed."""
    planned = await face.ask("sweep.preview", SWEEP)
    assert (planned["jobs"], len(planned["due"])) == (5 * (2 * 4 + 1), 3)
    created = await face.ask("sweep.create", SWEEP)
    assert (created["state"], created["jobs"]) == ("active", planned["jobs"])
    assert [sweep["name"] for sweep in (await face.ask("sweep.list", {}))["sweeps"]] == ["nightly"]
    night = (await face.ask("sweep.run", NIGHTLY))["night"]
    await until(
        face,
        "sweep.get",
        NIGHTLY,
        lambda sweep: bool(sweep["nights"][0]["counts"].get("running") and sweep["nights"][0]["state"] == "running"),
    )
    assert (await face.ask("sweep.pause", NIGHTLY))["state"] == "paused"
    assert (await face.ask("sweep.resume", NIGHTLY))["due_at"] is not None
    for state in ("queued", "running"):
        for job in (await face.ask("job.list", {"sweep": "nightly", "state": state, "limit": 100}))["jobs"]:
            with suppress(RefusalError):  # it may end just then
                await face.ask("job.cancel", {"id": job["id"]})
    ended = await until(face, "sweep.get", NIGHTLY, lambda sweep: bool(sweep["nights"][0]["state"] == "ended"))
    assert (ended["nights"][0]["id"], sum(ended["nights"][0]["counts"].values())) == (night, planned["jobs"])
    report = await face.ask("sweep.report", {**NIGHTLY, "night": night})
    assert (report["sweep"], report["night"]) == ("nightly", night)
    assert (await face.ask("sweep.remove", NIGHTLY))["state"] == "removed"


async def reserves(face: Face, here: Scene) -> None:
    """A board for a person: had at once, waited for by the next one, warned of, extended, handed over, given back."""
    wish = {"board": {"id": "board-2"}, "purpose": "new shunt", "duration_s": WARN_S + 2.0}
    mine = await face.ask("board.reserve", wish)
    assert (mine["state"], mine["board_id"], mine["owner"]) == ("active", "board-2", face.me)
    named = {"id": mine["id"]}
    behind = await face.ask("board.reserve", {**wish, "require": "voltage_max_v >= 3.0", "duration_s": 60.0})
    assert behind["state"] == "waiting"
    await until(face, "reservation.get", named, lambda found: found["warned_at"] is not None)
    longer = await face.ask("reservation.extend", {**named, "duration_s": 600.0})
    gained_s = datetime.fromisoformat(longer["ends_at"]) - datetime.fromisoformat(mine["ends_at"])
    assert gained_s == timedelta(seconds=600)
    assert (await face.ask("reservation.hand_over", {**named, "to": "bob"}))["owner"] == "bob"
    active = (await face.ask("reservation.list", {"state": "active", "owner": "bob"}))["reservations"]
    assert [each["id"] for each in active] == [mine["id"]]
    await face.ask("board.release", named)
    await until(face, "reservation.get", named, lambda found: bool(found["state"] == "ended"))
    next_one = {"id": behind["id"]}
    await until(face, "reservation.get", next_one, lambda found: bool(found["state"] == "active"))
    await face.ask("board.release", next_one)
    await until(face, "reservation.get", next_one, lambda found: bool(found["state"] == "ended"))
    assert not any(output.energized for output in await here.lab.control.outputs())


async def looks_after_boards(face: Face) -> None:
    """Check a board, take it out of work twice and an instrument once, and have all of them back."""
    boards = (await face.ask("board.list", {}))["boards"]
    assert [board["id"] for board in boards] == ["board-1", "board-2"]
    named = {"id": "board-1"}
    before = [check["id"] for check in (await face.ask("board.get", named))["checks"]]
    await face.ask("board.check", named)
    await until(
        face,
        "board.get",
        named,
        lambda found: any(check["id"] not in before and check["passed"] for check in found["checks"]),
    )
    for verb, state in (("board.quarantine", "quarantined"), ("board.maintain", "maintenance")):
        taken = await face.ask(verb, {**named, "reason": "smells odd"})
        assert (taken["state"], "smells odd" in taken["reason"]) == (state, True)
        await face.ask("board.return", named)
        await until(face, "board.get", named, lambda found: bool(found["board"]["state"] == "online"))

    instruments = (await face.ask("instrument.list", {}))["instruments"]
    assert {each["id"] for each in instruments} == {"psu-1", "stamps-1"}
    away = await face.ask("instrument.maintain", {"id": "psu-1", "reason": "new fuse"})
    assert (away["state"], away["reason"]) == ("maintenance", f"new fuse ({face.me})")
    await face.ask("instrument.return", {"id": "psu-1"})
    detail = await until(
        face, "instrument.get", {"id": "psu-1"}, lambda found: bool(found["instrument"]["state"] == "online")
    )
    assert detail["boards"] == ["board-1", "board-2"]
    await until(face, "board.list", {}, lambda page: all(board["state"] == "online" for board in page["boards"]))


async def stops_the_lab(face: Face, here: Scene) -> None:
    """Another lab.toml, an emergency stop, and on again."""
    text = here.lab.lab_toml.read_text()
    here.lab.lab_toml.write_text(text + "\n[health]\nretry_s = 300.0\n")
    assert (await face.ask("lab.reload", {}))["sections"] == ["health"]
    assert (await face.ask("lab.stop", {"reason": "smoke"}))["stopped"]["reason"] == "smoke"
    held = await submitted(face, SHORT)
    assert "stop" in (await face.ask("job.why", {"id": held}))["sentence"]
    assert (await face.ask("lab.resume", {}))["stopped"] is None
    await job_is(face, held, "completed")


async def reads_the_audit(face: Face) -> None:
    """Who did what, and what came of it, of all these days."""
    page = await face.ask("audit.list", {"requester": face.me, "limit": 500})
    asked = {each["verb"] for each in page["requests"]}
    assert asked >= {
        "job.submit",
        "job.cancel",
        "board.quarantine",
        "sweep.create",
        "lab.stop",
        "reservation.hand_over",
    }
    assert ("lab", face.me) in {(change["kind"], change["actor"]) for change in page["changes"]}
    quarantined = await face.ask("audit.list", {"kind": "board", "subject": "board-1", "limit": 100})
    states = [(change["state"], change["reason"], change["actor"]) for change in quarantined["changes"]]
    assert ("quarantined", f"smells odd ({face.me})", face.me) in states


async def days(face: Face, here: Scene, folder: Path) -> None:
    """All of it."""
    await queues_and_cancels(face)
    job = await releases_a_parked_job(face, here)
    await finds_traces(face, job, folder)
    await sweeps(face)
    await reserves(face, here)
    await looks_after_boards(face)
    await stops_the_lab(face, here)
    await reads_the_audit(face)
