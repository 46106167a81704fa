"""Every test leaves the process as it found it: no task, thread, child process or socket stays behind."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

LINGER_S = 30.0
"""How long things may take to go after a test, s: a thread that was told to end needs a moment."""


def _held() -> set[str]:
    """Names of all threads, child processes and sockets of this process."""
    threads = {f"thread {thread.name} ({thread.ident})" for thread in threading.enumerate() if thread.is_alive()}
    children = {f"child process {child.pid}" for child in psutil.Process().children(recursive=True)}
    sockets = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = os.readlink(entry)
        except OSError:  # closed while we look
            continue
        if target.startswith("socket:"):
            sockets.add(target)
    return threads | children | sockets


@pytest.fixture(autouse=True)
def leaves_nothing() -> Iterator[None]:
    """Fail a test that leaves a thread, a child process or a socket behind."""
    before = _held()
    yield
    deadline = time.monotonic() + LINGER_S
    while left := _held() - before:
        if time.monotonic() > deadline:
            pytest.fail(f"left behind: {', '.join(sorted(left))}")
        time.sleep(0.01)


@pytest_asyncio.fixture(autouse=True)
async def leaves_no_task(leaves_nothing: None) -> AsyncIterator[None]:
    """Fail a test that leaves a task behind; inside the loop, so that its own clean-up has not hidden it."""
    before = asyncio.all_tasks()
    yield
    deadline = time.monotonic() + LINGER_S
    while left := {task for task in asyncio.all_tasks() - before if not task.done()} - {asyncio.current_task()}:
        if time.monotonic() > deadline:
            for task in left:
                task.cancel()
            pytest.fail(f"left behind: {', '.join(sorted(task.get_name() for task in left))}")
        await asyncio.sleep(0.01)
