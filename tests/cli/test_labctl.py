"""`labctl` against a lab on a real broker: what is printed where, and what the exit status says."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from labd.bench.progress import Progress
from labd.cli.table import Exit
from labd.model.causes import Cause
from labd.model.states import RunStep
from tests.cli.served import Served, ended, labctl, labctl_here, nowhere, served_lab, started
from tests.deadline import HUNG_S

ENERGY = {
    "windows": [{}, {}, {}, {}, {}],
    "findings": [],
    "remarks": [{"about": "noise", "detail": "the window of trial 2 is 5 times as noisy"}],
    "energy_j_per_inference": {
        "value": 14.2312e-6,
        "standard_uncertainty": 0.1123e-6,
        "interval": [14.011e-6, 14.451e-6],
        "coverage": 0.95,
    },
    "board_energy_j_per_inference": None,
    "placement": "steps",
    "testimonies": [
        {"witness": "steps", "verdict": "agrees", "said": "windows between steps are +0.0019 ms longer"},
        {"witness": "bracket", "verdict": "silent", "said": "it was not noted when the capture began"},
    ],
}


async def submitted(served: Served) -> int:
    result = await labctl(*served.options, "submit", "digits01", "energy", "--json")
    assert result.status == 0, result.err
    job_id: int = result.document["job_id"]
    return job_id


async def test_a_job_is_submitted_listed_shown_and_cancelled(tmp_path: Path) -> None:
    async with served_lab(tmp_path) as lab:
        accepted = await labctl(
            *lab.options, "job", "submit", "digits01", "energy", "--tag", "energy", "--label", "a=b"
        )
        assert (accepted.status, accepted.out) == (0, "job 1 is queued\n")
        listed = await labctl(*lab.options, "jobs", "--json")
        assert [(job["id"], job["state"]) for job in listed.document["jobs"]] == [(1, "queued")]
        shown = await labctl(*lab.options, "job", "show", "1")
        assert shown.status == 0
        for words in ("job 1", "digits01, energy", "trials = 5", "energy", '"a": "b"'):
            assert words in shown.out
        cancelled = await labctl(*lab.options, "job", "cancel", "1")
        assert (cancelled.status, cancelled.out) == (0, "job 1 is cancelled\n")


async def test_boards_are_listed(tmp_path: Path) -> None:
    async with served_lab(tmp_path) as lab:
        table = await labctl(*lab.options, "boards")
        assert table.status == 0
        assert "b1" in table.out
        assert "performance accuracy energy" in table.out
        document = (await labctl(*lab.options, "board", "list", "--json")).document
        assert [(board["id"], board["state"]) for board in document["boards"]] == [("b1", "online"), ("b2", "online")]


async def test_what_the_lab_refuses_is_told_on_standard_error_with_status_3(tmp_path: Path) -> None:
    async with served_lab(tmp_path) as lab:
        unknown = await labctl(*lab.options, "submit", "digits99", "energy")
        assert (unknown.status, unknown.out) == (3, "")
        assert "params.benchmark: there is no benchmark 'digits99'; use one of: digits01" in unknown.err
        missing = await labctl(*lab.options, "job", "show", "99")
        assert (missing.status, missing.out) == (3, "")


def test_wrong_usage_is_status_2_before_anything_is_sent(tmp_path: Path) -> None:
    options = ("--broker", str(nowhere()), "--lab", "bench-1")
    for arguments in (
        ("--lab", "bench-1", "submit", "digits01", "power"),
        (*options, "submit", "digits01", "energy", "--board", "b1", "--tag", "x"),
        (*options, "submit", "digits01", "energy", "--trials", "0"),
        (*options, "submit", "digits01", "energy", "--label", "novalue"),
        ("--broker", "http://127.0.0.1", "--lab", "bench-1", "jobs"),
        ("jobs",),
    ):
        result = labctl_here(*arguments)
        assert (result.status, result.out) == (2, ""), arguments


async def test_a_broker_that_is_not_there_is_status_4() -> None:
    result = await labctl("--broker", str(nowhere()), "--lab", "bench-1", "--timeout", "5", "jobs")
    assert (result.status, result.out) == (4, "")
    assert "mqtt://127.0.0.1:9" in result.err


async def test_a_lab_that_is_not_on_the_broker_is_status_4(tmp_path: Path) -> None:
    async with served_lab(tmp_path) as lab:
        result = await labctl("--broker", str(lab.broker.endpoint), "--lab", "bench-2", "--timeout", "0.5", "jobs")
        assert result.status == 4
        assert "bench-2: no lab of that name is on this broker" in result.err


async def test_the_lab_can_be_named_by_its_lab_toml(tmp_path: Path) -> None:
    async with served_lab(tmp_path) as lab:
        config = tmp_path / "lab.toml"
        config.write_text(f'[lab]\nname = "bench-1"\n[mqtt]\nurl = "{lab.broker.endpoint}"\n')
        assert (await labctl("--config", str(config), "jobs")).status == 0


async def test_a_completed_energy_job_shows_microjoules_with_uncertainty(tmp_path: Path) -> None:
    async with served_lab(tmp_path) as lab:
        job_id = await submitted(lab)
        run_id = await lab.start_run(job_id)
        await lab.measured(run_id, "20250301T120000-j1-r1", ENERGY)
        await lab.end_run(run_id)
        shown = await labctl(*lab.options, "job", "show", str(job_id))
        for words in (
            "value ± standard uncertainty, k = 1",
            "14.23 ± 0.11 µJ",
            "14.011 to 14.451 µJ (95 %)",
            "median of 5 windows, placed by steps alone",
            "steps alone: only the board's own current says where the windows lie, and no wire confirms it",
            "windows between steps are +0.0019 ms longer",
            "it was not noted when the capture began",
            "20250301T120000-j1-r1",
            "204.8 µs",
            "the window of trial 2 is 5 times as noisy",
        ):
            assert words in shown.out, shown.out


async def test_watching_a_job_prints_every_news_as_a_line_and_ends_with_it(tmp_path: Path) -> None:
    async with served_lab(tmp_path) as lab:
        job_id = await submitted(lab)
        run_id = await lab.start_run(job_id)
        async with started(*lab.options, "job", "watch", str(job_id), "--json") as watching:
            assert watching.stdout is not None
            assert json.loads(await watching.stdout.readline())["kind"] == "job"
            step = 0
            async with asyncio.timeout(HUNG_S):
                while (news := json.loads(await watching.stdout.readline()))["kind"] != "progress":
                    # progress is not kept by the broker: it is told again until the watcher hears it
                    step += 1
                    lab.progress.report(Progress(job_id, run_id, "b1", RunStep.MEASURE, step, 5, 0.4, 10, 4882.8))
            assert (news["progress"]["step"], news["progress"]["share"]) == ("measure", 0.4)
            await lab.end_run(run_id, Cause.EDGES_MISSING, "1 edge came")
            result = await ended(watching)
        assert result.status == 1
        assert json.loads(result.out.splitlines()[-1])["job"]["cause"]["kind"] == "edges_missing"


async def test_a_submitted_job_can_be_waited_for(tmp_path: Path) -> None:
    async with served_lab(tmp_path) as lab:
        async with started(*lab.options, "submit", "digits01", "energy", "--wait", "--json") as waiting:
            assert waiting.stderr is not None
            assert (await waiting.stderr.readline()).strip() == b"job 1 is queued"
            await lab.end_run(await lab.start_run(1))
            result = await ended(waiting)
        assert result.status == 0
        assert result.document["state"] == "completed"


async def test_a_watch_goes_on_when_the_broker_comes_back(tmp_path: Path) -> None:
    async with served_lab(tmp_path) as lab:
        job_id = await submitted(lab)
        async with started(*lab.options, "job", "watch", str(job_id), "--json") as watching:
            assert watching.stdout is not None
            await watching.stdout.readline()
            await lab.broker.kill()
            await lab.broker.start()
            await lab.online()
            await lab.end_run(await lab.start_run(job_id))
            result = await ended(watching)
        assert result.status == 0


async def test_a_wait_that_is_too_long_is_status_5(tmp_path: Path) -> None:
    async with served_lab(tmp_path) as lab:
        job_id = await submitted(lab)
        for length in ("0.5", "0.5s"):
            result = await labctl(*lab.options, "job", "watch", str(job_id), "--for", length)
            assert (result.status, result.out) == (5, "")
            assert "has not ended within 0.5 s" in result.err


def test_whatever_waits_takes_a_length_of_time() -> None:
    options = ("--broker", str(nowhere()), "--lab", "bench-1")
    for words in (
        ("job", "watch", "7"),
        ("submit", "digits01", "energy", "--wait"),
        ("job", "cancel", "7", "--wait"),
        ("board", "check", "b1", "--wait"),
        ("sweep", "run", "nightly", "--wait"),
    ):
        assert labctl_here(*options, *words, "--for", "1h30m").status == Exit.UNREACHABLE, words
        refused = labctl_here(*options, *words, "--for", "soon")
        assert refused.status == 2, words
        assert "write 90m, 2h or 1d12h" in " ".join(refused.err.replace("│", " ").split()), words
