"""A trace tells the same wherever it lies: here, in a bucket, or behind a lab that has it in its archive only."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from labd.errors import TraceError
from labd.keep.archive import Archive
from labd.keep.store import TraceStore
from labd.trace.files import TraceFiles
from labd.trace.object_files import http_files
from labd.trace.reader import Trace
from labd.trace.seal import seal
from labd.web.server import serve_traces
from tests.s3_server import S3Server, proxy, s3
from tests.trace.recording import D, I, V, make_signal, record

__all__ = ["s3"]

ROWS = 1_500_000


def asked(files: TraceFiles) -> dict[str, object]:
    """What readers ask of a trace."""
    trace = Trace.open(files)
    end_s = trace.duration_s
    window = trace.window(0.4 * end_s, 0.41 * end_s)
    overview = trace.overview(0.1 * end_s, 0.9 * end_s, 300)
    starts = np.linspace(0, ROWS - 5000, 7) + 0.25
    return {
        "meta": trace.meta,
        "rows": trace.rows,
        "records": trace.records,
        "first": window.first,
        "window": {q: values.tobytes() for q, values in window.columns.items()},
        "limits": overview.limits_s.tobytes(),
        "means": {name: each.mean.tobytes() for name, each in overview.envelopes.items()},
        "energies": trace.energies(np.column_stack([starts, starts + 4321.5])).tobytes(),
        "all": trace.samples(I).tobytes(),
    }


async def test_a_trace_tells_the_same_everywhere(s3: S3Server, tmp_path: Path) -> None:
    folder = record(tmp_path / "elsewhere", make_signal(ROWS, quantities=(I, V, D)), [100_000] * 14)
    seal(folder)
    here = TraceStore(tmp_path / "elsewhere").files(folder.name)
    s3.make_bucket("anywhere")
    archive = Archive(s3.store("anywhere", prefix="lab"), "s3://anywhere/lab")
    await archive.put(folder)
    (tmp_path / "here").mkdir()
    async with serve_traces(TraceStore(tmp_path / "here", archive), "127.0.0.1:0") as lab:
        expected = await asyncio.to_thread(asked, here)
        assert await asyncio.to_thread(asked, archive.files(folder.name)) == expected
        assert await asyncio.to_thread(asked, http_files(f"{lab.url}/{folder.name}")) == expected
        with pytest.raises(TraceError, match="missing"):
            await asyncio.to_thread(Trace.open, http_files(f"{lab.url}/no-such-trace"))


async def test_a_window_of_a_long_archived_trace_costs_a_small_share_of_it(s3: S3Server, tmp_path: Path) -> None:
    folder = record(tmp_path, make_signal(2 * ROWS), [250_000] * 12)
    seal(folder)
    size = sum(path.stat().st_size for path in folder.iterdir())
    s3.make_bucket("share")
    with proxy(s3.endpoint) as between:
        await Archive(s3.store("share"), "s3://share").put(folder)
        archive = Archive(s3.store("share", endpoint=between.endpoint), "s3://share")

        def window() -> int:
            trace = Trace.open(archive.files(folder.name))
            middle = 0.5 * trace.duration_s
            return len(trace.window(middle, middle + 100 * trace.period_s).columns[I])

        assert await asyncio.to_thread(window) in (100, 101)
        assert between.carried < 0.2 * size
        asked_for, carried = len(between.requests), between.carried
        trace = Trace.open(archive.files(folder.name))
        await asyncio.to_thread(trace.overview, 0.0, trace.duration_s, 100)
        assert between.carried - carried < 0.1 * size
        assert len(between.requests) - asked_for <= 12
