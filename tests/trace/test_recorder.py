"""The queue between instrument and disk: bounded, honest about overflow, its errors come up where they are seen."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

from drivers.api import Block, Interval, IntervalKind
from labd.errors import TraceError, is_disk_full
from labd.trace.journal import EdgeSeen
from labd.trace.reader import Trace
from labd.trace.recorder import TraceRecorder
from labd.trace.seal import SealState, salvage, seal, verify
from tests.trace.recording import I, V, cut, make_meta, make_signal


async def test_blocks_from_a_thread_and_records_from_the_loop_make_a_trace(tmp_path: Path) -> None:
    signal_ = make_signal(300_000)
    recorder = await TraceRecorder.start(tmp_path, make_meta(), queue_bytes=100_000)

    def instrument() -> None:
        for block in cut(signal_, [1, 5000] * 20):
            recorder.sink(block)

    feeding = asyncio.create_task(asyncio.to_thread(instrument))
    recorder.journal(EdgeSeen(pin=0, level=0, ticks=5, sequence=0))
    await feeding
    summary = await recorder.close()
    assert await recorder.close() == summary
    assert summary.rows == recorder.progress.samples == 300_000
    np.testing.assert_array_equal(Trace.open(recorder.folder).samples(I), signal_[I])
    with pytest.raises(TraceError, match="after the recording was closed"):
        recorder.sink(Block(0, make_signal(1)))


async def test_a_name_in_use_is_told_at_once_and_leaves_no_thread(tmp_path: Path) -> None:
    recorder = await TraceRecorder.start(tmp_path, make_meta())
    with pytest.raises(TraceError, match="exists already"):
        await TraceRecorder.start(tmp_path, make_meta())
    await recorder.close()


async def test_what_the_writer_refuses_comes_up_at_the_sink_and_at_close(tmp_path: Path) -> None:
    recorder = await TraceRecorder.start(tmp_path, make_meta())
    recorder.sink(Block(0, make_signal(100)))
    recorder.sink(Block(50, make_signal(100)))  # overlaps: the writer thread finds out
    with pytest.raises(TraceError, match="expected was 100"):
        await recorder.close()
    with pytest.raises(TraceError, match="expected was 100"):
        recorder.sink(Block(100, make_signal(100)))
    assert Trace.open(recorder.folder).rows == 100


async def test_a_disk_that_hangs_costs_the_sink_its_deadline_and_is_recorded(tmp_path: Path) -> None:
    """The journal goes to a full pipe that nobody reads: the writer thread hangs in the kernel as on a dead disk."""
    recorder = await TraceRecorder.start(tmp_path, make_meta(), queue_bytes=1_000_000, deadline_s=0.05)
    read, write = os.pipe()
    os.set_blocking(write, False)
    with suppress(BlockingIOError):
        while True:
            os.write(write, bytes(65536))
    os.set_blocking(write, True)
    target = _descriptor_of(recorder.folder / "journal.jsonl")
    saved = os.dup(target)
    os.dup2(write, target)
    os.close(write)
    clipped = Interval(IntervalKind.CLIPPED, 0, 1)
    taken = 0

    def instrument() -> None:
        nonlocal taken
        while True:
            recorder.sink(Block(taken, make_signal(50_000), (clipped,) if taken == 0 else ()))
            taken += 50_000

    with pytest.raises(TraceError, match=r"within 0\.05 s"):
        await asyncio.to_thread(instrument)
    assert taken == 100_000  # the queue is bounded: two blocks of 400 kB
    with pytest.raises(TraceError, match="could not be written out"):
        await recorder.close(deadline_s=0.05)
    os.dup2(saved, target)  # the disk is back
    os.close(saved)
    os.read(read, 65536)
    summary = await recorder.close()
    os.close(read)
    assert summary.rows == 100_000
    # The mark that went into the pipe is missing in the journal, and the trace does not pretend otherwise.
    lost, untold = Interval(IntervalKind.OVERFLOW, 100_000, 150_000), Interval(IntervalKind.GAP, 0, 100_000)
    assert Trace.open(recorder.folder).marked() == (lost, untold)


async def test_a_full_disk_comes_up_at_the_sink_and_at_close_and_can_be_salvaged(tmp_path: Path) -> None:
    recorder = await TraceRecorder.start(tmp_path, make_meta())
    target = _descriptor_of(recorder.folder / "samples.arrow")
    full = os.open("/dev/full", os.O_WRONLY)
    recorder.sink(Block(0, make_signal(64_000)))
    while recorder.progress.bytes < 512_000:
        await asyncio.sleep(0)
    os.dup2(full, target)
    os.close(full)
    recorder.sink(Block(64_000, make_signal(64_000)))
    with pytest.raises(TraceError, match="No space left") as at_close:
        await recorder.close()
    with pytest.raises(TraceError, match="No space left") as at_sink:
        recorder.sink(Block(128_000, make_signal(1)))
    assert is_disk_full(at_close.value)
    assert is_disk_full(at_sink.value)
    assert salvage(recorder.folder).rows == 64_000


def _descriptor_of(path: Path) -> int:
    """The descriptor on which this process writes a file."""
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            flags = Path(f"/proc/self/fdinfo/{link.name}").read_text().split("flags:")[1].split()[0]
            if link.readlink() == path and int(flags, 8) & os.O_ACCMODE == os.O_WRONLY:
                return int(link.name)
    raise AssertionError(f"{path} is not open for writing")


WRITER = """
import sys
from pathlib import Path
from drivers.api import Block
from labd.trace.journal import EdgeSeen
from labd.trace.writer import TraceWriter
from tests.trace.recording import I, V, make_meta, make_signal
signal = make_signal(2_000_000)
writer = TraceWriter.create(Path(sys.argv[1]), make_meta(), coalesce_s=0.0, sync_s=0.05)
print("ready", flush=True)
sys.stdin.readline()
for k, first in enumerate(range(0, 2_000_000, 1700)):
    writer.journal(EdgeSeen(pin=0, level=0, ticks=first, sequence=k))
    writer.write(Block(first, {q: signal[q][first:first + 1700] for q in (I, V)}))
