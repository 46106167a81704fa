"""`labctl reserve`, `labctl reservation` and `labctl lab` against a served lab: what is printed, and exit statuses."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.cli.served import labctl, labctl_here, nowhere, served_lab
from tests.deadline import HUNG_S


async def test_a_board_is_reserved_extended_handed_over_and_given_back(tmp_path: Path) -> None:
    async with served_lab(tmp_path) as lab:
        had = await labctl(*lab.options, "reserve", "b1", "--for", "2h", "--purpose", "new shunt", "--json")
        assert had.status == 0, had.err
        assert (had.document["state"], had.document["board_id"], had.document["duration_s"]) == ("active", "b1", 7200.0)
        waits = await labctl(*lab.options, "reserve", "b1", "--for", "1h", "--wait", "--within", "1s")
        assert (waits.status, "there was no board in time" in waits.err) == (5, True)
        for words, shown in (
            (("extend", "1", "--for", "30m"), "has b1 for"),
            (("hand-over", "1", "bob"), "has b1 for bob"),
            (("release", "2"), "has ended: released by"),
            (("release", "1"), "gives b1 back: released by"),
        ):
            done = await labctl(*lab.options, "reservation", *words)
            assert (done.status, shown in done.out) == (0, True), (words, done)
        listed = await labctl(*lab.options, "reservation", "list", "--json")
        assert [each["id"] for each in listed.document["reservations"]] == [2, 1]


async def test_what_the_lab_refuses_is_status_3_with_a_remedy(tmp_path: Path) -> None:
    async with served_lab(tmp_path) as lab:
        for words, told in (
            (("reserve", "b9", "--for", "1h"), "no board meets this"),
            (("reservation", "release", "7"), "there is no reservation 7"),
            (("lab", "reload"), "cannot be reloaded"),
            (("lab", "resume"), "is not stopped"),
        ):
            refused = await labctl(*lab.options, *words)
            assert (refused.status, refused.out, told in refused.err) == (3, "", True), (words, refused)


async def test_a_stopped_lab_says_why_and_who(tmp_path: Path) -> None:
    async with served_lab(tmp_path) as lab:
        stopped = await labctl(*lab.options, "lab", "stop", "smoke")
        assert (stopped.status, stopped.out.strip()) == (0, "the lab is stopped: smoke")
        async with asyncio.timeout(HUNG_S):  # the lab's own topic follows the reply
            while "smoke" not in (await labctl(*lab.options, "lab", "status")).out:
                pass
        waits = await labctl(*lab.options, "reserve", "b1", "--for", "1h", "--json")
        assert (waits.status, waits.document["state"]) == (0, "waiting"), "nothing is granted meanwhile"
        resumed = await labctl(*lab.options, "lab", "resume", "--json")
        assert (resumed.status, resumed.document) == (0, {"stopped": None})


def test_a_length_that_is_none_and_two_choices_at_once_are_wrong_usage() -> None:
    options = ("--broker", str(nowhere()), "--lab", "bench-1")
    for words in (
        ("reserve", "b1", "--for", "soon"),
        ("reserve", "b1", "--tag", "m4", "--for", "1h"),
        ("reserve", "b1", "--for", "1h", "--within", "1m"),
        ("lab", "stop", ""),
    ):
        assert labctl_here(*options, *words).status == 2, words
