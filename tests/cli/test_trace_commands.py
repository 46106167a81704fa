"""`labctl trace list`, `show`, `pin`, `unpin` and `gc` against a lab on a real broker, and `show` on a folder alone."""

from __future__ import annotations

import asyncio
import os
import pty
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from drivers.api import Interval, IntervalKind
from labd.config import Keep
from labd.model import ledger_traces
from labd.model.states import TraceState
from labd.trace.journal import EdgeSeen, TrialEnded, TrialStarted
from labd.trace.meta import Headroom
from labd.trace.seal import seal
from labd.trace.writer import TraceWriter
from tests.cli.served import Ended, Served, ended, labctl, labctl_here, nowhere, served_lab
from tests.cli.test_labctl import ENERGY
from tests.keep.traces import add_trace
from tests.trace.recording import WHEN, cut, make_meta, make_signal

TRACE = "20250301T120000-j1-r1"


@asynccontextmanager
async def lab_with_traces(folder: Path) -> AsyncIterator[Served]:
    """Two traces: one with a score, one of 400 days ago."""
    async with served_lab(folder) as lab:
        await lab.lab.database.write(lambda session: add_trace(session, "old", days=400, labels={"why": "debug"}))
        submitted = await labctl(*lab.options, "submit", "digits01", "energy", "--json")
        run_id = await lab.start_run(submitted.document["job_id"])
        await lab.measured(run_id, TRACE, ENERGY)
        await lab.end_run(run_id)
        yield lab


async def test_traces_are_listed_with_where_they_lie_and_for_how_long_they_last(tmp_path: Path) -> None:
    async with lab_with_traces(tmp_path) as lab:
        table = await labctl(*lab.options, "trace", "list")
        assert table.status == 0, table.err
        newest, oldest = (line for line in table.out.splitlines() if "sealed" in line)
        for words in (TRACE, "b1", "completed", "10 s", "123.5 kB", "here"):
            assert words in newest
        assert "old" in oldest
        document = (await labctl(*lab.options, "trace", "list", "--job", "1", "--json")).document
        assert ([trace["id"] for trace in document["traces"]], document["next_before"]) == (["old"], None)
        first = await labctl(*lab.options, "trace", "list", "--limit", "1")
        assert f"labctl trace list --before {TRACE}" in first.err
        rest = await labctl(*lab.options, "trace", "list", "--before", TRACE, "--json")
        assert [trace["id"] for trace in rest.document["traces"]] == ["old"]


async def test_a_trace_is_shown_with_its_score_in_microjoules(tmp_path: Path) -> None:
    async with lab_with_traces(tmp_path) as lab:
        shown = await labctl(*lab.options, "trace", "show", TRACE)
        for words in (
            f"trace {TRACE}",
            "14.23 ± 0.11 µJ",
            "value ± standard uncertainty, k = 1",
            "placed by steps alone",
            "it was not noted when the capture began",
            "10 s, 48,828 samples of 204.8 µs",
            "123.5 kB",
            "here",
        ):
            assert words in shown.out, shown.out
        assert (await labctl(*lab.options, "trace", "show", "old", "--json")).document["labels"] == {"why": "debug"}
        missing = await labctl(*lab.options, "trace", "show", "none-of-ours")
        assert (missing.status, missing.out) == (3, "")


async def test_a_pin_is_set_with_its_reason_and_taken_away(tmp_path: Path) -> None:
    async with lab_with_traces(tmp_path) as lab:
        pinned = await labctl(*lab.options, "trace", "pin", TRACE, "--reason", "odd spike")
        assert (pinned.status, pinned.out) == (0, f"trace {TRACE} is pinned: odd spike\n")
        assert "sealed, pinned" in (await labctl(*lab.options, "trace", "show", TRACE)).out
        unpinned = await labctl(*lab.options, "trace", "unpin", TRACE, "--json")
        assert unpinned.document["pinned"] is False


async def test_gc_says_what_would_go_and_why_and_asks_before_it_goes(tmp_path: Path) -> None:
    async with served_lab(tmp_path, keep=Keep(max_age_days=365)) as lab:
        await lab.lab.database.write(lambda session: add_trace(session, "old", days=400))
        would = await labctl(*lab.options, "trace", "gc", "--dry-run")
        for words in ("old", "1 kB", "for good", "days ago, more than 365", "1 trace would go"):
            assert words in would.out, would.out
        refused = await on_a_terminal(lab, "n\n", "trace", "gc")
        assert (refused.status, refused.out) == (1, "")
        assert "days ago, more than 365" in refused.err
        assert await state_of(lab, "old") is TraceState.SEALED
        agreed = await on_a_terminal(lab, "y\n", "trace", "gc", "--json")
        assert (agreed.status, agreed.document["count"]) == (0, 1)
        assert await state_of(lab, "old") is TraceState.REMOVED


async def test_gc_does_not_ask_where_nobody_could_answer(tmp_path: Path) -> None:
    async with served_lab(tmp_path, keep=Keep(max_age_days=365)) as lab:
        assert (await labctl(*lab.options, "trace", "gc")).out == "0 traces went, 0 B here\n"
        await lab.lab.database.write(lambda session: add_trace(session, "old", days=400))
        went = await labctl(*lab.options, "trace", "gc", "--yes")
        assert "1 trace went, 1 kB here" in went.out
        assert await state_of(lab, "old") is TraceState.REMOVED


