"""Who did what stays to be asked: requests with who asked them, and state changes with who brought them about."""

import json
from pathlib import Path
from typing import Any

from sqlmodel import Session, select

from labd.model.tables import Event, Request
from labd.service.answer import answer
from labd.service.lab import Lab
from labd.service.sender import Origin, sender_of
from tests.service.labs import NOW, open_lab

GOOD = {"benchmark": "digits01", "mode": "energy"}


async def ask(lab: Lab, verb: str, params: Any, request_id: str, user: str | None = None) -> dict[str, Any]:
    payload = json.dumps({"request_id": request_id, "client": "labctl-1", "params": params}).encode()
    reply = await answer(lab, verb, payload, sender_of(payload, Origin(user=user)))
    assert reply.ok, reply.error
    assert reply.result is not None
    return reply.result


async def test_it_is_told_who_asked_for_what_and_what_came_of_it(tmp_path: Path) -> None:
    async with open_lab(tmp_path) as (lab, _):
        await ask(lab, "job.submit", GOOD, "r1", user="ada")
        await ask(lab, "job.submit", GOOD, "r1", user="ada")  # once, however often it comes
        await ask(lab, "job.submit", GOOD, "r2", user="bob")
        await ask(lab, "job.cancel", {"id": 1}, "r3", user="bob")
    async with open_lab(tmp_path) as (lab, _):
        page = await ask(lab, "audit.list", {}, "q")
        assert {(each["requester"], each["verb"]) for each in page["requests"]} == {
            ("ada", "job.submit"),
            ("bob", "job.submit"),
            ("bob", "job.cancel"),
        }
        assert [(each["actor"], each["subject"], each["state"], each["reason"]) for each in page["changes"]] == [
            ("bob", "1", "cancelled", "cancelled"),
            ("bob", "2", "queued", ""),
            ("ada", "1", "queued", ""),
        ]
        of_one = await ask(lab, "audit.list", {"kind": "job", "subject": "1", "limit": 1}, "q")
        assert (of_one["requests"], of_one["changes"][0]["state"], of_one["next_before"]) == ([], "cancelled", 3)
        rest = await ask(lab, "audit.list", {"kind": "job", "subject": "1", "before": of_one["next_before"]}, "q")
        assert [each["actor"] for each in rest["changes"]] == ["ada"]
        cancels = await ask(lab, "audit.list", {"requester": "bob", "verb": "job.cancel"}, "q")
        assert [each["params"] for each in cancels["requests"]] == [{"id": 1}]
        assert cancels["changes"] == []


async def test_pages_lose_and_repeat_nothing_though_all_was_answered_in_one_moment(tmp_path: Path) -> None:
    async with open_lab(tmp_path) as (lab, _):
        for number in range(7):
            await ask(lab, "job.submit", GOOD, f"r{number}", user="ada")

        def in_one_moment(session: Session) -> None:
            for row in (*session.exec(select(Request)), *session.exec(select(Event))):
                setattr(row, "answered_at" if isinstance(row, Request) else "at", NOW)
                session.add(row)

        await lab.database.write(in_one_moment)
        requests: list[str] = []
        changes: list[str] = []
        page = await ask(lab, "audit.list", {"limit": 2}, "q")
        requests += [each["request_id"] for each in page["requests"]]
        changes += [each["subject"] for each in page["changes"]]
        further = page
        while further["next_requests_before"] is not None:
            last = further["next_requests_before"]
            further = await ask(lab, "audit.list", {"limit": 2, "requests_before": last}, "q")
            requests += [each["request_id"] for each in further["requests"]]
            assert further["changes"] == []
        further = page
        while further["next_before"] is not None:
            further = await ask(lab, "audit.list", {"limit": 2, "before": further["next_before"]}, "q")
            changes += [each["subject"] for each in further["changes"]]
            assert further["requests"] == []
        assert sorted(requests) == [f"r{number}" for number in range(7)]
        assert changes == [str(number) for number in range(7, 0, -1)]
        both = await ask(
            lab, "audit.list", {"before": page["next_before"], "requests_before": page["next_requests_before"]}, "q"
        )
        assert (len(both["requests"]), len(both["changes"])) == (5, 5)


async def test_a_page_after_a_request_that_is_not_there_is_refused(tmp_path: Path) -> None:
    async with open_lab(tmp_path) as (lab, _):
        payload = b'{"params": {"requests_before": "r9"}}'
        reply = await answer(lab, "audit.list", payload, sender_of(payload))
        assert reply.error is not None
        assert (reply.error.kind, reply.error.field) == ("not_found", "params.requests_before")
