"""What a lab answers about its traces: pages, facts, pins, and what goes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import Session, col, select

from labd.config import Keep, LiveConfig
from labd.keep.space import Space, SpaceState
from labd.model import ledger_measures, ledger_traces
from labd.model.causes import Cause
from labd.model.states import TraceState
from labd.model.tables import Event, Score, Trace
from labd.service.answer import answer
from labd.service.lab import Lab
from labd.service.messages import Reply
from labd.service.sender import sender_of
from tests.keep.traces import NOW, SIZE, add_trace, lay_down
from tests.service.labs import bring_up, open_lab


class House:
    """A housekeeper that only counts."""

    def __init__(self) -> None:
        self.calls = 0

    def collect(self) -> None:
        self.calls += 1


@pytest.fixture
async def plain(tmp_path: Path) -> AsyncIterator[Lab]:
    """Four traces of one board, the newest first to go by its label, the oldest pinned."""
    async with open_lab(tmp_path) as (lab, _):
        await bring_up(lab)

        def fill(session: Session) -> None:
            add_trace(session, "t-4", days=400)
            ledger_traces.pin_trace(session, "t-4", "for the paper", NOW)
            add_trace(session, "t-3", days=300, cause=Cause.BOARD_SILENT)
            add_trace(session, "t-2", days=200, labels={"why": "debug"})
            add_trace(session, "t-1", days=1)

        await lab.database.write(fill)
        for name in ("t-1", "t-2", "t-3", "t-4", "somebody-elses"):
            lay_down(lab.config.traces_dir, name)
        yield replace(lab, now=lambda: NOW)


def keeping(lab: Lab, house: House, **keep: Any) -> Lab:
    """The same lab with another `[keep]`, and a housekeeper."""
    config = lab.config.model_copy(update={"keep": Keep(**keep)})
    return replace(lab, live=LiveConfig(config), collect=house.collect)


async def ask(lab: Lab, verb: str, params: Any, request_id: str = "r1") -> Reply:
    payload = json.dumps({"request_id": request_id, "client": "ada", "params": params}).encode()
    return await answer(lab, verb, payload, sender_of(payload))


async def result(lab: Lab, verb: str, params: Any, request_id: str = "r1") -> dict[str, Any]:
    reply = await ask(lab, verb, params, request_id)
    assert reply.ok, reply.error
    assert reply.result is not None
    return reply.result


async def refused(lab: Lab, verb: str, params: Any) -> tuple[str, str]:
    reply = await ask(lab, verb, params)
    assert reply.error is not None
    return reply.error.kind.value, reply.error.field


async def test_traces_are_listed_in_pages_newest_first(plain: Lab) -> None:
    page = await result(plain, "trace.list", {"limit": 3})
    assert [trace["id"] for trace in page["traces"]] == ["t-1", "t-2", "t-3"]
    rest = await result(plain, "trace.list", {"limit": 3, "before": page["next_before"]})
    assert ([trace["id"] for trace in rest["traces"]], rest["next_before"]) == (["t-4"], None)
    assert rest["traces"][0] | {"started_at": ""} == {
        "id": "t-4",
        "state": "sealed",
        "job_id": 1,
        "run_id": 1,
        "board_id": "b1",
        "outcome": "completed",
        "rows": 10,
        "period_s": 0.0,
        "duration_s": 0.0,
        "bytes": SIZE,
        "started_at": "",
        "pinned": True,
        "local": True,
        "archived_at": None,
        "removed_at": None,
        "reason": "for the paper",
        "url": "/v1/traces/t-4/",
    }
    assert [trace["id"] for trace in (await result(plain, "trace.list", {"job": 2}))["traces"]] == ["t-3"]
    assert (await result(plain, "trace.list", {"board": "b2"}))["traces"] == []
    assert (await result(plain, "trace.list", {"state": "lost"}))["traces"] == []


async def test_one_trace_is_told_with_what_was_made_of_it(plain: Lab) -> None:
    score = Score(run_id=3, scorer="labd-energy/1", result={"energy_j_per_inference": None}, created_at=NOW)
    await plain.database.write(lambda session: ledger_measures.add_score(session, score))
    trace = await result(plain, "trace.get", {"id": "t-2"})
    assert (trace["benchmark"], trace["mode"], trace["labels"]) == ("digits01", "energy", {"why": "debug"})
    assert [each["scorer"] for each in trace["scores"]] == ["labd-energy/1"]
    assert trace["sha256"] == "ab"


async def test_what_is_not_there_or_not_a_name_is_refused(plain: Lab) -> None:
    for verb in ("trace.get", "trace.pin", "trace.unpin"):
        assert await refused(plain, verb, {"id": "t-9"}) == ("not_found", "params.id")
        assert await refused(plain, verb, {"id": "../t-1"}) == ("bad_request", "params.id")
    assert await refused(plain, "trace.list", {"before": "t-9"}) == ("not_found", "params.before")
    assert await refused(plain, "trace.list", {"state": "gone"}) == ("bad_request", "params.state")
    assert await refused(plain, "trace.gc", {"dry_run": "yes"}) == ("bad_request", "params.dry_run")


async def test_a_pin_is_set_once_for_each_request_and_taken_away(plain: Lab) -> None:
    first = await result(plain, "trace.pin", {"id": "t-1", "reason": "odd spike"}, "p")
    assert (first["pinned"], first["reason"]) == (True, "odd spike")
    await result(plain, "trace.unpin", {"id": "t-1"}, "u")
    assert await result(plain, "trace.pin", {"id": "t-1", "reason": "odd spike"}, "p") == first
    row = await plain.database.read(lambda session: ledger_traces.get_trace(session, "t-1"))
    assert (row.pinned, row.reason) == (False, "")
    told = await plain.database.read(
        lambda session: session.exec(select(Event.reason).where(Event.subject == "t-1").order_by(col(Event.id))).all()
    )
    assert list(told)[-2:] == ["pinned: odd spike", "unpinned"]


async def test_a_dry_run_says_what_would_go_and_changes_nothing(plain: Lab) -> None:
    house = House()
    lab = keeping(plain, house, max_age_days=100)
    found = await result(lab, "trace.gc", {"dry_run": True})
    assert [(each["id"], each["way"], each["bytes"]) for each in found["going"]] == [
        ("t-3", "remove", SIZE),
        ("t-2", "remove", SIZE),
    ]
    assert found["going"][0]["reason"] == "it ended 300 days ago, more than 100"
    assert (found["count"], found["bytes"], found["left"]) == (2, 2 * SIZE, 0)
    assert found["foreign"] == ["somebody-elses"]
    assert house.calls == 0
    states = await lab.database.read(lambda session: session.exec(select(Trace.state)).all())
    assert set(states) == {TraceState.SEALED}


async def test_what_has_to_go_is_committed_once_and_then_deleted_by_the_housekeeper(plain: Lab) -> None:
    house = House()
    lab = keeping(plain, house, max_age_days=100)
    done = await result(lab, "trace.gc", {}, "g")
    assert ([each["id"] for each in done["going"]], done["dry_run"]) == (["t-3", "t-2"], False)
    assert await result(lab, "trace.gc", {}, "g") == done
    assert house.calls == 1
    assert (await result(lab, "trace.gc", {}, "h"))["count"] == 0
    gone = await result(lab, "trace.get", {"id": "t-3"})
    assert (gone["state"], gone["url"], gone["reason"]) == ("removed", None, "it ended 300 days ago, more than 100")
    assert await refused(lab, "trace.pin", {"id": "t-3"}) == ("conflict", "params.id")


async def test_nothing_goes_in_a_lab_that_says_nothing_about_it(plain: Lab) -> None:
    critical = Space(SpaceState.CRITICAL, "full", 10**12)
    lab = replace(keeping(plain, House()), space=lambda: critical)
    assert (await result(lab, "trace.gc", {}))["count"] == 0


async def test_a_critical_disk_lets_go_what_it_may(plain: Lab) -> None:
    critical = Space(SpaceState.CRITICAL, "full", SIZE + 1)
    lab = replace(keeping(plain, House(), reclaim=True), space=lambda: critical)
    found = await result(lab, "trace.gc", {"dry_run": True})
    assert [each["id"] for each in found["going"]] == ["t-3", "t-2"]


async def test_room_on_a_full_disk_is_made_by_the_housekeeper_alone(plain: Lab) -> None:
    """Asked again before the files are gone, a lab that went by its last look would let go twice of what is needed."""
    critical = Space(SpaceState.CRITICAL, "full", SIZE)
    house = House()
    lab = replace(keeping(plain, house, reclaim=True), space=lambda: critical)
    for number in range(3):
        assert (await result(lab, "trace.gc", {}, f"again-{number}"))["count"] == 0
    assert house.calls == 3
    states = await lab.database.read(lambda session: set(session.exec(select(Trace.state))))
    assert states == {TraceState.SEALED}
