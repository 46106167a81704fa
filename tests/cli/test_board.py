"""`labctl board` and `labctl instrument` against a lab, by their status, standard output and standard error."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from sqlmodel import Session

from labd.cli.table import Exit
from labd.model import ledger_health
from labd.model.checks import CheckStep, Examination, Finding, Outcome
from labd.model.states import BoardState, CheckTrigger
from labd.model.tables import Board
from tests.cli.served import Served, labctl, served_lab
from tests.deadline import HUNG_S
from tests.service.labs import NOW

GOOD = Examination(
    Outcome.PASSED,
    (
        Finding(CheckStep.RAIL_OFF, passed=True, figures={"voltage_v": 0.012}),
        Finding(CheckStep.IDLE, passed=True, figures={"current_a": 802.1e-6, "u_current_a": 1e-6}),
    ),
)
BAD = Examination(Outcome.FAILED, (Finding(CheckStep.HANDSHAKE, passed=False, message="no answer"),))


def check(session: Session, found: Examination) -> None:
    """A check of `b1` from begin to end."""
    begun = ledger_health.start_check(session, "b1", CheckTrigger.ASKED, (), now=NOW, lease_s=60.0)
    assert begun.id is not None
    ledger_health.end_check(session, begun.id, found, NOW)


async def checked_when_asked(lab: Served, found: Examination) -> None:
    """Stand for the caretaker: check `b1` once that was asked for."""
    async with asyncio.timeout(HUNG_S):
        while (await lab.lab.database.read(lambda s: s.get_one(Board, "b1"))).check_trigger is None:
            await asyncio.sleep(0.05)
    await lab.lab.database.write(lambda session: check(session, found))


async def test_a_board_is_shown_with_its_checks_and_their_figures(tmp_path: Path) -> None:
    async with served_lab(tmp_path) as lab:
        await lab.lab.database.write(lambda session: check(session, GOOD))
        shown = await labctl(*lab.options, "board", "show", "b1")
        assert shown.status == Exit.DONE, shown.err
        assert "b1 is online" in shown.out
        assert "rail_off 12 mV; idle 802.1 µA" in shown.out
        document = json.loads((await labctl(*lab.options, "board", "show", "b1", "--json")).out)
        assert document["checks"][0]["findings"]["idle"]["current_a"] == 802.1e-6


async def test_the_end_of_a_check_is_waited_for_and_its_verdict_is_the_status(tmp_path: Path) -> None:
    async with served_lab(tmp_path) as lab:
        for found, status, said in ((GOOD, Exit.DONE, "passed"), (BAD, Exit.FAILED, "handshake: no answer")):
            caretaker = asyncio.create_task(checked_when_asked(lab, found), name="stand-in")
            ended = await labctl(*lab.options, "board", "check", "b1", "--wait")
            await caretaker
            assert ended.status == status, ended.err
            assert said in ended.out
            await lab.lab.database.write(_unasked)
        late = await labctl(*lab.options, "board", "check", "b1", "--wait", "--for", "0.2")
        assert late.status == Exit.TIMED_OUT
        assert "board show b1" in late.err


def _unasked(session: Session) -> None:
    board = session.get_one(Board, "b1")
    board.check_trigger = board.check_due_at = None
    session.add(board)


async def test_a_board_goes_into_maintenance_and_back(tmp_path: Path) -> None:
    async with served_lab(tmp_path) as lab:
        taken = await labctl(*lab.options, "board", "maintain", "b1", "--reason", "new probe")
        assert taken.status == Exit.DONE, taken.err
        assert "b1 is maintenance" in taken.out
        assert "new probe" in taken.out
        refused = await labctl(*lab.options, "board", "quarantine", "b1", "--reason", "smells")
        assert refused.status == Exit.REFUSED
        assert "return it" in refused.err
        back = await labctl(*lab.options, "board", "return", "b1", "--json")
        assert json.loads(back.out)["state"] == BoardState.SUSPECT
        missing = await labctl(*lab.options, "board", "maintain", "b1")
        assert missing.status == Exit.USAGE


async def test_an_instrument_is_listed_shown_and_taken_into_a_persons_hands(tmp_path: Path) -> None:
    async with served_lab(tmp_path) as lab:
        listed = await labctl(*lab.options, "instrument", "list")
        assert "keysight-n6705c" in listed.out
        taken = await labctl(*lab.options, "instrument", "maintain", "psu", "-r", "calibration")
        assert "psu (keysight-n6705c) is maintenance" in taken.out
        shown = await labctl(*lab.options, "instrument", "show", "psu")
        assert "boards: b1, b2" in shown.out
        assert (await labctl(*lab.options, "instrument", "return", "psu")).status == Exit.DONE
        assert (await labctl(*lab.options, "instrument", "show", "nobody")).status == Exit.REFUSED
