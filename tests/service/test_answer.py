"""Every request is answered: good ones once for each id, bad ones with the field and kind of their fault."""

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlmodel import select

from labd.model import ledger, ledger_measures
from labd.model.causes import Cause, Ending
from labd.model.states import TraceState
from labd.model.tables import Job, Request, Score, Trace, Window
from labd.schedule.match import Requirement
from labd.service.answer import answer
from labd.service.lab import Lab
from labd.service.messages import Reply
from labd.service.sender import Sender, sender_of
from tests.service.labs import NOW, Moves, bring_up, open_lab

GOOD = {"benchmark": "digits01", "mode": "energy"}


@pytest.fixture
async def open_pair(tmp_path: Path) -> AsyncIterator[tuple[Lab, Moves]]:
    async with open_lab(tmp_path) as pair:
        yield pair


@pytest.fixture
def lab(open_pair: tuple[Lab, Moves]) -> Lab:
    return open_pair[0]


@pytest.fixture
def moves(open_pair: tuple[Lab, Moves]) -> Moves:
    return open_pair[1]


async def ask(lab: Lab, verb: str, params: Any, request_id: str = "r1", client: str = "ada") -> Reply:
    payload = json.dumps({"request_id": request_id, "client": client, "params": params}).encode()
    return await answer(lab, verb, payload, sender_of(payload))


async def result(lab: Lab, verb: str, params: Any, request_id: str = "r1") -> dict[str, Any]:
    reply = await ask(lab, verb, params, request_id)
    assert reply.ok, reply.error
    assert reply.result is not None
    return reply.result


async def jobs(lab: Lab) -> list[Job]:
    return await lab.database.read(lambda session: list(session.exec(select(Job))))


async def test_a_submitted_job_is_queued_with_all_its_defaults(lab: Lab, moves: Moves) -> None:
    assert await result(lab, "job.submit", GOOD) == {"job_id": 1, "state": "queued"}
    assert moves.wakes == 1
    [job] = await jobs(lab)
    assert (job.client, job.spec["trials"], job.spec["min_window_s"]) == ("ada", 5, 1.0)
    assert job.spec["inferences"] == "auto"


async def test_the_same_request_gets_the_same_reply_and_no_second_job(lab: Lab, moves: Moves) -> None:
    first = await ask(lab, "job.submit", GOOD)
    assert await ask(lab, "job.submit", {"mode": "energy", "benchmark": "digits01", "trials": None}) == first
    together = await asyncio.gather(*(ask(lab, "job.submit", GOOD, "r2") for _ in range(8)))
    assert len({reply.model_dump_json() for reply in together}) == 1
    assert len(await jobs(lab)) == 2
    assert moves.wakes == 2


async def test_a_request_is_remembered_over_a_restart(tmp_path: Path) -> None:
    async with open_lab(tmp_path) as (lab, _):
        first = await ask(lab, "job.submit", GOOD)
    async with open_lab(tmp_path) as (lab, moves):
        assert await ask(lab, "job.submit", GOOD) == first
        assert moves.wakes == 0
        assert len(await jobs(lab)) == 1


@pytest.mark.parametrize(
    ("verb", "params", "client"),
    [
        ("job.submit", {**GOOD, "trials": 3}, "ada"),
        ("job.submit", GOOD, "bob"),
        ("job.cancel", {"id": 1}, "ada"),
    ],
)
async def test_an_id_used_for_another_request_is_refused(lab: Lab, verb: str, params: Any, client: str) -> None:
    await result(lab, "job.submit", GOOD)
    reply = await ask(lab, verb, params, client=client)
    assert reply.error is not None
    assert (reply.error.kind, reply.error.field) == ("request_id_reused", "request_id")
    assert len(await jobs(lab)) == 1