writer.close()
print("closed", flush=True)
"""


@pytest.mark.parametrize("wanted", [0, 1, 30_000, 400_000, 3_000_000, 9_000_000])
def test_kill_9_costs_no_sample_that_was_written(tmp_path: Path, wanted: int) -> None:
    signal_ = make_signal(2_000_000)
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.stdin.write("go\n")
        child.stdin.flush()
        folder, seen = tmp_path / "t1", 0
        while (folder / "samples.arrow").stat().st_size < wanted and child.poll() is None:
            os.sched_yield()
        seen = Trace.open(folder).rows  # a live read
        child.send_signal(signal.SIGKILL)
        child.wait(10)
    assert child.returncode == -signal.SIGKILL
    trace = Trace.open(folder)
    assert trace.rows >= seen
    made = salvage(folder)
    assert made.state is SealState.SALVAGED
    assert made.rows == trace.rows
    assert verify(folder) == seal(folder) == made
    trace = Trace.open(folder)
    for quantity in (I, V):
        np.testing.assert_array_equal(trace.samples(quantity), signal_[quantity][: made.rows])
    sequences = [record.sequence for record in trace.records if isinstance(record, EdgeSeen)]
    assert sequences == list(range(len(sequences)))
    assert len(sequences) * 1700 >= made.rows  # an edge was journalled before each block


def test_a_long_recording_needs_no_more_memory(tmp_path: Path) -> None:
    values = make_signal(500_000)
    me = psutil.Process()

    async def run(blocks: int) -> int:
        recorder = await TraceRecorder.start(tmp_path, make_meta(f"long{blocks}"))
        feed = threading.Thread(
            target=lambda: [recorder.sink(Block(k * 500_000, values)) for k in range(blocks)], name="instrument"
        )
        feed.start()
        await asyncio.to_thread(feed.join)
        await recorder.close()
        return _anonymous(me)

    small = asyncio.run(run(2))
    assert asyncio.run(run(20)) - small < 40 * 1024 * 1024


def _anonymous(process: psutil.Process) -> int:
    text = Path(f"/proc/{process.pid}/status").read_text()
    return int(text.split("RssAnon:")[1].split()[0]) * 1024