def test_wrong_usage_is_status_2_before_anything_is_sent(tmp_path: Path) -> None:
    options = ("--broker", str(nowhere()), "--lab", "bench-1")
    for arguments in (
        ("trace", "list", "--state", "gone"),
        ("trace", "list", "--before", "../x"),
        ("trace", "list", "--limit", "0"),
        ("trace", "pin", "../x"),
        ("trace", "show", str(tmp_path / "nothing-here")),
        ("trace", "show", "a" * 5000),
        ("trace", "pull", "a" * 5000),
        ("trace", "pull", "1" * 5000),
        ("trace", "pull", "../x", "--url", "http://127.0.0.1:9/v1/traces"),
    ):
        result = labctl_here(*options, *arguments)
        assert (result.status, result.out) == (2, ""), arguments
        assert "Traceback" not in result.err, arguments


@pytest.mark.parametrize("verb", ["verify", "plot"])
def test_a_name_too_long_for_any_folder_is_not_found(verb: str) -> None:
    result = labctl_here("trace", verb, "a" * 5000)
    assert (result.status, result.out) == (3, ""), result.err
    assert "there is no such folder" in " ".join(result.err.split())


async def test_a_lab_that_is_not_there_is_status_4() -> None:
    result = await labctl("--broker", str(nowhere()), "--lab", "bench-1", "--timeout", "5", "trace", "gc")
    assert (result.status, result.out) == (4, "")


def test_a_folder_is_shown_without_a_lab(tmp_path: Path) -> None:
    folder = recorded(tmp_path)
    hot = labctl_here("trace", "show", str(folder), "--json")
    assert (hot.status, hot.document["state"], hot.document["edges"]) == (0, "not sealed", 2)
    seal(folder)
    shown = labctl_here("trace", "show", str(folder))
    assert shown.status == 0, shown.err
    for words in (
        "Keysight N6705C MY1",
        "sealed",
        "2 columns",
        "measured",
        "100 mA",
        "1 trial",
        "1 marked",
        "clipped",
        "not known: peaks between samples were not watched",
    ):
        assert words in shown.out, shown.out
    document = (labctl_here("trace", "show", str(folder), "--json")).document
    assert document["rows"] == 5100
    assert document["duration_s"] == pytest.approx(5100 * 204.8e-6)
    assert document["rate_hz"] == pytest.approx(4882.8125)
    assert document["marked"] == [{"kind": "clipped", "start": 100, "stop": 200}]
    assert document["trials"] == [
        {"index": 0, "input": "7.bin", "inferences": 100, "edges": 2, "ended": True, "failure": ""}
    ]


def test_a_folder_tells_how_far_its_range_reached_beyond_the_peaks(tmp_path: Path) -> None:
    signal = make_signal(100)
    headroom = Headroom(current_peak_a=0.032, current_range_a=0.1, records=105, record_s=10.24e-3)
    writer = TraceWriter.create(tmp_path / "t", make_meta(quantities=signal).model_copy(update={"headroom": headroom}))
    for block in cut(signal, [50]):
        writer.write(block)
    folder = writer.close().folder
    shown = labctl_here("trace", "show", str(folder))
    said = " ".join(shown.out.split())
    assert "100 mA is 3.12 times the peak of 32 mA, in 105 records of 10.24 ms" in said, shown.out
    assert labctl_here("trace", "show", str(folder), "--json").document["meta"]["headroom"]["current_peak_a"] == 0.032


def test_a_folder_that_is_no_trace_is_status_1(tmp_path: Path) -> None:
    shown = labctl_here("trace", "show", str(tmp_path))
    assert (shown.status, shown.out) == (1, "")
    assert "meta.json" in shown.err


async def test_the_shell_completes_the_commands() -> None:
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).parent / "labctl",
        stdout=asyncio.subprocess.PIPE,
        env={"_LABCTL_COMPLETE": "complete_bash", "COMP_WORDS": "labctl trace ", "COMP_CWORD": "2"},
    )
    out, _ = await process.communicate()
    assert {"list", "show", "pin", "unpin", "gc"} <= set(out.decode().split())


def recorded(folder: Path) -> Path:
    """A closed trace of 5,100 samples with a gap, and one trial with its two edges."""
    signal = make_signal(5100)
    writer = TraceWriter.create(folder, make_meta(quantities=signal))
    writer.journal(TrialStarted(index=0, input="7.bin", inferences=100, warmups=0, at=WHEN))
    for sequence, ticks in enumerate((1_000_000, 2_000_000)):
        writer.journal(EdgeSeen(pin=0, level=0, ticks=ticks, sequence=sequence))
    writer.journal(TrialEnded(index=0, at=WHEN))
    for block in cut(signal, [1000], (Interval(IntervalKind.CLIPPED, 100, 200),)):
        writer.write(block)
    return writer.close().folder


async def on_a_terminal(lab: Served, answer: str, *arguments: str) -> Ended:
    """`labctl` with a terminal for its standard input, on which this is typed."""
    ours, theirs = pty.openpty()
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            "from labd.cli.operator import main; main()",
            *lab.options,
            *arguments,
            stdin=theirs,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        os.write(ours, answer.encode())
        return await ended(process)
    finally:
        os.close(ours)
        os.close(theirs)


async def state_of(lab: Served, trace_id: str) -> TraceState:
    return await lab.lab.database.read(lambda session: ledger_traces.get_trace(session, trace_id).state)
