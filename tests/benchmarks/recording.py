"""One capture as a run does it: the N6705C's driver into the trace recorder; and its measure, the same bytes unread."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import socket
import time
from pathlib import Path

from drivers.analyzers.keysight_n6705c import DRIVER, N6705C
from drivers.analyzers.n6705c_analyzer import FETCH_MAX
from drivers.api import CaptureRequest, CaptureSetup, Quantity
from labd.trace.meta import TraceMeta
from labd.trace.recorder import TraceRecorder
from labd.trace.writer import TraceSummary
from tests.benchmarks.elog_server import RECORD_BYTES
from tests.trace.recording import make_meta

CHANNEL = 1
REQUEST = CaptureRequest((Quantity.CURRENT, Quantity.VOLTAGE), period_s=None, current_max_a=0.1, voltage_max_v=3.6)
CAPTURE_S = 300.0
"""Deadline of one capture, s."""


def options(port: int) -> object:
    """Options of the driver for the server on `port`."""
    return DRIVER.options(resource=f"TCPIP::127.0.0.1::{port}::SOCKET", channels=(CHANNEL,))


async def capture(device: N6705C, setup: CaptureSetup, folder: Path, trace_id: str) -> TraceSummary:
    """Record the whole log of a configured analyzer, to the durable end of the trace."""
    recorder = await TraceRecorder.start(folder, _meta(device, setup, trace_id))
    try:
        await device.arm(CHANNEL)
        async with asyncio.TaskGroup() as group:
            group.create_task(device.stream(CHANNEL, recorder.sink))
            await asyncio.sleep(0)  # let it begin
            await device.stop(CHANNEL)  # it ends once it has all that the device holds
    finally:
        summary = await recorder.close()
    return summary


def receive_and_write(port: int, records: int, path: Path) -> float:
    """Receive a log over a blocking socket into one buffer and write it to a file, unread.

    All fetches are asked for at once, so that no answer waits for its question. The file is made durable once, at the
    end: a trace is when it is closed.

    Returns:
        When the last byte was written and not yet durable, by `time.perf_counter`.
    """
    buffer = bytearray(1 << 20)
    view = memoryview(buffer)
    fetches = -(-records // FETCH_MAX)
    whole, rest = divmod(records, FETCH_MAX)
    expected = whole * _block_bytes(FETCH_MAX) + (_block_bytes(rest) if rest else 0)
    with socket.create_connection(("127.0.0.1", port), timeout=10.0) as link, path.open("wb", buffering=0) as file:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        link.sendall(f"INIT:ELOG (@{CHANNEL})\n".encode() + f"FETC:ELOG? {FETCH_MAX},(@{CHANNEL})\n".encode() * fetches)
        received = 0
        while received < expected:
            count = link.recv_into(view)
            if not count:
                raise ConnectionError(f"the server hung up after {received} of {expected} bytes")
            file.write(view[:count])
            received += count
        written = time.perf_counter()
        os.fdatasync(file.fileno())
    return written


def _block_bytes(records: int) -> int:
    length = str(records * RECORD_BYTES)
    return 2 + len(length) + records * RECORD_BYTES + 1


def _meta(device: N6705C, setup: CaptureSetup, trace_id: str) -> TraceMeta:
    return make_meta(
        trace_id,
        instrument=device.identity,
        columns=setup.columns,
        period_s=setup.period_s,
        sample_clock_ppm=setup.clock_ppm,
        channel=CHANNEL,
        edge_source=None,
        tick_rate_hz=None,
        tick_clock_ppm=None,
        pulse_s=1e-3,
        started_at=dt.datetime.now(dt.UTC),
    )
