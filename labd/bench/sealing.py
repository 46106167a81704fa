"""Seals traces one at a time in a thread of the lowest priority: captures that run beside it come first."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from labd.trace.seal import Seal

NICE = 19
"""The lowest priority that Linux has; there it is a thread's own."""
_turn = threading.Lock()


async def beside_captures(work: Callable[[Path], Seal], folder: Path) -> Seal:
    """Do `seal` or `salvage`, when no other is being done.

    The thread is made for this one trace, since a priority that was lowered cannot be raised again. Given up by its
    caller, the work goes on to its end, which is harmless.

    Raises whatever the work raises.
    """
    thread = ThreadPoolExecutor(1, thread_name_prefix=f"seal-{folder.name}", initializer=_step_back)
    try:
        return await asyncio.get_running_loop().run_in_executor(thread, _in_turn, work, folder)
    finally:
        thread.shutdown(wait=False)


def _step_back() -> None:
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


def _in_turn(work: Callable[[Path], Seal], folder: Path) -> Seal:
    with _turn:
        return work(folder)
