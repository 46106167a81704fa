"""Sealing beside captures: its thread steps back, nobody else's does, and it leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from labd.bench.sealing import NICE, beside_captures
from labd.errors import TraceError
from labd.trace.seal import Seal, seal, verify
from tests.trace.recording import make_signal, record


async def test_a_trace_is_sealed_by_a_thread_that_lets_others_go_first(tmp_path: Path) -> None:
    folder = record(tmp_path, make_signal(5000))
    seen: list[tuple[int, str]] = []

    def work(where: Path) -> Seal:
        seen.append((os.getpriority(os.PRIO_PROCESS, threading.get_native_id()), threading.current_thread().name))
        return seal(where)

    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    sealed = await beside_captures(work, folder)
    assert verify(folder) == sealed
    assert seen[0][0] == NICE
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before


async def test_traces_are_sealed_one_after_the_other(tmp_path: Path) -> None:
    folders = [record(tmp_path, make_signal(2000), trace_id=f"t{k}") for k in range(4)]
    working, most = 0, 0

    def work(where: Path) -> Seal:
        nonlocal working, most
        working += 1
        most = max(most, working)
        try:
            return seal(where)
        finally:
            working -= 1

    await asyncio.gather(*(beside_captures(work, folder) for folder in folders))
    assert most == 1


async def test_what_cannot_be_sealed_is_told_to_the_caller(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"meta\.json"):
        await beside_captures(seal, tmp_path / "absent")
