"""Clean-up that a cancel cannot cut short."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog

T = TypeVar("T")


async def shielded(work: Coroutine[Any, Any, T], name: str) -> T:
    """Do clean-up to its end, however often the caller is cancelled meanwhile; the cancel goes on afterwards.

    The work bounds its own time. What it raises is raised here, or logged where a cancel goes on.
    """
    task = asyncio.create_task(work, name=name)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return task.result()
    if not task.cancelled() and (failure := task.exception()) is not None:
        structlog.get_logger().error("clean_up_failed", task=name, error=repr(failure))
    raise cancelled
