"""A published session becomes ordinary jobs, once, whole or not at all."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlmodel import Session as DatabaseSession
from sqlmodel import select

from drivers.api import Quantity
from labd.bench.scoring import score_trace, score_traces
from labd.benchmarks import Mode
from labd.model import ledger
from labd.model.tables import Job, Run, Trace
from labd.service.answer import answer
from labd.service.lab import Lab
from labd.service.messages import Reply
from labd.service.sender import sender_of
from labd.service.sessions.importing import sweep_imports
from labd.service.sessions.inbox import INBOX, STAGING, put_into_inbox, unpack
from labd.service.sessions.scoring import score_session
from labd.trace.reader import Trace as OpenTrace
from labd.trace.seal import verify
from labd.trace.sessions.convert import session_digest
from labd.trace.sessions.folders import find_sessions
from labd.trace.sessions.published import SessionError
from tests.deadline import HUNG_S
from tests.service.labs import NOW, open_lab
from tests.trace.sessions.published_folders import EnergyRunnerSession, MlcommonsSession, reference

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    data = tmp_path / "lab"
    (data / "traces").mkdir(parents=True)
    async with open_lab(data) as (opened, _):
        yield opened


async def ask(lab: Lab, digest: str, request_id: str = "r1") -> Reply:
    params = {"request_id": request_id, "client": "ada", "params": {"session": digest}}
    payload = json.dumps(params).encode()
    return await answer(lab, "trace.import", payload, sender_of(payload))


async def imported(lab: Lab, folder: Path, request_id: str = "r1") -> list[int]:
    (session,) = find_sessions(folder)
    reply = await ask(lab, put_into_inbox(session, lab.config.lab.data_dir), request_id)
    assert reply.ok, reply.error
    assert reply.result is not None
    return list(reply.result["jobs"])


async def job(lab: Lab, number: int) -> dict[str, Any]:
    payload = json.dumps({"request_id": "g", "client": "ada", "params": {"id": number}}).encode()
    reply = await answer(lab, "job.get", payload, sender_of(payload))
    assert reply.result is not None
    return reply.result


def kws(folder: Path) -> EnergyRunnerSession:
    made = EnergyRunnerSession(folder)
    made.write_energy()
    return made


async def test_an_energy_session_becomes_a_job_with_run_trials_windows_trace_and_both_scores(
    lab: Lab, tmp_path: Path
) -> None:
    made = kws(tmp_path / "kws")
    (number,) = await imported(lab, tmp_path / "kws")
    document = await job(lab, number)
    assert (document["benchmark"], document["mode"], document["client"]) == ("kws01", "energy", "ada")
    assert document["spec"]["labels"]["imported"] == "energyrunner"
    (run,) = document["runs"]
    assert (run["board_id"], run["facts"]["name"]) == ("Imported", "Made Up")
    assert [trial["window"]["duration_s"] for trial in run["trials"]] == pytest.approx(
        [b - a for a, b in zip(made.times_s[1::2], made.times_s[2::2], strict=True)]
    )
    assert [trial["results"] for trial in run["trials"]] == [[0.0, 0.996, 0.004]] * 3
    assert [score["scorer"] for score in run["scores"]] == ["energyrunner-published/1", "labd-energy/3"]
    published, ours = (score["result"] for score in run["scores"])
    assert [window["energy_uj"] for window in published["windows"]] == pytest.approx(made.energies_uj, abs=6e-4)
    assert [window["recomputed_uj"] for window in published["windows"]] == [
        window["energy_uj"] for window in published["windows"]
    ]
    for window, energy in zip(ours["windows"], made.energies_uj, strict=True):
        assert window["energy_j"]["value"] * 1e6 == pytest.approx(energy, abs=50)  # a sample at the edge
    # three short windows: sound, but not what the rules ask for
    assert (document["state"], document["cause"]["kind"]) == ("invalid", "window_short")


async def test_its_trace_holds_every_sample_and_edge_and_scores_again_from_its_folder(lab: Lab, tmp_path: Path) -> None:
    made = kws(tmp_path / "kws")
    (number,) = await imported(lab, tmp_path / "kws")
    (row,) = (await job(lab, number))["runs"][0]["traces"]
    folder = lab.config.traces_dir / row["id"]
    verify(folder)
    trace = OpenTrace.open(folder)
    assert row["rows"] == trace.rows == len(made.samples_uj)
    assert np.allclose(trace.samples(Quantity.ENERGY), np.array(made.samples_uj) * 1e-6, rtol=1e-7)
    assert [edge.ticks for edge in trace.edges()] == [round(time * 1000) for time in made.times_s]
    assert trace.trials()[0].started.input == "tst_000000_Stop_7.bin"
    again = score_trace(trace).model_dump(mode="json")
    assert again == (await job(lab, number))["runs"][0]["scores"][1]["result"]


async def test_each_trial_of_an_mlcommons_session_is_a_trace_of_one_run(lab: Lab, tmp_path: Path) -> None:
    made = MlcommonsSession(tmp_path / "kws" / "energy", trials=5)
    made.write()
    (number,) = await imported(lab, tmp_path / "kws")
    document = await job(lab, number)
    (run,) = document["runs"]
    assert [trace["rows"] for trace in run["traces"]] == [len(each["power"]["samples"]) for each in made.entries]
    ours = run["scores"][1]["result"]
    assert [window["trial"] for window in ours["windows"]] == [0, 1, 2, 3, 4]
    assert document["state"] == "completed", ours["findings"]


async def test_every_mode_of_a_session_becomes_a_job(lab: Lab, tmp_path: Path) -> None:
    made = kws(tmp_path / "kws")
    made.write_performance([10_000_000] * 5)
    made.write_accuracy([("tst_000000_Down_0.bin", (0.9, 0.1)), ("tst_000001_Go_1.bin", (0.2, 0.8))], ["Top-1: 100.0%"])
    numbers = await imported(lab, tmp_path / "kws")
    jobs = {document["mode"]: document for document in [await job(lab, number) for number in numbers]}
    assert {mode: document["state"] for mode, document in jobs.items()} == {
        "energy": "invalid",
        "performance": "completed",
        "accuracy": "completed",
    }
    rate = jobs["performance"]["runs"][0]["scores"][1]["result"]["inferences_per_s"]["value"]
    assert rate == pytest.approx(10.0)
    assert jobs["accuracy"]["runs"][0]["scores"][1]["result"]["top1"] == 1.0


async def test_importing_twice_gives_the_same_jobs_and_leaves_nothing_in_the_inbox(lab: Lab, tmp_path: Path) -> None:
    kws(tmp_path / "kws")
    first = await imported(lab, tmp_path / "kws", "r1")
    shutil.copytree(tmp_path / "kws", tmp_path / "elsewhere" / "kws")
    second = await imported(lab, tmp_path / "elsewhere", "r2")
    assert first == second
    assert list((lab.config.lab.data_dir / INBOX).iterdir()) == []
    assert len(list(lab.config.traces_dir.iterdir())) == 1


@pytest.mark.parametrize("name", ["../../etc", "/etc", "a" * 63, "A" * 64, "", "a" * 64 + "/x"])
async def test_only_names_of_the_inbox_are_accepted(lab: Lab, name: str) -> None:
    reply = await ask(lab, name)
    assert reply.error is not None
    assert (reply.error.kind, reply.error.field) == ("bad_request", "params.session")


async def test_what_does_not_lie_in_the_inbox_is_not_found(lab: Lab) -> None:
    reply = await ask(lab, "a" * 64)
    assert reply.error is not None
    assert reply.error.kind == "not_found"


async def test_a_session_that_is_not_that_of_its_name_or_is_damaged_is_refused(lab: Lab, tmp_path: Path) -> None:
    kws(tmp_path / "kws")
    (session,) = find_sessions(tmp_path / "kws")
    digest = put_into_inbox(session, lab.config.lab.data_dir)
    results = lab.config.lab.data_dir / INBOX / digest / "kws" / "energy" / "results.txt"
    text = results.read_text()
    for change, words in ((text + "\n", "not the session of that name"), ("", "nothing that a runner prints")):
        results.write_text(change)
        reply = await ask(lab, digest)
        assert reply.error is not None
        assert words in reply.error.message
    assert list(lab.config.traces_dir.iterdir()) == []


async def test_windows_that_share_an_edge_cannot_become_trials(lab: Lab, tmp_path: Path) -> None:
    folder = kws(tmp_path / "kws").energy
    results = folder / "results.txt"
    times = json.loads((folder / "trace1-timestamps.json").read_text())
    text = results.read_text().replace("window 4", "window 3")
    text = text.replace(
        f"at time {times[3]:.2f} for {times[4] - times[3]:.2f}", f"at time {times[2]:.2f} for {times[3] - times[2]:.2f}"
    )
    results.write_text(text)
    (session,) = find_sessions(tmp_path / "kws")
    reply = await ask(lab, put_into_inbox(session, lab.config.lab.data_dir))
    assert reply.error is not None
    assert "share the edge" in reply.error.message


async def test_one_session_is_imported_at_a_time(lab: Lab) -> None:
    inbox = lab.config.lab.data_dir / INBOX
    inbox.mkdir()
    held = os.open(inbox, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        reply = await ask(lab, "a" * 64)
    finally:
        os.close(held)
    assert reply.error is not None
    assert reply.error.kind == "conflict"


async def test_a_start_removes_what_a_killed_import_left_and_nothing_else(lab: Lab, tmp_path: Path) -> None:
    kws(tmp_path / "kws")
    await imported(lab, tmp_path / "kws")
    (kept,) = list(lab.config.traces_dir.iterdir())
    waits, unpacked = "0123456789abcdef" * 4, f"session-{'fedcba9876543210fedcba98'}-0"
    (lab.config.lab.data_dir / INBOX / waits).mkdir()
    for name in (f"session-{waits[:24]}-0", STAGING, "run7", unpacked):
        (lab.config.traces_dir / name).mkdir()
    await sweep_imports(lab.database, lab.config.lab.data_dir, lab.config.traces_dir)
    # One that was put there by hand, or whose rows a restored database lacks, may be the only one that there is.
    assert sorted(path.name for path in lab.config.traces_dir.iterdir()) == sorted([kept.name, "run7", unpacked])


async def test_a_label_that_a_client_gives_its_job_makes_it_no_import(lab: Lab, tmp_path: Path) -> None:
    kws(tmp_path / "kws")
    (session,) = find_sessions(tmp_path / "kws")
    digest = put_into_inbox(session, lab.config.lab.data_dir)

    def submit(database: DatabaseSession) -> None:
        spec = {"labels": {"session_sha256": digest}}
        ledger.submit_job(database, benchmark="digits01", mode=Mode.ENERGY, client="eve", spec=spec, now=NOW)

    await lab.database.write(submit)
    assert await imported(lab, tmp_path / "kws") == [2]


async def test_an_inbox_that_is_none_is_told_by_name(lab: Lab) -> None:
    (lab.config.lab.data_dir / INBOX).write_text("not a folder")
    reply = await ask(lab, "a" * 64)
    assert reply.error is not None
    assert (reply.error.kind, "inbox cannot be opened" in reply.error.message) == ("conflict", True)


def test_two_commands_that_bring_one_session_do_not_mix_their_copies(tmp_path: Path) -> None:
    kws(tmp_path / "kws")
    (session,) = find_sessions(tmp_path / "kws")
    (tmp_path / "lab").mkdir()
    digest = session_digest(session)
    part = tmp_path / "lab" / INBOX / f"{digest}.part"
    part.mkdir(parents=True)
    (part / "left by a kill").touch()
    held = os.open(part, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(SessionError, match="another command"):
            put_into_inbox(session, tmp_path / "lab")
    finally:
        os.close(held)
    assert put_into_inbox(session, tmp_path / "lab") == digest
    (brought,) = find_sessions(tmp_path / "lab" / INBOX / digest)
    assert session_digest(brought) == digest
    assert [path.name for path in (tmp_path / "lab" / INBOX).iterdir()] == [digest]
    assert [path.name for path in (tmp_path / "lab" / INBOX / digest).iterdir()] == ["kws"]


def _run(data: Path, digest: str, at: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.service.killed_import", str(data), digest, str(at)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=HUNG_S, check=False)


async def _left(data: Path) -> tuple[int, int, int]:
    async with open_lab(data) as (lab, _):
        await sweep_imports(lab.database, lab.config.lab.data_dir, lab.config.traces_dir)
        counts = []
        for table in (Job, Run, Trace):
            rows = await lab.database.read(lambda session, table=table: session.exec(select(table)).all())
            counts.append(len(rows))
        folders = [path.name for path in lab.config.traces_dir.iterdir()]
        assert len(folders) == counts[2]
        for name in folders:
            verify(lab.config.traces_dir / name)
        return counts[0], counts[1], counts[2]


async def _killed_at(tmp_path: Path, points: int) -> None:
    made = EnergyRunnerSession(tmp_path / "kws", trials=1)
    made.write_energy()
    (session,) = find_sessions(tmp_path / "kws")

    def prepared(name: str) -> tuple[Path, str]:
        data = tmp_path / name
        (data / "traces").mkdir(parents=True)
        return data, put_into_inbox(session, data)

    data, digest = prepared("whole")
    whole = json.loads(_run(data, digest, 0).stdout)
    assert whole["ok"]
    for number in range(points):
        data, digest = prepared(f"killed{number}")
        killed = _run(data, digest, 1 + number * whole["lines"] // points)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert await _left(data) in ((0, 0, 0), (1, 1, 1))
        async with open_lab(data) as (lab, _):
            again = await ask(lab, digest)
        assert again.result == whole["result"], again.error
        assert await _left(data) == (1, 1, 1)
        assert list((data / INBOX).iterdir()) == []
        shutil.rmtree(data)


async def test_a_kill_leaves_all_of_an_import_or_nothing_and_doing_it_again_completes_it(tmp_path: Path) -> None:
    await _killed_at(tmp_path, points=3)


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_a_kill_at_any_of_many_lines_leaves_all_of_an_import_or_nothing(tmp_path: Path) -> None:
    await _killed_at(tmp_path, points=100)


def test_without_a_lab_a_session_becomes_the_same_trace_wherever_it_is_made(tmp_path: Path) -> None:
    kws(tmp_path / "kws")
    (session,) = find_sessions(tmp_path / "kws")
    (one,) = unpack(session, tmp_path / "one")
    (two,) = unpack(session, tmp_path / "two")
    assert one.seal.sha256 == two.seal.sha256
    assert [path.name for path in (tmp_path / "one").iterdir()] == [one.meta.trace_id]


def test_the_reference_sessions_become_traces_whose_scores_agree_with_the_sessions_own(tmp_path: Path) -> None:
    for number, session in enumerate(find_sessions(reference())):
        made = unpack(session, tmp_path / str(number))
        score = score_traces([OpenTrace.open(each.folder) for each in made])
        own = {trial: window.own for trial, window in enumerate(score_session(session).windows)}
        for window in score.windows:
            figure = own[window.trial]
            assert figure is not None
            timing = window.energy_j.part("edge_placement", "edge_sample") * 1e6
            assert abs(window.energy_j.value * 1e6 - figure.value) < 3 * timing
