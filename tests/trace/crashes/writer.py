"""The child: records and seals by scripts, and says on a pipe what it is about to do and what it surely has done.

`python -m tests.trace.crashes.writer` is the nursery's process: it imports everything once and forks a child for every
job that comes as a line of JSON. See nursery.py for the other end.

What is surely with the kernel: a sample that was taken `coalesce_s` before a later call of `write` or `tick` began, and
any that more than 256,000 others followed; that is what `TraceWriter` promises.
"""

from __future__ import annotations

import ctypes
import json
import os
import struct
import sys
import time
import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from enum import IntEnum
from pathlib import Path

from labd.errors import TraceError
from labd.trace.seal import salvage, seal
from labd.trace.writer import TraceWriter
from tests.trace.crashes.script import Script, Step, Style, draw

IN_MEMORY = 256_000
"""Most samples that a writer holds back."""
TICK_S = 0.02
"""Longest time between two calls of the writer, s."""


class Kind(IntEnum):
    """What an announcement says."""

    CREATING = 0
    CREATED = 1
    TAKING = 2  # samples: what the writer will have taken; records: what it will have journalled
    TAKEN = 3  # samples: what it has taken; written: what of it is surely with the kernel; records: likewise
    TICKED = 4  # the same, after a call of `tick`
    CLOSING = 5
    CLOSED = 6
    SEALING = 7
    SEALED = 8


@dataclass(frozen=True, slots=True)
class Announcement:
    """One line of the child's account; `at_s` by the monotonic clock."""

    kind: Kind
    trace: int
    at_s: float
    samples: int = 0
    written: int = 0
    records: int = 0

    FORMAT = struct.Struct("<BB6xdqqq")

    def encode(self) -> bytes:
        """The bytes that go through the pipe at once."""
        return self.FORMAT.pack(self.kind, self.trace, self.at_s, self.samples, self.written, self.records)

    @classmethod
    def decode(cls, data: bytes) -> Iterator[Announcement]:
        """All whole announcements."""
        whole = len(data) // cls.FORMAT.size * cls.FORMAT.size
        for kind, trace, at_s, samples, written, records in cls.FORMAT.iter_unpack(data[:whole]):
            yield cls(Kind(kind), trace, at_s, samples, written, records)


@dataclass(frozen=True, slots=True)
class Doom:
    """Death before a step on the disk, the `steps`th after `stage` was announced of trace `trace`.

    With a `permille` of at least 0 writes are steps too, and such a share of the last one is done; else only syncs and
    changes of names are.
    """

    stage: Kind
    trace: int
    steps: int
    permille: int


@dataclass(frozen=True, slots=True)
class Job:
    """What a child has to do.

    Args:
        root: Folder of the traces; watched if there is a `log`.
        scripts: Seeds of what is recorded and sealed, one after the other; empty to salvage all in `root`.
        style: What they are like.
        pipe: FIFO for the announcements; empty if nobody listens.
        log: Where the watcher notes what was done to the disk; empty without one.
        grave: Folder for what loses its name.
        slow_us: What every sync takes longer, µs.
        doom: When to die; None to live until killed.
    """

    root: str
    scripts: tuple[str, ...] = ()
    style: Style = field(default_factory=Style)
    pipe: str = ""
    log: str = ""
    grave: str = ""
    slow_us: int = 0
    doom: Doom | None = None

    def encode(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, line: str) -> Job:
        """Back again."""
        values = json.loads(line)
        doom, style, scripts = values.pop("doom"), values.pop("style"), tuple(values.pop("scripts"))
        first, last = style.pop("pauses_s")
        drawn = Style(style["rows_most"], tuple(style["sync_s"]), (first, last))
        return cls(**values, scripts=scripts, style=drawn, doom=Doom(**doom) if doom else None)

    def script(self, number: int) -> Script:
        """What the trace of this number holds."""
        return draw(self.scripts[number], self.style)


