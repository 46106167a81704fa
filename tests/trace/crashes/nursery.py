"""One process that has everything imported; each child is a fork of it, so that a life costs milliseconds.

The process is started with the watcher of the disk preloaded, if it could be built; a child that does not ask for it is
not watched.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.deadline import HUNG_S
from tests.trace.crashes.writer import Announcement, Job

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]
FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-Wno-format-truncation", "-shared", "-fPIC")
LOOK_S = 0.0005
"""How often a wait looks at the clock, s."""


class NurseryError(Exception):
    """The children cannot be raised: nothing that was to be judged is at fault."""


def compiler() -> tuple[str, ...] | None:
    """A C compiler; None if this machine has none."""
    if found := shutil.which("cc"):
        return (found,)
    return (sys.executable, "-m", "ziglang", "cc") if find_spec("ziglang") else None


def build_watcher(folder: Path) -> Path | None:
    """Build power_cut.c; None where it cannot run: without a C compiler, or on another system than Linux."""
    command = compiler()
    if command is None or sys.platform != "linux":
        return None
    library = folder / "power_cut.so"
    done = subprocess.run(
        [*command, *FLAGS, str(HERE / "power_cut.c"), "-o", str(library), "-ldl"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode != 0:
        raise NurseryError(f"power_cut.c was not compiled:\n{done.stderr}")
    return library


class Life:
    """One child, while it lives and afterwards."""

    def __init__(self, pid: int, pipe: int, ended: Callable[[], int]) -> None:
        self._pid, self._pipe, self._ended = pid, pipe, ended
        self._heard = bytearray()
        self.announced: list[Announcement] = []
        self.killed_s = float("inf")
        """When it was killed, by the monotonic clock."""
        self.status = 0

    def wait(self, condition: Callable[[Announcement], bool]) -> bool:
        """Listen until an announcement meets the condition; False if the child ended before. Raises `NurseryError`."""
        deadline_s = time.monotonic() + HUNG_S
        at = 0
        while True:
            for announcement in self.announced[at:]:
                if condition(announcement):
                    return True
            at = len(self.announced)
            if not self._listen(deadline_s):
                return False

    def kill(self, after_s: float = 0.0) -> None:
        """Kill it, at a moment that its own words do not tell."""
        moment_s = time.monotonic() + after_s
        while (left_s := moment_s - time.monotonic()) > 0:
            time.sleep(min(left_s, LOOK_S))
        self.killed_s = time.monotonic()
        os.kill(self._pid, signal.SIGKILL)  # nobody waits for it before `end`: the id is still its own

    def end(self) -> None:
        """Listen until it is dead. Raises `NurseryError` if it does not die."""
        self.wait(lambda _: False)
        os.close(self._pipe)
        self.status = self._ended()

    @property
    def faults(self) -> list[str]:
        """What the child did wrong: it may be killed, or come to its end, but not fail."""
        sound = self.status in (0, -signal.SIGKILL)
        return [] if sound else [f"the child ended with status {self.status}; its traceback is on stderr"]

    def _listen(self, deadline_s: float) -> bool:
        if not select.select([self._pipe], [], [], max(0.0, deadline_s - time.monotonic()))[0]:
            raise NurseryError("the child says nothing any more")
        data = os.read(self._pipe, 1 << 16)
        if not data:
            return False
        self._heard += data
        size = Announcement.FORMAT.size
        whole = len(self._heard) // size * size
        self.announced += Announcement.decode(bytes(self._heard[:whole]))
        del self._heard[:whole]
        return True


class Nursery:
    """Raises children, one at a time; a context manager."""

    watcher: Path | None
    """The library that watches the disk; None where it cannot be built."""

    def __enter__(self) -> Self:
        self._scratch = tempfile.TemporaryDirectory(prefix="labd-crashes-")
        folder = Path(self._scratch.name)
        self.watcher = build_watcher(folder)
        self._fifo = folder / "announcements"
        os.mkfifo(self._fifo)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.trace.crashes.writer"],
            cwd=REPOSITORY,
            env={
                **os.environ,
                "PYTHONPATH": str(REPOSITORY),
                "OPENBLAS_NUM_THREADS": "1",  # a process with threads should not fork
                **({"LD_PRELOAD": str(self.watcher)} if self.watcher else {}),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(HUNG_S if kind is None else 1.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(HUNG_S)
        self._process.stdout.close()
        self._scratch.cleanup()

    def raise_child(self, job: Job) -> Life:
        """Start a child; its `pipe` is set here."""
        pipe = os.open(self._fifo, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        pid = self._ask(replace(job, pipe=str(self._fifo)).encode(), "pid")
        return Life(pid, pipe, lambda: self._ask("reap", "status"))

    def _ask(self, question: str, key: str) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(question.encode() + b"\n")
        line = b""
        while not line.endswith(b"\n"):
            if not select.select([self._process.stdout], [], [], HUNG_S)[0]:
                raise NurseryError("the nursery does not answer")
            part = os.read(self._process.stdout.fileno(), 1)
            if not part:
                raise NurseryError("the nursery has ended")
            line += part
        return int(json.loads(line)[key])