@pytest.mark.parametrize(
    ("params", "kind", "field"),
    [
        ({"benchmark": "kws99", "mode": "energy"}, "unknown_benchmark", "params.benchmark"),
        ({"mode": "energy"}, "bad_request", "params.benchmark"),
        ({"benchmark": "digits01", "mode": "speed"}, "bad_request", "params.mode"),
        ({**GOOD, "board": {"id": "b9"}}, "unmatchable", "params.board.id"),
        ({**GOOD, "board": {"id": "b2"}}, "unmatchable", "params.mode"),
        ({**GOOD, "board": {"tags": ["riscv"]}}, "unmatchable", "params.board.tags"),
        ({**GOOD, "board": {}}, "bad_request", "params.board"),
        ({**GOOD, "board": {"id": "b1", "tags": ["energy"]}}, "bad_request", "params.board"),
        ({**GOOD, "board": "b1"}, "bad_request", "params.board"),
        ({**GOOD, "voltage_v": 5.0}, "unmatchable", "params.voltage_v"),
        ({**GOOD, "voltage_v": "3.0"}, "bad_request", "params.voltage_v"),
        ({**GOOD, "trials": 0}, "bad_request", "params.trials"),
        ({**GOOD, "trials": 101}, "bad_request", "params.trials"),
        ({**GOOD, "trials": "5"}, "bad_request", "params.trials"),
        ({**GOOD, "trials": True}, "bad_request", "params.trials"),
        ({**GOOD, "inferences": 0}, "bad_request", "params.inferences"),
        ({**GOOD, "inferences": "many"}, "bad_request", "params.inferences"),
        ({**GOOD, "min_window_s": -1}, "bad_request", "params.min_window_s"),
        ({**GOOD, "rate_hz": 0}, "bad_request", "params.rate_hz"),
        ({**GOOD, "priority": 11}, "bad_request", "params.priority"),
        ({**GOOD, "priority": -11}, "bad_request", "params.priority"),
        ({**GOOD, "priority": 1.5}, "bad_request", "params.priority"),
        ({**GOOD, "deadline": "2030-01-01T00:00:00"}, "bad_request", "params.deadline"),
        ({**GOOD, "deadline": "2001-01-01T00:00:00Z"}, "bad_request", "params.deadline"),
        ({**GOOD, "require": "memory_kb >="}, "bad_request", "params.require"),
        ({**GOOD, "labels": {"a": 1}}, "bad_request", "params.labels.a"),
        ({**GOOD, "colour": "red"}, "bad_request", "params.colour"),
        ({**GOOD, "firmware": {"name": "other"}}, "unmatchable", "params.firmware.name"),
        ({**GOOD, "firmware": {"sha256": "00"}}, "bad_request", "params.firmware.sha256"),
        ([], "bad_request", "params"),
    ],
)
async def test_a_bad_job_is_refused_by_field_and_kind(lab: Lab, params: Any, kind: str, field: str) -> None:
    reply = await ask(lab, "job.submit", params)
    assert reply.error is not None
    assert (reply.error.kind, reply.error.field) == (kind, field)
    assert reply.request_id == "r1"
    assert await jobs(lab) == []
    assert await lab.database.read(lambda session: session.exec(select(Request)).first()) is None


@pytest.mark.parametrize(
    ("payload", "kind", "field"),
    [
        (b'{"request_id": "r1", "client": "ada", "params": {', "malformed_json", ""),
        (b"\xff\xfe", "malformed_json", ""),
        (b"", "malformed_json", ""),
        (b"[]", "bad_request", ""),
        (b'{"request_id": "r1", "client": "ada"}', "bad_request", "params"),
        (b'{"request_id": 7, "client": "ada", "params": {}}', "bad_request", "request_id"),
        (b'{"request_id": "", "client": "ada", "params": {}}', "bad_request", "request_id"),
        (b'{"request_id": "r1", "client": "a/#", "params": {}}', "bad_request", "client"),
        (b'{"request_id": "r1", "client": "ada", "reply_to": 5, "params": {}}', "bad_request", "reply_to"),
        (b'{"request_id": "r1", "client": "ada", "params": {}, "x": 1}', "bad_request", "x"),
        (b'{"client": "ada", "request_id": "r1", "params": {"x": "' + b"y" * 10_000_000 + b'"}}', "too_large", ""),
    ],
)
async def test_a_bad_envelope_is_refused_by_field_and_kind(lab: Lab, payload: bytes, kind: str, field: str) -> None:
    reply = await answer(lab, "board.list", payload, sender_of(payload))
    assert reply.error is not None
    assert (reply.error.kind, reply.error.field) == (kind, field)


