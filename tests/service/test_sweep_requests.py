"""The verbs of sweeps: what they answer, who may ask, and that nonsense is told with its field and a remedy."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select

from labd.benchmarks import Mode
from labd.config import Firmware, Instrument, LiveConfig, Queue, User
from labd.model.tables import Event, Request, Sweep
from labd.service.answer import answer
from labd.service.lab import Lab
from labd.service.messages import Reply
from labd.service.outbox import everything, read_news
from labd.service.sender import Origin, sender_of
from labd.service.sweeps.work import LabSweeps
from tests.service.labs import NOW, bring_up, open_lab

GOOD: dict[str, Any] = {
    "axes": {"mode": ["energy", "performance"], "board": ["b1", "b2"]},
    "job": {"benchmark": "digits01", "labels": {"why": "drift"}},
    "repetitions": 2,
    "cron": "30 1 * * *",
    "zone": "Europe/Berlin",
}


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with open_lab(tmp_path) as (lab, _):
        await bring_up(lab)
        yield replace(lab, now=lambda: NOW)


def changed(lab: Lab, **update: Any) -> None:
    assert isinstance(lab.live, LiveConfig)
    lab.live.replace(lab.config.model_copy(update=update))


_ids = iter(range(1, 10**9))


async def ask(lab: Lab, verb: str, params: Any, user: str | None = None, request_id: str | None = None) -> Reply:
    request_id = request_id or f"r{next(_ids)}"
    payload = json.dumps({"request_id": request_id, "client": "ada", "params": params}).encode()
    return await answer(lab, verb, payload, sender_of(payload, Origin(user=user)))


async def result(lab: Lab, verb: str, params: Any, user: str | None = None) -> dict[str, Any]:
    reply = await ask(lab, verb, params, user)
    assert reply.ok, reply.error
    assert reply.result is not None
    return reply.result


async def refused(lab: Lab, verb: str, params: Any, user: str | None = None) -> tuple[str, str, str, str]:
    reply = await ask(lab, verb, params, user)
    assert reply.error is not None, reply.result
    return reply.error.kind, reply.error.field, reply.error.message, reply.error.remedy


def spec(**changes: Any) -> dict[str, Any]:
    return {"name": "nightly", **GOOD, **changes}


async def test_a_sweep_is_created_listed_paused_resumed_run_and_removed(lab: Lab) -> None:
    accepted = await result(lab, "sweep.create", spec())
    assert accepted == {
        "name": "nightly",
        "state": "active",
        "due_at": "2025-03-02T00:30:00Z",
        "jobs": 6,
        "left_out": 2,
    }
    [listed] = (await result(lab, "sweep.list", {}))["sweeps"]
    assert (listed["name"], listed["owner"], listed["spec"]["cron"]) == ("nightly", "ada", "30 1 * * *")
    assert (await result(lab, "sweep.pause", {"name": "nightly"}))["due_at"] is None
    assert (await refused(lab, "sweep.pause", {"name": "nightly"}))[0] == "conflict"
    assert (await result(lab, "sweep.resume", {"name": "nightly"}))["due_at"] == "2025-03-02T00:30:00Z"
    assert (await refused(lab, "sweep.resume", {"name": "nightly"}))[0] == "conflict"
    night = await result(lab, "sweep.run", {"name": "nightly"})
    assert night == {"name": "nightly", "night": 1, "state": "expanding"}
    kind, _, message, remedy = await refused(lab, "sweep.run", {"name": "nightly"})
    assert (kind, message) == ("conflict", "night 1 of sweep 'nightly' is still under way")
    assert "overlap" in remedy
    whole = await result(lab, "sweep.get", {"name": "nightly"})
    assert [(each["id"], each["state"], each["reason"]) for each in whole["nights"]] == [
        (1, "expanding", "asked for by ada")
    ]
    assert (await result(lab, "sweep.remove", {"name": "nightly"}))["state"] == "removed"
    assert (await result(lab, "sweep.list", {}))["sweeps"] == []
    for verb in ("get", "pause", "resume", "run", "remove"):
        assert (await refused(lab, f"sweep.{verb}", {"name": "nightly"}))[0] == "not_found"
    await result(lab, "sweep.create", spec())


async def test_the_same_request_creates_one_sweep(lab: Lab) -> None:
    first = await ask(lab, "sweep.create", spec(), request_id="once")
    assert await ask(lab, "sweep.create", spec(), request_id="once") == first
    assert (await refused(lab, "sweep.create", spec()))[0] == "conflict"


async def test_a_sweep_is_replaced_and_keeps_its_nights(lab: Lab) -> None:
    await result(lab, "sweep.create", spec())
    await result(lab, "sweep.run", {"name": "nightly"})
    accepted = await result(lab, "sweep.create", spec(replace=True, repetitions=1, cron="0 3 * * *"))
    assert (accepted["jobs"], accepted["due_at"]) == (3, "2025-03-02T02:00:00Z")
    whole = await result(lab, "sweep.get", {"name": "nightly"})
    assert len(whole["nights"]) == 1
    assert (await refused(lab, "sweep.create", spec(name="other", replace=True)))[0] == "not_found"


async def test_a_preview_tells_what_would_happen_and_changes_nothing(lab: Lab) -> None:
    planned = await result(lab, "sweep.preview", {**GOOD, "exclude": [{"board": "b1", "mode": "accuracy"}]})
    assert (planned["jobs"], planned["axes"]) == (6, {"mode": 2, "board": 2})
    assert planned["first"][0] == {
        "cell": "digits01/energy/b1/rep1",
        "boards": ["b1"],
        "estimate_s": pytest.approx(24.3),
    }
    assert planned["board_s"] == pytest.approx(6 * planned["first"][0]["estimate_s"])
    assert planned["wall_s"] == pytest.approx(4 * planned["first"][0]["estimate_s"])
    assert planned["left_out"] == [
        {
            "reason": "b2 is not wired for energy",
            "field": "mode",
            "count": 2,
            "cells": ["digits01/energy/b2/rep1", "digits01/energy/b2/rep2"],
        }
    ]
    assert planned["idle_excludes"] == [0]
    assert planned["due"] == ["2025-03-02T01:30:00+01:00", "2025-03-03T01:30:00+01:00", "2025-03-04T01:30:00+01:00"]
    rows = await lab.database.read(
        lambda session: (session.exec(select(Sweep)).all(), session.exec(select(Request)).all())
    )
    assert rows == ([], [])


async def test_boards_are_picked_by_tags_and_requirement_each_or_any(lab: Lab) -> None:
    psu = Instrument.model_validate(
        {"id": "psu", "driver": "keysight-n6705c", "resource": "TCPIP::127.0.0.1::9::SOCKET"}
    )
    changed(lab, instrument=(psu,))

    async def cells(board: Any, mode: str = "performance") -> list[tuple[str, list[str]]]:
        axes = {"board": [board]}
        planned = await result(lab, "sweep.preview", {"axes": axes, "job": {"benchmark": "digits01", "mode": mode}})
        return [(each["cell"], each["boards"]) for each in planned["first"]]

    assert await cells({"tags": ["cortex-m4f"]}) == [
        ("digits01/performance/b1/rep1", ["b1"]),
        ("digits01/performance/b2/rep1", ["b2"]),
    ]
    assert await cells({"tags": ["cortex-m4f"], "take": "any"}) == [
        ("digits01/performance/cortex-m4f/rep1", ["b1", "b2"])
    ]
    assert await cells({"require": 'tag("energy")'}) == [("digits01/performance/b1/rep1", ["b1"])]


async def test_a_clock_picks_the_build_that_sets_it(lab: Lab, tmp_path: Path) -> None:
    def build(name: str, clock_mhz: float | None) -> Firmware:
        images = {mode: tmp_path / f"{name}-{clock_mhz}-{mode}.elf" for mode in (Mode.PERFORMANCE, Mode.ENERGY)}
        return Firmware(name=name, benchmark="digits01", target="native", images=images, clock_mhz=clock_mhz)

    changed(lab, firmware=(build("fast", 120.0), build("slow", 40.0), build("any", None)))
    asked = {"axes": {"clock_mhz": [40, 120, 80]}, "job": {"benchmark": "digits01", "mode": "energy", "board": "b1"}}
    planned = await result(lab, "sweep.preview", asked)
    assert [each["cell"] for each in planned["first"]] == [
        "digits01/energy/b1/40.0MHz/rep1",
        "digits01/energy/b1/120.0MHz/rep1",
    ]
    assert [(each["field"], each["reason"]) for each in planned["left_out"]] == [
        ("clock_mhz", "no build of digits01 at 80 MHz in lab.toml for b1")
    ]
    jobs = LabSweeps(lab.live).plan(asked, "clocks", 1).jobs
    assert sorted(job.spec["firmware"]["name"] for job in jobs) == ["fast", "slow"]
    changed(lab, firmware=(build("same", 40.0), build("same", 80.0)))
    planned_reason = (await refused(lab, "sweep.preview", {**asked, "axes": {"clock_mhz": [80]}}))[2]
    assert "give each a name of its own" in planned_reason


async def test_the_jobs_of_a_night_carry_their_sweep_night_and_cell(lab: Lab) -> None:
    plan = LabSweeps(lab.live).plan(GOOD, "nightly", 7)
    assert {job.spec["labels"]["labd.cell"] for job in plan.jobs} == {
        f"digits01/{cell}/rep{number}"
        for cell in ("energy/b1", "performance/b1", "performance/b2")
        for number in (1, 2)
    }
    assert plan.jobs[0].spec["labels"].items() >= {"why": "drift", "labd.sweep": "nightly", "labd.night": "7"}.items()
    assert plan.jobs == LabSweeps(lab.live).plan(plan.spec, "nightly", 7).jobs
    assert plan.jobs[0].estimate_s > 0
    assert json.loads(plan.jobs[0].requirement or "")["benchmark"] == "digits01"


async def test_a_night_goes_on_with_the_boards_that_it_was_begun_with(lab: Lab) -> None:
    tagged = {**GOOD, "axes": {"mode": ["performance"], "board": [{"tags": ["cortex-m4f"]}]}}
    begun = LabSweeps(lab.live).plan(tagged, "nightly", 1)
    changed(lab, board=tuple(board for board in lab.config.board if board.id == "b2"))
    later = LabSweeps(lab.live).plan(begun.spec, "nightly", 1)
    assert {job.cell for job in later.jobs} < {job.cell for job in begun.jobs}
    assert later.left_out[0] == ("digits01/performance/b1/rep1", "the lab has no board 'b1'")


@pytest.mark.parametrize(
    ("change", "kind", "field", "message"),
    [
        (
            {"repetitions": 5000, "axes": {**GOOD["axes"], "trials": list(range(1, 51))}},
            "too_large",
            "params.axes",
            "1,000,000 jobs",
        ),
        ({"cron": "30 2 30 2 *"}, "bad_request", "params.cron", "never fires"),
        ({"cron": "* * * * * *"}, "bad_request", "params.cron", "seconds are not served"),
        ({"zone": "Europe/Berln"}, "bad_request", "params.zone", "there is no time zone"),
        ({"axes": {"board": []}}, "bad_request", "params.axes.board", "at least 1"),
        ({"axes": {**GOOD["axes"], "board": ["b1", "b1"]}}, "bad_request", "params.axes.board", "b1 is there twice"),
        ({"axes": {**GOOD["axes"], "phase": [1]}}, "bad_request", "params.axes.phase", "Extra inputs"),
        (
            {"axes": {**GOOD["axes"], "benchmark": ["digits01"]}},
            "bad_request",
            "params.axes.benchmark",
            "stands in job too",
        ),
        ({"axes": {"mode": ["energy"], "board": ["b2"]}}, "unmatchable", "params.axes.mode", "not wired for energy"),
        (
            {"axes": {"mode": ["energy"], "board": [{"tags": ["m7"]}]}},
            "unmatchable",
            "params.axes.board.0",
            "no board of the lab has the tags m7",
        ),
        (
            {"axes": {"mode": ["energy"], "board": [{"require": "1 +"}]}},
            "bad_request",
            "params.axes.board.0.require",
            "",
        ),
        (
            {"axes": {"mode": ["energy"], "board": [{"take": "any"}]}},
            "bad_request",
            "params.axes.board.0.table",
            "give tags",
        ),
        ({"exclude": [{"benchmark": "digits01"}]}, "bad_request", "params.exclude", "leaves nothing"),
        ({"exclude": [{}]}, "bad_request", "params.exclude.0", "name at least one key"),
        ({"job": {"benchmark": "kws77"}}, "bad_request", "params.axes.benchmark", "there is no benchmark 'kws77'"),
        ({"job": {}}, "bad_request", "params.axes.benchmark", "is missing"),
        ({"job": {**GOOD["job"], "labels": {"labd.cell": "x"}}}, "bad_request", "params.job.labels", "labd's own"),
        (
            {"job": {**GOOD["job"], "board": {"tags": ["cortex-m4f"]}}},
            "bad_request",
            "params.job.board",
            "each of several boards",
        ),
        ({"catch_up": "all", "overlap": "cancel"}, "bad_request", "params", "would cancel each other"),
        ({"not_after": "25:00"}, "bad_request", "params.not_after", "pattern"),
        ({"repetitions": 0}, "bad_request", "params.repetitions", "greater than"),
        ({"name": "../../etc"}, "bad_request", "params.name", "pattern"),
        ({"name": "a/b"}, "bad_request", "params.name", "pattern"),
        ({"name": "#"}, "bad_request", "params.name", "pattern"),
        ({"name": "n\u0000"}, "bad_request", "params.name", "pattern"),
        ({"name": ""}, "bad_request", "params.name", "pattern"),
        ({"seed": -1}, "bad_request", "params.seed", "greater than"),
        ({"axes": {**GOOD["axes"], "voltage_v": [3.0, 99.0]}}, "bad_request", "params.axes.voltage_v.1", "less than"),
    ],
)
async def test_nonsense_is_refused_with_its_field_and_a_remedy(
    lab: Lab, change: dict[str, Any], kind: str, field: str, message: str
) -> None:
    for verb in ("sweep.create", "sweep.preview"):
        found = await refused(lab, verb, spec(**change))
        assert found[:2] == (kind, field), found
        assert message in found[2]
        assert found[3]
    assert await lab.database.read(lambda session: session.exec(select(Sweep)).all()) == []


async def test_the_limit_holds_for_what_exclude_has_left(lab: Lab) -> None:
    changed(lab, queue=Queue(max_sweep_jobs=10))
    wide = {
        "axes": {"trials": list(range(1, 13))},
        "job": {"benchmark": "digits01", "mode": "performance", "board": "b1"},
    }
    assert (await refused(lab, "sweep.preview", wide))[2] == "the sweep has 12 jobs, a night may have 10"
    cut = {**wide, "exclude": [{"trials": 1}, {"trials": 2}]}
    assert (await result(lab, "sweep.preview", cut))["jobs"] == 10
    assert (await refused(lab, "sweep.preview", {**wide, "exclude": [{"trials": 1}]}))[2].startswith("the sweep has 11")


async def test_operators_change_their_own_sweeps_and_admins_all(lab: Lab) -> None:
    users = [("ada", "operator"), ("bob", "operator"), ("root", "admin"), ("eve", "viewer")]
    changed(lab, user=tuple(User.model_validate({"name": name, "role": role}) for name, role in users))
    await result(lab, "sweep.create", spec(), "ada")
    for verb, params in (
        *((f"sweep.{verb}", {"name": "nightly"}) for verb in ("pause", "run", "remove")),
        ("sweep.create", spec(replace=True)),
    ):
        assert (await refused(lab, verb, params, "bob"))[0] == "forbidden"
        assert (await refused(lab, verb, params, "eve"))[0] == "forbidden"
    assert (await result(lab, "sweep.get", {"name": "nightly"}, "eve"))["owner"] == "ada"
    await result(lab, "sweep.create", spec(replace=True), "root")
    assert (await result(lab, "sweep.get", {"name": "nightly"}, "eve"))["owner"] == "ada"
    await result(lab, "sweep.remove", {"name": "nightly"}, "root")
    events = await lab.database.read(lambda session: list(session.exec(select(Event).where(Event.kind == "sweep"))))
    assert [(event.subject, event.state, event.actor) for event in events] == [
        ("nightly", "active", "ada"),
        ("nightly", "active", "root"),
        ("nightly", "removed", "root"),
    ]


async def test_the_document_of_a_sweep_is_told_and_cleared(lab: Lab) -> None:
    await result(lab, "sweep.create", spec())
    await result(lab, "sweep.run", {"name": "nightly"})
    news = await lab.database.read(lambda session: read_news(session, lab, 0))
    [shown] = [each for each in news.shown if each.path == "sweep/nightly"]
    assert shown.document is not None
    assert '"asked for by ada"' in shown.document.model_dump_json()
    last = news.events[-1].number
    await result(lab, "sweep.remove", {"name": "nightly"})
    news = await lab.database.read(lambda session: read_news(session, lab, last))
    assert [each.document for each in news.shown if each.path == "sweep/nightly"] == [None]
    whole = await lab.database.read(lambda session: everything(session, lab))
    assert [each.document for each in whole if each.path == "sweep/nightly"] == [None]
