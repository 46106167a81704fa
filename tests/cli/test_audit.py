"""`labctl audit`: who asked for what and what came of it, page by page and as it happens."""

from __future__ import annotations

import asyncio
import getpass
import json
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer

from labd.cli.span import past_time
from tests.cli.served import labctl, labctl_here, served_lab, started
from tests.deadline import HUNG_S


async def test_who_asked_for_what_and_what_came_of_it(tmp_path: Path) -> None:
    async with served_lab(tmp_path) as lab:
        await labctl(*lab.options, "submit", "digits01", "energy", "--label", "why=audit")
        await labctl(*lab.options, "job", "cancel", "1")
        me = getpass.getuser()
        page = (await labctl(*lab.options, "audit", "--by", me, "--json")).document
        assert [(each["verb"], each["requester"]) for each in page["requests"]] == [
            ("job.cancel", me),
            ("job.submit", me),
        ], "one person, though each labctl is another client"
        assert [(each["subject"], each["state"], each["actor"]) for each in page["changes"]] == [
            ("1", "cancelled", me),
            ("1", "queued", me),
        ]
        table = await labctl(*lab.options, "audit", "--verb", "job.submit")
        assert table.status == 0, table.err
        assert '"why": "audit"' in table.out
        assert "cancel" not in table.out
        boards = (await labctl(*lab.options, "audit", "--kind", "board", "--subject", "b1", "--json")).document
        assert [(each["subject"], each["state"]) for each in boards["changes"]] == [("b1", "online")]
        assert boards["requests"] == []
        newest = await labctl(*lab.options, "audit", "--kind", "job", "--limit", "1", "--json")
        assert [each["state"] for each in newest.document["changes"]] == ["cancelled"]
        first = await labctl(*lab.options, "audit", "--limit", "1")
        assert "older ones" in first.err
        assert "job.cancel" in first.out
        older = first.err.partition("add ")[2].split()
        rest = await labctl(*lab.options, "audit", *older)
        assert "job.submit" in rest.out
        assert "job.cancel" not in rest.out
        assert (await labctl(*lab.options, "audit", "--since", "1h", "--json")).document["requests"] != []
        assert (await labctl(*lab.options, "audit", "--until", "1h", "--json")).document["requests"] == []


async def test_changes_are_told_as_they_happen(tmp_path: Path) -> None:
    async with served_lab(tmp_path) as lab:
        async with started(*lab.options, "audit", "--follow", "--kind", "job", "--json") as following:
            assert following.stdout is not None
            told: list[dict[str, object]] = []

            async def heard() -> None:
                assert following.stdout is not None
                async for line in following.stdout:
                    told.append(json.loads(line))
                    if told[-1]["state"] == "cancelled":
                        return

            hearing = asyncio.create_task(heard())
            async with asyncio.timeout(HUNG_S):
                while not hearing.done():  # events are not kept: changes are made until one is heard
                    number = (await labctl(*lab.options, "submit", "digits01", "energy", "--json")).document["job_id"]
                    await labctl(*lab.options, "job", "cancel", str(number))
            await hearing
            following.send_signal(signal.SIGINT)
            await following.communicate()
        assert {event["kind"] for event in told} == {"job"}
        assert following.returncode == 130


def test_wrong_usage_is_told_before_anything_is_asked() -> None:
    for arguments in (
        ("--follow", "--since", "1h"),
        ("--follow", "--before", "9"),
        ("--since", "yesterday"),
        ("--by", "no body"),
    ):
        assert labctl_here("--lab", "x", "--broker", "mqtt://127.0.0.1:9", "audit", *arguments).status == 2, arguments


def test_times_that_have_passed_are_read_as_people_write_them() -> None:
    now = datetime.now(UTC)
    assert timedelta(0) <= now - timedelta(hours=2) - past_time("2h") + timedelta(seconds=5) < timedelta(seconds=10)
    assert past_time("2026-05-01T06:00:00Z") == datetime(2026, 5, 1, 6, tzinfo=UTC)
    for text in ("0:00", "06:00", "23:59", "23:59:59"):
        assert now - timedelta(hours=26) < past_time(text) <= datetime.now(UTC)
    for text in ("", "soon", "25:00", "2026-13-01", "99999999999d"):
        with pytest.raises(typer.BadParameter):
            past_time(text)