async def test_an_unknown_request_is_refused_and_the_known_ones_are_named(lab: Lab) -> None:
    reply = await ask(lab, "job.explode", {})
    assert reply.error is not None
    assert reply.error.kind == "unknown_request"
    assert "job.submit" in reply.error.remedy


def test_the_sender_of_a_broken_request_is_found_where_it_can_be() -> None:
    assert sender_of(b'{"request_id": "r1", "client": "ada", "params": {') == Sender("r1", "ada", None)
    assert sender_of(b'{"client": "ada", "reply_to": "me/x", ' + b" " * 70_000) == Sender("", "ada", "me/x")
    assert sender_of(b"nonsense") == Sender()


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300))
def test_no_bytes_break_the_search_for_a_sender(payload: bytes) -> None:
    sender_of(payload)


async def test_a_firmware_may_be_named_by_build_or_digest(lab: Lab) -> None:
    await result(lab, "job.submit", {**GOOD, "firmware": {"name": "digits-native"}})
    await result(lab, "job.submit", {**GOOD, "firmware": {"sha256": "0" * 64}}, "r2")


async def test_a_queued_job_is_cancelled_at_once_and_only_once(lab: Lab, moves: Moves) -> None:
    await result(lab, "job.submit", GOOD)
    assert await result(lab, "job.cancel", {"id": 1}, "r2") == {"job_id": 1, "state": "cancelled"}
    assert await result(lab, "job.cancel", {"id": 1}, "r2") == {"job_id": 1, "state": "cancelled"}
    again = await ask(lab, "job.cancel", {"id": 1}, "r3")
    assert again.error is not None
    assert again.error.kind == "conflict"
    assert moves.cancelled == []


async def test_cancelling_a_running_job_stops_its_run(lab: Lab, moves: Moves) -> None:
    await bring_up(lab)
    await result(lab, "job.submit", GOOD)
    run = await lab.database.write(lambda session: ledger.start_run(session, 1, "b1", NOW, 60.0))
    assert await result(lab, "job.cancel", {"id": 1}, "r2") == {"job_id": 1, "state": "running"}
    assert moves.cancelled == [run.id]


@pytest.mark.parametrize("verb", ["job.get", "job.cancel"])
async def test_a_job_that_does_not_exist_is_not_found(lab: Lab, verb: str) -> None:
    reply = await ask(lab, verb, {"id": 12})
    assert reply.error is not None
    assert (reply.error.kind, reply.error.field) == ("not_found", "params.id")


async def test_jobs_are_listed_newest_first_page_by_page(lab: Lab) -> None:
    for number in range(5):
        await result(lab, "job.submit", GOOD, f"s{number}")
    await result(lab, "job.cancel", {"id": 2}, "c")
    page = await result(lab, "job.list", {"limit": 3})
    assert ([job["id"] for job in page["jobs"]], page["next_before"]) == ([5, 4, 3], 3)
    page = await result(lab, "job.list", {"limit": 3, "before": 3})
    assert ([job["id"] for job in page["jobs"]], page["next_before"]) == ([2, 1], None)
    page = await result(lab, "job.list", {"state": "cancelled"})
    assert [job["cause"]["kind"] for job in page["jobs"]] == ["cancelled"]


async def test_boards_are_listed_with_what_they_can_do_and_are_busy_with(lab: Lab) -> None:
    boards = (await result(lab, "board.list", {}))["boards"]
    assert [(board["id"], board["state"]) for board in boards] == [("b1", "offline"), ("b2", "offline")]
    await bring_up(lab)
    await result(lab, "job.submit", GOOD)
    await lab.database.write(lambda session: ledger.start_run(session, 1, "b1", NOW, 60.0))
    boards = (await result(lab, "board.list", {}))["boards"]
    assert [(board["state"], board["job_id"]) for board in boards] == [("busy", 1), ("online", None)]
    assert boards[1]["modes"] == ["performance", "accuracy"]


