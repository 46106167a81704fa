"""How the lab's tasks wait: for the first of several things, with nothing of the others left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def first_of(who: str, *waits: Coroutine[Any, Any, object]) -> None:
    """Wait until one of them is over, or fails; the others are cancelled, and gone when this returns or is cancelled.

    Args:
        who: Who waits; the tasks are named after it.
        waits: What is waited for.
    """
    tasks = {asyncio.create_task(each, name=f"{who}-waits") for each in waits}
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
