"""What a person may ask of reservations: their own, and nobody else's unless they are an admin."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from labd.errors import ConflictError, NotFoundError, RequestError, UnmatchableError
from labd.service.access import Caller, ForbiddenError, Role
from labd.service.lab import Lab
from labd.service.requests import VERBS
from labd.service.sender import Origin, sender_of
from tests.service.labs import bring_up, open_lab


async def ask(lab: Lab, verb: str, user: str = "ada", role: Role = Role.OPERATOR, **params: Any) -> dict[str, Any]:
    payload = json.dumps({"request_id": str(uuid.uuid4()), "client": "test", "params": params}).encode()
    sender = sender_of(payload, Origin(user=user))
    return await VERBS[verb].answer(lab, verb, payload, Caller(role, sender))


async def test_a_free_board_is_had_with_the_reply_and_the_next_one_waits(tmp_path: Path) -> None:
    async with open_lab(tmp_path) as (lab, _):
        await bring_up(lab)
        had = await ask(lab, "board.reserve", board={"tags": ["energy"]}, purpose="debug", duration_s=60)
        assert (had["state"], had["board_id"], had["owner"]) == ("active", "b1", "ada")
        waits = await ask(lab, "board.reserve", "bob", board={"id": "b1"}, duration_s=60)
        assert (waits["state"], waits["board_id"]) == ("waiting", None)
        listed = await ask(lab, "reservation.list", state="waiting")
        assert [each["id"] for each in listed["reservations"]] == [waits["id"]]
        assert await ask(lab, "reservation.get", id=had["id"]) == had
        given_up = await ask(lab, "board.release", "bob", id=waits["id"])
        assert (given_up["state"], given_up["reason"]) == ("ended", "released by bob")
        ending = await ask(lab, "board.release", id=had["id"])
        assert (ending["state"], ending["reason"]) == ("active", "released by ada"), "it ends when the board is dark"


async def test_operators_change_their_own_reservations_and_admins_all(tmp_path: Path) -> None:
    async with open_lab(tmp_path) as (lab, _):
        await bring_up(lab)
        had = await ask(lab, "board.reserve", board={"id": "b1"}, duration_s=60)
        for verb, params in (
            ("board.release", {}),
            ("reservation.extend", {"duration_s": 60}),
            ("reservation.hand_over", {"to": "bob"}),
        ):
            with pytest.raises(ForbiddenError, match="is ada's, not yours"):
                await ask(lab, verb, "bob", id=had["id"], **params)
        longer = await ask(lab, "reservation.extend", "root", Role.ADMIN, id=had["id"], duration_s=60)
        assert longer["duration_s"] == 120
        given = await ask(lab, "reservation.hand_over", id=had["id"], to="bob")
        assert given["owner"] == "bob"
        assert (await ask(lab, "board.release", "bob", id=had["id"]))["reason"] == "released by bob"


@pytest.mark.parametrize(
    ("params", "error", "words"),
    [
        ({"board": {"id": "b9"}, "duration_s": 60}, UnmatchableError, "b1 is another board"),
        ({"board": {"tags": ["m7"]}, "duration_s": 60}, UnmatchableError, "b2 lacks m7"),
        ({"require": "clock_ppm > 1e9", "duration_s": 60}, UnmatchableError, "no board meets this"),
        ({"require": "memry > 1", "duration_s": 60}, RequestError, "memry"),
        ({"require": "clock_ppm >", "duration_s": 60}, RequestError, "column"),
        ({"duration_s": 86_401}, ConflictError, "more than the 86400 s"),
    ],
)
async def test_what_can_never_be_is_refused(
    tmp_path: Path, params: dict[str, Any], error: type[RequestError], words: str
) -> None:
    async with open_lab(tmp_path) as (lab, _):
        await bring_up(lab)
        with pytest.raises(error, match=words):
            await ask(lab, "board.reserve", **params)


async def test_a_reservation_that_does_not_exist_is_named(tmp_path: Path) -> None:
    async with open_lab(tmp_path) as (lab, _):
        for verb in ("reservation.get", "board.release"):
            with pytest.raises(NotFoundError, match="no reservation 7"):
                await ask(lab, verb, id=7)
