"""What can be asked of boards' and instruments' health, and what people's word does to them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from labd.benchmarks import Mode
from labd.model import ledger, ledger_health
from labd.model.causes import Cause, Ending
from labd.model.checks import CheckStep, Examination, Finding, Outcome
from labd.model.states import BoardState, CheckTrigger, InstrumentState, LeasePurpose
from labd.model.tables import Board, Lease, Reservation
from labd.service.answer import answer
from labd.service.lab import Lab
from labd.service.messages import ErrorDocument, Reply
from labd.service.sender import sender_of
from tests.service.labs import NOW, bring_up, open_lab

FAILED = Examination(
    Outcome.FAILED,
    (
        Finding(CheckStep.PORT, passed=True, figures={"port": "/dev/null"}),
        Finding(CheckStep.HANDSHAKE, passed=False, message="no answer", figures={"baud": 9600}),
    ),
)


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with open_lab(tmp_path) as (lab, _):
        await bring_up(lab)
        yield lab


async def replied(lab: Lab, verb: str, *, request_id: str = "r1", **params: Any) -> Reply:
    payload = json.dumps({"request_id": request_id, "client": "ada", "params": params}).encode()
    return await answer(lab, verb, payload, sender_of(payload))


async def ask(lab: Lab, verb: str, **params: Any) -> dict[str, Any]:
    reply = await replied(lab, verb, **params)
    assert reply.ok, reply.error
    assert reply.result is not None
    return reply.result


async def refused(lab: Lab, verb: str, **params: Any) -> ErrorDocument:
    reply = await replied(lab, verb, **params)
    assert reply.error is not None
    return reply.error


async def row(lab: Lab, board_id: str = "b1") -> Board:
    return await lab.database.read(lambda session: session.get_one(Board, board_id))


async def start_run(lab: Lab) -> int:
    def start(session: Any) -> int:
        job = ledger.submit_job(session, benchmark="digits01", mode=Mode.ENERGY, client="ada", spec={}, now=NOW)
        assert job.id is not None
        run = ledger.start_run(session, job.id, "b1", NOW, 60.0)
        assert run.id is not None
        return run.id

    return await lab.database.write(start)


async def test_a_board_tells_its_checks_step_by_step_and_its_changes(lab: Lab) -> None:
    def check(session: Any) -> None:
        begun = ledger_health.start_check(
            session, "b1", CheckTrigger.FAILURE, ("channel psu/1",), now=NOW, lease_s=60.0
        )
        assert begun.id is not None
        ledger_health.end_check(session, begun.id, FAILED, NOW)
        ledger_health.set_standing(
            session, "b1", BoardState.QUARANTINED, FAILED.reason, NOW, strikes=3, due_at=NOW, well=False
        )

    await lab.database.write(check)
    told = await ask(lab, "board.get", id="b1")
    assert told["board"]["state"] == "quarantined"
    assert told["board"]["reason"] == "handshake: no answer"
    assert (told["board"]["strikes"], told["board"]["check_due_at"]) == (3, NOW.isoformat().replace("+00:00", "Z"))
    (check_told,) = told["checks"]
    assert check_told["passed"] is False
    assert check_told["findings"]["handshake"] == {"passed": False, "message": "no answer", "baud": 9600}
    assert [change["state"] for change in told["changes"]] == ["quarantined", "online"]
    assert told["holds"] == []


async def test_a_check_under_way_shows_what_it_holds(lab: Lab) -> None:
    await lab.database.write(
        lambda session: ledger_health.start_check(
            session, "b1", CheckTrigger.ASKED, ("mux-1", "channel psu/1"), now=NOW, lease_s=60.0
        )
    )
    told = await ask(lab, "board.get", id="b1")
    assert told["board"]["check_id"] == 1
    assert told["holds"] == ["channel psu/1", "mux-1"]


async def test_a_check_that_is_asked_for_is_due_now(lab: Lab) -> None:
    await ask(lab, "board.check", id="b1")
    board = await row(lab)
    assert (board.check_trigger, board.state) == (CheckTrigger.ASKED, BoardState.ONLINE)
    assert board.check_due_at is not None


async def test_maintenance_of_a_busy_board_stands_and_its_run_goes_on_to_its_end(lab: Lab) -> None:
    run_id = await start_run(lab)
    told = await ask(lab, "board.maintain", id="b1", reason="new probe")
    assert (told["state"], told["reason"], told["run_id"]) == ("maintenance", "new probe (ada)", run_id)
    await lab.database.write(lambda session: ledger.end_run(session, run_id, Ending(), NOW))
    assert (await row(lab)).state is BoardState.MAINTENANCE
    told = await ask(lab, "board.return", request_id="r2", id="b1")
    assert told["state"] == "suspect"
    assert (await row(lab)).check_trigger is CheckTrigger.RETURN


@pytest.mark.parametrize(("verb", "left"), [("board.maintain", "suspect"), ("board.quarantine", "quarantined")])
async def test_a_return_is_told_once(lab: Lab, verb: str, left: str) -> None:
    await ask(lab, verb, id="b1", reason="new probe")
    await ask(lab, "board.return", request_id="r2", id="b1")
    changes = (await ask(lab, "board.get", id="b1"))["changes"]
    told = [change["state"] for change in changes if change["reason"] == "returned by ada: to be checked"]
    assert told == [left]


async def test_a_quarantine_by_hand_survives_a_run_that_fails(lab: Lab) -> None:
    run_id = await start_run(lab)
    await ask(lab, "board.quarantine", id="b1", reason="smells")
    await lab.database.write(lambda session: ledger.end_run(session, run_id, Ending(Cause.BOARD_SILENT), NOW))
    board = await row(lab)
    assert (board.state, board.reason) == (BoardState.QUARANTINED, "smells (ada)")
    assert board.check_due_at is not None


async def test_a_repeated_request_is_answered_as_before(lab: Lab) -> None:
    first = await ask(lab, "board.maintain", id="b1", reason="new probe")
    assert await ask(lab, "board.maintain", id="b1", reason="new probe") == first


@pytest.mark.parametrize("verb", ["board.get", "board.check", "board.return", "instrument.get", "instrument.return"])
async def test_what_is_not_there_is_named(lab: Lab, verb: str) -> None:
    error = await refused(lab, verb, id="nobody")
    assert (error.kind, error.field) == ("not_found", "params.id")
    assert error.remedy


async def test_what_the_state_forbids_is_a_conflict(lab: Lab) -> None:
    error = await refused(lab, "board.return", id="b1")
    assert (error.kind, "not in quarantine or maintenance" in error.message) == ("conflict", True)
    await ask(lab, "board.maintain", id="b1", reason="mine")
    error = await refused(lab, "board.quarantine", request_id="r2", id="b1", reason="smells")
    assert (error.kind, "in maintenance" in error.message) == ("conflict", True)
    error = await refused(lab, "instrument.return", request_id="r3", id="psu")
    assert (error.kind, "not in maintenance" in error.message) == ("conflict", True)


async def test_taking_a_board_out_of_work_needs_a_reason(lab: Lab) -> None:
    assert (await refused(lab, "board.maintain", id="b1", reason="  ")).field == "params.reason"


async def test_a_reservation_is_told_with_the_board(lab: Lab) -> None:
    def reserve(session: Any) -> None:
        reservation = Reservation(requirement="{}", owner="ada", duration_s=60.0, requested_at=NOW)
        session.add(reservation)
        session.flush()
        lease = Lease(
            board_id="b1",
            purpose=LeasePurpose.RESERVATION,
            owner="ada",
            reservation_id=reservation.id,
            granted_at=NOW,
            expires_at=NOW,
        )
        session.add(lease)

    await lab.database.write(reserve)
    told = (await ask(lab, "board.get", id="b1"))["board"]
    assert (told["reserved_by"], told["reserved_until"]) == ("ada", NOW.isoformat().replace("+00:00", "Z"))


async def test_an_instrument_is_maintained_and_returned_and_not_moved_by_what_is_found_meanwhile(lab: Lab) -> None:
    told = await ask(lab, "instrument.maintain", id="psu", reason="calibration")
    assert (told["state"], told["reason"]) == ("maintenance", "calibration (ada)")
    await lab.database.write(
        lambda session: ledger_health.note_instrument(session, "psu", "x", InstrumentState.OFFLINE, NOW)
    )
    (listed,) = (await ask(lab, "instrument.list"))["instruments"]
    assert listed["state"] == "maintenance"
    detail = await ask(lab, "instrument.get", id="psu")
    assert detail["boards"] == ["b1", "b2"]
    assert [change["state"] for change in detail["changes"]] == ["maintenance", "online"]
    assert (await ask(lab, "instrument.return", request_id="r2", id="psu"))["state"] == "offline"