async def test_a_job_is_shown_whole(lab: Lab) -> None:
    await bring_up(lab)
    await result(lab, "job.submit", GOOD)

    def measure(session: Any) -> None:
        run = ledger.start_run(session, 1, "b1", NOW, 60.0)
        assert run.id is not None
        ledger_measures.start_trace(session, Trace(id="t-1", run_id=run.id, started_at=NOW))
        trial = ledger_measures.start_trial(session, run.id, number=1, input_index=3, inferences=100)
        window = Window(
            trial_id=trial, method="edges", start_ticks=1, stop_ticks=2**40, tick_rate_hz=1e8, duration_s=1.5
        )
        ledger_measures.end_trial(session, trial, [0.5, 0.25], window)
        ledger_measures.end_trace(session, "t-1", TraceState.SEALED, rows=10, size=20, sha256="ab", now=NOW)
        ledger_measures.add_score(
            session, Score(run_id=run.id, scorer="energy/1", result={"a_j": 1e-6}, created_at=NOW)
        )
        ledger.end_run(session, run.id, Ending(Cause.WINDOW_SHORT, "0.9 s"), NOW)

    await lab.database.write(measure)
    job = await result(lab, "job.get", {"id": 1}, "g")
    assert (job["state"], job["cause"]["kind"], job["cause"]["detail"]) == ("invalid", "window_short", "0.9 s")
    assert job["cause"]["remedy"]
    assert job["submitted_at"].endswith("Z")
    [run] = job["runs"]
    assert run["board_id"] == "b1"
    assert run["trials"][0]["window"]["stop_ticks"] == 2**40
    assert run["trials"][0]["results"] == [0.5, 0.25]
    assert run["scores"][0]["result"] == {"a_j": 1e-6}
    assert run["traces"][0]["url"] == "/v1/traces/t-1/"


async def test_a_job_waits_with_all_that_decides_about_it(lab: Lab) -> None:
    wish = {
        **GOOD,
        "priority": 3,
        "deadline": "2031-01-01T00:00:00+01:00",
        "require": "voltage_max_v>3 and tag('energy')",
    }
    assert (await ask(lab, "job.submit", wish)).ok
    (job,) = await jobs(lab)
    assert (job.requester, job.priority) == (job.client, 3)
    assert job.deadline == datetime(2030, 12, 31, 23, tzinfo=UTC)
    assert job.requirement is not None
    assert Requirement.parse(job.requirement).require
    assert job.estimate_s > 0


async def test_jobs_are_listed_by_requester_and_label(lab: Lab) -> None:
    await ask(lab, "job.submit", {**GOOD, "labels": {"colour": "red"}}, request_id="a", client="ann")
    await ask(lab, "job.submit", {**GOOD, "labels": {"colour": "blue"}}, request_id="b", client="bob")

    async def listed(**query: Any) -> list[int]:
        reply = await ask(lab, "job.list", query)
        assert reply.result is not None, reply.error
        return [job["id"] for job in reply.result["jobs"]]

    assert await listed() == [2, 1]
    assert await listed(requester="ann") == [1]
    assert await listed(label={"colour": "blue"}) == [2]
    assert await listed(label={"colour": "green"}) == []
    assert await listed(sweep="night") == []


async def test_a_full_queue_says_so_with_the_number(lab: Lab) -> None:
    full = dataclasses.replace(lab, queue_length=lambda: 200_000)
    reply = await ask(full, "job.submit", GOOD)
    assert reply.error is not None
    assert reply.error.kind == "queue_full"
    assert "200000" in reply.error.message


async def test_a_parked_job_is_released_and_no_other(lab: Lab) -> None:
    await ask(lab, "job.submit", GOOD)
    refused = await ask(lab, "job.release", {"id": 1}, request_id="r2")
    assert refused.error is not None
    assert refused.error.kind == "conflict"
    await lab.database.write(lambda session: ledger.park_job(session, 1, Ending(Cause.POISON, "twice"), NOW))
    reply = await ask(lab, "job.release", {"id": 1}, request_id="r3")
    assert reply.result == {"job_id": 1, "state": "queued"}