class _Child:
    def __init__(self, job: Job) -> None:
        self._job = job
        self._pipe = os.open(job.pipe, os.O_WRONLY) if job.pipe else -1
        self._watcher = ctypes.CDLL(None) if job.log else None
        if self._watcher is not None:
            folder, log, grave = (os.fsencode(path) for path in (job.root, job.log, job.grave))
            if self._watcher.power_cut_watch(folder, log, grave) != 0:
                raise OSError("the watcher of the disk is not there")
            self._watcher.power_cut_slow(ctypes.c_long(job.slow_us))

    def run(self) -> None:
        if not self._job.scripts:
            self._say(Kind.SEALING, 0)
            for folder in sorted(Path(self._job.root).iterdir()):
                with suppress(TraceError):  # a sidecar that was never finished: the judge sees to such a folder
                    salvage(folder)
        for number in range(len(self._job.scripts)):
            self._record(number, self._job.script(number))

    def _say(self, kind: Kind, trace: int, samples: int = 0, written: int = 0, records: int = 0) -> None:
        if self._pipe >= 0:
            os.write(self._pipe, Announcement(kind, trace, time.monotonic(), samples, written, records).encode())
        doom = self._job.doom
        if self._watcher is not None and doom is not None and (kind, trace) == (doom.stage, doom.trace):
            self._watcher.power_cut_kill(ctypes.c_long(doom.steps), ctypes.c_int(doom.permille))
            self._job = replace(self._job, doom=None)

    def _record(self, number: int, script: Script) -> None:
        len(script.columns)  # made before the clock runs
        self._say(Kind.CREATING, number)
        writer = TraceWriter.create(
            Path(self._job.root), script.meta, sync_s=script.sync_s, coalesce_s=script.coalesce_s
        )
        self._say(Kind.CREATED, number)
        waiting: deque[tuple[float, int]] = deque()
        written = records = 0
        for step in script.steps:
            records += len(step.records)
            self._say(Kind.TAKING, number, step.stop, 0, records)
            began_s = time.monotonic()
            self._take(writer, script, step)
            ended_s = time.monotonic()
            waiting.append((ended_s if script.coalesce_s else began_s, step.stop))
            written = max(written, step.stop - IN_MEMORY, _due(waiting, began_s - script.coalesce_s))
            self._say(Kind.TAKEN, number, step.stop, written, records)
            resume_s = ended_s + step.pause_s
            while (left_s := resume_s - time.monotonic()) > 0:
                time.sleep(min(left_s, TICK_S))  # an instrument that has nothing to say
                began_s = time.monotonic()
                writer.tick()
                written = max(written, _due(waiting, began_s - script.coalesce_s))
                self._say(Kind.TICKED, number, step.stop, written, records)
        self._say(Kind.CLOSING, number)
        folder = writer.close().folder
        self._say(Kind.CLOSED, number)
        self._say(Kind.SEALING, number)
        seal(folder)
        self._say(Kind.SEALED, number)

    @staticmethod
    def _take(writer: TraceWriter, script: Script, step: Step) -> None:
        for record in step.records[: len(step.edges)]:
            writer.journal(record)
        writer.write(script.block(step))


def _due(waiting: deque[tuple[float, int]], until_s: float) -> int:
    """Samples that were taken until then; those before are not asked for again."""
    samples = 0
    while waiting and waiting[0][0] <= until_s:
        samples = waiting.popleft()[1]
    return samples


def main() -> None:
    """Fork a child for every job, say its process id, and at the next line how it ended.

    A child is not waited for before that line, so its id is its own for as long as it may be killed.
    """
    while line := sys.stdin.readline():
        job = Job.decode(line)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                _Child(job).run()
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        print(json.dumps({"pid": child}), flush=True)
        sys.stdin.readline()
        _, ended = os.waitpid(child, 0)
        print(json.dumps({"status": os.waitstatus_to_exitcode(ended)}), flush=True)


if __name__ == "__main__":
    main()
